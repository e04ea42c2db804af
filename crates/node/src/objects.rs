//! What the agent reads and writes of the API for its pods: the seam between a pod's worker and the client. It caches
//! nothing itself.

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use coracle_clock::Timestamp;
use k8s_openapi::api::certificates::v1::{ClusterTrustBundle, PodCertificateRequest, PodCertificateRequestStatus};
use k8s_openapi::api::core::v1::{
    ConfigMap, Node, PersistentVolume, PersistentVolumeClaim, Pod, PodStatus, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::node::v1::RuntimeClass;

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The object is not there (any more), or another one has its name.
    #[error("{0}")]
    Gone(String),
    #[error("{0}")]
    Failed(String),
}

/// An event's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    Normal,
    Warning,
}

/// The API as pod workers see it.
#[async_trait]
pub trait Objects: Send + Sync + 'static {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<Arc<ConfigMap>>, ApiError>;
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Arc<Secret>>, ApiError>;
    async fn claim(&self, namespace: &str, name: &str) -> Result<Option<Arc<PersistentVolumeClaim>>, ApiError>;
    async fn node(&self, name: &str) -> Result<Option<Arc<Node>>, ApiError>;
    async fn persistent_volume(&self, name: &str) -> Result<Option<Arc<PersistentVolume>>, ApiError>;
    async fn runtime_class(&self, name: &str) -> Result<Option<Arc<RuntimeClass>>, ApiError>;
    /// All of them: which ones a volume means is its own to say.
    async fn trust_bundles(&self) -> Result<Vec<Arc<ClusterTrustBundle>>, ApiError>;
    async fn service_account(&self, namespace: &str, name: &str) -> Result<Option<Arc<ServiceAccount>>, ApiError>;
    /// Asks a signer; the answer comes later.
    async fn request_certificate(&self, wanted: &PodCertificateRequest)
    -> Result<Arc<PodCertificateRequest>, ApiError>;
    /// What the signer has answered; none while it has not, for as long as one may wait.
    async fn answer(&self, request: &PodCertificateRequest) -> Result<Option<PodCertificateRequestStatus>, ApiError>;
    /// A token of the pod's service account, bound to the pod, and when it expires.
    async fn token(&self, pod: &Pod, audience: &str, seconds: i64) -> Result<(String, Timestamp), ApiError>;
    /// The services of the namespace and `kubernetes` of `default`.
    fn services(&self, namespace: &str) -> Vec<Arc<Service>>;
    /// Calls `wake` whenever a config map, secret or trust bundle that the pod refers to changes, until [`unfollow`](Self::unfollow).
    fn follow(&self, pod: &Pod, wake: Arc<dyn Fn() + Send + Sync>);
    fn unfollow(&self, pod: &Pod);
    /// Writes the agent's part of the pod's status. The pod tells which one, by name and uid.
    async fn write_status(&self, pod: &Pod, status: &PodStatus) -> Result<(), ApiError>;
    /// Creates a mirror pod. That it is there already is no failure: what it is will be seen.
    async fn create(&self, mirror: &Pod) -> Result<(), ApiError>;
    /// Removes the pod whose end this agent has seen through.
    async fn remove(&self, pod: &Pod) -> Result<(), ApiError>;
    /// Tells what happened to the pod, or to the part of it at `path` (`spec.containers{name}`).
    fn event(&self, pod: &Pod, path: Option<String>, kind: EventType, reason: Cow<'static, str>, message: String);
}
