//! Which objects are an owner's: adopts matching orphans and releases what matches no longer. Every controller of pods,
//! replica sets or revisions asks it; what to do is [`owner`](crate::owner)'s to say, this carries it out.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use coracle_client::{Client, Kind, Patch, TypedKind};
use coracle_informer::{Error, Lister, SharedInformer, indexer};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::owner::{self, controller_of};

/// The index of objects that nobody controls, by namespace.
const ORPHANS: &str = "orphans";

/// Adds the indexes that [`claim`] reads.
pub fn index<K: Kind>(informer: &SharedInformer<K>) {
    informer.add_index(indexer::CONTROLLER, indexer::by_controller);
    informer.add_index(ORPHANS, |object: &K| {
        let meta = object.meta();
        let orphan = controller_of(meta).is_none();
        orphan.then(|| meta.namespace.clone().unwrap_or_default())
    });
}

/// What an owner may control: what it does already, and the orphans of its namespace.
pub fn candidates<K: Kind>(lister: &Lister<K>, owner: &ObjectMeta) -> impl Iterator<Item = Arc<K>> + use<K> {
    let owned = lister.controlled_by(owner.uid.as_deref().unwrap_or_default());
    let orphans = lister.by_index(ORPHANS, owner.namespace.as_deref().unwrap_or_default());
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
        let meta = self.owner.meta();
        let claim = owner::claim(meta, candidates(self.lister, meta), matches);
        let mut owned = claim.owned;
        let api = self
            .client
            .namespaced::<K>(meta.namespace.as_deref().unwrap_or_default());
        if !claim.adopt.is_empty() && self.is_living().await? {
            let reference = owner::controller_reference(self.owner);
            for orphan in claim.adopt {
                let patch = Patch::Merge(owner::adopt_patch(&reference, orphan.meta()));
                let name = orphan.meta().name.as_deref().unwrap_or_default();
                match api.patch(name, patch).await {
                    Ok(adopted) => owned.push(adopted),
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        for stranger in claim.release {
            let uid = meta.uid.as_deref().unwrap_or_default();
            let patch = Patch::Merge(owner::release_patch(uid, stranger.meta()));
            let name = stranger.meta().name.as_deref().unwrap_or_default();
            match api.patch(name, patch).await {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(owned)
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
