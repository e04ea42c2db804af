//! Writing an object's status, when it says anything new.

use std::sync::Arc;

use coracle_client::{Client, TypedKind, Whole};
use coracle_informer::Error;

/// Writes the status of `changed`, if it differs from the object as it was seen; the object then, unless it is gone.
pub async fn write<K>(client: &Client, seen: &K, changed: &K) -> Result<Option<Arc<K>>, Error>
where
    K: TypedKind + Whole + PartialEq,
{
    if seen == changed {
        return Ok(None);
    }
    let meta = changed.meta();
    let api = client.all::<K>().within(meta.namespace.as_deref().unwrap_or_default());
    match api.update_status(changed).await {
        Ok(written) => Ok(Some(written)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
