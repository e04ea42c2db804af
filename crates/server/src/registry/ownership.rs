//! Which manager owns which fields: managedFields on every write, and server-side apply.

use coracle_api::object::Object;
use coracle_api::service::WriteOptions;
use coracle_api::status::Status;
use serde_json::Value;

use super::Call;

/// Gives the fields that differ between `old` and `new` to the request's manager.
pub(crate) fn track(
    call: &Call<'_>,
    old: Option<&Object>,
    new: &mut Object,
    options: &WriteOptions,
) -> Result<(), Status> {
    let _ = (call, old, new, options);
    Ok(())
}

/// The object that an apply patch makes of `live`, with its managedFields.
pub(crate) fn apply(
    call: &Call<'_>,
    live: Option<&Object>,
    patch: &Value,
    options: &WriteOptions,
) -> Result<Object, Status> {
    let _ = options;
    let base = live.cloned().unwrap_or_default();
    super::codec::patched(&call.row, coracle_api::service::PatchKind::Merge, &base, patch)
}
