//! Which objects are an owner's: adopts matching orphans and releases what matches no longer. Every controller of pods,
//! replica sets, jobs or revisions asks it; what to do is [`owner`](crate::owner)'s to say, this carries it out.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use coracle_client::{Client, Kind, ObjectKey, Patch, TypedKind, gone_is_done};
use coracle_informer::{Change, Error, Lister, SharedInformer, indexer};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::members::Members;
use crate::owner::{self, controller_of};

/// Whether somebody may adopt the object, should it match.
pub fn is_orphan<K: Kind>(object: &K) -> bool {
    let meta = object.meta();
    meta.deletion_timestamp.is_none() && controller_of(meta).is_none()
}

/// The objects of one kind that owners of another may have: what each has already, and orphans that match. Cheap to clone.
pub struct Claimable<O, K> {
    lister: Lister<K>,
    orphans: Members<O, K>,
}

impl<O, K> Clone for Claimable<O, K> {
    fn clone(&self) -> Self {
        Self {
            lister: self.lister.clone(),
            orphans: self.orphans.clone(),
        }
    }
}

impl<O: Kind, K: Kind> Claimable<O, K> {
    pub fn new(informer: &SharedInformer<K>) -> Self {
        informer.add_index(indexer::CONTROLLER, indexer::by_controller);
        let orphans = Members::new(is_orphan);
        informer.observe(orphans.observer());
        Self {
            lister: informer.lister(),
            orphans,
        }
    }

    /// What the owner may control.
    fn of(&self, owner: &O, selector: &LabelSelector) -> impl Iterator<Item = Arc<K>> + use<O, K> {
        let owned = self
            .lister
            .controlled_by(owner.meta().uid.as_deref().unwrap_or_default());
        let orphans = self.orphans.of(&ObjectKey::of(owner), selector, &self.lister);
        owned.into_iter().chain(orphans)
    }

    /// The owners that a change of an orphan wakes: all that might adopt it.
    pub fn adopters(&self, change: &Change<K>) -> Vec<ObjectKey<O>> {
        match change.is_deletion() {
            true => Vec::new(),
            false => self.orphans.selecting(change.object()),
        }
    }

    /// The owner is gone.
    pub fn forget(&self, owner: &ObjectKey<O>) {
        self.orphans.forget(owner);
    }
}

/// An owner that claims what is its own.
pub struct Claiming<'a, O> {
    pub client: &'a Client,
    pub owner: &'a O,
}

impl<O> Claiming<'_, O>
where
    O: TypedKind + k8s_openapi::Resource + k8s_openapi::Metadata<Ty = ObjectMeta>,
{
    /// The objects that the owner controls, after adopting and releasing: those selected of which `matches` says yes.
    pub async fn claim<K>(
        &self,
        claimable: &Claimable<O, K>,
        selector: &LabelSelector,
        matches: impl Fn(&ObjectMeta) -> bool,
    ) -> Result<Vec<Arc<K>>, Error>
    where
        K: TypedKind + k8s_openapi::Metadata<Ty = ObjectMeta>,
    {
        self.claim_holding(claimable, selector, matches, |_, _| None).await
    }

    /// The same, for owners that hold what is theirs: `finalizers` are those that an object has after it was adopted
    /// (true) or released, if they change.
    pub async fn claim_holding<K>(
        &self,
        claimable: &Claimable<O, K>,
        selector: &LabelSelector,
        matches: impl Fn(&ObjectMeta) -> bool,
        finalizers: impl Fn(&ObjectMeta, bool) -> Option<Vec<String>>,
    ) -> Result<Vec<Arc<K>>, Error>
    where
        K: TypedKind + k8s_openapi::Metadata<Ty = ObjectMeta>,
    {
        let candidates = claimable.of(self.owner, selector);
        let claim = owner::claim(self.owner.meta(), candidates, |meta| {
            selected(selector, meta) && matches(meta)
        });
        let mut owned = claim.owned;
        owned.extend(self.adopt(claim.adopt, &finalizers).await?);
        self.release(claim.release, &finalizers).await?;
        Ok(owned)
    }

    /// Makes these orphans the owner's own, as far as they are still there: as they are then.
    pub async fn adopt<K: TypedKind>(
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
            owned.extend(gone_is_done(self.patch(orphan.meta(), patch).await)?);
        }
        Ok(owned)
    }

    /// Lets these go that the owner controls.
    pub async fn release<K: TypedKind>(
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
            gone_is_done(self.patch::<K>(stranger.meta(), patch).await)?;
        }
        Ok(())
    }

    async fn patch<K: TypedKind>(
        &self,
        meta: &ObjectMeta,
        patch: serde_json::Value,
    ) -> Result<Arc<K>, coracle_client::Error> {
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

/// Whether a selector matches an object's labels.
pub fn selected(selector: &LabelSelector, meta: &ObjectMeta) -> bool {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    selector.matches_labels(meta.labels.as_ref().unwrap_or(&NONE))
}
