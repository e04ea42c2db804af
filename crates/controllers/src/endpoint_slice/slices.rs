//! What both controllers of slices (of services, and of Endpoints that are mirrored) do alike: finding their own, hearing
//! of them, writing them.

use std::sync::Arc;

use coracle_client::{Client, DeleteOptions, ObjectKey, TypedKind, gone_is_done};
use coracle_informer::{Change, Error, Lister, SharedInformer};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::plan::{MANAGED_BY, Plan, SERVICE_NAME};
use super::tracker::Tracker;

/// The index of slices by `namespace/service`.
const BY_SERVICE: &str = "service";

pub(crate) fn index_by_service(slices: &SharedInformer<EndpointSlice>) {
    slices.add_index(BY_SERVICE, |slice: &EndpointSlice| {
        let service = label(&slice.metadata, SERVICE_NAME)?;
        Some(format!(
            "{}/{service}",
            slice.metadata.namespace.as_deref().unwrap_or_default()
        ))
    });
}

pub(crate) fn label<'m>(meta: &'m ObjectMeta, key: &str) -> Option<&'m str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

/// Whose slice of this manager has changed. One that was taken from the manager concerns it too.
pub(crate) fn key_of<K: TypedKind>(
    change: &Change<EndpointSlice>,
    manager: &str,
    tracker: &Tracker,
) -> Option<ObjectKey<K>> {
    let meta = &change.object().metadata;
    let is_own = |m: &ObjectMeta| label(m, MANAGED_BY) == Some(manager);
    if !is_own(meta) && !change.old().is_some_and(|old| is_own(&old.metadata)) {
        return None;
    }
    let key = ObjectKey::<K>::new(meta.namespace.as_deref()?, label(meta, SERVICE_NAME)?);
    if change.is_deletion() {
        tracker.is_gone(&key.to_string(), meta.uid.as_deref().unwrap_or_default());
    }
    Some(key)
}

/// The slices of this manager by name, without those that are going; `None` while the cache is behind what was written.
pub(crate) fn fresh<K: TypedKind>(
    slices: &Lister<EndpointSlice>,
    key: &ObjectKey<K>,
    manager: &str,
    tracker: &Tracker,
) -> Option<Vec<Arc<EndpointSlice>>> {
    let mut own = slices.by_index(BY_SERVICE, &format!("{}/{}", key.namespace, key.name));
    own.retain(|s| label(&s.metadata, MANAGED_BY) == Some(manager));
    if tracker.is_stale(&key.to_string(), &own) {
        return None;
    }
    own.retain(|s| s.metadata.deletion_timestamp.is_none());
    own.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    Some(own)
}

/// Writes a plan: new slices first, so that no address is missing in between.
pub(crate) async fn execute(
    client: &Client,
    tracker: &Tracker,
    key: &str,
    namespace: &str,
    plan: Plan,
    annotate: impl Fn(&mut ObjectMeta),
) -> Result<(), Error> {
    let slices = client.namespaced::<EndpointSlice>(namespace);
    for mut slice in plan.create {
        annotate(&mut slice.metadata);
        match slices.create(&slice).await {
            Ok(created) => tracker.wrote(key, &created),
            // Nothing can be made in it any more, and nothing has to be.
            Err(error) if error.is_namespace_terminating() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    for mut slice in plan.update {
        annotate(&mut slice.metadata);
        let updated = slices.update(&slice).await?;
        tracker.wrote(key, &updated);
    }
    for slice in plan.delete {
        let name = slice.metadata.name.as_deref().unwrap_or_default();
        let options = DeleteOptions {
            uid: slice.metadata.uid.clone(),
            ..DeleteOptions::default()
        };
        if gone_is_done(slices.delete(name, &options).await)?.is_some() {
            tracker.deleted(key, &slice);
        }
    }
    Ok(())
}
