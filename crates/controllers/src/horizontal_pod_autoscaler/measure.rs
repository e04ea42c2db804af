//! From each metric of an autoscaler to the replicas that it asks for, with its place in the status.

use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, CrossVersionObjectReference, ExternalMetricStatus, MetricSpec, MetricStatus,
    MetricTarget, MetricValueStatus, ObjectMetricStatus, PodsMetricStatus, ResourceMetricStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use coracle_api::quantity::{Quantity, QuantityFormat};

use super::calculate::{self, Facts, Proposal};
use super::metrics::{Metrics, Series};
use super::target::resource_of;
use crate::metrics::autoscaler::Fault;
use crate::selector_text::spelt;

/// What one metric says.
#[derive(Clone, Debug)]
pub struct Measured {
    pub replicas: i32,
    /// For people: which metric it is.
    pub name: String,
    pub status: MetricStatus,
}

/// Why a metric says nothing: the condition's reason, what the condition tells, and what the whole fails with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmeasured {
    pub reason: &'static str,
    pub message: String,
    pub error: String,
}

impl Unmeasured {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self.reason {
            INVALID => Fault::Spec,
            _ => Fault::Internal,
        }
    }
}

/// Whose metrics, and how.
pub struct Measuring<'m> {
    pub metrics: Metrics<'m>,
    pub facts: Facts<'m>,
    pub namespace: &'m str,
    /// The target's pods, as a selector in text.
    pub selector: &'m str,
    pub status_replicas: i32,
}

fn milli(quantity: &ApiQuantity) -> Option<i64> {
    Quantity::try_from(quantity).ok().map(|q| q.milli_value())
}

fn quantity(value: i64) -> Option<ApiQuantity> {
    Some(Quantity::from_milli(value, QuantityFormat::DecimalSi).into())
}

fn averaged(proposal: &Proposal) -> MetricValueStatus {
    MetricValueStatus {
        average_utilization: proposal.utilization,
        average_value: quantity(proposal.value),
        value: None,
    }
}

fn valued(proposal: &Proposal) -> MetricValueStatus {
    MetricValueStatus {
        value: quantity(proposal.value),
        ..MetricValueStatus::default()
    }
}

fn failed(reason: &'static str, told: &str, error: String) -> Unmeasured {
    Unmeasured {
        reason,
        message: error.clone(),
        error: format!("{told}: {error}"),
    }
}

const INVALID: &str = "InvalidMetricSourceType";
const NO_TARGET: &str = "neither a utilization target nor a value target was set";

impl Measuring<'_> {
    pub async fn measure(&self, spec: &MetricSpec) -> Result<Measured, Unmeasured> {
        match spec.type_.as_str() {
            "Resource" => self.of_resource(spec).await,
            "ContainerResource" => self.of_container(spec).await,
            "Pods" => self.of_pods(spec).await,
            "Object" => self.of_object(spec).await,
            "External" => self.of_external(spec).await,
            other => Err(invalid(format!("unknown metric source type {other:?}"))),
        }
    }

    /// The use of a resource against a target, and how it is called.
    async fn usage(
        &self,
        resource: &str,
        container: Option<&str>,
        target: &MetricTarget,
        kind: &str,
    ) -> Result<(Proposal, String), (bool, String)> {
        let fetch = || async {
            let samples = self
                .metrics
                .resource(self.namespace, resource, self.selector, container)
                .await;
            samples.map_err(|e| format!("unable to get metrics for resource {resource}: {e}"))
        };
        if let Some(target) = target.average_value.as_ref().and_then(milli) {
            let samples = fetch().await.map_err(|e| (false, e))?;
            let proposal = calculate::by_average(&self.facts, samples, target, Some(resource));
            return Ok((proposal.map_err(|e| (false, e))?, format!("{resource} {kind}")));
        }
        let Some(target) = target.average_utilization else {
            return Err((true, format!("invalid resource metric source: {NO_TARGET}")));
        };
        let samples = fetch().await.map_err(|e| (true, e))?;
        let proposal = calculate::by_utilization(&self.facts, samples, target, resource, container);
        let name = format!("{resource} {kind} utilization (percentage of request)");
        Ok((proposal.map_err(|e| (true, e))?, name))
    }

    async fn of_resource(&self, spec: &MetricSpec) -> Result<Measured, Unmeasured> {
        let source = spec
            .resource
            .as_ref()
            .ok_or_else(|| invalid("resource is not set".into()))?;
        let told = |(utilization, error): (bool, String)| {
            let what = if utilization { "utilization" } else { "usage" };
            failed(
                "FailedGetResourceMetric",
                &format!("failed to get {} {what}", source.name),
                error,
            )
        };
        let usage = self.usage(&source.name, None, &source.target, "resource").await;
        let (proposal, name) = usage.map_err(told)?;
        let status = ResourceMetricStatus {
            name: source.name.clone(),
            current: averaged(&proposal),
        };
        Ok(measured(&proposal, name, spec, |s| s.resource = Some(status)))
    }

    async fn of_container(&self, spec: &MetricSpec) -> Result<Measured, Unmeasured> {
        let source = spec
            .container_resource
            .as_ref()
            .ok_or_else(|| invalid("containerResource is not set".into()))?;
        let told = |(utilization, error): (bool, String)| {
            let what = if utilization { "utilization" } else { "usage" };
            let told = format!("failed to get {} {what}", source.name);
            failed("FailedGetContainerResourceMetric", &told, error)
        };
        let container = Some(source.container.as_str());
        let usage = self
            .usage(&source.name, container, &source.target, "container resource")
            .await;
        let (proposal, name) = usage.map_err(told)?;
        let status = ContainerResourceMetricStatus {
            container: source.container.clone(),
            name: source.name.clone(),
            current: averaged(&proposal),
        };
        Ok(measured(&proposal, name, spec, |s| s.container_resource = Some(status)))
    }

    async fn of_pods(&self, spec: &MetricSpec) -> Result<Measured, Unmeasured> {
        let source = spec.pods.as_ref().ok_or_else(|| invalid("pods is not set".into()))?;
        let told = |e: String| failed("FailedGetPodsMetric", "failed to get pods metric value", e);
        let name = &source.metric.name;
        let series = Series {
            name,
            selector: source.metric.selector.as_ref(),
        };
        let target = source.target.average_value.as_ref().and_then(milli);
        let target = target.ok_or_else(|| told(format!("invalid pods metric source: {NO_TARGET}")))?;
        let samples = self.metrics.pods(self.namespace, &series, self.selector).await;
        let samples = samples.map_err(|e| told(format!("unable to get metric {name}: {e}")))?;
        let proposal = calculate::by_average(&self.facts, samples, target, None).map_err(told)?;
        let status = PodsMetricStatus {
            current: averaged(&proposal),
            metric: source.metric.clone(),
        };
        Ok(measured(&proposal, format!("pods metric {name}"), spec, |s| {
            s.pods = Some(status)
        }))
    }

    async fn of_object(&self, spec: &MetricSpec) -> Result<Measured, Unmeasured> {
        let source = spec
            .object
            .as_ref()
            .ok_or_else(|| invalid("object is not set".into()))?;
        let told = |e: String| failed("FailedGetObjectMetric", "failed to get object metric value", e);
        let of = &source.described_object;
        let value = self.object_value(of, &source.metric.name, source.metric.selector.as_ref());
        let value = value.await.map_err(told)?;
        let (proposal, current) = self.by_target(value, &source.target).map_err(told)?.ok_or_else(|| {
            told("invalid object metric source: neither a value target nor an average value target was set".into())
        })?;
        let name = format!("{} metric {}", of.kind, source.metric.name);
        let status = ObjectMetricStatus {
            current,
            described_object: of.clone(),
            metric: source.metric.clone(),
        };
        Ok(measured(&proposal, name, spec, |s| s.object = Some(status)))
    }

    async fn object_value(
        &self,
        of: &CrossVersionObjectReference,
        metric: &str,
        selector: Option<&LabelSelector>,
    ) -> Result<i64, String> {
        let api_version = of.api_version.as_deref().unwrap_or_default();
        let value = async {
            let found = resource_of(self.metrics.client, api_version, &of.kind).await;
            let resource = found.map_err(|e| {
                let kind = match api_version.split_once('/') {
                    Some((group, _)) => format!("{}.{group}", of.kind),
                    None => of.kind.clone(),
                };
                format!("unable to fetch metrics from custom metrics API: unable to map kind {kind} to resource: {e}")
            })?;
            let series = Series { name: metric, selector };
            self.metrics.object(self.namespace, &resource, &of.name, &series).await
        };
        // In upstream's order, by which people find what others have written of it.
        let told = |e: String| {
            format!(
                "unable to get metric {metric}: {} on {} {}/{e}",
                of.kind, self.namespace, of.name
            )
        };
        value.await.map_err(told)
    }

    /// A value as the target takes it: as a whole, or a share for each replica.
    fn by_target(&self, value: i64, target: &MetricTarget) -> Result<Option<(Proposal, MetricValueStatus)>, String> {
        if let Some(target) = target.average_value.as_ref().and_then(milli) {
            let proposal = calculate::by_share(&self.facts, value, target, self.status_replicas);
            return Ok(Some((proposal, averaged(&proposal))));
        }
        let Some(target) = target.value.as_ref().and_then(milli) else {
            return Ok(None);
        };
        let proposal = calculate::by_value(&self.facts, value, target)?;
        Ok(Some((proposal, valued(&proposal))))
    }

    async fn of_external(&self, spec: &MetricSpec) -> Result<Measured, Unmeasured> {
        let source = spec
            .external
            .as_ref()
            .ok_or_else(|| invalid("external is not set".into()))?;
        let name = &source.metric.name;
        let told = |e: String| {
            failed(
                "FailedGetExternalMetric",
                &format!("failed to get {name} external metric"),
                e,
            )
        };
        let series = Series {
            name,
            selector: source.metric.selector.as_ref(),
        };
        let value = self.metrics.external(self.namespace, &series).await;
        let selector = spelt(series.selector);
        let value = value.map_err(|e| {
            told(format!(
                "unable to get external metric {}/{name}/{selector}: {e}",
                self.namespace
            ))
        })?;
        let (proposal, current) = self.by_target(value, &source.target).map_err(told)?.ok_or_else(|| {
            told("invalid external metric source: neither a value target nor an average value target was set".into())
        })?;
        let status = ExternalMetricStatus {
            current,
            metric: source.metric.clone(),
        };
        let name = format!("external metric {name}({selector})");
        Ok(measured(&proposal, name, spec, |s| s.external = Some(status)))
    }
}

fn invalid(error: String) -> Unmeasured {
    Unmeasured {
        reason: INVALID,
        message: error.clone(),
        error,
    }
}

fn measured(proposal: &Proposal, name: String, spec: &MetricSpec, set: impl FnOnce(&mut MetricStatus)) -> Measured {
    let mut status = MetricStatus {
        type_: spec.type_.clone(),
        ..MetricStatus::default()
    };
    set(&mut status);
    Measured {
        replicas: proposal.replicas,
        name,
        status,
    }
}

/// What all metrics together ask for: the most. One that fails is ignored when the others ask for more, and forbids to
/// go down.
pub struct Outcome {
    pub replicas: i32,
    pub name: String,
    /// The first that failed, if any, with how many did.
    pub failure: Option<(Unmeasured, usize)>,
}

/// `Err` when nothing may be done.
pub fn combine(results: &[Result<Measured, Unmeasured>], current: i32) -> Result<Outcome, (Unmeasured, usize)> {
    let mut best: Option<&Measured> = None;
    for measured in results.iter().flatten() {
        if best.is_none_or(|b| measured.replicas > b.replicas) {
            best = Some(measured);
        }
    }
    let mut failures = results.iter().filter_map(|r| r.as_ref().err());
    let first = failures.next().cloned();
    let failure = first.map(|f| (f, 1 + failures.count()));
    match (best, failure) {
        (Some(best), failure) if failure.is_none() || best.replicas >= current => Ok(Outcome {
            replicas: best.replicas,
            name: best.name.clone(),
            failure,
        }),
        (_, Some(failure)) => Err(failure),
        (_, None) => Err((invalid("no metrics were given".into()), 0)),
    }
}
