//! How many replicas a metric asks for. Pure.
//!
//! Pods that say nothing are counted so that they can only lower the change: as idle when there should be more pods, as
//! busy when there should be fewer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use coracle_api::quantity::Quantity;
use coracle_clock::Timestamp;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::pods::{condition, is_ready, phase};

/// So long after its start a pod's CPU says little, unless it is ready for a whole window of the metric.
const CPU_INITIALIZATION: SignedDuration = SignedDuration::from_mins(5);
/// A pod that was unready from so soon after its start on has never been ready.
const INITIAL_READINESS_DELAY: SignedDuration = SignedDuration::from_secs(30);

/// One pod's value in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    pub value: i64,
    pub at: Timestamp,
    pub window: Duration,
}

/// By pod.
pub type Samples = BTreeMap<String, Sample>;

/// How far from 1 the ratio may be before anything is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    pub up: f64,
    pub down: f64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self { up: 0.1, down: 0.1 }
    }
}

impl Tolerance {
    fn covers(&self, ratio: f64) -> bool {
        1.0 - self.down <= ratio && ratio <= 1.0 + self.up
    }
}

/// Replicas, and the value they were computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub replicas: i32,
    /// In percent of what is requested.
    pub utilization: Option<i32>,
    /// In thousandths: the average of the pods, or the value.
    pub value: i64,
}

/// What is known besides the metric.
pub struct Facts<'f> {
    /// What the target's spec says.
    pub replicas: i32,
    /// The target's pods.
    pub pods: &'f [Arc<Pod>],
    pub tolerance: Tolerance,
    pub now: Timestamp,
}

#[derive(Default)]
struct Groups {
    ready: usize,
    unready: BTreeSet<String>,
    missing: BTreeSet<String>,
}

fn name(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}

/// Whether what the pod's CPU says is not to be believed yet.
fn is_starting(pod: &Pod, sample: &Sample, now: Timestamp) -> bool {
    let started = pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
    let (Some(ready), Some(started)) = (condition(pod, "Ready"), started) else {
        return true;
    };
    let since = ready.last_transition_time.as_ref().map_or(Timestamp::MIN, |t| t.0);
    let after = |at: Timestamp, by: SignedDuration| at.saturating_add(by).unwrap_or(Timestamp::MAX);
    let unready = ready.status == "False";
    if after(started, CPU_INITIALIZATION) > now {
        let window = SignedDuration::try_from(sample.window).unwrap_or_default();
        unready || sample.at < after(since, window)
    } else {
        unready && after(started, INITIAL_READINESS_DELAY) > since
    }
}

/// Sorts the pods, and takes the samples of those that do not count out.
fn group(facts: &Facts<'_>, samples: &mut Samples, resource: Option<&str>) -> Groups {
    let mut groups = Groups::default();
    for pod in facts.pods {
        let name = name(pod);
        if pod.metadata.deletion_timestamp.is_some() || phase(pod) == "Failed" {
            samples.remove(&name);
            continue;
        }
        let starting = |sample: &Sample| resource == Some("cpu") && is_starting(pod, sample, facts.now);
        match samples.get(&name) {
            _ if phase(pod) == "Pending" => drop(groups.unready.insert(name)),
            None => drop(groups.missing.insert(name)),
            Some(sample) if starting(sample) => drop(groups.unready.insert(name)),
            Some(_) => groups.ready += 1,
        }
    }
    samples.retain(|name, _| !groups.unready.contains(name));
    groups
}

fn ceil(value: f64) -> i32 {
    // Out of range saturates.
    value.ceil() as i32
}

/// What a container requests, in thousandths, summed over the pod's (or the one container's).
fn requests(facts: &Facts<'_>, resource: &str, container: Option<&str>) -> Result<BTreeMap<String, i64>, String> {
    let mut all = BTreeMap::new();
    for pod in facts.pods {
        let Some(spec) = pod.spec.as_ref() else { continue };
        let read = |list: Option<&BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>| {
            let amount = list.and_then(|l| l.get(resource))?;
            Quantity::try_from(amount).ok().map(|q| q.milli_value())
        };
        let whole = spec.resources.as_ref().and_then(|r| read(r.requests.as_ref()));
        let mut sum = 0;
        match (container, whole) {
            (None, Some(whole)) => sum = whole,
            _ => {
                let sidecar = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
                let sidecars = spec.init_containers.iter().flatten().filter(sidecar);
                let wanted = |c: &&Container| container.is_none_or(|name| c.name == name);
                for each in spec.containers.iter().chain(sidecars).filter(wanted) {
                    let request = each.resources.as_ref().and_then(|r| read(r.requests.as_ref()));
                    sum += request.ok_or_else(|| {
                        format!(
                            "missing request for {resource} in container {} of Pod {}",
                            each.name,
                            name(pod)
                        )
                    })?;
                }
            }
        }
        all.insert(name(pod), sum);
    }
    Ok(all)
}

/// By how much of what they request the pods use.
pub fn by_utilization(
    facts: &Facts<'_>,
    mut samples: Samples,
    target: i32,
    resource: &str,
    container: Option<&str>,
) -> Result<Proposal, String> {
    no_pods(facts)?;
    let groups = group(facts, &mut samples, Some(resource));
    let requests = requests(facts, resource, container)?;
    no_samples(&samples)?;
    let ratio = |samples: &Samples| -> Result<(f64, i32, i64), String> {
        let known = samples
            .iter()
            .filter_map(|(name, s)| Some((s.value, *requests.get(name)?)));
        let (used, wanted, count) = known.fold((0i64, 0i64, 0i64), |(u, w, n), (used, wanted)| {
            (u + used, w + wanted, n + 1)
        });
        if wanted == 0 {
            return Err("no metrics returned matched known pods".to_owned());
        }
        let percent = i32::try_from(used.saturating_mul(100) / wanted).unwrap_or(i32::MAX);
        Ok((f64::from(percent) / f64::from(target), percent, used / count))
    };
    let (first, percent, average) = ratio(&samples)?;
    let proposal = |replicas| Proposal {
        replicas,
        utilization: Some(percent),
        value: average,
    };
    // Those that say nothing are taken to use all that they request, or the target if that is more.
    let busy = |name: &str| {
        requests
            .get(name)
            .map_or(0, |r| r.saturating_mul(target.max(100).into()) / 100)
    };
    let replicas = settle(facts, &groups, samples, first, busy, |s| Ok(ratio(s)?.0))?;
    Ok(proposal(replicas))
}

/// By the average of the pods, against a target in thousandths.
pub fn by_average(
    facts: &Facts<'_>,
    mut samples: Samples,
    target: i64,
    resource: Option<&str>,
) -> Result<Proposal, String> {
    no_pods(facts)?;
    let groups = group(facts, &mut samples, resource);
    no_samples(&samples)?;
    let average =
        |s: &Samples| s.values().map(|s| s.value).sum::<i64>() / i64::try_from(s.len()).unwrap_or(i64::MAX).max(1);
    let value = average(&samples);
    let ratio = |s: &Samples| average(s) as f64 / target as f64;
    let first = ratio(&samples);
    let replicas = settle(facts, &groups, samples, first, |_| target, |s| Ok(ratio(s)))?;
    Ok(Proposal {
        replicas,
        utilization: None,
        value,
    })
}

fn no_pods(facts: &Facts<'_>) -> Result<(), String> {
    if facts.pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".to_owned());
    }
    Ok(())
}

fn no_samples(samples: &Samples) -> Result<(), String> {
    if samples.is_empty() {
        return Err("did not receive metrics for any ready pods".to_owned());
    }
    Ok(())
}

/// From the first ratio to replicas, with the pods that say nothing filled in.
fn settle(
    facts: &Facts<'_>,
    groups: &Groups,
    mut samples: Samples,
    first: f64,
    busy: impl Fn(&str) -> i64,
    ratio: impl Fn(&Samples) -> Result<f64, String>,
) -> Result<i32, String> {
    let with_unready = !groups.unready.is_empty() && first > 1.0;
    if !with_unready && groups.missing.is_empty() {
        return Ok(if facts.tolerance.covers(first) {
            facts.replicas
        } else {
            ceil(first * groups.ready as f64)
        });
    }
    let filled = |value| Sample {
        value,
        at: facts.now,
        window: Duration::ZERO,
    };
    for name in &groups.missing {
        if first < 1.0 {
            samples.insert(name.clone(), filled(busy(name)));
        } else if first > 1.0 {
            samples.insert(name.clone(), filled(0));
        }
    }
    if with_unready {
        for name in &groups.unready {
            samples.insert(name.clone(), filled(0));
        }
    }
    let second = ratio(&samples)?;
    let turned = (first < 1.0 && second > 1.0) || (first > 1.0 && second < 1.0);
    if facts.tolerance.covers(second) || turned {
        return Ok(facts.replicas);
    }
    let replicas = ceil(second * samples.len() as f64);
    if (second < 1.0 && replicas > facts.replicas) || (second > 1.0 && replicas < facts.replicas) {
        return Ok(facts.replicas);
    }
    Ok(replicas)
}

/// By one value for all, which should be `target` (both in thousandths).
pub fn by_value(facts: &Facts<'_>, value: i64, target: i64) -> Result<Proposal, String> {
    let ratio = value as f64 / target as f64;
    let replicas = if facts.replicas == 0 {
        // From nothing there is no proportion.
        ceil(ratio)
    } else if facts.tolerance.covers(ratio) {
        facts.replicas
    } else {
        no_pods(facts).map_err(|e| format!("unable to calculate ready pods: {e}"))?;
        let ready = facts
            .pods
            .iter()
            .filter(|p| phase(p) == "Running" && is_ready(p))
            .count();
        ceil(ratio * ready as f64)
    };
    Ok(Proposal {
        replicas,
        utilization: None,
        value,
    })
}

/// By one value, of which each of the `status_replicas` should have its `target` share (in thousandths).
pub fn by_share(facts: &Facts<'_>, value: i64, target: i64, status_replicas: i32) -> Proposal {
    let ratio = value as f64 / (target as f64 * f64::from(status_replicas));
    let replicas = if facts.tolerance.covers(ratio) {
        status_replicas
    } else {
        ceil(value as f64 / target as f64)
    };
    let share = if status_replicas == 0 {
        value
    } else {
        (value as f64 / f64::from(status_replicas)).ceil() as i64
    };
    Proposal {
        replicas,
        utilization: None,
        value: share,
    }
}
