//! In what Rust types objects are read and written ([`Kind`]), what a resource is called ([`ApiResource`]) and how an
//! object is found ([`ObjectKey`]).

use std::any::TypeId;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use coracle_api::object::{Object, StoredObject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A name that is static for kinds known at compile time.
pub type Name = Cow<'static, str>;

/// Where objects of a kind are found: what discovery tells of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApiResource {
    /// Empty for the core group.
    pub group: Name,
    pub version: Name,
    pub kind: Name,
    /// The plural: `pods`.
    pub plural: Name,
    pub namespaced: bool,
}

impl ApiResource {
    /// The resource of a type.
    pub fn of<K: TypedKind>() -> Self {
        K::resource()
    }

    /// `apps/v1`, or `v1` in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

impl fmt::Display for ApiResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.plural)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        Ok(())
    }
}

impl From<&coracle_api::resource::Resource> for ApiResource {
    fn from(row: &coracle_api::resource::Resource) -> Self {
        Self {
            group: row.group.clone(),
            version: row.version.clone(),
            kind: row.kind.clone(),
            plural: row.plural.clone(),
            namespaced: row.is_namespaced(),
        }
    }
}

/// A form in which objects are read: every object type of `k8s_openapi`, [`DynamicObject`] and [`PartialObject`].
///
/// Of these only [`DynamicObject`] tells managedFields: an informer's cache would hold little else.
pub trait Kind: Sized + Send + Sync + 'static {
    /// Only metadata is wanted: over HTTP the server is asked to send no more.
    const METADATA_ONLY: bool = false;

    fn meta(&self) -> &ObjectMeta;

    /// The revision in this form; shared with other readers of the same revision where the form allows it.
    fn decode(stored: &StoredObject) -> Result<Arc<Self>, serde_json::Error>;
}

/// A form that holds the whole object, so that it may be written back.
pub trait Whole: Kind {
    fn encode(&self) -> Result<Object, serde_json::Error>;
}

/// A form of one kind, known at compile time.
pub trait TypedKind: Whole {
    fn resource() -> ApiResource;
}

impl<K> Kind for K
where
    K: k8s_openapi::Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + Sync + 'static,
{
    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }

    fn decode(stored: &StoredObject) -> Result<Arc<Self>, serde_json::Error> {
        stored.typed()
    }
}

impl<K> Whole for K
where
    K: k8s_openapi::Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn encode(&self) -> Result<Object, serde_json::Error> {
        to_object(self)
    }
}

impl<K> TypedKind for K
where
    K: k8s_openapi::Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn resource() -> ApiResource {
        ApiResource {
            group: Cow::Borrowed(K::GROUP),
            version: Cow::Borrowed(K::VERSION),
            kind: Cow::Borrowed(K::KIND),
            plural: Cow::Borrowed(K::URL_PATH_SEGMENT),
            namespaced: TypeId::of::<K::Scope>() != TypeId::of::<k8s_openapi::ClusterResourceScope>(),
        }
    }
}

fn to_object(value: &impl Serialize) -> Result<Object, serde_json::Error> {
    match serde_json::to_value(value)? {
        Value::Object(map) => Ok(Object(map)),
        other => Err(serde::de::Error::custom(format!("not an object: {other}"))),
    }
}

/// An object of any kind: metadata typed, the rest as JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DynamicObject {
    #[serde(default)]
    pub api_version: String,
    #[serde(default)]
    pub kind: String,
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// Everything besides apiVersion, kind and metadata: `spec`, `status`, `data`...
    #[serde(flatten)]
    pub data: Map<String, Value>,
}

impl DynamicObject {
    /// An empty object of the resource's kind.
    pub fn new(resource: &ApiResource, name: &str) -> Self {
        Self {
            api_version: resource.api_version(),
            kind: resource.kind.to_string(),
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            data: Map::new(),
        }
    }

    /// What is at `path` (outside metadata), unless it is absent or null.
    pub fn get(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        let mut value = self.data.get(*first)?;
        for step in rest {
            value = value.as_object()?.get(*step)?;
        }
        (!value.is_null()).then_some(value)
    }
}

impl Kind for DynamicObject {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn decode(stored: &StoredObject) -> Result<Arc<Self>, serde_json::Error> {
        stored.decode().map(Arc::new)
    }
}

impl Whole for DynamicObject {
    fn encode(&self) -> Result<Object, serde_json::Error> {
        to_object(self)
    }
}

/// An object's metadata alone, of any kind, without managedFields: what a garbage collector needs. It cannot be written
/// back; patch or delete by name instead.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PartialObject {
    pub metadata: ObjectMeta,
}

impl Kind for PartialObject {
    const METADATA_ONLY: bool = true;

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    /// Decoded on its own, so that the revision's shared form stays free for the kind's type.
    fn decode(stored: &StoredObject) -> Result<Arc<Self>, serde_json::Error> {
        let metadata = stored.metadata()?;
        Ok(Arc::new(Self { metadata }))
    }
}

/// An object's namespace (empty when its kind is cluster-scoped) and name: what a reconcile gets. Cheap to clone.
pub struct ObjectKey<K> {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    kind: PhantomData<fn() -> K>,
}

impl<K> ObjectKey<K> {
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            kind: PhantomData,
        }
    }

    /// The same namespace and name, of another kind.
    pub fn cast<L>(&self) -> ObjectKey<L> {
        ObjectKey::new(self.namespace.clone(), self.name.clone())
    }

    /// The key of the owner that a reference names, in the namespace of what it owns.
    pub fn of_owner(namespace: &str, owner: &OwnerReference) -> Self {
        Self::new(namespace, owner.name.as_str())
    }
}

impl<K: Kind> ObjectKey<K> {
    pub fn of(object: &K) -> Self {
        let meta = object.meta();
        Self::new(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        )
    }
}

impl<K> Clone for ObjectKey<K> {
    fn clone(&self) -> Self {
        Self::new(self.namespace.clone(), self.name.clone())
    }
}

impl<K> PartialEq for ObjectKey<K> {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.namespace == other.namespace
    }
}

impl<K> Eq for ObjectKey<K> {}

impl<K> Hash for ObjectKey<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.namespace.hash(state);
        self.name.hash(state);
    }
}

impl<K> PartialOrd for ObjectKey<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for ObjectKey<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        (&self.namespace, &self.name).cmp(&(&other.namespace, &other.name))
    }
}

/// `namespace/name`, or the name alone.
impl<K> fmt::Display for ObjectKey<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        write!(f, "{}", self.name)
    }
}

impl<K> fmt::Debug for ObjectKey<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
    use serde_json::json;

    fn stored(value: Value) -> StoredObject {
        StoredObject::from_object(Object::from_value(value).unwrap()).unwrap()
    }

    #[test]
    fn a_types_resource_is_what_k8s_openapi_says() {
        assert_eq!(ApiResource::of::<Pod>().to_string(), "pods");
        assert!(ApiResource::of::<Pod>().namespaced);
        assert!(!ApiResource::of::<Node>().namespaced);
        let deployments = ApiResource::of::<k8s_openapi::api::apps::v1::Deployment>();
        assert_eq!(deployments.api_version(), "apps/v1");
        assert_eq!(deployments.to_string(), "deployments.apps");
    }

    #[test]
    fn an_item_without_api_version_and_kind_decodes() {
        let item = stored(json!({"metadata": {"name": "a", "resourceVersion": "4"}, "data": {"k": "v"}}));
        let map = ConfigMap::decode(&item).unwrap();
        assert_eq!(map.data.as_ref().unwrap()["k"], "v");
        assert_eq!(map.metadata.resource_version.as_deref(), Some("4"));
    }

    #[test]
    fn a_dynamic_object_keeps_every_field_outside_metadata() {
        let value = json!({
            "apiVersion": "example.org/v1", "kind": "Gear",
            "metadata": {"name": "a", "resourceVersion": "4"}, "spec": {"teeth": 12}, "extra": [1],
        });
        let gear = DynamicObject::decode(&stored(value.clone())).unwrap();
        assert_eq!(gear.get(&["spec", "teeth"]), Some(&json!(12)));
        assert_eq!(gear.encode().unwrap().into_value(), value);
    }

    #[test]
    fn metadata_alone_leaves_the_shared_form_to_the_kinds_type() {
        let item = stored(json!({
            "metadata": {"name": "a", "resourceVersion": "4", "managedFields": [{"manager": "m"}]}, "data": {},
        }));
        let partial = PartialObject::decode(&item).unwrap();
        assert_eq!(partial.metadata.resource_version.as_deref(), Some("4"));
        assert_eq!(partial.metadata.managed_fields, None);
        assert!(Arc::ptr_eq(
            &ConfigMap::decode(&item).unwrap(),
            &ConfigMap::decode(&item).unwrap()
        ));
    }
}
