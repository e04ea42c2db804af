//! What a pod counts for: the resources that it requests and may use, for as long as it can run.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, ScopedResourceSelectorRequirement};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use super::{Usage, one, selects};
use crate::quantity::Quantity;

const NAMES: [&str; 11] = [
    "count/pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];

/// What containers have to name when a quota limits it. (Upstream calls it a mistake that cannot be undone.)
const DEMANDED: [&str; 6] = [
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];

type ResourceList = BTreeMap<String, ApiQuantity>;

pub(super) fn tracks(name: &str) -> bool {
    NAMES.contains(&name)
        || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-")
        || (name.starts_with("requests.") && !is_native(name))
}

/// A name of Kubernetes' own, not one of a vendor.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

pub(super) fn usage(pod: &Pod, now: Timestamp) -> Usage {
    let mut usage = Usage::from([("count/pods".to_owned(), one())]);
    if !is_over(pod, now) {
        usage.extend(compute(&pod_requests(pod), &pod_limits(pod)));
    }
    usage
}

/// Finished, or told to go so long ago that it must have stopped.
fn is_over(pod: &Pod, now: Timestamp) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return true;
    }
    let meta = &pod.metadata;
    match (&meta.deletion_timestamp, meta.deletion_grace_period_seconds) {
        (Some(at), Some(grace)) => {
            let end = at.0.saturating_add(SignedDuration::from_secs(grace));
            end.is_ok_and(|end| now > end)
        }
        _ => false,
    }
}

fn compute(requests: &Usage, limits: &Usage) -> Usage {
    let mut usage = Usage::from([("pods".to_owned(), one())]);
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(amount) = requests.get(name) {
            usage.insert(name.to_owned(), *amount);
            usage.insert(format!("requests.{name}"), *amount);
        }
        if let Some(amount) = limits.get(name) {
            usage.insert(format!("limits.{name}"), *amount);
        }
    }
    for (name, amount) in requests {
        let huge = name.starts_with("hugepages-");
        if huge {
            usage.insert(name.clone(), *amount);
        }
        if huge || (!is_native(name) && !name.starts_with("requests.")) {
            usage.insert(format!("requests.{name}"), *amount);
        }
    }
    usage
}

fn read(list: Option<&ResourceList>) -> Usage {
    let amounts = list.into_iter().flatten();
    amounts
        .filter_map(|(name, amount)| Some((name.clone(), Quantity::try_from(amount).ok()?)))
        .collect()
}

fn add(sum: &mut Usage, more: &Usage) {
    for (name, amount) in more {
        match sum.get_mut(name) {
            Some(there) => *there += *amount,
            None => drop(sum.insert(name.clone(), *amount)),
        }
    }
}

fn raise(most: &mut Usage, other: &Usage) {
    for (name, amount) in other {
        match most.get_mut(name) {
            Some(there) if *there >= *amount => {}
            Some(there) => *there = *amount,
            None => drop(most.insert(name.clone(), *amount)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Requests,
    Limits,
}

/// Everything the pod requests: its containers as they run (init containers one by one beside the sidecars that run
/// already, then all others together) or what the pod as a whole says, and its overhead. While a resize is under way
/// the larger of old and new counts.
pub fn pod_requests(pod: &Pod) -> Usage {
    total(pod, Side::Requests)
}

/// The same of limits.
pub fn pod_limits(pod: &Pod) -> Usage {
    total(pod, Side::Limits)
}

fn total(pod: &Pod, side: Side) -> Usage {
    let Some(spec) = pod.spec.as_ref() else {
        return Usage::new();
    };
    let mut sum = containers(pod, spec, side);
    if let Some(whole) = &spec.resources {
        let list = match side {
            Side::Requests => whole.requests.as_ref(),
            Side::Limits => whole.limits.as_ref(),
        };
        let named = read(list).into_iter();
        sum.extend(named.filter(|(n, _)| matches!(n.as_str(), "cpu" | "memory") || n.starts_with("hugepages-")));
    }
    for (name, amount) in read(spec.overhead.as_ref()) {
        match sum.get_mut(&name) {
            // No limit stays no limit.
            Some(there) if side == Side::Requests || !there.is_zero() => *there += amount,
            None if side == Side::Requests => drop(sum.insert(name, amount)),
            _ => {}
        }
    }
    sum
}

fn containers(pod: &Pod, spec: &PodSpec, side: Side) -> Usage {
    let status = pod.status.as_ref();
    let find = |list: Option<&Vec<ContainerStatus>>, name: &str| -> Option<ContainerStatus> {
        list?.iter().find(|s| s.name == name).cloned()
    };
    let infeasible = status.and_then(|s| s.conditions.as_ref()).is_some_and(|c| {
        c.iter()
            .any(|c| c.type_ == "PodResizePending" && c.reason.as_deref() == Some("Infeasible"))
    });
    let mut running = Usage::new();
    for container in &spec.containers {
        let now = find(status.and_then(|s| s.container_statuses.as_ref()), &container.name);
        add(&mut running, &of_container(container, now.as_ref(), infeasible, side));
    }
    let mut sidecars = Usage::new();
    let mut peak = Usage::new();
    for container in spec.init_containers.iter().flatten() {
        if container.restart_policy.as_deref() == Some("Always") {
            let now = find(status.and_then(|s| s.init_container_statuses.as_ref()), &container.name);
            add(&mut sidecars, &of_container(container, now.as_ref(), infeasible, side));
            raise(&mut peak, &sidecars);
        } else {
            let mut beside = sidecars.clone();
            add(&mut beside, &of_container(container, None, infeasible, side));
            raise(&mut peak, &beside);
        }
    }
    add(&mut running, &sidecars);
    raise(&mut running, &peak);
    running
}

/// What one container wants, and while it is resized what it still has.
fn of_container(container: &Container, now: Option<&ContainerStatus>, infeasible: bool, side: Side) -> Usage {
    let pick = |r: &k8s_openapi::api::core::v1::ResourceRequirements| {
        read(match side {
            Side::Requests => r.requests.as_ref(),
            Side::Limits => r.limits.as_ref(),
        })
    };
    let wanted = container.resources.as_ref().map(pick).unwrap_or_default();
    let Some((has, allocated)) =
        now.and_then(|n| n.resources.as_ref().map(|r| (pick(r), n.allocated_resources.as_ref())))
    else {
        return wanted;
    };
    let mut most = if infeasible { Usage::new() } else { wanted };
    raise(&mut most, &has);
    if side == Side::Requests {
        raise(&mut most, &read(allocated));
    }
    most
}

pub(super) fn is_in_scope(pod: &Pod, scope: &ScopedResourceSelectorRequirement) -> bool {
    let spec = pod.spec.as_ref();
    let terminating = || spec.and_then(|s| s.active_deadline_seconds).is_some_and(|s| s >= 0);
    match scope.scope_name.as_str() {
        "Terminating" => terminating(),
        "NotTerminating" => !terminating(),
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => {
            let class = spec.and_then(|s| s.priority_class_name.as_deref());
            selects(scope, class.filter(|c| !c.is_empty()))
        }
        "CrossNamespacePodAffinity" => spec.is_some_and(reaches_other_namespaces),
        _ => false,
    }
}

fn is_best_effort(pod: &Pod) -> bool {
    if let Some(class) = pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        return class == "BestEffort";
    }
    let Some(spec) = pod.spec.as_ref() else {
        return true;
    };
    let names_any = |list: Option<&ResourceList>| {
        let asked = read(list);
        asked.iter().any(|(name, amount)| {
            matches!(name.as_str(), "cpu" | "memory") && !amount.is_zero() && !amount.is_negative()
        })
    };
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let resources = all.filter_map(|c| c.resources.as_ref()).chain(spec.resources.as_ref());
    !resources
        .into_iter()
        .any(|r| names_any(r.requests.as_ref()) || names_any(r.limits.as_ref()))
}

fn reaches_other_namespaces(spec: &PodSpec) -> bool {
    let Some(affinity) = spec.affinity.as_ref() else {
        return false;
    };
    let to = affinity.pod_affinity.as_ref();
    let from = affinity.pod_anti_affinity.as_ref();
    let required = to
        .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())
        .into_iter()
        .chain(from.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()))
        .flatten();
    let preferred = to
        .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref())
        .into_iter()
        .chain(from.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()))
        .flatten()
        .map(|weighted| &weighted.pod_affinity_term);
    required
        .chain(preferred)
        .any(|term| term.namespace_selector.is_some() || term.namespaces.as_ref().is_some_and(|n| !n.is_empty()))
}

pub(super) fn missing<'n>(pod: &Pod, required: impl Iterator<Item = &'n str>) -> Option<String> {
    let mut required: BTreeSet<&str> = required.filter(|name| DEMANDED.contains(name)).collect();
    let spec = pod.spec.as_ref()?;
    let named = |r: Option<&k8s_openapi::api::core::v1::ResourceRequirements>| -> Usage {
        r.map_or_else(Usage::new, |r| {
            compute(&read(r.requests.as_ref()), &read(r.limits.as_ref()))
        })
    };
    // What the pod as a whole says, its containers need not.
    let whole = named(spec.resources.as_ref());
    required.retain(|name| !whole.contains_key(*name));
    let mut lacking: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        let own = named(container.resources.as_ref());
        for name in required.iter().filter(|name| !own.contains_key(**name)) {
            lacking.entry(name).or_default().insert(&container.name);
        }
    }
    if lacking.is_empty() {
        return None;
    }
    let parts: Vec<String> = lacking
        .iter()
        .map(|(name, of)| format!("{name} for: {}", of.iter().copied().collect::<Vec<_>>().join(",")))
        .collect();
    Some(format!("must specify {}", parts.join("; ")))
}
