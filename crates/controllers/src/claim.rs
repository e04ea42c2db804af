//! Which objects are an owner's: adopts matching orphans and releases what matches no longer. Every controller of pods,
//! replica sets, jobs or revisions asks it; what to do is [`owner`](crate::owner)'s to say, this carries it out.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use coracle_client::{Client, Kind, ObjectKey, Patch, TypedKind};
use coracle_informer::{Change, Error, Lister, SharedInformer, indexer};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::owner::{self, controller_of};

/// The index of objects that nobody controls, by namespace.
pub const ORPHANS: &str = "orphans";

/// Adds the indexes that [`claim`] reads.
pub fn index<K: Kind>(informer: &SharedInformer<K>) {
    informer.add_index(indexer::CONTROLLER, indexer::by_controller);
    informer.add_index(ORPHANS, by_orphanage);
}

/// The namespace of an object that nobody controls: an index function, to be added as [`ORPHANS`].
pub fn by_orphanage<K: Kind>(object: &K) -> Option<String> {
    let meta = object.meta();
    let orphan = controller_of(meta).is_none();
    orphan.then(|| meta.namespace.clone().unwrap_or_default())
}

/// The objects of a namespace that nobody controls.
pub fn orphans<K: Kind>(lister: &Lister<K>, namespace: &str) -> Vec<Arc<K>> {
    lister.by_index(ORPHANS, namespace)
}

/// What an owner may control: what it does already, and the orphans of its namespace.
pub fn candidates<K: Kind>(lister: &Lister<K>, owner: &ObjectMeta) -> impl Iterator<Item = Arc<K>> + use<K> {
    let owned = lister.controlled_by(owner.uid.as_deref().unwrap_or_default());
    let orphans = orphans(lister, owner.namespace.as_deref().unwrap_or_default());
    owned.into_iter().chain(orphans)
}

/// What [`claim`](Self::claim) needs.
pub struct Claiming<'a, O, K> {
    pub client: &'a Client,
    pub owner: &'a O,
    pub lister: &'a Lister<K>,
}

impl<O, K> Claiming<'_, O, K>
where
    O: TypedKind + k8s_openapi::Resource + k8s_openapi::Metadata<Ty = ObjectMeta>,
    K: TypedKind + k8s_openapi::Metadata<Ty = ObjectMeta>,
{
    /// The objects that the owner controls, after adopting and releasing. `matches` says which are meant to be its own.
    pub async fn claim(&self, matches: impl Fn(&ObjectMeta) -> bool) -> Result<Vec<Arc<K>>, Error> {
        self.claim_holding(matches, |_, _| None).await
    }

    /// The same, for owners that hold what is theirs: `finalizers` are those that an object has after it was adopted
    /// (true) or released, if they change.
    pub async fn claim_holding(
        &self,
        matches: impl Fn(&ObjectMeta) -> bool,
        finalizers: impl Fn(&ObjectMeta, bool) -> Option<Vec<String>>,
    ) -> Result<Vec<Arc<K>>, Error> {
        let meta = self.owner.meta();
        let claim = owner::claim(meta, candidates(self.lister, meta), matches);
        let mut owned = claim.owned;
        owned.extend(self.adopt(claim.adopt, &finalizers).await?);
        self.release(claim.release, &finalizers).await?;
        Ok(owned)
    }

    /// Makes these orphans the owner's own, as far as they are still there: as they are then.
    pub async fn adopt(
        &self,
        orphans: Vec<Arc<K>>,
        finalizers: impl Fn(&ObjectMeta, bool) -> Option<Vec<String>>,
    ) -> Result<Vec<Arc<K>>, Error> {
        let mut owned = Vec::new();
        if orphans.is_empty() || !self.is_living().await? {
            return Ok(owned);
        }
        let reference = owner::controller_reference(self.owner);
        for orphan in orphans {
            let mut patch = owner::adopt_patch(&reference, orphan.meta());
            if let Some(finalizers) = finalizers(orphan.meta(), true) {
                patch["metadata"]["finalizers"] = finalizers.into();
            }
            match self.patch(orphan.meta(), patch).await {
                Ok(adopted) => owned.push(adopted),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(owned)
    }

    /// Lets these go that the owner controls.
    pub async fn release(
        &self,
        strangers: Vec<Arc<K>>,
        finalizers: impl Fn(&ObjectMeta, bool) -> Option<Vec<String>>,
    ) -> Result<(), Error> {
        for stranger in strangers {
            let uid = self.owner.meta().uid.as_deref().unwrap_or_default();
            let mut patch = owner::release_patch(uid, stranger.meta());
            if let Some(finalizers) = finalizers(stranger.meta(), false) {
                patch["metadata"]["finalizers"] = finalizers.into();
            }
            match self.patch(stranger.meta(), patch).await {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    async fn patch(&self, meta: &ObjectMeta, patch: serde_json::Value) -> Result<Arc<K>, coracle_client::Error> {
        let namespace = self.owner.meta().namespace.as_deref().unwrap_or_default();
        let api = self.client.namespaced::<K>(namespace);
        api.patch(meta.name.as_deref().unwrap_or_default(), Patch::Merge(patch))
            .await
    }

    /// The cache may be behind: an owner that is being deleted adopts nothing.
    async fn is_living(&self) -> Result<bool, Error> {
        let meta = self.owner.meta();
        let api = self
            .client
            .namespaced::<O>(meta.namespace.as_deref().unwrap_or_default());
        let fresh = api.find(meta.name.as_deref().unwrap_or_default()).await?;
        Ok(fresh.is_some_and(|f| f.meta().uid == meta.uid && f.meta().deletion_timestamp.is_none()))
    }
}

/// The owners that a change of an orphan wakes: all that might adopt it. One without a usable selector adopts nothing.
pub fn adopters<K: Kind, O: TypedKind>(
    change: &Change<K>,
    owners: &Lister<O>,
    selector: impl Fn(&O) -> Option<LabelSelector>,
) -> Vec<ObjectKey<O>> {
    let meta = change.object().meta();
    if change.is_deletion() || controller_of(meta).is_some() {
        return Vec::new();
    }
    let may = |owner: &O| selector(owner).is_some_and(|s| !s.is_everything() && selected(&s, meta));
    let adopters = owners.select(meta.namespace.as_deref().unwrap_or_default(), may);
    adopters.iter().map(|o| ObjectKey::of(&**o)).collect()
}

/// Whether a selector matches an object's labels.
pub fn selected(selector: &LabelSelector, meta: &ObjectMeta) -> bool {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    selector.matches_labels(meta.labels.as_ref().unwrap_or(&NONE))
}
