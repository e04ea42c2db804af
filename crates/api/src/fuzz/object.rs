//! Objects as bytes: JSON, YAML, protobuf, and from one to the other.

use serde_json::Value;

use super::row_of;
use crate::object::Object;
use crate::patch::fields::FieldSet;
use crate::protobuf::{decode_object, decode_watch_event, encode_object, encode_watch_frame};
use crate::schema::decode::{self, Mode};
use crate::schema::parse::{parse_json, parse_yaml};

/// A JSON body.
pub fn json(bytes: &[u8]) {
    let fault = crate::schema::syntax::fault(bytes);
    if let Ok((value, _)) = parse_json(bytes) {
        assert_eq!(fault, None);
        reads_back(&value);
        settles(value);
    }
}

/// A YAML body.
pub fn yaml(bytes: &[u8]) {
    if let Ok((value, _)) = parse_yaml(bytes) {
        reads_back(&value);
    }
}

fn reads_back(value: &Value) {
    let text = value.to_string();
    let again = parse_json(text.as_bytes());
    assert_eq!(again, Ok((value.clone(), Vec::new())), "{text}");
}

/// Decoding brings an object into its form, and what has its form keeps it.
fn settles(value: Value) {
    let Some(object) = Object::from_value(value) else {
        return;
    };
    let Some(row) = row_of(&object) else { return };
    let mut once = object.into_value();
    for mode in [Mode::Partial, Mode::Whole] {
        if decode::decode(&mut once, row.schema(), mode).is_err() {
            return;
        }
        let mut twice = once.clone();
        let settled = decode::decode(&mut twice, row.schema(), mode);
        assert_eq!(settled, Ok(Default::default()));
        assert_eq!(once, twice);
    }
}

/// A protobuf body, envelope included.
pub fn protobuf(bytes: &[u8]) {
    let Ok(object) = decode_object(bytes) else { return };
    if let Some(bytes) = encode_object(&object) {
        assert_eq!(decode_object(&bytes), Ok(object));
    }
}

/// A JSON object of a known kind, to protobuf and back.
pub fn transcode(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some((object, row)) = super::decoded(text, Mode::Whole) else {
        return;
    };
    if !row.protobuf {
        return;
    }
    let Some(bytes) = encode_object(&object) else { return };
    let back = decode_object(&bytes);
    assert!(back.is_ok(), "{back:?} of {object:?}");
    let mut value = back.unwrap_or_default().into_value();
    let settled = decode::decode(&mut value, row.schema(), Mode::Whole);
    assert_eq!(settled, Ok(Default::default()));
    assert_eq!(value, object.into_value());
}

/// A frame of a protobuf watch.
pub fn watch_event(bytes: &[u8]) {
    let Ok((kind, object)) = decode_watch_event(bytes) else {
        return;
    };
    if let Some(enveloped) = encode_object(&object) {
        let frame = encode_watch_frame(&kind, &enveloped);
        assert_eq!(decode_watch_event(&frame[4..]), Ok((kind, object)));
    }
}

/// `fieldsV1` of an entry of managed fields.
pub fn managed_fields(bytes: &[u8]) {
    let Ok((Value::Object(fields), _)) = parse_json(bytes) else {
        return;
    };
    if let Ok(set) = FieldSet::from_json(&fields) {
        // That the whole object is owned is read and never written.
        let written = set.to_json();
        let again = FieldSet::from_json(&written).map(|set| set.to_json());
        assert_eq!(again, Ok(written));
    }
}
