//! Whether the object of a request is the one that its path names; what the body leaves out is filled in.

use coracle_api::object::Object;
use coracle_api::status::Status;

use super::Call;

/// apiVersion and kind must be the row's (or of the subresource's kind).
pub(crate) fn check_kind(object: &mut Object, api_version: &str, kind: &str) -> Result<(), Status> {
    let found = object.api_version();
    if found.is_empty() {
        object.set(&["apiVersion"], api_version);
    } else if found != api_version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({found}) does not match the expected API version ({api_version})"
        )));
    }
    let found = object.kind();
    if found.is_empty() {
        object.set(&["kind"], kind);
    } else if found != kind {
        return Err(Status::bad_request(format!(
            "{found} in version {api_version:?} cannot be handled as a {kind}: converting ({found}) to ({kind}): unknown \
             conversion"
        )));
    }
    Ok(())
}

/// The body's namespace and name must be the path's.
pub(crate) fn check_place(call: &Call<'_>, object: &mut Object) -> Result<(), Status> {
    let meta = object
        .0
        .entry("metadata")
        .or_insert_with(|| serde_json::Map::new().into());
    if meta.is_null() {
        *meta = serde_json::Map::new().into();
    }
    if !meta.is_object() {
        return Err(Status::bad_request("metadata must be an object"));
    }
    if call.row.is_namespaced() {
        let found = object.namespace();
        if found.is_empty() {
            object.set(&["metadata", "namespace"], call.target.namespace.as_str());
        } else if found != call.target.namespace {
            return Err(Status::bad_request(format!(
                "the namespace of the provided object does not match the namespace sent on the request ({found} is not {})",
                call.target.namespace
            )));
        }
    } else if object.get(&["metadata", "namespace"]).is_some() {
        if !object.namespace().is_empty() {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        object.remove(&["metadata", "namespace"]);
    }
    if !call.target.name.is_empty() {
        let found = object.name();
        if found.is_empty() {
            object.set(&["metadata", "name"], call.target.name.as_str());
        } else if found != call.target.name {
            return Err(Status::bad_request(format!(
                "the name of the object ({found}) does not match the name on the URL ({})",
                call.target.name
            )));
        }
    }
    Ok(())
}
