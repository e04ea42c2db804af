//! What plugins read beside nodes and pods: claims, volumes, namespaces, services... Each kind is watched from when the
//! first pod needs it, so that a cluster without volumes does not pay for them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use coracle_api::selector::LabelSelector;
use coracle_client::TypedKind;
use coracle_informer::{Change, Indexer, InformerFactory, Lister, ObjectKey};
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, ReplicationController, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::affinity_term::NamespaceLabels;
use crate::event::ClusterEvent;
use crate::plugins::volume_binding::Assumed;

/// A set of things to have in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs(u8);

impl Needs {
    pub const NOTHING: Self = Self(0);
    pub const NAMESPACES: Self = Self(1);
    pub const SERVICES: Self = Self(2);
    /// Claims, volumes, storage classes, and what CSI drivers say.
    pub const STORAGE: Self = Self(4);
    pub const BUDGETS: Self = Self(8);
    pub const REPLICATION_CONTROLLERS: Self = Self(16);
    pub const REPLICA_SETS: Self = Self(32);
    pub const STATEFUL_SETS: Self = Self(64);

    fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl std::ops::BitOr for Needs {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A kind that is watched once someone needs it; before that it seems empty.
pub struct Lazy<K>(OnceLock<Lister<K>>);

impl<K> Default for Lazy<K> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<K: TypedKind> Lazy<K> {
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.0.get()?.find(namespace, name)
    }

    /// Whether anyone has needed it so far.
    pub fn is_watched(&self) -> bool {
        self.0.get().is_some()
    }

    pub fn list(&self) -> Vec<Arc<K>> {
        self.0.get().map(Lister::list).unwrap_or_default()
    }

    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.0.get().map(|l| l.in_namespace(namespace)).unwrap_or_default()
    }

    /// Holds these objects instead of watching.
    pub fn hold(&self, objects: impl IntoIterator<Item = K>) {
        let indexer = Indexer::new();
        for object in objects {
            indexer.insert(ObjectKey::of(&object), Arc::new(object));
        }
        let _ = self.0.set(Lister::new(Arc::new(indexer)));
    }

    async fn start(&self, informers: &InformerFactory, tell: impl Fn(&Change<K>) + Send + Sync + 'static) {
        if self.0.get().is_some() {
            return;
        }
        let informer = informers.informer::<K>();
        informer.synced().await;
        if self.0.set(informer.lister()).is_ok() {
            informer.add_handler(tell);
        }
    }
}

/// Who hears of changes.
pub type Sink = Arc<dyn Fn(ClusterEvent) + Send + Sync>;

/// See the [module](self).
pub struct Listers {
    /// Without, nothing is watched.
    informers: OnceLock<InformerFactory>,
    watches: bool,
    sink: OnceLock<Sink>,
    pub namespaces: Lazy<Namespace>,
    pub services: Lazy<Service>,
    pub replication_controllers: Lazy<ReplicationController>,
    pub replica_sets: Lazy<ReplicaSet>,
    pub stateful_sets: Lazy<StatefulSet>,
    pub claims: Lazy<PersistentVolumeClaim>,
    pub volumes: Lazy<PersistentVolume>,
    pub classes: Lazy<StorageClass>,
    pub csi_nodes: Lazy<CSINode>,
    pub csi_drivers: Lazy<CSIDriver>,
    pub capacities: Lazy<CSIStorageCapacity>,
    pub budgets: Lazy<PodDisruptionBudget>,
    /// What pods of all profiles have been promised.
    pub(crate) assumed: Mutex<Assumed>,
    /// Changes whenever a claim or volume does.
    storage: watch::Sender<u64>,
    /// The same when a service or a controller selects other pods.
    selections: Arc<AtomicU64>,
}

impl Listers {
    /// Watches by informers that are still to be [given](Self::watch_by).
    pub fn watching() -> Self {
        Self {
            watches: true,
            ..Self::holding()
        }
    }

    /// Holds only what it is given.
    pub fn holding() -> Self {
        Self {
            informers: OnceLock::new(),
            watches: false,
            sink: OnceLock::new(),
            namespaces: Lazy::default(),
            services: Lazy::default(),
            replication_controllers: Lazy::default(),
            replica_sets: Lazy::default(),
            stateful_sets: Lazy::default(),
            claims: Lazy::default(),
            volumes: Lazy::default(),
            classes: Lazy::default(),
            csi_nodes: Lazy::default(),
            csi_drivers: Lazy::default(),
            capacities: Lazy::default(),
            budgets: Lazy::default(),
            assumed: Mutex::default(),
            storage: watch::Sender::new(0),
            selections: Arc::default(),
        }
    }

    /// Watches by these from now on, and tells `sink` of changes.
    pub fn watch_by(&self, informers: InformerFactory, sink: Sink) {
        let _ = self.sink.set(sink);
        let _ = self.informers.set(informers);
    }

    /// Sees every change of claims and volumes from now on.
    pub fn storage_changes(&self) -> watch::Receiver<u64> {
        self.storage.subscribe()
    }

    /// Another number whenever a service or a controller came, went or selects other pods than before.
    pub fn selections(&self) -> u64 {
        self.selections.load(Ordering::Acquire)
    }

    /// Whether all of it is in memory.
    pub fn has(&self, needs: Needs) -> bool {
        !self.watches
            || ((!needs.has(Needs::NAMESPACES) || self.namespaces.0.get().is_some())
                && (!needs.has(Needs::SERVICES) || self.services.0.get().is_some())
                && (!needs.has(Needs::REPLICATION_CONTROLLERS) || self.replication_controllers.0.get().is_some())
                && (!needs.has(Needs::REPLICA_SETS) || self.replica_sets.0.get().is_some())
                && (!needs.has(Needs::STATEFUL_SETS) || self.stateful_sets.0.get().is_some())
                && (!needs.has(Needs::STORAGE) || self.capacities.0.get().is_some())
                && (!needs.has(Needs::BUDGETS) || self.budgets.0.get().is_some()))
    }

    /// Starts to watch what is needed, and waits until it is in memory.
    pub async fn ensure(&self, needs: Needs) {
        let Some(informers) = self.informers.get() else {
            return;
        };
        if needs.has(Needs::NAMESPACES) {
            self.follow(&self.namespaces, informers, ClusterEvent::NamespaceChanged)
                .await;
        }
        if needs.has(Needs::SERVICES) {
            self.follow_selector(&self.services, informers, |s| {
                s.spec.as_ref().and_then(|s| s.selector.as_ref())
            })
            .await;
        }
        if needs.has(Needs::REPLICATION_CONTROLLERS) {
            self.follow_selector(&self.replication_controllers, informers, |c| {
                c.spec.as_ref().and_then(|s| s.selector.as_ref())
            })
            .await;
        }
        if needs.has(Needs::REPLICA_SETS) {
            self.follow_selector(&self.replica_sets, informers, |s| Some(&s.spec.selector))
                .await;
        }
        if needs.has(Needs::STATEFUL_SETS) {
            self.follow_selector(&self.stateful_sets, informers, |s| Some(&s.spec.selector))
                .await;
        }
        if needs.has(Needs::STORAGE) {
            self.follow_storage(&self.claims, informers, ClusterEvent::ClaimChanged)
                .await;
            self.follow_storage(&self.volumes, informers, ClusterEvent::VolumeChanged)
                .await;
            self.follow(&self.classes, informers, ClusterEvent::ClassChanged).await;
            self.follow(&self.csi_nodes, informers, ClusterEvent::CsiNodeChanged)
                .await;
            self.follow(&self.csi_drivers, informers, ClusterEvent::CsiDriverChanged)
                .await;
            self.follow(&self.capacities, informers, ClusterEvent::CapacityChanged)
                .await;
        }
        if needs.has(Needs::BUDGETS) {
            self.budgets.start(informers, |_| {}).await;
        }
    }

    async fn follow<K: TypedKind>(
        &self,
        kind: &Lazy<K>,
        informers: &InformerFactory,
        event: impl Fn(Arc<K>) -> ClusterEvent + Send + Sync + 'static,
    ) {
        let sink = self.sink.get().cloned();
        let tell = move |change: &Change<K>| {
            if let Some(sink) = &sink {
                sink(event(change.object().clone()));
            }
        };
        kind.start(informers, tell).await;
    }

    async fn follow_selector<K: TypedKind, S: PartialEq>(
        &self,
        kind: &Lazy<K>,
        informers: &InformerFactory,
        selector: impl for<'a> Fn(&'a K) -> Option<&'a S> + Send + Sync + 'static,
    ) {
        let selections = self.selections.clone();
        let tell = move |change: &Change<K>| {
            let as_before = change
                .old()
                .is_some_and(|old| selector(old) == selector(change.object()));
            if !as_before {
                selections.fetch_add(1, Ordering::Release);
            }
        };
        kind.start(informers, tell).await;
    }

    async fn follow_storage<K: TypedKind>(
        &self,
        kind: &Lazy<K>,
        informers: &InformerFactory,
        event: impl Fn(Arc<K>) -> ClusterEvent + Send + Sync + 'static,
    ) {
        let (sink, storage) = (self.sink.get().cloned(), self.storage.clone());
        let tell = move |change: &Change<K>| {
            storage.send_modify(|n| *n += 1);
            if let Some(sink) = &sink {
                sink(event(change.object().clone()));
            }
        };
        kind.start(informers, tell).await;
    }
}

impl NamespaceLabels for Listers {
    fn labels_match(&self, namespace: &str, selector: &LabelSelector) -> bool {
        let Some(namespace) = self.namespaces.find("", namespace) else {
            return false;
        };
        let labels = namespace.metadata.labels.as_ref();
        selector.matches(|key| labels?.get(key).map(String::as_str))
    }
}
