//! [`Objects`] over a [`Client`]. Config maps and secrets that pods of this node refer to are followed one by one, each
//! by one watch however many pods use it, so that a change is seen at once and nothing else is read.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use coracle_client::event::{self, EventRecorder};
use coracle_client::{Client, DeleteOptions, Error, ListOptions, Patch, TypedKind, WatchEvent};
use coracle_clock::{Clock, Timestamp};
use coracle_informer::{CancellationToken, InformerOptions, Lister, Metrics, SharedInformer};
use futures::StreamExt;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::certificates::v1::{ClusterTrustBundle, PodCertificateRequest, PodCertificateRequestStatus};
use k8s_openapi::api::core::v1::{
    ConfigMap, Node, PersistentVolume, PersistentVolumeClaim, Pod, PodStatus, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::objects::{ApiError, EventType, Objects};
use crate::pod::worker::{REMOVABLE, is_own};

type Wake = Arc<dyn Fn() + Send + Sync>;

/// Objects of one kind that pods refer to.
struct Followed<K> {
    client: Client,
    clock: Clock,
    shutdown: CancellationToken,
    metrics: Metrics,
    entries: Mutex<BTreeMap<(String, String), Entry<K>>>,
}

struct Entry<K> {
    informer: SharedInformer<K>,
    users: Arc<Mutex<BTreeMap<String, Wake>>>,
}

impl<K: TypedKind> Followed<K> {
    fn new(client: Client, clock: Clock, shutdown: CancellationToken) -> Self {
        Self {
            client,
            clock,
            shutdown,
            metrics: Metrics::default(),
            entries: Mutex::default(),
        }
    }

    /// Sets what the pod refers to (an empty name is all there are in the namespace, or in the cluster); what nobody refers to any more is let go.
    fn follow(&self, uid: &str, namespace: &str, names: BTreeSet<String>, wake: Option<&Wake>) {
        let mut entries = self.entries.lock();
        for name in &names {
            let Some(wake) = wake else { break };
            let key = (namespace.to_owned(), name.clone());
            let entry = entries.entry(key).or_insert_with(|| self.start(namespace, name));
            entry.users.lock().insert(uid.to_owned(), wake.clone());
        }
        entries.retain(|(own_namespace, name), entry| {
            let mut users = entry.users.lock();
            if own_namespace != namespace || !names.contains(name) {
                users.remove(uid);
            }
            let unused = users.is_empty();
            drop(users);
            if unused {
                entry.informer.stop();
            }
            !unused
        });
    }

    fn start(&self, namespace: &str, name: &str) -> Entry<K> {
        let options = InformerOptions {
            namespace: namespace.to_owned(),
            field_selector: if name.is_empty() {
                String::new()
            } else {
                format!("metadata.name={name}")
            },
            ..InformerOptions::default()
        };
        let api = self.client.namespaced::<K>(namespace);
        let informer = SharedInformer::start(api, &options, self.clock, &self.shutdown, &self.metrics);
        let users: Arc<Mutex<BTreeMap<String, Wake>>> = Arc::default();
        let told = users.clone();
        informer.add_handler(move |_| {
            let wakes: Vec<Wake> = told.lock().values().cloned().collect();
            wakes.iter().for_each(|wake| wake());
        });
        Entry { informer, users }
    }

    /// All objects of the cluster, as the watch has them where there is one.
    async fn all(&self) -> Result<Vec<Arc<K>>, ApiError> {
        let kept = {
            let entries = self.entries.lock();
            let entry = entries.get(&(String::new(), String::new()));
            entry
                .filter(|e| e.informer.has_synced())
                .map(|e| e.informer.lister().list())
        };
        match kept {
            Some(objects) => Ok(objects),
            None => {
                let listed = self.client.all::<K>().list(&ListOptions::default()).await;
                listed.map(|list| list.items).map_err(api_error)
            }
        }
    }

    /// The object as the watch has it; what it does not have is asked for.
    async fn get(&self, namespace: &str, name: &str) -> Result<Option<Arc<K>>, ApiError> {
        let kept = {
            let entries = self.entries.lock();
            let entry = entries.get(&(namespace.to_owned(), name.to_owned()));
            entry
                .filter(|e| e.informer.has_synced())
                .and_then(|e| e.informer.lister().find(namespace, name))
        };
        match kept {
            Some(object) => Ok(Some(object)),
            None => self
                .client
                .namespaced::<K>(namespace)
                .find(name)
                .await
                .map_err(api_error),
        }
    }
}

/// How long a signer's answer is waited for at once.
const ANSWER: Duration = Duration::from_secs(30);

/// The API of one agent.
pub(crate) struct ClientObjects {
    client: Client,
    clock: Clock,
    events: EventRecorder,
    services: Lister<Service>,
    config_maps: Followed<ConfigMap>,
    secrets: Followed<Secret>,
    trust_bundles: Followed<ClusterTrustBundle>,
}

fn api_error(error: Error) -> ApiError {
    if error.is_not_found() {
        return ApiError::Gone(error.to_string());
    }
    ApiError::Failed(chain(&error))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

impl ClientObjects {
    pub(crate) fn new(
        client: Client,
        events: EventRecorder,
        services: Lister<Service>,
        clock: Clock,
        shutdown: &CancellationToken,
    ) -> Self {
        Self {
            config_maps: Followed::new(client.clone(), clock, shutdown.clone()),
            secrets: Followed::new(client.clone(), clock, shutdown.clone()),
            trust_bundles: Followed::new(client.clone(), clock, shutdown.clone()),
            client,
            clock,
            events,
            services,
        }
    }
}

fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The patch that makes the agent's part of a pod's status what it is: the conditions and addresses of others stay, and
/// fields that are no longer set are removed.
pub(crate) fn status_patch(pod: &Pod, status: &PodStatus) -> Result<Value, serde_json::Error> {
    let mut own = status.clone();
    if let Some(conditions) = &mut own.conditions {
        conditions.retain(is_own);
    }
    let mut value = serde_json::to_value(&own)?;
    // Only a pod that was resized (or changed in another way) can have had these.
    if pod.metadata.generation.is_some_and(|g| g > 1)
        && let Some(conditions) = value.get_mut("conditions").and_then(Value::as_array_mut)
    {
        for kind in REMOVABLE {
            if !conditions.iter().any(|c| c["type"] == kind) {
                conditions.push(json!({"type": kind, "$patch": "delete"}));
            }
        }
    }
    if let Some(map) = value.as_object_mut() {
        // Lists that a strategic patch would merge are replaced.
        for list in ["podIPs", "hostIPs"] {
            if let Some(items) = map.get_mut(list).and_then(Value::as_array_mut) {
                items.push(json!({"$patch": "replace"}));
            }
        }
        // Conditions are merged by their type, so what one no longer says has to be taken out of it.
        for condition in map
            .get_mut("conditions")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if let Some(condition) = condition.as_object_mut() {
                for field in ["reason", "message"] {
                    condition.entry(field).or_insert(Value::Null);
                }
            }
        }
        for field in [
            "reason",
            "message",
            "podIP",
            "podIPs",
            "initContainerStatuses",
            "ephemeralContainerStatuses",
        ] {
            map.entry(field).or_insert(Value::Null);
        }
    }
    Ok(json!({"metadata": {"uid": pod.metadata.uid}, "status": value}))
}

#[async_trait]
impl Objects for ClientObjects {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<Arc<ConfigMap>>, ApiError> {
        self.config_maps.get(namespace, name).await
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Arc<Secret>>, ApiError> {
        self.secrets.get(namespace, name).await
    }

    async fn claim(&self, namespace: &str, name: &str) -> Result<Option<Arc<PersistentVolumeClaim>>, ApiError> {
        let claims = self.client.namespaced::<PersistentVolumeClaim>(namespace);
        claims.find(name).await.map_err(api_error)
    }

    async fn node(&self, name: &str) -> Result<Option<Arc<Node>>, ApiError> {
        self.client.all::<Node>().find(name).await.map_err(api_error)
    }

    async fn persistent_volume(&self, name: &str) -> Result<Option<Arc<PersistentVolume>>, ApiError> {
        self.client
            .all::<PersistentVolume>()
            .find(name)
            .await
            .map_err(api_error)
    }

    async fn runtime_class(&self, name: &str) -> Result<Option<Arc<RuntimeClass>>, ApiError> {
        self.client.all::<RuntimeClass>().find(name).await.map_err(api_error)
    }

    async fn trust_bundles(&self) -> Result<Vec<Arc<ClusterTrustBundle>>, ApiError> {
        self.trust_bundles.all().await
    }

    async fn service_account(&self, namespace: &str, name: &str) -> Result<Option<Arc<ServiceAccount>>, ApiError> {
        let accounts = self.client.namespaced::<ServiceAccount>(namespace);
        accounts.find(name).await.map_err(api_error)
    }

    async fn request_certificate(
        &self,
        wanted: &PodCertificateRequest,
    ) -> Result<Arc<PodCertificateRequest>, ApiError> {
        let namespace = wanted.metadata.namespace.as_deref().unwrap_or_default();
        let requests = self.client.namespaced::<PodCertificateRequest>(namespace);
        requests.create(wanted).await.map_err(api_error)
    }

    async fn answer(&self, request: &PodCertificateRequest) -> Result<Option<PodCertificateRequestStatus>, ApiError> {
        let namespace = request.metadata.namespace.as_deref().unwrap_or_default();
        let name = request.metadata.name.as_deref().unwrap_or_default();
        let requests = self.client.namespaced::<PodCertificateRequest>(namespace);
        // A node may watch its own alone.
        let options = ListOptions {
            field_selector: format!("metadata.name={name},spec.nodeName={}", request.spec.node_name),
            ..ListOptions::default()
        };
        let answered =
            |status: &PodCertificateRequestStatus| status.conditions.iter().flatten().any(|c| c.status == "True");
        let wait = async {
            let mut events = requests.watch(&options).await?;
            while let Some(event) = events.next().await {
                match event? {
                    WatchEvent::Added(now) | WatchEvent::Modified(now) => {
                        if let Some(status) = now.status.clone().filter(|status| answered(status)) {
                            return Ok(Some(status));
                        }
                    }
                    WatchEvent::Deleted(_) => break,
                    WatchEvent::Bookmark { .. } => {}
                }
            }
            Ok(None)
        };
        if let Ok(Some(status)) = self
            .clock
            .timeout(ANSWER, wait)
            .await
            .unwrap_or(Ok(None))
            .map_err(api_error)
        {
            return Ok(Some(status));
        }
        match requests.find(name).await.map_err(api_error)? {
            Some(found) => Ok(found.status.clone().filter(|status| answered(status))),
            None => Err(ApiError::Gone(format!("podcertificaterequest {name:?} not found"))),
        }
    }

    async fn token(&self, pod: &Pod, audience: &str, seconds: i64) -> Result<(String, Timestamp), ApiError> {
        let account = pod
            .spec
            .as_ref()
            .and_then(|s| s.service_account_name.as_deref())
            .filter(|n| !n.is_empty());
        let account = account.unwrap_or("default");
        let audiences = if audience.is_empty() {
            Vec::new()
        } else {
            vec![audience.to_owned()]
        };
        let request = TokenRequest {
            metadata: ObjectMeta {
                namespace: pod.metadata.namespace.clone(),
                ..ObjectMeta::default()
            },
            spec: Some(TokenRequestSpec {
                audiences: Some(audiences),
                expiration_seconds: Some(seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
                ..TokenRequestSpec::default()
            }),
            status: None,
        };
        let accounts = self.client.namespaced::<ServiceAccount>(namespace(pod));
        let tokens = accounts.subresource::<TokenRequest>("token");
        let answer = tokens.create_at(account, &request).await.map_err(api_error)?;
        let status = answer.as_ref().and_then(|a| a.status.as_ref());
        match status.and_then(|s| s.token.clone().zip(s.expiration_timestamp.as_ref())) {
            Some((token, expires)) => Ok((token, expires.0)),
            None => Err(ApiError::Failed(
                "the server answered a token request without a token".into(),
            )),
        }
    }

    fn services(&self, namespace: &str) -> Vec<Arc<Service>> {
        let mut services = self.services.in_namespace(namespace);
        if namespace != "default" {
            services.extend(self.services.find("default", "kubernetes"));
        }
        services
    }

    fn follow(&self, pod: &Pod, wake: Arc<dyn Fn() + Send + Sync>) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let (mut maps, mut secrets) = crate::volume::referenced(pod);
        for container in pod
            .spec
            .iter()
            .flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()))
        {
            let (more_maps, more_secrets) = crate::pod::env::referenced(container);
            maps.extend(more_maps);
            secrets.extend(more_secrets);
        }
        self.config_maps
            .follow(uid, namespace(pod), maps.into_iter().collect(), Some(&wake));
        self.secrets
            .follow(uid, namespace(pod), secrets.into_iter().collect(), Some(&wake));
        let all = crate::volume::shows_trust_bundles(pod).then(String::new);
        self.trust_bundles
            .follow(uid, "", all.into_iter().collect(), Some(&wake));
    }

    fn unfollow(&self, pod: &Pod) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        self.config_maps.follow(uid, namespace(pod), BTreeSet::new(), None);
        self.secrets.follow(uid, namespace(pod), BTreeSet::new(), None);
        self.trust_bundles.follow(uid, "", BTreeSet::new(), None);
    }

    async fn write_status(&self, pod: &Pod, status: &PodStatus) -> Result<(), ApiError> {
        let patch = status_patch(pod, status).map_err(|e| ApiError::Failed(e.to_string()))?;
        let api = self.client.namespaced::<Pod>(namespace(pod)).status();
        match api.patch(name(pod), Patch::Strategic(patch)).await {
            Ok(_) => Ok(()),
            // The uid in the patch is not that of the object: another pod has the name now.
            Err(error) if error.is_conflict() || error.is_invalid() => match self.is_gone(pod).await {
                Some(gone) => Err(gone),
                None => Err(api_error(error)),
            },
            Err(error) => Err(api_error(error)),
        }
    }

    async fn create(&self, mirror: &Pod) -> Result<(), ApiError> {
        match self.client.namespaced::<Pod>(namespace(mirror)).create(mirror).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_already_exists() => Ok(()),
            Err(error) => Err(api_error(error)),
        }
    }

    async fn remove(&self, pod: &Pod) -> Result<(), ApiError> {
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            uid: pod.metadata.uid.clone(),
            ..DeleteOptions::default()
        };
        match self
            .client
            .namespaced::<Pod>(namespace(pod))
            .delete(name(pod), &options)
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if error.is_conflict() => match self.is_gone(pod).await {
                Some(gone) => Err(gone),
                None => Err(api_error(error)),
            },
            Err(error) => Err(api_error(error)),
        }
    }

    fn event(&self, pod: &Pod, path: Option<String>, kind: EventType, reason: Cow<'static, str>, message: String) {
        let mut about = event::reference(pod);
        about.field_path = path;
        let kind = match kind {
            EventType::Normal => event::EventType::Normal,
            EventType::Warning => event::EventType::Warning,
        };
        self.events.event_on(about, kind, &reason, message);
    }
}

impl ClientObjects {
    async fn is_gone(&self, pod: &Pod) -> Option<ApiError> {
        let found = self
            .client
            .namespaced::<Pod>(namespace(pod))
            .find(name(pod))
            .await
            .ok()?;
        let same = found.is_some_and(|p| p.metadata.uid == pod.metadata.uid);
        (!same).then(|| ApiError::Gone(format!("pod {}/{} with this uid is gone", namespace(pod), name(pod))))
    }
}
