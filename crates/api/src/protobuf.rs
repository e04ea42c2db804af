//! The protobuf form of built-in objects: one transcoder between JSON values and the wire, driven by the type table.
//!
//! A body is an envelope (`k8s\0`, then `runtime.Unknown` with apiVersion and kind) around the object's message; a watch
//! is length-delimited `WatchEvent` messages, each with an envelope inside. Custom resources have no protobuf form.

mod decode;
mod encode;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

use serde_json::Value;

use crate::object::Object;
use crate::resource::split_api_version;
use crate::schema::parse::parse_json;
use crate::schema::{NodeId, Schema, built_in};

pub use decode::decode;
pub use encode::encode;
use wire::{Reader, Writer};

pub const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// Of a watch.
pub const STREAM_CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";

const MAGIC: &[u8] = b"k8s\0";

/// Bytes that are not the message they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    #[error("the provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoPrefix,
    #[error("unexpected end of the message")]
    UnexpectedEnd,
    #[error("a variable-length number of more than 64 bits")]
    Overflow,
    #[error("illegal field number or wire type {0}")]
    IllegalTag(u64),
    #[error("wrong wire type {found} for field {field}")]
    WrongType { field: String, found: u8 },
    #[error("field {field}: {why}")]
    Malformed { field: String, why: String },
    #[error("messages are nested too deep")]
    TooDeep,
    #[error("no protobuf form of {kind:?} in {api_version:?} is known: send JSON")]
    UnknownKind { api_version: String, kind: String },
    #[error("content of type {0:?} within protobuf is not understood: send protobuf or JSON")]
    UnknownContent(String),
}

/// What an envelope holds: `runtime.Unknown`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub api_version: String,
    pub kind: String,
    pub raw: &'a [u8],
    pub content_encoding: String,
    /// Empty for protobuf.
    pub content_type: String,
}

/// Puts an object's message into its envelope.
pub fn wrap(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let mut out = Writer::with_capacity(message.len() + api_version.len() + kind.len() + 32);
    out.raw(MAGIC);
    out.nested(1, |out| {
        out.bytes(1, api_version.as_bytes());
        out.bytes(2, kind.as_bytes());
    });
    out.bytes(2, message);
    out.bytes(3, b"");
    out.bytes(4, b"");
    out.finish()
}

/// Takes an envelope apart without looking into the message.
pub fn unwrap(bytes: &[u8]) -> Result<Envelope<'_>, ProtobufError> {
    let mut reader = Reader::new(bytes.strip_prefix(MAGIC).ok_or(ProtobufError::NoPrefix)?);
    let mut envelope = Envelope::default();
    while let Some(field) = reader.field()? {
        match field.number {
            1 => {
                let mut meta = Reader::new(field.bytes("typeMeta")?);
                while let Some(field) = meta.field()? {
                    match field.number {
                        1 => envelope.api_version = field.string("apiVersion")?,
                        2 => envelope.kind = field.string("kind")?,
                        _ => {}
                    }
                }
            }
            2 => envelope.raw = field.bytes("raw")?,
            3 => envelope.content_encoding = field.string("contentEncoding")?,
            4 => envelope.content_type = field.string("contentType")?,
            _ => {}
        }
    }
    Ok(envelope)
}

/// The type that travels as this kind. The kinds of meta/v1 (`DeleteOptions`, `Status`...) travel under any version.
pub fn type_of(api_version: &str, kind: &str) -> Option<NodeId> {
    let (group, version) = split_api_version(api_version);
    built_in().kind_node(group, version, kind).or_else(|| match kind {
        "DeleteOptions" | "Status" | "WatchEvent" | "PartialObjectMetadata" | "PartialObjectMetadataList" => {
            built_in().type_node(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"))
        }
        _ => None,
    })
}

/// A whole body: the object in its envelope. `None` when its kind has no protobuf form.
pub fn encode_object(object: &Object) -> Option<Vec<u8>> {
    let node = type_of(object.api_version(), object.kind())?;
    let message = encode_map(object, built_in().at(node));
    Some(wrap(object.api_version(), object.kind(), &message))
}

fn encode_map(object: &Object, schema: Schema<'_>) -> Vec<u8> {
    let mut out = Writer::default();
    if let Some(shape) = schema.object() {
        encode::object(&mut out, &object.0, shape, schema);
    }
    out.finish()
}

/// A body's object, with the apiVersion and kind of its envelope.
pub fn decode_object(bytes: &[u8]) -> Result<Object, ProtobufError> {
    decode::enveloped(bytes, 0)
}

/// What is said once for a whole list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListHead {
    pub resource_version: String,
    pub continue_token: String,
    pub remaining: Option<u64>,
}

/// A list body from the messages of its items (without envelopes).
pub fn encode_list<'a>(
    api_version: &str,
    list_kind: &str,
    head: &ListHead,
    items: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let mut list = Writer::default();
    list.nested(1, |out| {
        out.bytes(1, b"");
        out.bytes(2, head.resource_version.as_bytes());
        out.bytes(3, head.continue_token.as_bytes());
        if let Some(remaining) = head.remaining {
            out.varint_field(4, remaining);
        }
    });
    for item in items {
        list.bytes(2, item);
    }
    wrap(api_version, list_kind, &list.finish())
}

/// One frame of a watch: the event's type (`ADDED`...) and its object in its envelope.
pub fn encode_watch_frame(event: &str, enveloped: &[u8]) -> Vec<u8> {
    let mut out = Writer::with_capacity(enveloped.len() + event.len() + 24);
    out.raw(&[0; 4]);
    out.bytes(1, event.as_bytes());
    out.nested(2, |out| out.bytes(1, enveloped));
    let mut frame = out.finish();
    let length = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

/// One event of a watch, without the length before it: its type and its object.
pub fn decode_watch_event(frame: &[u8]) -> Result<(String, Object), ProtobufError> {
    let mut reader = Reader::new(frame);
    let (mut event, mut object) = (String::new(), None);
    while let Some(field) = reader.field()? {
        match field.number {
            1 => event = field.string("type")?,
            2 => {
                let mut raw = Reader::new(field.bytes("object")?);
                while let Some(field) = raw.field()? {
                    if field.number == 1 {
                        object = Some(decode_object(field.bytes("object.raw")?)?);
                    }
                }
            }
            _ => {}
        }
    }
    Ok((event, object.ok_or(ProtobufError::UnexpectedEnd)?))
}

/// JSON that travels inside protobuf.
fn parse_raw(bytes: &[u8], field: &str) -> Result<Value, ProtobufError> {
    parse_json(bytes)
        .map(|(value, _)| value)
        .map_err(|error| ProtobufError::Malformed {
            field: field.to_owned(),
            why: error.message,
        })
}
