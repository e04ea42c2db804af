//! The resource table: one row per kind, from which routes, discovery, OpenAPI, printing, RBAC names, garbage collection
//! and storage keys derive. Built-in rows are declared in [`crate::kinds`]; custom rows are added at run time.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::object::{Object, StoredObject};
use crate::schema::{NodeId, Schema, SchemaSet};
use crate::strategy::Strategy;

/// A name that is static for built-in kinds and owned for custom ones.
pub type Name = Cow<'static, str>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Namespaced,
    Cluster,
}

/// The verbs a resource serves, as a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verbs(u16);

impl Verbs {
    pub const CREATE: Self = Self(1);
    pub const DELETE: Self = Self(2);
    pub const DELETE_COLLECTION: Self = Self(4);
    pub const GET: Self = Self(8);
    pub const LIST: Self = Self(16);
    pub const PATCH: Self = Self(32);
    pub const UPDATE: Self = Self(64);
    pub const WATCH: Self = Self(128);
    pub const ALL: Self = Self(255);
    /// Reviews: created, never kept.
    pub const CREATE_ONLY: Self = Self::CREATE;

    const NAMES: [(Self, &'static str); 8] = [
        (Self::CREATE, "create"),
        (Self::DELETE, "delete"),
        (Self::DELETE_COLLECTION, "deletecollection"),
        (Self::GET, "get"),
        (Self::LIST, "list"),
        (Self::PATCH, "patch"),
        (Self::UPDATE, "update"),
        (Self::WATCH, "watch"),
    ];

    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// In alphabetical order, as discovery lists them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .into_iter()
            .filter(move |(v, _)| self.contains(*v))
            .map(|(_, n)| n)
    }
}

/// A path below an object: `status`, `scale`, `log`...
#[derive(Clone, Debug)]
pub struct Subresource {
    pub name: Name,
    pub verbs: Verbs,
    /// The kind it speaks when that is not the parent's: group, version, kind (`autoscaling`, `v1`, `Scale`).
    pub kind: Option<(Name, Name, Name)>,
    /// For `scale`: where replicas and selector are.
    pub scale: Option<ScalePaths>,
    /// Served by streaming to the node (log, exec, attach, portforward, proxy), not as an object.
    pub connect: bool,
}

/// JSON paths of a scale subresource, as in a CustomResourceDefinition (`.spec.replicas`).
#[derive(Clone, Debug)]
pub struct ScalePaths {
    pub spec_replicas: Name,
    pub status_replicas: Name,
    pub label_selector: Option<Name>,
}

/// A column of the kind's table (`kubectl get`).
#[derive(Clone, Debug)]
pub struct Column {
    pub name: Name,
    /// `string`, `integer`, `number`, `boolean`, `date`.
    pub kind: Name,
    /// `name` for the first column, else mostly empty.
    pub format: Name,
    pub description: Name,
    /// 0 is shown always, 1 with `-o wide`.
    pub priority: i32,
}

impl Column {
    /// A column that is always shown.
    pub fn new(name: impl Into<Name>, kind: impl Into<Name>, description: impl Into<Name>) -> Self {
        Self {
            name: name.into(),
            kind: kind.into(),
            format: Name::default(),
            description: description.into(),
            priority: 0,
        }
    }

    pub fn format(mut self, format: impl Into<Name>) -> Self {
        self.format = format.into();
        self
    }

    /// Shown with `-o wide` only.
    pub fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }
}

/// Turns objects of one version into the version that is stored, and back.
pub trait Convert: Send + Sync + 'static {
    /// From this row's version to the stored version (sets apiVersion).
    fn to_stored(&self, object: &mut Object);
    /// From the stored version to this row's.
    fn to_served(&self, object: &mut Object);
    /// Whether a stored object has this row's form already, so that it can be shown as it is.
    fn is_current(&self, _stored: &StoredObject) -> bool {
        false
    }
}

/// Where a kind's objects live in the store: rows with the same storage see the same objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// `/registry/<prefix>/...`: upstream's segment (`pods`, `deployments`, `minions` for nodes, `services/specs`,
    /// `<group>/<plural>` for custom resources).
    pub prefix: Name,
    /// apiVersion that is stored.
    pub api_version: Name,
}

/// One row: a kind in one version of one group.
#[derive(Clone)]
pub struct Resource {
    pub group: Name,
    pub version: Name,
    pub kind: Name,
    pub plural: Name,
    pub singular: Name,
    /// `PodList`, mostly.
    pub list_kind: Name,
    pub short_names: Vec<Name>,
    pub categories: Vec<Name>,
    pub scope: Scope,
    pub verbs: Verbs,
    pub subresources: Vec<Subresource>,
    pub storage: Storage,
    /// `None` when this is the stored version. A custom resource always has one: what is stored may be of an older
    /// definition.
    pub convert: Option<Arc<dyn Convert>>,
    pub strategy: Arc<dyn Strategy>,
    pub schema: Arc<SchemaSet>,
    pub schema_root: NodeId,
    /// Empty means the default: Name and Age.
    pub columns: Vec<Column>,
    /// Paths a field selector may use besides `metadata.name` and `metadata.namespace`.
    pub selectable_fields: Vec<Name>,
    /// `metadata.generation` is kept.
    pub has_generation: bool,
    /// A PUT of an absent object creates it.
    pub create_on_update: bool,
    /// Updates without a resourceVersion are taken as they are.
    pub unconditional_update: bool,
    /// Made from a CustomResourceDefinition.
    pub custom: bool,
    /// What every client of this version is warned of: that it is deprecated.
    pub deprecation: Option<Name>,
    /// Bodies and answers have a protobuf form.
    pub protobuf: bool,
}

impl Resource {
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    fn order(&self) -> (&str, &str, &str) {
        (&self.group, &self.version, &self.plural)
    }

    pub fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    pub fn schema(&self) -> Schema<'_> {
        self.schema.at(self.schema_root)
    }

    /// Makes the status what it is before anybody has written one: the zero that upstream's type prints (`{}`, or
    /// `{"replicas": 0}`), or nothing where that type is a pointer or the kind is a custom one.
    pub fn reset_status(&self, object: &mut Object) {
        match self.schema().zero_of("status") {
            Some(zero) => object.set(&["status"], zero),
            None => {
                object.remove(&["status"]);
            }
        }
    }

    /// The store's key of an object: `/registry/pods/default/web`.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        match self.scope {
            Scope::Namespaced => format!("/registry/{}/{namespace}/{name}", self.storage.prefix),
            Scope::Cluster => format!("/registry/{}/{name}", self.storage.prefix),
        }
    }

    /// The prefix of all keys, or of one namespace's; ends in `/`.
    pub fn key_prefix(&self, namespace: &str) -> String {
        if namespace.is_empty() || self.scope == Scope::Cluster {
            format!("/registry/{}/", self.storage.prefix)
        } else {
            format!("/registry/{}/{namespace}/", self.storage.prefix)
        }
    }
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resource({}/{}, {})", self.group, self.version, self.plural)
    }
}

/// One consistent view of all rows.
#[derive(Clone, Default)]
pub struct Table {
    /// Sorted by group, version, plural.
    rows: Vec<Arc<Resource>>,
    /// Where the rows of a plural are: every request asks for some by their names.
    by_plural: HashMap<Name, Vec<usize>>,
    /// And of a kind: so does every object that says what it is.
    by_kind: HashMap<Name, Vec<usize>>,
    /// Counts changes, for caches of what derives from the table.
    pub generation: u64,
}

impl Table {
    fn new(mut rows: Vec<Arc<Resource>>, generation: u64) -> Self {
        rows.sort_by(|a, b| a.order().cmp(&b.order()));
        let mut by_plural: HashMap<Name, Vec<usize>> = HashMap::new();
        let mut by_kind: HashMap<Name, Vec<usize>> = HashMap::new();
        for (at, row) in rows.iter().enumerate() {
            by_plural.entry(row.plural.clone()).or_default().push(at);
            by_kind.entry(row.kind.clone()).or_default().push(at);
        }
        Self {
            rows,
            by_plural,
            by_kind,
            generation,
        }
    }

    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.one_of(self.by_plural.get(plural)?, group, version)
    }

    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Resource>> {
        self.one_of(self.by_kind.get(kind)?, group, version)
    }

    fn one_of(&self, places: &[usize], group: &str, version: &str) -> Option<&Arc<Resource>> {
        let mut rows = places.iter().filter_map(|at| self.rows.get(*at));
        rows.find(|r| r.group == group && r.version == version)
    }

    /// The row for `apps/v1` and `Deployment`.
    pub fn by_api_version(&self, api_version: &str, kind: &str) -> Option<&Arc<Resource>> {
        let (group, version) = split_api_version(api_version);
        self.by_kind(group, version, kind)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.rows.iter()
    }
}

/// `apps/v1` is (`apps`, `v1`); `v1` is (``, `v1`).
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// All rows, built-in and custom; readers take a consistent [`Table`] without locking.
pub struct Registry {
    table: ArcSwap<Table>,
}

impl Registry {
    /// The built-in kinds.
    pub fn built_in() -> Self {
        Self::from_rows(crate::kinds::all())
    }

    pub fn from_rows(rows: impl IntoIterator<Item = Resource>) -> Self {
        Self {
            table: ArcSwap::from_pointee(Table::new(rows.into_iter().map(Arc::new).collect(), 0)),
        }
    }

    pub fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Replaces the rows of one custom `group`/`plural` by these (none removes it).
    pub fn set_custom(&self, group: &str, plural: &str, rows: Vec<Resource>) {
        self.table.rcu(|old| {
            let mut kept: Vec<Arc<Resource>> = old.iter().cloned().collect();
            kept.retain(|r| !(r.custom && r.group == group && r.plural == plural));
            kept.extend(rows.iter().cloned().map(Arc::new));
            Table::new(kept, old.generation + 1)
        });
    }
}
