//! Objects: decoded ([`Object`]) and as one stored revision ([`StoredObject`]).
//!
//! Nothing here knows a kind; what a kind means is its strategy's.

mod fitted;

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Weak};

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

/// One revision of one object: its JSON bytes, shared by all who read it, and its typed form, decoded once
/// for all who have it at the same time.
///
/// The bytes do not contain `metadata.resourceVersion`: the store assigns the revision at commit, and every reader
/// splices it in ([`write_json`](Self::write_json)).
pub struct StoredObject {
    raw: Bytes,
    /// Offset just behind the `{` of `metadata`.
    splice: usize,
    /// Where the value of `metadata.managedFields` is; empty if there is none.
    managed: Range<usize>,
    revision: u64,
    head: Head,
    typed: Mutex<Option<Typed>>,
}

/// The typed form of a stored object, several times as large as its bytes: whoever reads it keeps it, not the object.
type Typed = Weak<dyn Any + Send + Sync>;

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
struct SkimMeta<'a> {
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
    #[serde(default, borrow)]
    managed_fields: Option<&'a RawValue>,
}

impl StoredObject {
    /// From stored bytes (without resourceVersion) and the revision that wrote them.
    pub fn from_bytes(raw: Bytes, revision: u64) -> Result<Self, NotAnObject> {
        let skim: Skim<'_> = serde_json::from_slice(&raw).map_err(|e| NotAnObject(e.to_string()))?;
        let text = skim.metadata.get();
        if !text.starts_with('{') {
            return Err(NotAnObject("metadata is not an object".into()));
        }
        // Both pointers are into `raw`; their difference is an offset.
        let offset = |part: &str| part.as_ptr() as usize - raw.as_ptr() as usize;
        let splice = offset(text) + 1;
        let meta: SkimMeta<'_> = serde_json::from_str(text).map_err(|e| NotAnObject(e.to_string()))?;
        let head = Head {
            namespace: meta.namespace.unwrap_or_default(),
            name: meta.name.unwrap_or_default(),
            uid: meta.uid.unwrap_or_default(),
            labels: meta.labels.map(|l| l.into_iter().collect()).unwrap_or_default(),
            terminating: meta.deletion_timestamp.is_some(),
        };
        let managed = meta.managed_fields.map_or(0..0, |fields| {
            let start = offset(fields.get());
            start..start + fields.get().len()
        });
        Ok(Self {
            raw,
            splice,
            managed,
            revision,
            head,
            typed: Mutex::new(None),
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
        out.reserve(self.raw.len() + 48);
        self.write_head(out);
        out.extend_from_slice(&self.raw[self.splice..]);
    }

    /// Appends the bytes up to what stands in metadata, with the resourceVersion.
    fn write_head(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.raw[..self.splice]);
        self.write_version(out);
    }

    /// Appends the resourceVersion, as the first of what stands in metadata.
    fn write_version(&self, out: &mut Vec<u8>) {
        if self.revision == 0 {
            return;
        }
        out.extend_from_slice(b"\"resourceVersion\":\"");
        out.extend_from_slice(self.revision.to_string().as_bytes());
        let empty = self.raw[self.splice..].iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'}');
        out.extend_from_slice(if empty { b"\"" } else { b"\"," });
    }

    /// The object as clients see it, but for its managedFields.
    fn to_json_unmanaged(&self) -> Vec<u8> {
        if self.managed.is_empty() {
            return self.to_json();
        }
        let mut out = Vec::with_capacity(self.raw.len() - self.managed.len() + 48);
        self.write_head(&mut out);
        out.extend_from_slice(&self.raw[self.splice..self.managed.start]);
        out.extend_from_slice(b"null");
        out.extend_from_slice(&self.raw[self.managed.end..]);
        out
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

    /// The object decoded afresh, but for its managedFields, for those who read and do not write.
    pub fn to_object_unmanaged(&self) -> Object {
        serde_json::from_slice(&self.to_json_unmanaged()).unwrap_or_default()
    }

    /// The typed form, decoded if nobody has it at the moment and shared with those who do: ten informers that follow a kind
    /// hold one copy, and once they have let go of a revision nothing is left of it. One revision is meant to be read as
    /// one type; another type is decoded without being shared.
    ///
    /// It has no managedFields: they are the server's book of who owns what, and decoded they are several times as large as
    /// all the rest of an object. An update that does not send them changes none.
    pub fn typed<K: DeserializeOwned + Send + Sync + 'static>(&self) -> Result<Arc<K>, serde_json::Error> {
        let shared = || self.typed.lock().as_ref()?.upgrade();
        if let Some(known) = shared() {
            if let Ok(known) = known.downcast::<K>() {
                return Ok(known);
            }
            return self.decode_unmanaged().map(Arc::new);
        }
        let mut decoded: K = self.decode_unmanaged()?;
        fitted::fit(&mut decoded);
        let decoded = Arc::new(decoded);
        let mut typed = self.typed.lock();
        if let Some(known) = typed.as_ref().and_then(Weak::upgrade) {
            // Somebody else was faster.
            return Ok(known.downcast().unwrap_or(decoded));
        }
        let erased: Arc<dyn Any + Send + Sync> = decoded.clone();
        *typed = Some(Arc::downgrade(&erased));
        Ok(decoded)
    }

    /// Forgets who has the typed form: what is left to know of a revision that is past is not worth its memory.
    pub fn forget_typed(&self) {
        *self.typed.lock() = None;
    }

    fn decode_unmanaged<K: DeserializeOwned>(&self) -> Result<K, serde_json::Error> {
        serde_json::from_slice(&self.to_json_unmanaged())
    }

    /// The object whole, managedFields included, decoded afresh.
    pub fn decode<K: DeserializeOwned>(&self) -> Result<K, serde_json::Error> {
        serde_json::from_slice(&self.to_json())
    }

    /// Metadata alone, without managedFields, decoded afresh. What stands behind it is not even read.
    pub fn metadata<M: DeserializeOwned>(&self) -> Result<M, serde_json::Error> {
        let start = self.splice - 1;
        let mut rest = serde_json::Deserializer::from_slice(&self.raw[start..]);
        let own = <&RawValue>::deserialize(&mut rest)?;
        let end = start + own.get().len();
        let mut out = Vec::with_capacity(own.get().len() + 48);
        out.push(b'{');
        self.write_version(&mut out);
        if self.managed.is_empty() {
            out.extend_from_slice(&self.raw[self.splice..end]);
        } else {
            out.extend_from_slice(&self.raw[self.splice..self.managed.start]);
            out.extend_from_slice(b"null");
            out.extend_from_slice(&self.raw[self.managed.end..end]);
        }
        serde_json::from_slice(&out)
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
    fn the_typed_form_is_shared_by_those_who_have_it_and_by_nobody_else() {
        use k8s_openapi::api::core::v1::{ConfigMap, Pod};
        let stored = StoredObject::from_bytes(Bytes::from_static(b"{\"metadata\":{\"name\":\"a\"}}"), 3).unwrap();
        let first = stored.typed::<Pod>().unwrap();
        assert!(Arc::ptr_eq(&first, &stored.typed().unwrap()));
        assert_eq!(first.metadata.resource_version.as_deref(), Some("3"));
        assert_eq!(
            stored.typed::<ConfigMap>().unwrap().metadata,
            first.metadata,
            "of another type, it is decoded apart"
        );
        assert!(Arc::ptr_eq(&first, &stored.typed().unwrap()));
        assert_eq!(Arc::strong_count(&first), 1, "the object itself keeps none");
    }

    #[test]
    fn the_typed_form_has_no_managed_fields_and_a_decoded_one_has_them() {
        use k8s_openapi::api::core::v1::ConfigMap;
        use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
        let value = json!({"metadata": {
            "labels": {"a": "b"}, "managedFields": [{"manager": "m", "fieldsV1": {"f:data": {}}}], "name": "n",
        }, "data": {"k": "v"}});
        let stored = StoredObject::from_bytes(serde_json::to_vec(&value).unwrap().into(), 5).unwrap();
        let whole: ConfigMap = stored.decode().unwrap();
        assert_eq!(whole.metadata.managed_fields.as_ref().unwrap().len(), 1);
        let mut expected = whole.clone();
        expected.metadata.managed_fields = None;
        assert_eq!(*stored.typed::<ConfigMap>().unwrap(), expected);
        assert_eq!(stored.metadata::<ObjectMeta>().unwrap(), expected.metadata);
        assert_eq!(serde_json::from_slice::<ConfigMap>(&stored.to_json()).unwrap(), whole);
    }
    #[test]
    fn metadata_is_read_alone_wherever_it_stands() {
        use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
        for text in [
            r#"{"metadata":{"name":"a","managedFields":[{"manager":"m"}],"uid":"1"},"data":{"k":"v"}}"#,
            r#"{"data":{"metadata":{"name":"no"}}, "metadata" : { "managedFields":[] , "name":"a","uid":"1" } }"#,
            r#"{"metadata":{"uid":"1","name":"a"}}"#,
        ] {
            let stored = StoredObject::from_bytes(Bytes::from_static(text.as_bytes()), 7).unwrap();
            let metadata: ObjectMeta = stored.metadata().unwrap();
            let found = (metadata.name.as_deref(), metadata.uid.as_deref());
            assert_eq!(found, (Some("a"), Some("1")), "{text}");
            assert_eq!(metadata.resource_version.as_deref(), Some("7"));
            assert!(metadata.managed_fields.is_none());
        }
        let bare = StoredObject::from_bytes(Bytes::from_static(br#"{"metadata":{}}"#), 7).unwrap();
        assert_eq!(
            bare.metadata::<ObjectMeta>().unwrap().resource_version.as_deref(),
            Some("7")
        );
        for twice in [
            r#"{"metadata":{"name":"a"},"metadata":{"name":"b"}}"#,
            r#"{"metadata":{"managedFields":[],"managedFields":[]}}"#,
        ] {
            assert!(
                StoredObject::from_bytes(Bytes::from_static(twice.as_bytes()), 7).is_err(),
                "{twice}"
            );
        }
    }
}
