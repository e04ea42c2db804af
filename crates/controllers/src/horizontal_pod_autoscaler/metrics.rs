//! What the metrics APIs say: `metrics.k8s.io`, `custom.metrics.k8s.io` and `external.metrics.k8s.io`, whoever serves
//! them. It only asks and reads.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_api::duration;
use coracle_api::quantity::Quantity;
use coracle_api::service::{Answer, ListOptions, Operation, Request, Target};
use coracle_client::{ApiResource, Client};
use coracle_clock::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::calculate::{Sample, Samples};

/// A metric's name, and which of its series.
pub struct Series<'m> {
    pub name: &'m str,
    pub selector: Option<&'m LabelSelector>,
}

#[derive(Deserialize)]
struct PodMetrics {
    metadata: Named,
    timestamp: Option<Timestamp>,
    #[serde(default)]
    window: String,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    name: String,
    #[serde(default)]
    usage: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetricValue {
    described_object: Named,
    timestamp: Option<Timestamp>,
    window_seconds: Option<u64>,
    value: Value,
}

#[derive(Deserialize)]
struct ExternalMetricValue {
    value: Value,
}

fn milli(value: &Value) -> Option<i64> {
    Quantity::from_json(value).ok().map(|q| q.milli_value())
}

fn selector_text(selector: Option<&LabelSelector>) -> Result<String, String> {
    let Some(selector) = selector else {
        return Ok(String::new());
    };
    let parsed = coracle_api::selector::LabelSelector::from_typed(Some(selector)).map_err(|e| e.to_string())?;
    Ok(parsed.to_string())
}

/// Asks the metrics APIs.
pub struct Metrics<'c> {
    pub client: &'c Client,
    pub now: Timestamp,
}

impl Metrics<'_> {
    async fn list<T: DeserializeOwned>(&self, target: Target, options: ListOptions) -> Result<Vec<T>, String> {
        let request = Request {
            target,
            operation: Operation::List(options),
        };
        let response = self.client.request(request).await.map_err(|e| e.to_string())?;
        let Answer::List(list) = response.answer else {
            return Err("the server did not send a list".to_owned());
        };
        let read = |item: &std::sync::Arc<coracle_api::object::StoredObject>| {
            serde_json::from_slice(item.raw()).map_err(|e| e.to_string())
        };
        list.items.iter().map(read).collect()
    }

    /// How much of a resource the selected pods (or one container of each) use.
    pub async fn resource(
        &self,
        namespace: &str,
        resource: &str,
        pods: &str,
        container: Option<&str>,
    ) -> Result<Samples, String> {
        let fail = |e: String| format!("unable to fetch metrics from resource metrics API: {e}");
        let target = Target {
            group: "metrics.k8s.io".into(),
            version: "v1beta1".into(),
            resource: "pods".into(),
            namespace: namespace.to_owned(),
            ..Target::default()
        };
        let options = ListOptions {
            label_selector: pods.to_owned(),
            ..ListOptions::default()
        };
        let found: Vec<PodMetrics> = self.list(target, options).await.map_err(fail)?;
        if found.is_empty() {
            return Err("no metrics returned from resource metrics API".to_owned());
        }
        let mut samples = Samples::new();
        for pod in found {
            let wanted = pod
                .containers
                .iter()
                .filter(|c| container.is_none_or(|name| c.name == name));
            let usages: Vec<Option<i64>> = wanted.map(|c| c.usage.get(resource).and_then(milli)).collect();
            // A pod that is known in part only is not known.
            let sum: Option<i64> = usages.iter().copied().sum();
            let Some(value) = sum.filter(|_| !usages.is_empty()) else {
                continue;
            };
            let sample = Sample {
                value,
                at: pod.timestamp.unwrap_or(self.now),
                window: duration::parse_length(&pod.window).unwrap_or_default(),
            };
            samples.insert(pod.metadata.name, sample);
        }
        Ok(samples)
    }

    /// A metric of each of the selected pods.
    pub async fn pods(&self, namespace: &str, series: &Series<'_>, pods: &str) -> Result<Samples, String> {
        let fail = |e: String| format!("unable to fetch metrics from custom metrics API: {e}");
        let target = custom(namespace, "pods", "*", series.name);
        let options = ListOptions {
            label_selector: pods.to_owned(),
            metric_label_selector: selector_text(series.selector)?,
            ..ListOptions::default()
        };
        let found: Vec<MetricValue> = self.list(target, options).await.map_err(fail)?;
        if found.is_empty() {
            return Err("no metrics returned from custom metrics API".to_owned());
        }
        let samples = found.into_iter().filter_map(|metric| {
            let sample = Sample {
                value: milli(&metric.value)?,
                at: metric.timestamp.unwrap_or(self.now),
                window: metric
                    .window_seconds
                    .map_or(Duration::from_secs(60), Duration::from_secs),
            };
            Some((metric.described_object.name, sample))
        });
        Ok(samples.collect())
    }

    /// A metric of one object.
    pub async fn object(
        &self,
        namespace: &str,
        of: &ApiResource,
        name: &str,
        series: &Series<'_>,
    ) -> Result<i64, String> {
        let fail = |e: String| format!("unable to fetch metrics from custom metrics API: {e}");
        let target = if of.group.is_empty() && of.plural == "namespaces" {
            custom(name, "metrics", series.name, "")
        } else {
            let namespace = if of.namespaced { namespace } else { "" };
            custom(namespace, &of.to_string(), name, series.name)
        };
        let options = ListOptions {
            metric_label_selector: selector_text(series.selector)?,
            ..ListOptions::default()
        };
        let found: Vec<MetricValue> = self.list(target, options).await.map_err(fail)?;
        let first = found.first().and_then(|metric| milli(&metric.value));
        first.ok_or_else(|| fail("no value was returned".to_owned()))
    }

    /// The sum of a metric that has nothing to do with objects.
    pub async fn external(&self, namespace: &str, series: &Series<'_>) -> Result<i64, String> {
        let fail = |e: String| format!("unable to fetch metrics from external metrics API: {e}");
        let target = Target {
            group: "external.metrics.k8s.io".into(),
            version: "v1beta1".into(),
            resource: series.name.to_owned(),
            namespace: namespace.to_owned(),
            ..Target::default()
        };
        let options = ListOptions {
            label_selector: selector_text(series.selector)?,
            ..ListOptions::default()
        };
        let found: Vec<ExternalMetricValue> = self.list(target, options).await.map_err(fail)?;
        if found.is_empty() {
            return Err("no metrics returned from external metrics API".to_owned());
        }
        Ok(found.iter().filter_map(|m| milli(&m.value)).sum())
    }
}

fn custom(namespace: &str, resource: &str, name: &str, metric: &str) -> Target {
    Target {
        group: "custom.metrics.k8s.io".into(),
        version: "v1beta2".into(),
        resource: resource.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: metric.to_owned(),
    }
}
