//! ResourceQuota: how much of each quota is used. Watches ResourceQuotas, and whatever quotas count: Pods, Services and
//! claims by what they hold, every other resource by its metadata, custom ones as they come and go. What counts for how
//! much is [`coracle_api::quota`]'s; whether something new fits is admission's.

pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use coracle_api::quantity::Quantity;
use coracle_api::quota::{self, Counted, Evaluator, Usage};
use coracle_client::{ApiResource, Client, Kind, ObjectKey, PartialObject, gone_is_done};
use coracle_clock::{Clock, Timestamp};
use coracle_informer::{Action, Change, Error, InformerFactory, InformerOptions, Lister, SharedInformer, WorkQueue};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use k8s_openapi::api::resource::v1::ResourceClaim;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use parking_lot::Mutex;

use crate::Context;
use crate::pods::is_finished;
use plan::{counted_resource, plan};

const NAME: &str = "resourcequota-controller";
const WORKERS: usize = 5;
/// How long the first list of a resource may take.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Quota(ObjectKey<ResourceQuota>),
    /// What can be counted has changed.
    Definitions,
}

struct Quotas {
    client: Client,
    clock: Clock,
    informers: InformerFactory,
    queue: WorkQueue<Key>,
    quotas: Lister<ResourceQuota>,
    pods: Lister<Pod>,
    services: Lister<Service>,
    volume_claims: Lister<PersistentVolumeClaim>,
    /// Resources of which only the number counts, by (group, plural).
    counted: Mutex<HashMap<(String, String), SharedInformer<PartialObject>>>,
    resource_claims: Mutex<Option<SharedInformer<ResourceClaim>>>,
}

pub async fn run(cx: Context) {
    let quotas = cx.informers.informer::<ResourceQuota>();
    let pods = cx.informers.informer::<Pod>();
    let services = cx.informers.informer::<Service>();
    let volume_claims = cx.informers.informer::<PersistentVolumeClaim>();
    let definitions = cx.informers.informer::<CustomResourceDefinition>();
    let controller = cx.controller::<Key>(NAME, WORKERS);
    let context = Quotas {
        client: cx.client_of(NAME),
        clock: cx.clock,
        informers: cx.informers.clone(),
        queue: controller.queue(),
        quotas: quotas.lister(),
        pods: pods.lister(),
        services: services.lister(),
        volume_claims: volume_claims.lister(),
        counted: Mutex::default(),
        resource_claims: Mutex::default(),
    };
    let of_pod = wake(&context.quotas, Evaluator::Pods);
    let of_service = wake(&context.quotas, Evaluator::Services);
    let of_claim = wake(&context.quotas, Evaluator::PersistentVolumeClaims);
    controller
        .watches(&quotas, |quota| [Key::Quota(ObjectKey::of(quota))])
        .watches_changes(&pods, move |change: &Change<Pod>| of_pod(change, pod_matters))
        .watches_changes(&services, move |change: &Change<Service>| {
            of_service(change, |old, new| old.spec != new.spec)
        })
        .watches_changes(&volume_claims, move |change: &Change<PersistentVolumeClaim>| {
            of_claim(change, |old, new| old.spec != new.spec || old.status != new.status)
        })
        .watches(&definitions, |_| [Key::Definitions])
        .run(
            context,
            |this, key| async move {
                match key {
                    Key::Quota(key) => this.reconcile(&key).await,
                    Key::Definitions => this.follow_definitions().await,
                }
            },
            cx.shutdown.clone(),
        )
        .await;
}

fn pod_matters(old: &Pod, new: &Pod) -> bool {
    let facts = |p: &Pod| {
        let status = p.status.as_ref();
        let resources = |s: &k8s_openapi::api::core::v1::PodStatus| {
            let statuses = s.container_statuses.iter().chain(&s.init_container_statuses).flatten();
            statuses
                .map(|c| (c.resources.clone(), c.allocated_resources.clone()))
                .collect::<Vec<_>>()
        };
        (
            is_finished(p),
            p.metadata.deletion_timestamp.clone(),
            status.map(resources),
        )
    };
    old.spec != new.spec || facts(old) != facts(new)
}

/// Whether the change from one to the other matters.
type Matters<K> = fn(&K, &K) -> bool;

/// The quotas of the object's namespace that its evaluator tracks, if the change matters to them.
fn wake<K: Kind>(
    quotas: &Lister<ResourceQuota>,
    evaluator: Evaluator,
) -> impl Fn(&Change<K>, Matters<K>) -> Vec<Key> + Send + Sync + use<K> {
    let quotas = quotas.clone();
    move |change, matters| {
        if change.old().is_some_and(|old| !matters(old, change.object())) {
            return Vec::new();
        }
        let namespace = change.object().meta().namespace.as_deref().unwrap_or_default();
        let tracking = quotas.select(namespace, |q| {
            quota::hard_names(q).iter().any(|name| evaluator.tracks(name))
        });
        tracking.iter().map(|q| Key::Quota(ObjectKey::of(&**q))).collect()
    }
}

/// When a pod that is told to go counts no longer.
fn end_of(pod: &Pod) -> Option<Timestamp> {
    let at = pod.metadata.deletion_timestamp.as_ref()?.0;
    let grace = SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds?);
    at.saturating_add(grace).ok()
}

impl Quotas {
    async fn reconcile(&self, key: &ObjectKey<ResourceQuota>) -> Result<Action, Error> {
        let Some(quota) = self.quotas.get(key) else {
            return Ok(Action::Done);
        };
        let names = quota::hard_names(&quota);
        let now = self.clock.now();
        let mut used = Usage::new();
        let pods = self.pods.in_namespace(&key.namespace);
        self.add(
            &quota,
            &names,
            &Evaluator::Pods,
            pods.iter().cloned().map(Counted::Pod),
            &mut used,
        );
        let services = self.services.in_namespace(&key.namespace).into_iter();
        self.add(
            &quota,
            &names,
            &Evaluator::Services,
            services.map(Counted::Service),
            &mut used,
        );
        let claims = self.volume_claims.in_namespace(&key.namespace).into_iter();
        let claims = claims.map(Counted::PersistentVolumeClaim);
        self.add(&quota, &names, &Evaluator::PersistentVolumeClaims, claims, &mut used);
        if names.iter().any(|name| Evaluator::ResourceClaims.tracks(name)) {
            let claims = self.resource_claims().await?.in_namespace(&key.namespace).into_iter();
            let claims = claims.map(Counted::ResourceClaim);
            self.add(&quota, &names, &Evaluator::ResourceClaims, claims, &mut used);
        }
        for (group, plural) in names.iter().filter_map(|name| counted_resource(name)) {
            let evaluator = Evaluator::of(group, plural);
            if matches!(evaluator, Evaluator::Objects { .. })
                && let Some(objects) = self.objects_of(group, plural).await?
            {
                let objects = objects.in_namespace(&key.namespace).into_iter();
                self.add(&quota, &names, &evaluator, objects.map(|_| Counted::Object), &mut used);
            }
        }
        if let Some(status) = plan(&quota, &used) {
            let mut changed = (*quota).clone();
            changed.status = Some(status);
            let quotas = self.client.namespaced::<ResourceQuota>(&key.namespace);
            gone_is_done(quotas.update_status(&changed).await)?;
        }
        // Pods that hang count for their grace period only.
        let ends = pods.iter().filter_map(|p| end_of(p)).filter(|end| *end >= now);
        Ok(ends.min().map_or(Action::Done, |end| {
            let left = Duration::try_from(end.duration_since(now)).unwrap_or_default();
            Action::After(left + Duration::from_millis(1))
        }))
    }

    /// Adds what the quota covers of some objects; of names that they could count for it is known at least that it is
    /// zero.
    fn add(
        &self,
        quota: &ResourceQuota,
        names: &BTreeSet<String>,
        evaluator: &Evaluator,
        objects: impl Iterator<Item = Counted>,
        used: &mut Usage,
    ) {
        let Some(spec) = quota.spec.as_ref() else { return };
        let tracked: Vec<&String> = names.iter().filter(|name| evaluator.tracks(name)).collect();
        if tracked.is_empty() {
            return;
        }
        for name in tracked {
            used.insert(name.clone(), Quantity::ZERO);
        }
        let now = self.clock.now();
        for object in objects {
            if evaluator.is_covered(spec, names.iter().map(String::as_str), &object) {
                quota::add(used, &evaluator.usage(&object, now));
            }
        }
    }

    async fn resource_claims(&self) -> Result<Lister<ResourceClaim>, Error> {
        let informer = {
            let mut kept = self.resource_claims.lock();
            match &*kept {
                Some(informer) => informer.clone(),
                None => {
                    let informer = self.informers.informer::<ResourceClaim>();
                    self.wake_by(&informer, Evaluator::ResourceClaims, |old, new| old.spec != new.spec);
                    kept.insert(informer).clone()
                }
            }
        };
        self.synced(&informer, "resourceclaims").await
    }

    /// The objects of a resource of which only the number counts; `None` if it is not served now.
    async fn objects_of(&self, group: &str, plural: &str) -> Result<Option<Lister<PartialObject>>, Error> {
        let key = (group.to_owned(), plural.to_owned());
        let known = self.counted.lock().get(&key).cloned();
        let informer = match known {
            Some(informer) => informer,
            None => {
                let Some(resource) = self.resource(group, plural).await? else {
                    return Ok(None);
                };
                let mut counted = self.counted.lock();
                match counted.get(&key) {
                    Some(informer) => informer.clone(),
                    None => {
                        let informer = self.informers.dynamic(&resource, InformerOptions::default());
                        self.wake_by(&informer, Evaluator::of(group, plural), |_, _| false);
                        counted.insert(key, informer.clone());
                        informer
                    }
                }
            }
        };
        self.synced(&informer, plural).await.map(Some)
    }

    fn wake_by<K: Kind>(&self, informer: &SharedInformer<K>, evaluator: Evaluator, matters: fn(&K, &K) -> bool) {
        let (keys, queue) = (wake(&self.quotas, evaluator), self.queue.clone());
        informer.add_handler(move |change| {
            for key in keys(change, matters) {
                queue.add(key);
            }
        });
    }

    async fn synced<K: Kind>(&self, informer: &SharedInformer<K>, what: &str) -> Result<Lister<K>, Error> {
        match self.clock.timeout(PATIENCE, informer.synced()).await {
            Ok(()) => Ok(informer.lister()),
            Err(_) => Err(Error::message(format!(
                "{what} cannot be counted: their list does not come"
            ))),
        }
    }

    async fn resource(&self, group: &str, plural: &str) -> Result<Option<ApiResource>, Error> {
        let found = self.client.discover().await?;
        let is_it = |r: &ApiResource| r.group == group && r.plural == plural && r.namespaced;
        let served = found.into_iter().find(|d| {
            d.preferred && is_it(&d.resource) && ["create", "list", "watch"].iter().all(|verb| d.has_verb(verb))
        });
        Ok(served.map(|d| d.resource))
    }

    /// Lets go of what is served no longer, and has every quota that counts objects looked at.
    async fn follow_definitions(&self) -> Result<Action, Error> {
        let found = self.client.discover().await?;
        let served = |group: &str, plural: &str| {
            found
                .iter()
                .any(|d| d.resource.group == group && d.resource.plural == plural)
        };
        self.counted.lock().retain(|(group, plural), _| served(group, plural));
        for quota in self.quotas.list() {
            if quota::hard_names(&quota)
                .iter()
                .any(|name| counted_resource(name).is_some())
            {
                self.queue.add(Key::Quota(ObjectKey::of(&*quota)));
            }
        }
        Ok(Action::Done)
    }
}
