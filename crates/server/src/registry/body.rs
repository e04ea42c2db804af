//! Whether the object of a request is the one that its path names; what the body leaves out is filled in.

use coracle_api::field::{FieldError, FieldErrorKind};
use coracle_api::object::Object;
use coracle_api::resource::split_api_version;
use coracle_api::status::Status;

use super::Call;

/// apiVersion and kind must be the row's.
pub(crate) fn check_kind(call: &Call<'_>, object: &mut Object) -> Result<(), Status> {
    let row = &call.row;
    let (api_version, kind) = (object.api_version(), object.kind());
    if row.custom && !kind.is_empty() && kind != row.kind {
        let shown = format!("{kind:?}");
        let name = object.name().to_owned();
        let error = FieldError {
            kind: FieldErrorKind::Invalid,
            path: "kind".into(),
            value: shown,
            detail: format!("must be {}", row.kind),
        };
        return Err(Status::invalid(&row.group, &row.kind, &name, &[error]));
    }
    let of_row = row.api_version();
    let api_version = if api_version.is_empty() { &of_row } else { api_version };
    let kind = if kind.is_empty() { &row.kind } else { kind };
    let is_known = row.custom || call.core.registry.table().by_api_version(api_version, kind).is_some();
    if !is_known {
        // Where upstream keeps its kinds is part of what it says.
        let why = format!(
            "no kind {kind:?} is registered for version {api_version:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
        );
        return Err(not_handled(kind, api_version, &row.kind, &why));
    }
    check_kind_as(object, &of_row, &row.kind)
}

/// apiVersion and kind must be these, of a subresource.
pub(crate) fn check_kind_as(object: &mut Object, api_version: &str, kind: &str) -> Result<(), Status> {
    let found = object.kind();
    if found.is_empty() {
        object.set(&["kind"], kind);
    } else if found != kind {
        let of = if object.api_version().is_empty() {
            api_version
        } else {
            object.api_version()
        };
        let (_, version) = split_api_version(of);
        let (group, _) = split_api_version(api_version);
        let package = match group.split('.').next().unwrap_or_default() {
            "" | "events" => "core",
            package => package,
        };
        let why = format!("converting ({version}.{found}) to ({package}.{kind}): unknown conversion");
        return Err(not_handled(found, of, kind, &why));
    }
    let found = object.api_version();
    if found.is_empty() {
        object.set(&["apiVersion"], api_version);
    } else if found != api_version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({found}) does not match the expected API version ({api_version})"
        )));
    }
    Ok(())
}

fn not_handled(found: &str, api_version: &str, kind: &str, why: &str) -> Status {
    let (_, version) = split_api_version(api_version);
    Status::bad_request(format!(
        "{found} in version {version:?} cannot be handled as a {kind}: {why}"
    ))
}

/// What replaces an object says which it is.
pub(crate) fn check_name(call: &Call<'_>, object: &Object) -> Result<(), Status> {
    let (wanted, found) = (&call.target.name, object.name());
    let refuse = |message: String| Err(Status::bad_request(message));
    if found.is_empty() {
        return refuse(format!(
            "the name of the object ({wanted} based on URL) was undeterminable: name must be provided"
        ));
    }
    if found != wanted {
        return refuse(format!(
            "the name of the object ({found}) does not match the name on the URL ({wanted})"
        ));
    }
    let (wanted, found) = (&call.target.namespace, object.namespace());
    if !wanted.is_empty() && !found.is_empty() && found != wanted {
        return refuse(format!(
            "the namespace of the object ({found}) does not match the namespace on the request ({wanted})"
        ));
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
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
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
