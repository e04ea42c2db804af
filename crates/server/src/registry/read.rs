//! Get, and how any part of the road reads the current state of one object.

use std::sync::Arc;

use coracle_api::object::{Object, StoredObject};
use coracle_api::resource::Resource;
use coracle_api::status::Status;

use super::{Call, Output};
use crate::cache::store_failed;
use crate::core::Core;

/// The current state of an object.
pub(crate) struct Current {
    /// As it is stored.
    pub stored: Arc<StoredObject>,
    /// Decoded, in the row's version, with its resourceVersion.
    pub object: Object,
}

/// `GET` of one object. A read at any version may come from the cache; every other read is of the newest state.
pub(crate) async fn get(call: &mut Call<'_>, resource_version: &str) -> Result<Output, Status> {
    let key = call.key(&call.target.name);
    let stored = if resource_version == "0" {
        let shard = call.core.cache.shard(&call.row).await?;
        shard.get(&key).map(|item| item.object.clone())
    } else {
        if !resource_version.is_empty() {
            let wanted = super::list::known_version(resource_version)?;
            call.core.cache.wait_for(wanted).await?;
        }
        load_stored(call.core, &key).await?
    };
    let stored = stored.ok_or_else(|| Status::not_found(call.of(), &call.target.name))?;
    Ok(Output::object(in_version(&call.row, &stored)?))
}

/// The newest state of an object, if it exists.
pub(crate) async fn load(core: &Arc<Core>, row: &Resource, key: &str) -> Result<Option<Current>, Status> {
    let Some(stored) = load_stored(core, key).await? else {
        return Ok(None);
    };
    let mut object = stored.to_object();
    to_served(row, &mut object);
    Ok(Some(Current { stored, object }))
}

/// The newest state as it is stored.
pub(crate) async fn load_stored(core: &Arc<Core>, key: &str) -> Result<Option<Arc<StoredObject>>, Status> {
    let got = core.store.get(key, None).await.map_err(|e| store_failed(&e))?;
    let Some(kv) = got.kv else { return Ok(None) };
    if let Some(known) = core.cache.known(key).filter(|k| k.object.revision() == kv.mod_revision) {
        return Ok(Some(known.object.clone()));
    }
    let stored = StoredObject::from_bytes(kv.value.clone(), kv.mod_revision)
        .map_err(|e| Status::internal(format!("{key} cannot be read: {e}")))?;
    Ok(Some(Arc::new(stored)))
}

/// Whether the row's version is the one that is stored.
pub(crate) fn is_stored_version(row: &Resource) -> bool {
    let (group, version) = coracle_api::resource::split_api_version(&row.storage.api_version);
    row.group == group && row.version == version
}

/// Whether the row's clients see this object as it is stored.
pub(crate) fn is_shown_as_stored(row: &Resource, stored: &StoredObject) -> bool {
    is_stored_version(row) && row.convert.as_ref().is_none_or(|c| c.is_current(stored))
}

/// Turns an object as stored into the row's version.
pub(crate) fn to_served(row: &Resource, object: &mut Object) {
    match &row.convert {
        Some(convert) => convert.to_served(object),
        None if is_stored_version(row) => {}
        None => {
            object.set(&["apiVersion"], row.api_version());
        }
    }
}

/// Turns an object in the row's version into the one that is stored.
pub(crate) fn to_stored(row: &Resource, object: &mut Object) {
    if is_stored_version(row) {
        return;
    }
    match &row.convert {
        Some(convert) => convert.to_stored(object),
        None => {
            object.set(&["apiVersion"], row.storage.api_version.as_ref());
        }
    }
}

/// A stored object as the row's clients see it: itself, unless the row is of another version.
pub(crate) fn in_version(row: &Resource, stored: &Arc<StoredObject>) -> Result<Arc<StoredObject>, Status> {
    if is_shown_as_stored(row, stored) {
        return Ok(stored.clone());
    }
    let mut object = stored.to_object();
    to_served(row, &mut object);
    StoredObject::from_object(object)
        .map(Arc::new)
        .map_err(|e| Status::internal(e.to_string()))
}
