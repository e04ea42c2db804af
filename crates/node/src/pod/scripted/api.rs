//! An API and a network in memory, and the context of a node that has them.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use coracle_clock::{Clock, Timestamp};
use k8s_openapi::api::certificates::v1::{ClusterTrustBundle, PodCertificateRequest, PodCertificateRequestStatus};
use k8s_openapi::api::core::v1::{
    ConfigMap, Node, PersistentVolume, PersistentVolumeClaim, Pod, PodStatus, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::node::v1::RuntimeClass;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::{Scripted, Shared};
use crate::allocation::{Allocations, Capacity, Share};
use crate::objects::{ApiError, EventType, Objects};
use crate::pod::context::{Context, PodNetworking};
use crate::pod::files::Dns;
use crate::settings::Settings;

/// A node with four CPUs and a gibibyte.
pub(crate) fn context(runtime: &Arc<Scripted>, api: &Arc<Written>, clock: Clock, data_dir: &Path) -> Arc<Context> {
    *api.clock.lock() = Some(clock);
    Arc::new(Context {
        runtime: Arc::new(Shared(runtime.clone())),
        network: Arc::new(NoNetwork),
        objects: api.clone(),
        clock,
        data_dir: data_dir.to_owned(),
        cgroup_root: "/kubepods".into(),
        hostname: "n1".into(),
        dns: Dns {
            servers: vec!["10.43.0.10".into()],
            ..Dns::default()
        },
        memory_capacity: 1 << 30,
        node: RwLock::default(),
        settings: Settings::default(),
        allocations: Allocations::new(Capacity {
            share: Share {
                milli_cpu: 4000,
                memory: 1 << 30,
                storage: 1 << 30,
            },
            pods: 110,
        }),
        state: Default::default(),
        users: Default::default(),
    })
}

struct NoNetwork;

#[async_trait]
impl PodNetworking for NoNetwork {
    async fn attach(&self, _: &str, _: &Path) -> std::result::Result<Vec<String>, String> {
        Ok(vec!["10.0.0.9".into()])
    }

    async fn detach(&self, _: &str) -> std::result::Result<(), String> {
        Ok(())
    }

    async fn keep_only(&self, _: &std::collections::HashSet<String>) -> std::result::Result<(), String> {
        Ok(())
    }
}

/// The API: what was written, and what is there to be read.
#[derive(Default)]
pub(crate) struct Written {
    pub(crate) config_maps: Mutex<BTreeMap<String, Arc<ConfigMap>>>,
    pub(crate) node: Mutex<Option<Arc<Node>>>,
    pub(crate) claims: Mutex<BTreeMap<String, Arc<PersistentVolumeClaim>>>,
    pub(crate) persistent_volumes: Mutex<BTreeMap<String, Arc<PersistentVolume>>>,
    pub(crate) runtime_classes: Mutex<BTreeMap<String, Arc<RuntimeClass>>>,
    pub(crate) trust_bundles: Mutex<Vec<Arc<ClusterTrustBundle>>>,
    /// What signers were asked for, and what they answer in turn; none is no answer yet.
    pub(crate) requests: Mutex<Vec<PodCertificateRequest>>,
    pub(crate) answers: Mutex<VecDeque<Option<PodCertificateRequestStatus>>>,
    pub(crate) statuses: watch::Sender<Vec<PodStatus>>,
    pub(crate) removed: watch::Sender<bool>,
    pub(crate) events: Mutex<Vec<String>>,
    /// How many tokens were issued, by which clock.
    pub(crate) tokens: Mutex<u32>,
    pub(crate) clock: Mutex<Option<Clock>>,
    /// The API server cannot be reached; how often that was noticed.
    pub(crate) away: Mutex<Option<u32>>,
}

impl Written {
    fn away(&self) -> std::result::Result<(), ApiError> {
        match self.away.lock().as_mut() {
            None => Ok(()),
            Some(noticed) => {
                *noticed += 1;
                Err(ApiError::Failed("connection refused".into()))
            }
        }
    }
}

#[async_trait]
impl Objects for Written {
    async fn config_map(&self, _: &str, name: &str) -> std::result::Result<Option<Arc<ConfigMap>>, ApiError> {
        Ok(self.config_maps.lock().get(name).cloned())
    }

    async fn secret(&self, _: &str, _: &str) -> std::result::Result<Option<Arc<Secret>>, ApiError> {
        Ok(None)
    }

    async fn claim(&self, _: &str, name: &str) -> std::result::Result<Option<Arc<PersistentVolumeClaim>>, ApiError> {
        Ok(self.claims.lock().get(name).cloned())
    }

    async fn node(&self, _: &str) -> std::result::Result<Option<Arc<Node>>, ApiError> {
        self.away()?;
        Ok(self.node.lock().clone())
    }

    async fn persistent_volume(&self, name: &str) -> std::result::Result<Option<Arc<PersistentVolume>>, ApiError> {
        Ok(self.persistent_volumes.lock().get(name).cloned())
    }

    async fn runtime_class(&self, name: &str) -> std::result::Result<Option<Arc<RuntimeClass>>, ApiError> {
        self.away()?;
        Ok(self.runtime_classes.lock().get(name).cloned())
    }

    async fn trust_bundles(&self) -> std::result::Result<Vec<Arc<ClusterTrustBundle>>, ApiError> {
        self.away()?;
        Ok(self.trust_bundles.lock().clone())
    }

    async fn service_account(&self, _: &str, _: &str) -> std::result::Result<Option<Arc<ServiceAccount>>, ApiError> {
        Ok(None)
    }

    async fn request_certificate(
        &self,
        wanted: &PodCertificateRequest,
    ) -> std::result::Result<Arc<PodCertificateRequest>, ApiError> {
        self.requests.lock().push(wanted.clone());
        Ok(Arc::new(wanted.clone()))
    }

    async fn answer(
        &self,
        _: &PodCertificateRequest,
    ) -> std::result::Result<Option<PodCertificateRequestStatus>, ApiError> {
        Ok(self.answers.lock().pop_front().flatten())
    }

    async fn token(&self, _: &Pod, _: &str, seconds: i64) -> std::result::Result<(String, Timestamp), ApiError> {
        self.away()?;
        let clock = (*self.clock.lock()).ok_or_else(|| ApiError::Failed("not scripted".into()))?;
        let mut tokens = self.tokens.lock();
        *tokens += 1;
        let expires = clock.now() + jiff::SignedDuration::from_secs(seconds);
        Ok((format!("token {tokens}"), expires))
    }

    fn services(&self, _: &str) -> Vec<Arc<Service>> {
        vec![]
    }

    fn follow(&self, _: &Pod, _: Arc<dyn Fn() + Send + Sync>) {}

    fn unfollow(&self, _: &Pod) {}

    async fn write_status(&self, _: &Pod, status: &PodStatus) -> std::result::Result<(), ApiError> {
        self.away()?;
        self.statuses.send_modify(|all| all.push(status.clone()));
        Ok(())
    }

    async fn create(&self, _: &Pod) -> std::result::Result<(), ApiError> {
        Ok(())
    }

    async fn remove(&self, _: &Pod) -> std::result::Result<(), ApiError> {
        self.away()?;
        self.removed.send_replace(true);
        Ok(())
    }

    fn event(&self, _: &Pod, _: Option<String>, kind: EventType, reason: Cow<'static, str>, message: String) {
        self.events.lock().push(format!("{kind:?} {reason} {message}"));
    }
}
