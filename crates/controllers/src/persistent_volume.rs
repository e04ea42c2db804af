//! PersistentVolume binder: joins claims and volumes that suit each other, hands claims of a class to its provisioner, and
//! says what became of a volume whose claim is gone. Watches PersistentVolumeClaims, PersistentVolumes, StorageClasses
//! and Pods. What to do is planned in [`claim`] and [`volume`]; this file executes.
//!
//! Both sides of a binding name the other: the volume is written first, so that of two claims for one volume only one can
//! win (the other's write is a conflict), and each half can be finished by whoever comes later.

pub mod annotation;
pub mod claim;
pub mod fit;
#[cfg(test)]
mod tests;
pub mod volume;

use std::sync::Arc;

use coracle_client::event::{EventRecorder, EventType};
use coracle_client::{Client, ObjectKey, TypedKind};
use coracle_clock::Clock;
use coracle_informer::{Action, Error, Lister};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::Context;
use crate::ephemeral_volume::{BY_CLAIM, claim_keys};
use crate::pods::node_name;
use annotation::has;
use claim::World;

const NAME: &str = "persistentvolume-binder-controller";
const ACCOUNT: &str = "persistent-volume-binder";
/// Volumes by the claim that they refer to, `namespace/name`.
const BY_REFERENCE: &str = "claimRef";
/// Volumes that refer to no claim, by class.
const UNCLAIMED: &str = "unclaimed";
/// Claims by the volume that they name.
const BY_VOLUME: &str = "volumeName";
/// Claims that name no volume yet, by class.
const PENDING: &str = "pending";
/// Stands for the class of a claim that says nothing of classes; no class can have this name.
const NO_CLASS: &str = "-";

/// What a look is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Claim(ObjectKey<PersistentVolumeClaim>),
    Volume(ObjectKey<PersistentVolume>),
}

/// Something to tell about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub warning: bool,
    pub reason: &'static str,
    pub message: String,
}

impl Notice {
    pub fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            warning: false,
            reason,
            message: message.into(),
        }
    }

    pub fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            warning: true,
            reason,
            message: message.into(),
        }
    }
}

struct Binder {
    client: Client,
    events: EventRecorder,
    clock: Clock,
    claims: Lister<PersistentVolumeClaim>,
    volumes: Lister<PersistentVolume>,
    classes: Lister<StorageClass>,
    pods: Lister<Pod>,
}

fn reference(volume: &PersistentVolume) -> Option<String> {
    let reference = volume.spec.as_ref()?.claim_ref.as_ref()?;
    Some(format!(
        "{}/{}",
        reference.namespace.as_deref().unwrap_or_default(),
        reference.name.as_deref().unwrap_or_default()
    ))
}

fn referenced(volume: &PersistentVolume) -> Option<Key> {
    let reference = volume.spec.as_ref()?.claim_ref.as_ref()?;
    let namespace = reference.namespace.as_deref().unwrap_or_default();
    let name = reference.name.as_deref().unwrap_or_default();
    Some(Key::Claim(ObjectKey::new(namespace, name)))
}

fn named_volume(claim: &PersistentVolumeClaim) -> Option<&str> {
    let name = claim.spec.as_ref()?.volume_name.as_deref()?;
    Some(name).filter(|n| !n.is_empty())
}

/// The class that a claim without a volume waits for.
fn pending_class(claim: &PersistentVolumeClaim) -> Option<String> {
    let waits = !has(&claim.metadata, annotation::BIND_COMPLETED) && named_volume(claim).is_none();
    waits.then(|| fit::class_said(claim).unwrap_or(NO_CLASS).to_owned())
}

pub async fn run(cx: Context) {
    let claims = cx.informers.informer::<PersistentVolumeClaim>();
    let volumes = cx.informers.informer::<PersistentVolume>();
    let classes = cx.informers.informer::<StorageClass>();
    let pods = cx.informers.informer::<Pod>();
    claims.add_index(BY_VOLUME, |claim| named_volume(claim).map(str::to_owned));
    claims.add_index(PENDING, pending_class);
    volumes.add_index(BY_REFERENCE, reference);
    volumes.add_index(UNCLAIMED, |volume: &PersistentVolume| {
        let free = volume.spec.as_ref().is_none_or(|s| s.claim_ref.is_none());
        free.then(|| fit::class_of_volume(volume).to_owned())
    });
    pods.add_index(BY_CLAIM, claim_keys);
    let binder = Binder {
        client: cx.client_as(ACCOUNT, NAME),
        events: cx.recorder_as(ACCOUNT, NAME),
        clock: cx.clock,
        claims: claims.lister(),
        volumes: volumes.lister(),
        classes: classes.lister(),
        pods: pods.lister(),
    };
    let (all_volumes, waiting, also_waiting) = (volumes.lister(), claims.lister(), claims.lister());
    cx.controller(NAME, 1)
        .watches_changes(&claims, move |change| {
            let claim = change.object();
            let mut keys = vec![Key::Claim(ObjectKey::of(&**claim))];
            let moved = change.old().is_none_or(|old| named_volume(old) != named_volume(claim));
            if moved || change.is_deletion() {
                keys.extend(named_volume(claim).map(|name| Key::Volume(ObjectKey::new("", name))));
                let own = ObjectKey::of(&**claim).to_string();
                let referring = all_volumes.by_index(BY_REFERENCE, &own);
                keys.extend(referring.iter().map(|v| Key::Volume(ObjectKey::of(&**v))));
            }
            keys
        })
        .watches_changes(&volumes, move |change| {
            let volume = change.object();
            let key = ObjectKey::of(&**volume);
            let mut keys: Vec<Key> = referenced(volume).into_iter().collect();
            keys.extend(change.old().and_then(|old| referenced(old)));
            let naming = waiting.by_index(BY_VOLUME, &key.name);
            keys.extend(naming.iter().map(|c| Key::Claim(ObjectKey::of(&**c))));
            if !change.is_deletion() && referenced(volume).is_none() {
                let wanting = waiting.by_index(PENDING, fit::class_of_volume(volume));
                keys.extend(wanting.iter().map(|c| Key::Claim(ObjectKey::of(&**c))));
                if fit::class_of_volume(volume).is_empty() {
                    let wanting = waiting.by_index(PENDING, NO_CLASS);
                    keys.extend(wanting.iter().map(|c| Key::Claim(ObjectKey::of(&**c))));
                }
            }
            keys.push(Key::Volume(key));
            keys
        })
        .watches_changes(&classes, move |change| {
            let class = change.object();
            let name = class.metadata.name.as_deref().unwrap_or_default();
            let mut wanting = also_waiting.by_index(PENDING, name);
            if fit::is_default(class) {
                wanting.extend(also_waiting.by_index(PENDING, NO_CLASS));
            }
            wanting
                .iter()
                .map(|c| Key::Claim(ObjectKey::of(&**c)))
                .collect::<Vec<_>>()
        })
        .run(binder, reconcile, cx.shutdown.clone())
        .await;
}

async fn reconcile(binder: Arc<Binder>, key: Key) -> Result<Action, Error> {
    match key {
        Key::Claim(key) => binder.claim(&key).await?,
        Key::Volume(key) => binder.volume(&key).await?,
    }
    Ok(Action::Done)
}

impl Binder {
    async fn claim(&self, key: &ObjectKey<PersistentVolumeClaim>) -> Result<(), Error> {
        let Some(claim) = self.claims.get(key) else {
            return Ok(());
        };
        let named = match named_volume(&claim) {
            None => None,
            Some(name) => match self.volumes.find("", name) {
                Some(volume) => Some(volume),
                // The cache may be behind the claims', and a lost claim is lost for good.
                None => self.client.all::<PersistentVolume>().find(name).await?,
            },
        };
        let mut candidates = self.volumes.by_index(BY_REFERENCE, &key.to_string());
        candidates.extend(self.volumes.by_index(UNCLAIMED, fit::class_of_claim(&claim)));
        let class = self.classes.find("", fit::class_of_claim(&claim));
        let defaults = if fit::class_said(&claim).is_none() {
            self.classes.select("", fit::is_default)
        } else {
            Vec::new()
        };
        let plan = claim::plan(
            &claim,
            &World {
                candidates: &candidates,
                named: named.as_ref(),
                class: class.as_deref(),
                default_class: fit::default_class(&defaults),
                waiting_pods: &self.waiting_pods(key),
            },
        );
        if let Some(notice) = &plan.notice {
            self.tell(&*claim, notice);
        }
        match plan.step {
            claim::Step::Bind(volume) => self.bind(volume, claim).await,
            claim::Step::AssignClass(name) => {
                let mut changed = (*claim).clone();
                changed.spec.get_or_insert_default().storage_class_name = Some(name);
                self.write_claim(&changed).await.map(drop)
            }
            claim::Step::Provision(provisioner) => match claim::handed_over(&claim, &provisioner) {
                Some(changed) => self.write_claim(&changed).await.map(drop),
                None => Ok(()),
            },
            claim::Step::Phase(phase, notice) => {
                let before = claim.status.as_ref().and_then(|s| s.phase.as_deref());
                let changes = before != Some(phase);
                let claim = self.set_claim_status(claim, phase, None).await?;
                if let Some(notice) = notice.filter(|_| changes) {
                    self.tell(&*claim, &notice);
                }
                Ok(())
            }
            claim::Step::Nothing => Ok(()),
            claim::Step::Refuse(why) => Err(Error::terminal(std::io::Error::other(why))),
        }
    }

    /// Pods that mount the claim and have no node yet, in order.
    fn waiting_pods(&self, key: &ObjectKey<PersistentVolumeClaim>) -> Vec<String> {
        let pods = self.pods.by_index(BY_CLAIM, &key.to_string());
        let unscheduled = pods.iter().filter(|p| node_name(p).is_empty());
        let mut names: Vec<String> = unscheduled.filter_map(|p| p.metadata.name.clone()).collect();
        names.sort();
        names
    }

    async fn volume(&self, key: &ObjectKey<PersistentVolume>) -> Result<(), Error> {
        let Some(volume) = self.volumes.get(key) else {
            return Ok(());
        };
        let claim = self.claim_of(&volume).await?;
        match volume::plan(&volume, claim.as_deref()) {
            volume::Step::Phase(phase) => self.set_volume_phase(volume, phase, "").await.map(drop),
            volume::Step::Unbind => {
                let freed = volume::unbound(&volume);
                let volume = self.client.all::<PersistentVolume>().update(&freed).await?;
                self.set_volume_phase(volume, "Available", "").await.map(drop)
            }
            volume::Step::Release(failure) => {
                let phase = volume.status.as_ref().and_then(|s| s.phase.clone());
                let mut volume = volume;
                if !matches!(phase.as_deref(), Some("Released" | "Failed")) {
                    volume = self.set_volume_phase(volume, "Released", "").await?;
                }
                if let Some(notice) = failure.filter(|_| phase.as_deref() != Some("Failed")) {
                    let volume = self.set_volume_phase(volume, "Failed", &notice.message).await?;
                    self.tell(&*volume, &notice);
                }
                Ok(())
            }
            volume::Step::Mismatch { on_volume, on_claim } => {
                self.tell(&*volume, &on_volume);
                if let Some(claim) = claim {
                    self.tell(&*claim, &on_claim);
                }
                Ok(())
            }
            // The claim was put into the queue with the volume.
            volume::Step::Nothing => Ok(()),
        }
    }

    /// The claim that the volume is bound to, if it (and not another of its name) still exists. What the cache says of its
    /// end is checked: the volume may be deleted because of it.
    async fn claim_of(&self, volume: &PersistentVolume) -> Result<Option<Arc<PersistentVolumeClaim>>, Error> {
        let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
        let Some(reference) = reference.filter(|r| r.uid.as_deref().is_some_and(|u| !u.is_empty())) else {
            return Ok(None);
        };
        let namespace = reference.namespace.as_deref().unwrap_or_default();
        let name = reference.name.as_deref().unwrap_or_default();
        let same = |claim: &Arc<PersistentVolumeClaim>| claim.metadata.uid == reference.uid;
        if let Some(claim) = self.claims.find(namespace, name).filter(same) {
            return Ok(Some(claim));
        }
        let claims = self.client.namespaced::<PersistentVolumeClaim>(namespace);
        Ok(claims.find(name).await?.filter(same))
    }

    async fn bind(&self, volume: Arc<PersistentVolume>, claim: Arc<PersistentVolumeClaim>) -> Result<(), Error> {
        let volume = match volume::bound_to(&volume, &claim) {
            Some(changed) => self.client.all::<PersistentVolume>().update(&changed).await?,
            None => volume,
        };
        let volume = self.set_volume_phase(volume, "Bound", "").await?;
        let claim = match claim::bound_to(&claim, &volume) {
            Some(changed) => self.write_claim(&changed).await?,
            None => claim,
        };
        self.set_claim_status(claim, "Bound", Some(&volume)).await.map(drop)
    }

    async fn write_claim(&self, claim: &PersistentVolumeClaim) -> Result<Arc<PersistentVolumeClaim>, Error> {
        let claims = self.client.all::<PersistentVolumeClaim>();
        let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
        Ok(claims.within(namespace).update(claim).await?)
    }

    async fn set_claim_status(
        &self,
        claim: Arc<PersistentVolumeClaim>,
        phase: &str,
        volume: Option<&PersistentVolume>,
    ) -> Result<Arc<PersistentVolumeClaim>, Error> {
        let Some(changed) = claim::with_status(&claim, phase, volume) else {
            return Ok(claim);
        };
        let namespace = changed.metadata.namespace.as_deref().unwrap_or_default();
        let claims = self.client.namespaced::<PersistentVolumeClaim>(namespace);
        Ok(claims.update_status(&changed).await?)
    }

    async fn set_volume_phase(
        &self,
        volume: Arc<PersistentVolume>,
        phase: &str,
        message: &str,
    ) -> Result<Arc<PersistentVolume>, Error> {
        if volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some(phase) {
            return Ok(volume);
        }
        let mut changed = (*volume).clone();
        let status = changed.status.get_or_insert_default();
        status.phase = Some(phase.to_owned());
        status.message = Some(message.to_owned()).filter(|m| !m.is_empty());
        status.last_phase_transition_time = Some(Time(self.clock.now()));
        Ok(self.client.all::<PersistentVolume>().update_status(&changed).await?)
    }

    fn tell<K: TypedKind>(&self, about: &K, notice: &Notice) {
        let kind = if notice.warning {
            EventType::Warning
        } else {
            EventType::Normal
        };
        self.events.event(about, kind, notice.reason, notice.message.as_str());
    }
}
