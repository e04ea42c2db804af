//! HorizontalPodAutoscaler: sets the replicas of a workload by metrics. Watches the autoscalers, and looks at each every
//! fifteen seconds: metrics cannot be watched. Writes the target's scale and the autoscaler's status.

pub mod behavior;
pub mod calculate;
mod measure;
mod metrics;
mod target;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_api::quantity::Quantity;
use coracle_api::selector::LabelSelector;
use coracle_client::event::{EventRecorder, EventType};
use coracle_client::{Api, Client, DynamicObject, ObjectKey, gone_is_done};
use coracle_clock::{Clock, Timestamp};
use coracle_informer::{Action, Change, Error, Lister};
use futures::future::join_all;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingRules, HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, MetricStatus,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;

use crate::Context;
use crate::metrics::autoscaler::{AutoscalerMetrics, Fault};
use behavior::{Bounds, Memory};
use calculate::{Facts, Tolerance};
use measure::{Measuring, combine};
use metrics::Metrics;
use target::resource_of;

const NAME: &str = "horizontal-pod-autoscaler-controller";
const ACCOUNT: &str = "horizontal-pod-autoscaler";
const WORKERS: usize = 5;
const PERIOD: Duration = Duration::from_secs(15);

const ABLE: &str = "AbleToScale";
const ACTIVE: &str = "ScalingActive";
const LIMITED: &str = "ScalingLimited";

type Autoscaler = HorizontalPodAutoscaler;

struct Autoscalers {
    client: Client,
    events: EventRecorder,
    clock: Clock,
    autoscalers: Lister<Autoscaler>,
    pods: Lister<Pod>,
    memory: Mutex<HashMap<ObjectKey<Autoscaler>, Memory>>,
    /// Which pods each autoscaler is about, to find those that two are about.
    selectors: Mutex<HashMap<ObjectKey<Autoscaler>, LabelSelector>>,
    counted: AutoscalerMetrics,
}

pub async fn run(cx: Context) {
    let autoscalers = cx.informers.informer::<Autoscaler>();
    let pods = cx.informers.informer::<Pod>();
    let context = Autoscalers {
        client: cx.client_of(ACCOUNT),
        events: cx.recorder(ACCOUNT),
        clock: cx.clock,
        autoscalers: autoscalers.lister(),
        pods: pods.lister(),
        memory: Mutex::default(),
        selectors: Mutex::default(),
        counted: cx.metrics.autoscalers.clone(),
    };
    let pods_synced = pods.clone();
    let shutdown = cx.shutdown.clone();
    if shutdown.run_until_cancelled(pods_synced.synced()).await.is_none() {
        return;
    }
    cx.controller(NAME, WORKERS)
        .watches_changes(&autoscalers, |change: &Change<Autoscaler>| {
            // Its status is our own word.
            let new = change.object();
            let same = change.old().is_some_and(|old| old.spec == new.spec);
            (!same).then(|| ObjectKey::of(&**new))
        })
        .run(context, |this, key| async move { this.reconcile(key).await }, shutdown)
        .await;
}

fn set_condition(
    autoscaler: &mut Autoscaler,
    kind: &str,
    (status, reason, message): (&str, &str, &str),
    now: Timestamp,
) {
    let generation = autoscaler.metadata.generation;
    let conditions = autoscaler
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    let at = conditions.iter().position(|c| c.type_ == kind).unwrap_or_else(|| {
        conditions.push(HorizontalPodAutoscalerCondition {
            type_: kind.to_owned(),
            ..HorizontalPodAutoscalerCondition::default()
        });
        conditions.len() - 1
    });
    if let Some(condition) = conditions.get_mut(at) {
        if condition.status != status {
            condition.last_transition_time = Some(Time(now));
        }
        condition.status = status.to_owned();
        condition.reason = Some(reason.to_owned());
        condition.message = Some(message.to_owned());
        condition.observed_generation = generation;
    }
}

fn tolerance(autoscaler: &Autoscaler) -> Tolerance {
    let behavior = autoscaler.spec.behavior.as_ref();
    let of = |rules: Option<&HPAScalingRules>, default: f64| {
        let given = rules.and_then(|r| r.tolerance.as_ref());
        given
            .and_then(|q| Quantity::try_from(q).ok())
            .map_or(default, |q| q.as_f64())
    };
    let default = Tolerance::default();
    Tolerance {
        up: of(behavior.and_then(|b| b.scale_up.as_ref()), default.up),
        down: of(behavior.and_then(|b| b.scale_down.as_ref()), default.down),
    }
}

/// What a look at an autoscaler leads to: its status, and why not everything went well.
struct Look {
    autoscaler: Autoscaler,
    failure: Option<String>,
    fault: Fault,
    /// Replicas before and after.
    scaled: (i32, i32),
}

impl Autoscalers {
    async fn reconcile(&self, key: ObjectKey<Autoscaler>) -> Result<Action, Error> {
        let Some(seen) = self.autoscalers.get(&key) else {
            self.memory.lock().remove(&key);
            self.selectors.lock().remove(&key);
            self.counted.forget(&key.namespace, &key.name);
            self.counted.known(self.autoscalers.list().len());
            return Ok(Action::Done);
        };
        let started = self.clock.instant();
        let look = self.look(&key, (*seen).clone()).await;
        let took = self.clock.instant().saturating_duration_since(started);
        self.counted.reconciled(look.scaled.0, look.scaled.1, look.fault, took);
        self.counted.known(self.autoscalers.list().len());
        if let Some(status) = &look.autoscaler.status {
            self.counted.desired(&key.namespace, &key.name, status.desired_replicas);
        }
        if look.autoscaler.status != seen.status {
            let api = self.client.namespaced::<Autoscaler>(&key.namespace);
            if let Err(error) = gone_is_done(api.update_status(&look.autoscaler).await) {
                if !error.is_conflict() {
                    self.warn(&seen, "FailedUpdateStatus", error.to_string());
                }
                return Err(error.into());
            }
        }
        if let Some(failure) = look.failure {
            tracing::debug!(controller = NAME, %key, failure, "an autoscaler could not do all it should");
        }
        Ok(Action::After(PERIOD))
    }

    fn warn(&self, autoscaler: &Autoscaler, reason: &str, message: impl Into<String>) {
        self.events.event(autoscaler, EventType::Warning, reason, message);
    }

    async fn look(&self, key: &ObjectKey<Autoscaler>, autoscaler: Autoscaler) -> Look {
        let mut look = Look {
            autoscaler,
            failure: None,
            fault: Fault::None,
            scaled: (0, 0),
        };
        let (api, mut scale) = match self.scale_of(&look.autoscaler, &key.namespace).await {
            Ok(found) => found,
            Err(error) => {
                self.warn(&look.autoscaler, "FailedGetScale", error.clone());
                let message = format!("the HPA controller was unable to get the target's current scale: {error}");
                self.set(&mut look, ABLE, ("False", "FailedGetScale", &message));
                look.failure = Some(error);
                look.fault = Fault::Internal;
                return look;
            }
        };
        let message = "the HPA controller was able to get the target's current scale";
        self.set(&mut look, ABLE, ("True", "SucceededGetScale", message));
        let current = scale.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0);
        look.scaled = (current, current);
        let now = self.clock.instant();
        self.memory.lock().entry(key.clone()).or_default().begin(current, now);

        let spec = look.autoscaler.spec.clone();
        let bounds = Bounds {
            min: spec.min_replicas.unwrap_or(1),
            max: spec.max_replicas,
        };
        let mut statuses = None;
        let (desired, why) = if current == 0 && bounds.min != 0 {
            let message = "scaling is disabled since the replica count of the target is zero";
            self.set(&mut look, ACTIVE, ("False", "ScalingDisabled", message));
            (0, String::new())
        } else if current > bounds.max {
            (
                bounds.max,
                "Current number of replicas above Spec.MaxReplicas".to_owned(),
            )
        } else if current < bounds.min {
            (
                bounds.min,
                "Current number of replicas below Spec.MinReplicas".to_owned(),
            )
        } else {
            match self.by_metrics(key, &mut look, &scale, &mut statuses).await {
                Ok((wanted, why)) => {
                    let mut memory = self.memory.lock();
                    let memory = memory.entry(key.clone()).or_default();
                    let decision = memory.decide(spec.behavior.as_ref(), bounds, current, wanted, now);
                    self.set(&mut look, ABLE, decision.able);
                    self.set(&mut look, LIMITED, decision.limited);
                    (decision.replicas, why)
                }
                Err(error) => {
                    self.warn(&look.autoscaler, "FailedComputeMetricsReplicas", error.clone());
                    let desired = look.autoscaler.status.as_ref().map_or(0, |s| s.desired_replicas);
                    finish(&mut look.autoscaler, current, desired, statuses, None);
                    look.failure = Some(error);
                    if look.fault == Fault::None {
                        look.fault = Fault::Internal;
                    }
                    return look;
                }
            }
        };
        if desired == current {
            finish(&mut look.autoscaler, current, current, statuses, None);
            return look;
        }
        scale.spec.get_or_insert_default().replicas = Some(desired);
        if let Err(error) = api.scale().update(&scale).await {
            let message = format!("New size: {desired}; reason: {why}; error: {error}");
            self.warn(&look.autoscaler, "FailedRescale", message);
            let message = format!("the HPA controller was unable to update the target scale: {error}");
            self.set(&mut look, ABLE, ("False", "FailedUpdateScale", &message));
            let before = look.autoscaler.status.as_ref().map_or(0, |s| s.desired_replicas);
            finish(&mut look.autoscaler, current, before, statuses, None);
            look.failure = Some(error.to_string());
            look.fault = Fault::Internal;
            return look;
        }
        look.scaled = (current, desired);
        let message = format!("the HPA controller was able to update the target scale to {desired}");
        self.set(&mut look, ABLE, ("True", "SucceededRescale", &message));
        let message = format!("New size: {desired}; reason: {why}");
        self.events
            .event(&look.autoscaler, EventType::Normal, "SuccessfulRescale", message);
        let mut memory = self.memory.lock();
        let memory = memory.entry(key.clone()).or_default();
        memory.scaled(spec.behavior.as_ref(), current, desired, now);
        finish(&mut look.autoscaler, current, desired, statuses, Some(self.clock.now()));
        look
    }

    fn set(&self, look: &mut Look, kind: &str, said: (&str, &str, &str)) {
        set_condition(&mut look.autoscaler, kind, said, self.clock.now());
    }

    async fn scale_of(&self, autoscaler: &Autoscaler, namespace: &str) -> Result<(Api<DynamicObject>, Scale), String> {
        let target = &autoscaler.spec.scale_target_ref;
        let api_version = target.api_version.as_deref().unwrap_or_default();
        let resource = resource_of(&self.client, api_version, &target.kind).await?;
        let api = self.client.dynamic::<DynamicObject>(&resource).within(namespace);
        let scale = api.scale().get(&target.name).await.map_err(|e| e.to_string())?;
        Ok((api, (*scale).clone()))
    }

    /// What the metrics ask for, and why for people.
    async fn by_metrics(
        &self,
        key: &ObjectKey<Autoscaler>,
        look: &mut Look,
        scale: &Scale,
        statuses: &mut Option<Vec<MetricStatus>>,
    ) -> Result<(i32, String), String> {
        let text = scale
            .status
            .as_ref()
            .and_then(|s| s.selector.clone())
            .unwrap_or_default();
        let pods = self.pods_of(key, look, &text)?;
        let current = scale.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0);
        let now = self.clock.now();
        let measuring = Measuring {
            metrics: Metrics {
                client: &self.client,
                now,
            },
            facts: Facts {
                replicas: current,
                pods: &pods,
                tolerance: tolerance(&look.autoscaler),
                now,
            },
            namespace: &key.namespace,
            selector: &text,
            status_replicas: scale.status.as_ref().map_or(0, |s| s.replicas),
        };
        let specs = look.autoscaler.spec.metrics.clone().unwrap_or_default();
        let computed = specs.iter().map(|spec| async {
            let started = self.clock.instant();
            let result = measuring.measure(spec).await;
            let took = self.clock.instant().saturating_duration_since(started);
            let (wanted, fault) = match &result {
                Ok(measured) => (measured.replicas, Fault::None),
                Err(failure) => (current, failure.fault()),
            };
            self.counted.computed(&spec.type_, current, wanted, fault, took);
            result
        });
        let results = join_all(computed).await;
        for failure in results.iter().filter_map(|r| r.as_ref().err()) {
            self.warn(&look.autoscaler, failure.reason, failure.message.clone());
        }
        // One for each metric, in their order; one that is not known says nothing.
        let known = results
            .iter()
            .map(|r| r.as_ref().map(|m| m.status.clone()).unwrap_or_default());
        *statuses = Some(known.collect());
        let described = |failed: usize, error: &str| {
            format!(
                "invalid metrics ({failed} invalid out of {}), first error is: {error}",
                specs.len()
            )
        };
        match combine(&results, current) {
            Err((failure, failed)) => {
                look.fault = failure.fault();
                let message = format!("the HPA was unable to compute the replica count: {}", failure.message);
                self.set(look, ACTIVE, ("False", failure.reason, &message));
                Err(described(failed, &failure.error))
            }
            Ok(outcome) => {
                let message = format!(
                    "the HPA was able to successfully calculate a replica count from {}",
                    outcome.name
                );
                self.set(look, ACTIVE, ("True", "ValidMetricFound", &message));
                if let Some((failure, _)) = &outcome.failure {
                    look.fault = failure.fault();
                }
                look.failure = outcome
                    .failure
                    .map(|(failure, failed)| described(failed, &failure.error));
                let why = if outcome.replicas > current {
                    format!("{} above target", outcome.name)
                } else {
                    "All metrics below target".to_owned()
                };
                Ok((outcome.replicas, why))
            }
        }
    }

    /// The target's pods, if they are nobody else's to scale.
    fn pods_of(&self, key: &ObjectKey<Autoscaler>, look: &mut Look, text: &str) -> Result<Vec<Arc<Pod>>, String> {
        if text.is_empty() {
            let error = "selector is required";
            self.warn(&look.autoscaler, "SelectorRequired", error);
            let message = "the HPA target's scale is missing a selector";
            self.set(look, ACTIVE, ("False", "InvalidSelector", message));
            look.fault = Fault::Spec;
            return Err(error.to_owned());
        }
        let selector = LabelSelector::parse(text).map_err(|e| {
            let error = format!("couldn't convert selector into a corresponding internal selector object: {e}");
            self.warn(&look.autoscaler, "InvalidSelector", error.clone());
            self.set(look, ACTIVE, ("False", "InvalidSelector", &error));
            look.fault = Fault::Spec;
            error
        })?;
        let pods = self.pods.matching(&key.namespace, &selector);
        let mut rivals: Vec<String> = {
            let mut all = self.selectors.lock();
            all.insert(key.clone(), selector);
            let same = all.iter().filter(|(other, selector)| {
                other.namespace == key.namespace
                    && pods
                        .iter()
                        .any(|p| selector.matches(|l| p.metadata.labels.as_ref()?.get(l).map(String::as_str)))
            });
            same.map(|(other, _)| other.to_string()).collect()
        };
        if rivals.len() > 1 {
            rivals.sort();
            let error = format!(
                "pods by selector {text} are controlled by multiple HPAs: [{}]",
                rivals.join(" ")
            );
            self.warn(&look.autoscaler, "AmbiguousSelector", error.clone());
            self.set(look, ACTIVE, ("False", "AmbiguousSelector", &error));
            return Err(error);
        }
        Ok(pods)
    }
}

fn finish(
    autoscaler: &mut Autoscaler,
    current: i32,
    desired: i32,
    metrics: Option<Vec<MetricStatus>>,
    scaled: Option<Timestamp>,
) {
    let generation = autoscaler.metadata.generation;
    let status = autoscaler.status.get_or_insert_default();
    status.current_replicas = Some(current);
    status.desired_replicas = desired;
    status.observed_generation = generation.or(status.observed_generation);
    status.current_metrics = metrics.filter(|m| !m.is_empty());
    if let Some(now) = scaled {
        status.last_scale_time = Some(Time(now));
    }
}
