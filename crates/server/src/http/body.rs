//! Request bodies: read with a limit, decoded by their content type.

use bytes::Bytes;
use coracle_api::object::Object;
use coracle_api::protobuf;
use coracle_api::schema::parse::{parse_json, parse_yaml};
use coracle_api::service::{DeleteOptions, FieldValidation, PatchKind};
use coracle_api::status::Status;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use super::query::{Deletion, Query, deletion};
use crate::registry::codec;

/// A decoded body, and what was wrong with it without being an error.
pub(crate) struct Decoded {
    pub value: Value,
    pub warnings: Vec<String>,
}

/// Reads all of a body.
pub(crate) async fn read(body: Incoming, most: usize) -> Result<Bytes, Status> {
    match Limited::new(body, most).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Status::too_large(format!("Request entity too large: limit is {most}")))
        }
        Err(error) => Err(Status::bad_request(format!(
            "the request body could not be read: {error}"
        ))),
    }
}

/// The media type of a body, without parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let text = headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The object in a body, which is to be of this kind.
pub(crate) fn object(
    headers: &HeaderMap,
    bytes: &[u8],
    kind: &str,
    validation: FieldValidation,
) -> Result<(Object, Vec<String>), Status> {
    let decoded = match media_type(headers).as_str() {
        "" | "application/json" => json(bytes, validation),
        "application/yaml" => yaml(bytes, validation),
        "application/vnd.kubernetes.protobuf" => from_protobuf(bytes),
        _ => {
            return Err(unknown_format(
                "application/json, application/yaml, application/vnd.kubernetes.protobuf",
            ));
        }
    };
    let unrecognized = |why: &str| {
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {why} ({})",
            summary(bytes)
        ))
    };
    let decoded = decoded.map_err(|wrong| match wrong {
        Wrong::Unreadable(why) => unrecognized(&why),
        Wrong::Strict(status) => status,
    })?;
    let found = json_type(&decoded.value);
    let object = Object::from_value(decoded.value).ok_or_else(|| {
        unrecognized(&format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {found} into Go value of type struct {{ \
             APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
        ))
    })?;
    Ok((object, decoded.warnings))
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The start of a body that is not what it should be: text that looks like JSON as it is, anything else in hexadecimal.
fn summary(bytes: &[u8]) -> String {
    const MOST: usize = 30;
    let shown = &bytes[..bytes.len().min(MOST)];
    let more = if bytes.len() > MOST { " ..." } else { "" };
    match bytes {
        [] => "<empty>".to_owned(),
        [b'{', ..] => format!("{}{more}", String::from_utf8_lossy(shown)),
        _ => format!("{}{more}", shown.iter().map(|b| format!("{b:02x}")).collect::<String>()),
    }
}

fn unknown_format(accepted: &str) -> Status {
    Status::unsupported_media_type(format!(
        "the body of the request was in an unknown format - accepted media types include: {accepted}"
    ))
}

/// Which patch a body is; custom resources take no strategic ones.
pub(crate) fn patch_kind(headers: &HeaderMap, custom: bool) -> Result<PatchKind, Status> {
    match media_type(headers).as_str() {
        "application/json-patch+json" => Ok(PatchKind::Json),
        "application/merge-patch+json" => Ok(PatchKind::Merge),
        "application/strategic-merge-patch+json" if !custom => Ok(PatchKind::Strategic),
        "application/apply-patch+yaml" => Ok(PatchKind::Apply),
        _ if custom => Err(unknown_format(
            "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
        )),
        _ => Err(unknown_format(
            "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, \
             application/apply-patch+yaml",
        )),
    }
}

/// The patch in a body, with warnings of what is there twice.
pub(crate) fn patch(
    kind: PatchKind,
    bytes: &[u8],
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    // Upstream says so of all but strategic patches.
    let decoding = match kind {
        PatchKind::Apply => "error decoding YAML: ",
        PatchKind::Json | PatchKind::Merge => "error decoding patch: ",
        PatchKind::Strategic => "",
    };
    let failed = |why: &str| Status::bad_request(format!("{decoding}{why}"));
    let parsed = match kind {
        PatchKind::Apply => parse_yaml(bytes),
        _ => parse_json(bytes),
    };
    let (patch, duplicates) = parsed.map_err(|e| failed(&e.message))?;
    if let (Some(why), false) = (shape_fault(kind, &patch), validation == FieldValidation::Ignore) {
        return Err(failed(&why));
    }
    let texts: Vec<String> = duplicates.iter().map(|p| format!("duplicate field {p:?}")).collect();
    match (validation, kind) {
        (_, _) if texts.is_empty() => Ok((patch, texts)),
        (FieldValidation::Ignore, _) => Ok((patch, Vec::new())),
        (FieldValidation::Warn, _) => Ok((patch, texts)),
        (FieldValidation::Strict, PatchKind::Apply) => Err(Status::bad_request(format!(
            "error strict decoding YAML: {}",
            texts.join(", ")
        ))),
        (FieldValidation::Strict, _) => {
            let why = format!("strict decoding error: {}", texts.join(", "));
            Err(codec::refused_patch(&String::from_utf8_lossy(bytes), &why))
        }
    }
}

/// What a patch is instead of what it should be, as Go tells it. Nothing at all is an empty one.
fn shape_fault(kind: PatchKind, patch: &Value) -> Option<String> {
    const OPERATION: &str = "handlers.jsonPatchOp";
    let (found, wanted) = match (kind, patch) {
        (PatchKind::Apply, _) | (_, Value::Null) => return None,
        (PatchKind::Json, Value::Array(operations)) => {
            let is_none = |operation: &&Value| !matches!(operation, Value::Object(_) | Value::Null);
            (operations.iter().find(is_none)?, OPERATION.to_owned())
        }
        (PatchKind::Json, other) => (other, format!("[]{OPERATION}")),
        (PatchKind::Merge | PatchKind::Strategic, Value::Object(_)) => return None,
        (PatchKind::Merge | PatchKind::Strategic, other) => (other, "map[string]interface {}".to_owned()),
    };
    let found = json_type(found);
    Some(format!("json: cannot unmarshal {found} into Go value of type {wanted}"))
}

/// The options of a delete: the body's where there is one, else the query's.
pub(crate) fn delete_options(headers: &HeaderMap, query: &Query, bytes: &[u8]) -> Result<DeleteOptions, Status> {
    if bytes.is_empty() {
        return query.delete_options();
    }
    let (object, _) = object(headers, bytes, "DeleteOptions", FieldValidation::Ignore)?;
    if !matches!(object.kind(), "" | "DeleteOptions") {
        let kind = object.kind();
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized: expected DeleteOptions, got {kind}"
        )));
    }
    let dry_run = object.array(&["dryRun"]).iter();
    let mut options = deletion(&Deletion {
        grace_period_seconds: object.i64(&["gracePeriodSeconds"]),
        propagation: object.str(&["propagationPolicy"]),
        orphan: object.bool(&["orphanDependents"]),
        dry_run: dry_run.map(|v| v.as_str().unwrap_or_default()).collect(),
    })?;
    let precondition = |field: &str| object.str(&["preconditions", field]).map(str::to_owned);
    options.uid = precondition("uid");
    options.resource_version = precondition("resourceVersion");
    Ok(options)
}

/// Why a body was not decoded.
enum Wrong {
    Unreadable(String),
    /// It is there, but not as strictly as the client wishes.
    Strict(Status),
}

fn json(bytes: &[u8], validation: FieldValidation) -> Result<Decoded, Wrong> {
    let (value, duplicates) = parse_json(bytes).map_err(|error| {
        Wrong::Unreadable(format!(
            "couldn't get version/kind; json parse error: {}",
            error.message
        ))
    })?;
    let warnings = duplicated(duplicates, validation)?;
    Ok(Decoded { value, warnings })
}

fn yaml(bytes: &[u8], validation: FieldValidation) -> Result<Decoded, Wrong> {
    let (value, duplicates) = parse_yaml(bytes).map_err(|e| Wrong::Unreadable(e.message))?;
    let warnings = duplicated(duplicates, validation)?;
    Ok(Decoded { value, warnings })
}

/// Fields that are there twice.
fn duplicated(paths: Vec<String>, validation: FieldValidation) -> Result<Vec<String>, Wrong> {
    let texts: Vec<String> = paths.iter().map(|path| format!("duplicate field {path:?}")).collect();
    match validation {
        FieldValidation::Strict if !texts.is_empty() => Err(Wrong::Strict(Status::bad_request(format!(
            "strict decoding error: {}",
            texts.join(", ")
        )))),
        FieldValidation::Warn => Ok(texts),
        _ => Ok(Vec::new()),
    }
}

fn from_protobuf(bytes: &[u8]) -> Result<Decoded, Wrong> {
    let object = protobuf::decode_object(bytes).map_err(|e| Wrong::Unreadable(e.to_string()))?;
    Ok(Decoded {
        value: object.into_value(),
        warnings: Vec::new(),
    })
}
