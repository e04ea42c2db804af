//! Objects: decoded ([`Object`]) and as one stored revision ([`StoredObject`]).
//!
//! Nothing here knows a kind; what a kind means is its strategy's.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// An object as decoded JSON: a map that has (or will have) `apiVersion`, `kind` and `metadata`.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Object(pub Map<String, Value>);

impl Object {
    /// The value's map, if it is one.
    pub fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Object(map) => Some(Self(map)),
            _ => None,
        }
    }

    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    /// What is at `path`, unless it is absent or null.
    pub fn get(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        let mut value = self.0.get(*first)?;
        for step in rest {
            value = value.as_object()?.get(*step)?;
        }
        (!value.is_null()).then_some(value)
    }

    pub fn get_mut(&mut self, path: &[&str]) -> Option<&mut Value> {
        let (first, rest) = path.split_first()?;
        let mut value = self.0.get_mut(*first)?;
        for step in rest {
            value = value.as_object_mut()?.get_mut(*step)?;
        }
        (!value.is_null()).then_some(value)
    }

    pub fn str(&self, path: &[&str]) -> Option<&str> {
        self.get(path)?.as_str()
    }

    pub fn i64(&self, path: &[&str]) -> Option<i64> {
        self.get(path)?.as_i64()
    }

    pub fn bool(&self, path: &[&str]) -> Option<bool> {
        self.get(path)?.as_bool()
    }

    pub fn array(&self, path: &[&str]) -> &[Value] {
        self.get(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Sets the value at `path`, making (or replacing by) maps on the way.
    pub fn set(&mut self, path: &[&str], value: impl Into<Value>) {
        let Some((last, parents)) = path.split_last() else {
            return;
        };
        let mut map = &mut self.0;
        for step in parents {
            let slot = map.entry(*step).or_insert_with(|| Value::Object(Map::new()));
            if !slot.is_object() {
                *slot = Value::Object(Map::new());
            }
            match slot {
                Value::Object(inner) => map = inner,
                _ => return,
            }
        }
        map.insert((*last).to_owned(), value.into());
    }

    /// Takes away what is at `path`; maps left empty on the way stay.
    pub fn remove(&mut self, path: &[&str]) -> Option<Value> {
        let (last, parents) = path.split_last()?;
        let mut map = &mut self.0;
        for step in parents {
            map = map.get_mut(*step)?.as_object_mut()?;
        }
        map.remove(*last)
    }

    pub fn api_version(&self) -> &str {
        self.str(&["apiVersion"]).unwrap_or_default()
    }

    pub fn kind(&self) -> &str {
        self.str(&["kind"]).unwrap_or_default()
    }

    pub fn name(&self) -> &str {
        self.str(&["metadata", "name"]).unwrap_or_default()
    }

    pub fn namespace(&self) -> &str {
        self.str(&["metadata", "namespace"]).unwrap_or_default()
    }

    pub fn uid(&self) -> &str {
        self.str(&["metadata", "uid"]).unwrap_or_default()
    }

    /// The resourceVersion as the client wrote it; empty when absent.
    pub fn resource_version(&self) -> &str {
        self.str(&["metadata", "resourceVersion"]).unwrap_or_default()
    }

    pub fn generation(&self) -> i64 {
        self.i64(&["metadata", "generation"]).unwrap_or_default()
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.get(&["metadata", "labels"])?.get(key)?.as_str()
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.get(&["metadata", "annotations"])?.get(key)?.as_str()
    }

    pub fn finalizers(&self) -> impl Iterator<Item = &str> {
        self.array(&["metadata", "finalizers"]).iter().filter_map(Value::as_str)
    }

    /// Whether deletion was asked for (`metadata.deletionTimestamp` is set).
    pub fn is_terminating(&self) -> bool {
        self.get(&["metadata", "deletionTimestamp"]).is_some()
    }
}

/// What is needed of an object's metadata to find and select it without decoding it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub uid: Box<str>,
    /// Sorted by key.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    pub terminating: bool,
}

impl Head {
    pub fn label(&self, key: &str) -> Option<&str> {
        let at = self.labels.binary_search_by(|(k, _)| k.as_ref().cmp(key)).ok()?;
        Some(&self.labels[at].1)
    }
}

/// One revision of one object: its JSON bytes, shared by all who read it, and its typed form, decoded at most once while
/// the revision is news ([`forget_typed`](Self::forget_typed)).
///
/// The bytes do not contain `metadata.resourceVersion`: the store assigns the revision at commit, and every reader
/// splices it in ([`write_json`](Self::write_json)).
pub struct StoredObject {
    raw: Bytes,
    /// Offset just behind the `{` of `metadata`.
    splice: usize,
    revision: u64,
    head: Head,
    typed: Mutex<Typed>,
}

/// The typed form of a stored object, several times as large as its bytes.
enum Typed {
    Undecoded,
    Decoded(Arc<dyn Any + Send + Sync>),
    /// Whoever wants it decodes it for himself.
    NotKept,
}

/// Bytes that do not hold an object with metadata.
#[derive(Debug, thiserror::Error)]
#[error("not an object with metadata: {0}")]
pub struct NotAnObject(String);

#[derive(Deserialize)]
struct Skim<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SkimMeta {
    #[serde(default)]
    name: Option<Box<str>>,
    #[serde(default)]
    namespace: Option<Box<str>>,
    #[serde(default)]
    uid: Option<Box<str>>,
    #[serde(default)]
    labels: Option<std::collections::BTreeMap<Box<str>, Box<str>>>,
    #[serde(default)]
    deletion_timestamp: Option<IgnoredAny>,
}

impl StoredObject {
    /// From stored bytes (without resourceVersion) and the revision that wrote them.
    pub fn from_bytes(raw: Bytes, revision: u64) -> Result<Self, NotAnObject> {
        let skim: Skim<'_> = serde_json::from_slice(&raw).map_err(|e| NotAnObject(e.to_string()))?;
        let text = skim.metadata.get();
        if !text.starts_with('{') {
            return Err(NotAnObject("metadata is not an object".into()));
        }
        // Both pointers are into `raw`; the difference is the offset of metadata's `{`.
        let splice = text.as_ptr() as usize - raw.as_ptr() as usize + 1;
        let meta: SkimMeta = serde_json::from_str(text).map_err(|e| NotAnObject(e.to_string()))?;
        let head = Head {
            namespace: meta.namespace.unwrap_or_default(),
            name: meta.name.unwrap_or_default(),
            uid: meta.uid.unwrap_or_default(),
            labels: meta.labels.map(|l| l.into_iter().collect()).unwrap_or_default(),
            terminating: meta.deletion_timestamp.is_some(),
        };
        Ok(Self {
            raw,
            splice,
            revision,
            head,
            typed: Mutex::new(Typed::Undecoded),
        })
    }

    /// From an object in memory; its resourceVersion, if any, becomes the revision.
    pub fn from_object(mut object: Object) -> Result<Self, NotAnObject> {
        let revision = object
            .remove(&["metadata", "resourceVersion"])
            .and_then(|v| v.as_str()?.parse().ok());
        if object.get(&["metadata"]).is_none() {
            object.set(&["metadata"], Map::new());
        }
        let raw = serde_json::to_vec(&object).map_err(|e| NotAnObject(e.to_string()))?;
        Self::from_bytes(raw.into(), revision.unwrap_or(0))
    }

    /// The bytes as the store keeps them.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Appends the object as clients see it.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        if self.revision == 0 {
            out.extend_from_slice(&self.raw);
            return;
        }
        out.reserve(self.raw.len() + 48);
        out.extend_from_slice(&self.raw[..self.splice]);
        out.extend_from_slice(b"\"resourceVersion\":\"");
        out.extend_from_slice(self.revision.to_string().as_bytes());
        let empty = self.raw[self.splice..].iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'}');
        out.extend_from_slice(if empty { b"\"" } else { b"\"," });
        out.extend_from_slice(&self.raw[self.splice..]);
    }

    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_json(&mut out);
        out
    }

    /// The object decoded afresh, with its resourceVersion.
    pub fn to_object(&self) -> Object {
        // The bytes were JSON when this was built; a map is what they are.
        let mut object: Object = serde_json::from_slice(&self.raw).unwrap_or_default();
        if self.revision != 0 {
            object.set(&["metadata", "resourceVersion"], self.revision.to_string());
        }
        object
    }

    /// The typed form, decoded the first time and then shared. One revision is meant to be read as one type; another
    /// type is decoded without being kept.
    pub fn typed<K: DeserializeOwned + Send + Sync + 'static>(&self) -> Result<Arc<K>, serde_json::Error> {
        let kept = match &*self.typed.lock() {
            Typed::Decoded(kept) => kept.clone().downcast::<K>().ok(),
            Typed::Undecoded | Typed::NotKept => None,
        };
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let decoded = Arc::new(serde_json::from_slice::<K>(&self.to_json())?);
        let mut typed = self.typed.lock();
        if let Typed::Undecoded = *typed {
            *typed = Typed::Decoded(decoded.clone());
        }
        Ok(decoded)
    }

    /// Lets go of the typed form, now and for good: for a revision that is kept for its bytes alone. Those who have it
    /// keep it.
    pub fn forget_typed(&self) {
        *self.typed.lock() = Typed::NotKept;
    }
}

impl fmt::Debug for StoredObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "StoredObject({}/{}@{})",
            self.head.namespace, self.head.name, self.revision
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_stored_object_splices_its_revision_into_its_bytes() {
        let object =
            Object::from_value(json!({"kind": "Pod", "metadata": {"name": "a", "labels": {"b": "c"}}})).unwrap();
        let stored = StoredObject::from_bytes(serde_json::to_vec(&object).unwrap().into(), 7).unwrap();
        assert_eq!(stored.head().label("b"), Some("c"));
        let back: Value = serde_json::from_slice(&stored.to_json()).unwrap();
        assert_eq!(back["metadata"]["resourceVersion"], "7");
        assert_eq!(stored.to_object().into_value(), back);
        assert_eq!(StoredObject::from_object(stored.to_object()).unwrap().revision(), 7);
    }

    #[test]
    fn empty_metadata_takes_a_revision_too() {
        let stored = StoredObject::from_bytes(Bytes::from_static(b"{\"metadata\":{ }}"), 3).unwrap();
        assert_eq!(stored.to_json(), b"{\"metadata\":{\"resourceVersion\":\"3\" }}");
    }

    #[test]
    fn the_typed_form_is_decoded_once() {
        let stored = StoredObject::from_bytes(Bytes::from_static(b"{\"metadata\":{\"name\":\"a\"}}"), 3).unwrap();
        let first = stored.typed::<k8s_openapi::api::core::v1::Pod>().unwrap();
        let second = stored.typed::<k8s_openapi::api::core::v1::Pod>().unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        stored.forget_typed();
        let third = stored.typed::<k8s_openapi::api::core::v1::Pod>().unwrap();
        assert!(!Arc::ptr_eq(&first, &third) && *first == *third);
        assert_eq!(Arc::strong_count(&third), 1);
        assert_eq!(first.metadata.resource_version.as_deref(), Some("3"));
    }
}
