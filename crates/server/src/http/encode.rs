//! Answers as bytes: objects and lists in the form that was negotiated, and Statuses.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use coracle_api::object::{Object, StoredObject};
use coracle_api::protobuf::{self, ListHead};
use coracle_api::resource::Resource;
use coracle_api::service::ObjectList;
use coracle_api::status::Status;
use coracle_clock::Timestamp;
use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderValue, RETRY_AFTER, VARY, WARNING};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::negotiate::{Format, Media, Shape};
use super::{Answer, JSON, PROTOBUF, plain, table};

/// Answers smaller than this are not worth compressing.
const GZIP_FROM: usize = 128 * 1024;

/// How an answer is to look.
pub(crate) struct Form<'a> {
    pub row: &'a Arc<Resource>,
    pub format: Format,
    pub table: table::Options,
    pub now: Timestamp,
    pub accepts_gzip: bool,
}

/// An object as JSON in the form's shape.
fn shaped(form: &Form<'_>, object: &Arc<StoredObject>) -> Result<Vec<u8>, Status> {
    Ok(match form.format.shape {
        Shape::Object => object.to_json(),
        Shape::Metadata => metadata_only(object)?,
        Shape::Table(version) => {
            let meta = json!({"resourceVersion": object.revision().to_string()});
            table::table(form, version, meta, std::slice::from_ref(object), true)?
        }
    })
}

pub(crate) fn object(form: &Form<'_>, object: &Arc<StoredObject>, code: u16) -> Result<Answer, Status> {
    finish(form, code, shaped(form, object)?)
}

pub(crate) fn list(form: &Form<'_>, list: &ObjectList) -> Result<Answer, Status> {
    let mut meta = serde_json::Map::new();
    meta.insert("resourceVersion".into(), list.revision.to_string().into());
    if !list.continue_token.is_empty() {
        meta.insert("continue".into(), list.continue_token.clone().into());
    }
    if let Some(remaining) = list.remaining {
        meta.insert("remainingItemCount".into(), remaining.into());
    }
    if let Shape::Table(version) = form.format.shape {
        let table = table::table(form, version, Value::Object(meta), &list.items, true)?;
        return finish(form, 200, table);
    }
    let (kind, api_version) = match form.format.shape {
        Shape::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
        _ => (form.row.list_kind.to_string(), form.row.api_version()),
    };
    let size: usize = list.items.iter().map(|o| o.raw().len() + 48).sum();
    let mut out = Vec::with_capacity(size + 256);
    // Writing to a vector does not fail.
    let _ = write!(
        out,
        "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{},\"items\":[",
        Value::from(kind),
        Value::from(api_version),
        Value::Object(meta)
    );
    for (i, object) in list.items.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        match form.format.shape {
            Shape::Metadata => out.extend(metadata_only(object)?),
            _ => object.write_json(&mut out),
        }
    }
    out.extend_from_slice(b"]}\n");
    finish(form, 200, out)
}

fn finish(form: &Form<'_>, code: u16, json: Vec<u8>) -> Result<Answer, Status> {
    let (content_type, bytes) = encoded(form.format, json)?;
    let compress = form.accepts_gzip && bytes.len() >= GZIP_FROM;
    let bytes = if compress { gzip(&bytes) } else { bytes };
    let mut answer = plain(code, content_type, bytes);
    if compress {
        answer
            .headers_mut()
            .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        answer
            .headers_mut()
            .insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    Ok(answer)
}

/// What is JSON in the format's media type, and how that is called.
fn encoded(format: Format, json: Vec<u8>) -> Result<(&'static str, Bytes), Status> {
    let broken = |e: String| Status::internal(format!("the answer could not be encoded: {e}"));
    let value = |json: &[u8]| serde_json::from_slice::<Value>(json).map_err(|e| broken(e.to_string()));
    Ok(match format.media {
        Media::Json if format.pretty => {
            let pretty = serde_json::to_vec_pretty(&value(&json)?).map_err(|e| broken(e.to_string()))?;
            (JSON, pretty.into())
        }
        Media::Json => (JSON, json.into()),
        Media::Yaml => {
            let yaml = serde_saphyr::to_string(&value(&json)?).map_err(|e| broken(e.to_string()))?;
            ("application/yaml", yaml.into())
        }
        Media::Protobuf => (PROTOBUF, to_protobuf(&json)?),
    })
}

/// An object or list as Kubernetes' protobuf envelope.
fn to_protobuf(json: &[u8]) -> Result<Bytes, Status> {
    let refused = || Status::not_acceptable("this kind has no protobuf form: accept application/json");
    let object: Object = serde_json::from_slice(json).map_err(|_| refused())?;
    let Some(items) = object
        .0
        .get("items")
        .and_then(Value::as_array)
        .filter(|_| object.kind().ends_with("List"))
    else {
        return protobuf::encode_object(&object).map(Bytes::from).ok_or_else(refused);
    };
    let head = ListHead {
        resource_version: object.resource_version().to_owned(),
        continue_token: object.str(&["metadata", "continue"]).unwrap_or_default().to_owned(),
        remaining: object
            .i64(&["metadata", "remainingItemCount"])
            .and_then(|n| u64::try_from(n).ok()),
    };
    let mut messages = Vec::with_capacity(items.len());
    for item in items {
        let item = Object::from_value(item.clone()).ok_or_else(refused)?;
        let enveloped = protobuf::encode_object(&item).ok_or_else(refused)?;
        messages.push(protobuf::unwrap(&enveloped).map_err(|_| refused())?.raw.to_vec());
    }
    let bytes = protobuf::encode_list(
        object.api_version(),
        object.kind(),
        &head,
        messages.iter().map(Vec::as_slice),
    );
    Ok(bytes.into())
}

fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(bytes.len() / 6), flate2::Compression::fast());
    // Writing to a vector does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default().into()
}

pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let text = headers
        .get(ACCEPT_ENCODING)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    text.split(',').any(|e| {
        let mut parts = e.split(';').map(str::trim);
        parts.next() == Some("gzip") && !parts.any(|p| p == "q=0")
    })
}

#[derive(Deserialize)]
struct JustMetadata<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

/// An object's metadata as a PartialObjectMetadata.
pub(crate) fn metadata_only(object: &StoredObject) -> Result<Vec<u8>, Status> {
    let json = object.to_json();
    let just: JustMetadata<'_> = serde_json::from_slice(&json).map_err(|e| Status::internal(e.to_string()))?;
    let mut out = Vec::with_capacity(just.metadata.get().len() + 80);
    out.extend_from_slice(b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":");
    out.extend_from_slice(just.metadata.get().as_bytes());
    out.push(b'}');
    Ok(out)
}

/// A Status as an object.
pub(crate) fn status_value(status: &Status) -> Value {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    if let Value::Object(map) = &mut value {
        map.insert("kind".into(), "Status".into());
        map.insert("apiVersion".into(), "v1".into());
        let mut meta = serde_json::Map::new();
        if !status.continue_token.is_empty() {
            meta.insert("continue".into(), status.continue_token.clone().into());
        }
        map.insert("metadata".into(), meta.into());
        for empty in ["message", "reason"] {
            if map.get(empty).and_then(Value::as_str) == Some("") {
                map.remove(empty);
            }
        }
        if status.status == "Success" && status.code == 200 {
            map.remove("code");
        }
    }
    value
}

/// A Status as the answer: every error, and what succeeded without an object to show.
pub(crate) fn status(status: &Status, format: Format) -> Answer {
    let code = if status.code == 0 { 500 } else { status.code };
    let json = status_value(status);
    let mut answer = match encoded(format, json.to_string().into_bytes()) {
        Ok((content_type, bytes)) => plain(code, content_type, bytes),
        Err(_) => super::json(code, &json),
    };
    let retry = status.details.as_ref().and_then(|d| d.retry_after_seconds);
    if let Some(seconds) = retry.filter(|s| *s > 0) {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

/// `Warning: 299 - "text"`, one header each.
pub(crate) fn add_warnings(answer: &mut Answer, warnings: &[String]) {
    const MOST: usize = 4096;
    let mut left = MOST;
    for (i, warning) in warnings.iter().enumerate() {
        if warnings.iter().take(i).any(|w| w == warning) {
            continue;
        }
        let mut text = String::with_capacity(warning.len() + 12);
        for c in warning.chars() {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                c if c.is_control() => text.push(' '),
                c => text.push(c),
            }
        }
        if text.len() > left {
            break;
        }
        left -= text.len();
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{text}\"").as_bytes()) {
            answer.headers_mut().append(WARNING, value);
        }
    }
}
