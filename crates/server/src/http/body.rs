//! Request bodies: read with a limit, decoded by their content type.

use bytes::Bytes;
use coracle_api::object::Object;
use coracle_api::protobuf;
use coracle_api::schema::parse::{ParseError, parse_json, parse_yaml};
use coracle_api::service::{DeleteOptions, FieldValidation, PatchKind};
use coracle_api::status::Status;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use super::query::{Query, by_orphan, propagation};

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

/// The object in a body.
pub(crate) fn object(
    headers: &HeaderMap,
    bytes: &[u8],
    validation: FieldValidation,
) -> Result<(Object, Vec<String>), Status> {
    let decoded = match media_type(headers).as_str() {
        "" | "application/json" => json(bytes, validation)?,
        "application/yaml" => yaml(bytes, validation)?,
        "application/vnd.kubernetes.protobuf" => from_protobuf(bytes)?,
        other => {
            return Err(Status::unsupported_media_type(format!(
                "the body of the request was in an unknown format ({other}) - accepted media types include: \
                 application/json, application/yaml, application/vnd.kubernetes.protobuf"
            )));
        }
    };
    let object = Object::from_value(decoded.value)
        .ok_or_else(|| Status::bad_request("the body of the request is not an object"))?;
    Ok((object, decoded.warnings))
}

/// The patch in a body.
pub(crate) fn patch(headers: &HeaderMap, bytes: &[u8]) -> Result<(PatchKind, Value), Status> {
    let kind = match media_type(headers).as_str() {
        "application/json-patch+json" => PatchKind::Json,
        "application/merge-patch+json" => PatchKind::Merge,
        "application/strategic-merge-patch+json" => PatchKind::Strategic,
        "application/apply-patch+yaml" => PatchKind::Apply,
        _ => {
            return Err(Status::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, \
                 application/apply-patch+yaml",
            ));
        }
    };
    let decoded = match kind {
        PatchKind::Apply => yaml(bytes, FieldValidation::Ignore)?,
        _ => json(bytes, FieldValidation::Ignore)?,
    };
    Ok((kind, decoded.value))
}

/// The options of a delete: the body's where there is one, else the query's.
pub(crate) fn delete_options(headers: &HeaderMap, query: &Query, bytes: &[u8]) -> Result<DeleteOptions, Status> {
    let mut options = query.delete_options()?;
    if bytes.is_empty() {
        return Ok(options);
    }
    let (object, _) = object(headers, bytes, FieldValidation::Ignore)?;
    if !matches!(object.kind(), "" | "DeleteOptions") {
        let kind = object.kind();
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized: expected DeleteOptions, got {kind}"
        )));
    }
    if let Some(grace) = object.i64(&["gracePeriodSeconds"]) {
        options.grace_period_seconds = Some(grace);
    }
    if let Some(text) = object.str(&["propagationPolicy"]).filter(|t| !t.is_empty()) {
        options.propagation = Some(propagation(text)?);
    } else if let Some(orphan) = object.bool(&["orphanDependents"]) {
        options.propagation = Some(by_orphan(orphan));
    }
    let precondition = |field: &str| object.str(&["preconditions", field]).map(str::to_owned);
    options.uid = precondition("uid");
    options.resource_version = precondition("resourceVersion");
    for value in object.array(&["dryRun"]) {
        if value.as_str() != Some("All") {
            use coracle_api::field::FieldErrorKind::NotSupported;
            let shown = value.as_str().unwrap_or_default();
            return Err(super::query::invalid(
                "DeleteOptions",
                NotSupported,
                "dryRun",
                shown,
                "supported values: \"All\"",
            ));
        }
        options.dry_run = true;
    }
    Ok(options)
}

fn json(bytes: &[u8], validation: FieldValidation) -> Result<Decoded, Status> {
    let (value, duplicates) = parse_json(bytes).map_err(|e| unreadable(&e))?;
    let warnings = duplicated(duplicates, validation)?;
    Ok(Decoded { value, warnings })
}

fn yaml(bytes: &[u8], validation: FieldValidation) -> Result<Decoded, Status> {
    let (value, duplicates) = parse_yaml(bytes).map_err(|e| unreadable(&e))?;
    let warnings = duplicated(duplicates, validation)?;
    Ok(Decoded { value, warnings })
}

fn unreadable(error: &ParseError) -> Status {
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type JSON, YAML or protobuf): {error}"
    ))
}

/// Fields that are there twice.
fn duplicated(paths: Vec<String>, validation: FieldValidation) -> Result<Vec<String>, Status> {
    let texts: Vec<String> = paths.iter().map(|path| format!("duplicate field {path:?}")).collect();
    match validation {
        FieldValidation::Strict if !texts.is_empty() => Err(Status::bad_request(format!(
            "strict decoding error: {}",
            texts.join(", ")
        ))),
        FieldValidation::Warn => Ok(texts),
        _ => Ok(Vec::new()),
    }
}

fn from_protobuf(bytes: &[u8]) -> Result<Decoded, Status> {
    let object = protobuf::decode_object(bytes)
        .map_err(|e| Status::bad_request(format!("the protobuf body of the request cannot be decoded: {e}")))?;
    Ok(Decoded {
        value: object.into_value(),
        warnings: Vec::new(),
    })
}
