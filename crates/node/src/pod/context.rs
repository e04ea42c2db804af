//! What every pod worker of the node shares, and where a pod's files are.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use coracle_clock::Clock;
use coracle_runtime::PodRuntime;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::RwLock;

use super::downward::NodeFacts;
use super::files::Dns;
use super::users::Users;
use crate::allocation::Allocations;
use crate::node_state::NodeState;
use crate::objects::{EventType, Objects};
use crate::settings::Settings;

/// The pod network as the workers see it. `id` names a sandbox.
#[async_trait]
pub trait PodNetworking: Send + Sync + 'static {
    /// Gives the namespace its interfaces; returns the pod's addresses. Idempotent.
    async fn attach(&self, id: &str, netns: &Path) -> Result<Vec<String>, String>;
    /// Takes them back. Idempotent.
    async fn detach(&self, id: &str) -> Result<(), String>;
    /// Takes back what belongs to none of these sandboxes: what an agent's sudden end left.
    async fn keep_only(&self, live: &HashSet<String>) -> Result<(), String>;
}

#[async_trait]
impl PodNetworking for coracle_network::PodNetwork {
    async fn attach(&self, id: &str, netns: &Path) -> Result<Vec<String>, String> {
        let attachment = self.attach(id, netns).await.map_err(|e| e.to_string())?;
        Ok(vec![attachment.address.to_string()])
    }

    async fn detach(&self, id: &str) -> Result<(), String> {
        self.detach(id).await.map_err(|e| e.to_string())
    }

    async fn keep_only(&self, live: &HashSet<String>) -> Result<(), String> {
        self.reconcile(live).await.map_err(|e| e.to_string())
    }
}

/// The pod network where the runtime makes it: there is nothing to do.
#[derive(Clone, Copy, Debug)]
pub struct RuntimeNetworking;

#[async_trait]
impl PodNetworking for RuntimeNetworking {
    async fn attach(&self, id: &str, _netns: &Path) -> Result<Vec<String>, String> {
        Err(format!("the container runtime gave sandbox {id} no network"))
    }

    async fn detach(&self, _id: &str) -> Result<(), String> {
        Ok(())
    }

    async fn keep_only(&self, _live: &HashSet<String>) -> Result<(), String> {
        Ok(())
    }
}

/// What the workers of one node share.
pub(crate) struct Context {
    pub(crate) runtime: Arc<dyn PodRuntime>,
    pub(crate) network: Arc<dyn PodNetworking>,
    pub(crate) objects: Arc<dyn Objects>,
    pub(crate) clock: Clock,
    pub(crate) data_dir: PathBuf,
    pub(crate) cgroup_root: String,
    pub(crate) hostname: String,
    pub(crate) dns: Dns,
    /// Bytes.
    pub(crate) memory_capacity: i64,
    pub(crate) node: RwLock<Arc<NodeFacts>>,
    pub(crate) users: Users,
    pub(crate) settings: Settings,
    pub(crate) allocations: Allocations,
    pub(crate) state: NodeState,
}

impl Context {
    pub(crate) fn node(&self) -> Arc<NodeFacts> {
        self.node.read().clone()
    }

    /// The pod's directory: volumes, managed files, termination messages.
    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.data_dir.join("pods").join(uid)
    }

    pub(crate) fn seccomp_root(&self) -> PathBuf {
        self.data_dir.join("seccomp")
    }

    /// Where the pod's containers log.
    pub(crate) fn log_dir(&self, pod: &Pod) -> PathBuf {
        let meta = &pod.metadata;
        self.data_dir.join("logs").join(format!(
            "{}_{}_{}",
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
            meta.uid.as_deref().unwrap_or_default()
        ))
    }

    pub(crate) fn event(&self, pod: &Pod, kind: EventType, reason: &'static str, message: impl Into<String>) {
        self.objects.event(pod, None, kind, reason.into(), message.into());
    }

    /// An event about one container of the pod.
    pub(crate) fn container_event(
        &self,
        pod: &Pod,
        container: &str,
        kind: EventType,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let spec = pod.spec.as_ref();
        let named = |list: Option<&Vec<k8s_openapi::api::core::v1::Container>>| {
            list.into_iter().flatten().any(|c| c.name == container)
        };
        let field = if named(spec.and_then(|s| s.init_containers.as_ref())) {
            "initContainers"
        } else if named(spec.map(|s| &s.containers)) {
            "containers"
        } else {
            "ephemeralContainers"
        };
        self.objects.event(
            pod,
            Some(format!("spec.{field}{{{container}}}")),
            kind,
            reason.into(),
            message.into(),
        );
    }
}
