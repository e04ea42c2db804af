//! Writing an object's status, when it says anything new.

use std::sync::Arc;

use coracle_client::{Client, TypedKind, Whole, gone_is_done};
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
    Ok(gone_is_done(api.update_status(changed).await)?)
}
