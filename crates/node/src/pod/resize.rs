//! Resizing a running pod: what has been granted to it, what that changes for its containers, and how it is told. Pure but
//! for the file that remembers what was granted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coracle_runtime::{ContainerId, ContainerState, ContainerStatus, Resources};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::plan::{init_containers, is_sidecar, latest};
use super::resources;

/// What a pod has been granted: after a restart of the agent it tells from what the pod wants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Granted {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<ResourceRequirements>,
    containers: BTreeMap<String, ResourceRequirements>,
}

fn resizable(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.iter();
    spec.flat_map(|s| s.containers.iter().chain(init_containers(s).filter(|c| is_sidecar(c))))
}

fn file(pod_dir: &Path) -> PathBuf {
    pod_dir.join("granted.json")
}

impl Granted {
    /// All that the pod asks for.
    pub(crate) fn of(pod: &Pod) -> Self {
        let containers = resizable(pod).map(|c| (c.name.clone(), c.resources.clone().unwrap_or_default()));
        Self {
            pod: pod.spec.as_ref().and_then(|s| s.resources.clone()),
            containers: containers.collect(),
        }
    }

    pub(crate) fn read(pod_dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(file(pod_dir)).ok()?).ok()
    }

    /// Nothing is written for a pod that asks for nothing: it can never be resized.
    pub(crate) fn write(&self, pod_dir: &Path) -> Result<(), String> {
        let nothing = ResourceRequirements::default();
        if self.pod.is_none() && self.containers.values().all(|r| *r == nothing) {
            return Ok(());
        }
        let (path, new) = (file(pod_dir), pod_dir.join("granted.json.new"));
        let bytes = serde_json::to_vec(self).map_err(|e| e.to_string())?;
        std::fs::create_dir_all(pod_dir)
            .and_then(|()| std::fs::write(&new, bytes))
            .and_then(|()| std::fs::rename(&new, &path))
            .map_err(|e| format!("write {}: {e}", path.display()))
    }

    /// The pod with what it was granted in place of what it asks for.
    pub(crate) fn apply(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        if *self == Self::of(pod) {
            return pod.clone();
        }
        let mut granted = pod.as_ref().clone();
        if let Some(spec) = &mut granted.spec {
            spec.resources.clone_from(&self.pod);
            let sidecars = spec.init_containers.iter_mut().flatten().filter(|c| is_sidecar(c));
            for container in spec.containers.iter_mut().chain(sidecars) {
                if let Some(own) = self.containers.get(&container.name) {
                    let nothing = ResourceRequirements::default();
                    container.resources = Some(own.clone()).filter(|r| *r != nothing || container.resources.is_some());
                }
            }
        }
        Arc::new(granted)
    }
}

/// What a running container has that it should not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) id: ContainerId,
    pub(crate) container: String,
    pub(crate) to: Resources,
    /// Its memory limit shrinks: not below what it uses.
    pub(crate) shrinks_memory: bool,
    /// By its resize policy it has to start anew.
    pub(crate) restart: bool,
}

/// What has to change in running containers for them to have what the pod (as granted) gives them.
pub(crate) fn changes(pod: &Pod, instances: &BTreeMap<ContainerId, ContainerStatus>) -> Vec<Change> {
    resizable(pod)
        .filter_map(|container| {
            let instance = latest(instances, &container.name).filter(|i| i.state == ContainerState::Running)?;
            change(pod, container, instance)
        })
        .collect()
}

fn change(pod: &Pod, container: &Container, instance: &ContainerStatus) -> Option<Change> {
    let wanted = resources::of_container(pod, container, 0);
    let has = &instance.resources;
    // Who was started without a limit has none; the runtime may say so or say nothing.
    let limit = |limit: Option<i64>| limit.filter(|l| *l > 0);
    let cpu = wanted.cpu_shares != has.cpu_shares || limit(wanted.cpu_quota) != limit(has.cpu_quota);
    let memory = limit(wanted.memory_limit) != limit(has.memory_limit);
    if !cpu && !memory {
        return None;
    }
    let restarts = |resource: &str| {
        let policies = container.resize_policy.iter().flatten();
        let own = policies.filter(|p| p.resource_name == resource);
        own.into_iter().any(|p| p.restart_policy == "RestartContainer")
    };
    let to = Resources {
        cpu_shares: wanted.cpu_shares,
        cpu_quota: wanted.cpu_quota,
        cpu_period: wanted.cpu_period,
        memory_limit: wanted.memory_limit.or(has.memory_limit.map(|_| -1)),
        ..Resources::default()
    };
    let shrinks_memory = match (limit(wanted.memory_limit), limit(has.memory_limit)) {
        (Some(new), Some(old)) => new < old,
        (new, old) => new.is_some() && old.is_none(),
    };
    Some(Change {
        id: instance.id.clone(),
        container: container.name.clone(),
        to,
        shrinks_memory,
        restart: cpu && restarts("cpu") || memory && restarts("memory"),
    })
}

/// Limits that hold both before and after: a pod's while its containers change one by one.
pub(crate) fn roomiest(a: &Resources, b: &Resources) -> Resources {
    let most = |a: Option<i64>, b: Option<i64>| match (a, b) {
        (Some(a), Some(b)) if a > 0 && b > 0 => Some(a.max(b)),
        _ => Some(-1),
    };
    Resources {
        cpu_shares: a.cpu_shares.max(b.cpu_shares),
        cpu_quota: most(a.cpu_quota, b.cpu_quota),
        cpu_period: a.cpu_period.or(b.cpu_period),
        memory_limit: most(a.memory_limit, b.memory_limit),
        ..Resources::default()
    }
}

/// The pod's own limits as they are written: what is absent is no limit.
pub(crate) fn pod_limits(pod: &Pod) -> Resources {
    let of = resources::of_pod(pod, -1);
    Resources {
        memory_limit: of.memory_limit.or(Some(-1)),
        ..of
    }
}

/// A running container's resources as its status shows them: what the runtime has, in the words of the spec.
pub(crate) fn shown(pod: &Pod, container: &Container, instance: &ContainerStatus) -> Option<ResourceRequirements> {
    let mut shown = container.resources.clone()?;
    let wanted = resources::of_container(pod, container, 0);
    let has = &instance.resources;
    let quantity = |text: String| k8s_openapi::apimachinery::pkg::api::resource::Quantity(text);
    let milli = |milli: i64| {
        if milli % 1000 == 0 {
            quantity((milli / 1000).to_string())
        } else {
            quantity(format!("{milli}m"))
        }
    };
    let limit = |limit: Option<i64>| limit.filter(|l| *l > 0);
    if has.cpu_quota.is_some() && limit(has.cpu_quota) != limit(wanted.cpu_quota) {
        let limits = shown.limits.get_or_insert_default();
        let period = has.cpu_period.and_then(|p| i64::try_from(p).ok()).filter(|p| *p > 0);
        match limit(has.cpu_quota) {
            Some(quota) => limits.insert("cpu".into(), milli(quota * 1000 / period.unwrap_or(100_000))),
            None => limits.remove("cpu"),
        };
    }
    if let Some(shares) = has.cpu_shares.filter(|s| Some(*s) != wanted.cpu_shares) {
        let shares = i64::try_from(shares).unwrap_or(i64::MAX);
        let requests = shown.requests.get_or_insert_default();
        requests.insert("cpu".into(), milli((shares.saturating_mul(1000) + 1023) / 1024));
    }
    if has.memory_limit.is_some() && limit(has.memory_limit) != limit(wanted.memory_limit) {
        let limits = shown.limits.get_or_insert_default();
        match limit(has.memory_limit) {
            Some(bytes) => limits.insert("memory".into(), bytes_shown(bytes)),
            None => limits.remove("memory"),
        };
    }
    Some(shown)
}

fn bytes_shown(bytes: i64) -> k8s_openapi::apimachinery::pkg::api::resource::Quantity {
    let format = coracle_api::quantity::QuantityFormat::BinarySi;
    let quantity = coracle_api::quantity::Quantity::new(bytes, format);
    k8s_openapi::apimachinery::pkg::api::resource::Quantity(quantity.to_string())
}

/// The message of a resize's events: a sentence, and what it is about.
pub(crate) fn message(sentence: &str, pod: &Pod, error: Option<&str>) -> String {
    let list = |containers: Vec<&Container>| -> Value {
        let all = containers.into_iter();
        all.map(|c| json!({"name": c.name, "resources": c.resources.clone().unwrap_or_default()}))
            .collect()
    };
    let mut summary = json!({"containers": list(pod.spec.iter().flat_map(|s| &s.containers).collect()),
        "generation": pod.metadata.generation.unwrap_or_default()});
    let sidecars: Vec<_> = pod
        .spec
        .iter()
        .flat_map(|s| init_containers(s).filter(|c| is_sidecar(c)))
        .collect();
    if !sidecars.is_empty() {
        summary["initContainers"] = list(sidecars);
    }
    if let Some(error) = error {
        summary["error"] = error.into();
    }
    format!("{sentence}: {summary}")
}

#[cfg(test)]
#[path = "resize_tests.rs"]
mod tests;
