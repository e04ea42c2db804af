//! From the text of one object to a [`StoredObject`]: its resourceVersion is cut out of the bytes and becomes the revision.

use std::fmt::Write;

use coracle_api::object::{NotAnObject, Object, StoredObject};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Skim<'a> {
    #[serde(borrow, default)]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SkimMeta<'a> {
    #[serde(borrow, default)]
    resource_version: Option<&'a RawValue>,
}

#[derive(Debug, thiserror::Error)]
pub enum BadObject {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Object(#[from] NotAnObject),
}

/// The object in `text`; `of` is the apiVersion and kind it gets if it has none.
pub fn from_text(text: &str, of: Option<(&str, &str)>) -> Result<StoredObject, BadObject> {
    let text = text.trim_start();
    let skim: Skim<'_> = serde_json::from_str(text)?;
    let Some(metadata) = skim.metadata.filter(|m| m.get().starts_with('{')) else {
        return whole(text);
    };
    let meta: SkimMeta<'_> = serde_json::from_str(metadata.get())?;
    let mut revision = 0;
    let mut cut = 0..0;
    if let Some(version) = meta.resource_version
        && let Ok(number) = version.get().trim_matches('"').parse()
    {
        let start = offset(text, version.get());
        match member(text, start, start + version.get().len()) {
            Some(member) => (revision, cut) = (number, member),
            // Written in a way that no encoder writes: take the long road.
            None => return whole(text),
        }
    }
    let mut out = String::with_capacity(text.len() + 64);
    let mut from = 0;
    if let Some((api_version, kind)) = of
        && skim.kind.is_none()
    {
        let _ = write!(out, r#"{{"apiVersion":"{api_version}","kind":"{kind}","#);
        from = 1;
    }
    out.push_str(&text[from..cut.start.max(from)]);
    out.push_str(&text[cut.end.max(from)..]);
    Ok(StoredObject::from_bytes(out.into_bytes().into(), revision)?)
}

fn whole(text: &str) -> Result<StoredObject, BadObject> {
    let object: Object = serde_json::from_str(text)?;
    Ok(StoredObject::from_object(object)?)
}

/// Where `part`, which was borrowed from `text`, starts in it.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr() as usize - text.as_ptr() as usize
}

/// The range of `"resourceVersion": <value>` with one comma, given the value's.
fn member(text: &str, value: usize, end: usize) -> Option<std::ops::Range<usize>> {
    let before = text[..value].trim_end().strip_suffix(':')?.trim_end();
    let start = before.strip_suffix("\"resourceVersion\"")?.len();
    let after = text[end..].trim_start();
    if after.starts_with(',') {
        return Some(start..text.len() - after.len() + 1);
    }
    // The last member: the comma before it goes, if there is one.
    let lead = text[..start].trim_end();
    let start = lead.strip_suffix(',').map_or(start, str::len);
    Some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn the_resource_version_is_cut_out_wherever_it_stands() {
        for text in [
            r#"{"kind":"Pod","metadata":{"resourceVersion":"7","name":"a"}}"#,
            r#"{"kind":"Pod","metadata":{"name":"a","resourceVersion":"7"}}"#,
            r#"{"kind":"Pod","metadata":{"name":"a", "resourceVersion" : "7" , "uid":"u"}}"#,
            r#"{"kind":"Pod","metadata":{ "resourceVersion":"7" }}"#,
            r#" { "metadata":{"a\"resourceVersion":"8","resourceVersion":"7"}, "kind":"Pod" }"#,
            r#"{"kind":"Pod","metadata":{"resource\u0056ersion":"7"}}"#,
        ] {
            let stored = from_text(text, None).unwrap();
            assert_eq!(stored.revision(), 7, "{text}");
            let raw: Value = serde_json::from_slice(stored.raw()).unwrap();
            assert_eq!(raw["metadata"].get("resourceVersion"), None, "{text}");
            let seen: Value = serde_json::from_slice(&stored.to_json()).unwrap();
            assert_eq!(seen, serde_json::from_str::<Value>(text).unwrap(), "{text}");
        }
    }

    #[test]
    fn a_version_that_is_no_number_stays_in_the_bytes() {
        let stored = from_text(r#"{"metadata":{"resourceVersion":"opaque"}}"#, None).unwrap();
        assert_eq!(stored.to_object().resource_version(), "opaque");
    }

    #[test]
    fn an_object_without_metadata_gets_an_empty_one() {
        let stored = from_text(r#"{"kind":"TokenReview","metadata":null,"status":{}}"#, None).unwrap();
        assert_eq!(stored.to_object().into_value()["metadata"], json!({}));
    }
}
