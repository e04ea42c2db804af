//! How a built-in kind's row is written: one expression in the kind's file. Knows upstream's naming conventions
//! (singular, storage prefix, schema type), so that a row only says what is particular to its kind.

use std::sync::Arc;

use crate::resource::{Column, Convert, Name, Resource, ScalePaths, Scope, Storage, Subresource, Verbs};
use crate::schema::{NodeId, SchemaSet, built_in};
use crate::strategy::Strategy;

/// The verbs of `status` and other subresources that are read and written like the object.
pub(super) const READ_WRITE: Verbs = Verbs::GET.or(Verbs::PATCH).or(Verbs::UPDATE);
/// The verbs of exec, attach and portforward.
pub(super) const STREAM: Verbs = Verbs::CREATE.or(Verbs::GET);
/// The verbs of `proxy`.
pub(super) const PROXY: Verbs = READ_WRITE.or(Verbs::CREATE).or(Verbs::DELETE);

/// A row in the making.
pub(super) struct Row(Resource);

/// A namespaced kind with all verbs.
pub(super) fn namespaced(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Row {
    Row::new(group, version, kind, plural, Scope::Namespaced)
}

/// A cluster-scoped kind with all verbs.
pub(super) fn cluster(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Row {
    Row::new(group, version, kind, plural, Scope::Cluster)
}

impl Row {
    fn new(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str, scope: Scope) -> Self {
        let (schema, schema_root) = type_of(group, version, kind);
        let api_version: Name = if group.is_empty() {
            version.into()
        } else {
            format!("{group}/{version}").into()
        };
        // The two extension servers of the control plane keep their objects below their group's name.
        let prefix: Name = match group {
            "apiextensions.k8s.io" | "apiregistration.k8s.io" => format!("{group}/{plural}").into(),
            _ => plural.into(),
        };
        Self(Resource {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            plural: plural.into(),
            singular: kind.to_lowercase().into(),
            list_kind: format!("{kind}List").into(),
            short_names: Vec::new(),
            categories: Vec::new(),
            scope,
            verbs: Verbs::ALL,
            subresources: Vec::new(),
            storage: Storage { prefix, api_version },
            convert: None,
            strategy: Arc::new(super::Plain),
            schema,
            schema_root,
            columns: super::cells::created_at_columns().into(),
            selectable_fields: Vec::new(),
            has_generation: false,
            create_on_update: false,
            unconditional_update: true,
            custom: false,
            deprecation: None,
            protobuf: true,
        })
    }

    pub fn short(mut self, names: &[&'static str]) -> Self {
        self.0.short_names = names.iter().map(|n| Name::from(*n)).collect();
        self
    }

    /// Shown by `kubectl get all`.
    pub fn in_all(self) -> Self {
        self.category("all")
    }

    pub fn category(mut self, name: &'static str) -> Self {
        self.0.categories.push(name.into());
        self
    }

    pub fn verbs(mut self, verbs: Verbs) -> Self {
        self.0.verbs = verbs;
        self
    }

    /// With a `status` subresource.
    pub fn status(self) -> Self {
        self.subresource("status", READ_WRITE)
    }

    /// A subresource that speaks the parent's kind.
    pub fn subresource(self, name: &'static str, verbs: Verbs) -> Self {
        self.push(name, verbs, None, None, false)
    }

    /// A subresource with a kind of its own.
    pub fn subresource_of(
        self,
        name: &'static str,
        verbs: Verbs,
        kind: (&'static str, &'static str, &'static str),
    ) -> Self {
        self.push(name, verbs, Some(kind), None, false)
    }

    /// A subresource that streams to and from a node.
    pub fn connect(self, name: &'static str, verbs: Verbs, kind: &'static str) -> Self {
        self.push(name, verbs, Some(("", "v1", kind)), None, true)
    }

    /// The `scale` subresource; the selector is where the scale's status takes it from.
    pub fn scale(self, label_selector: &'static str) -> Self {
        let paths = ScalePaths {
            spec_replicas: ".spec.replicas".into(),
            status_replicas: ".status.replicas".into(),
            label_selector: Some(label_selector.into()),
        };
        self.push(
            "scale",
            READ_WRITE,
            Some(("autoscaling", "v1", "Scale")),
            Some(paths),
            false,
        )
    }

    fn push(
        mut self,
        name: &'static str,
        verbs: Verbs,
        kind: Option<(&'static str, &'static str, &'static str)>,
        scale: Option<ScalePaths>,
        connect: bool,
    ) -> Self {
        self.0.subresources.push(Subresource {
            name: name.into(),
            verbs,
            kind: kind.map(|(g, v, k)| (g.into(), v.into(), k.into())),
            scale,
            connect,
        });
        self
    }

    /// Kept elsewhere than below its plural.
    pub fn prefix(mut self, prefix: &'static str) -> Self {
        self.0.storage.prefix = prefix.into();
        self
    }

    /// Kept as objects of another version of the kind.
    pub fn stored_as(mut self, api_version: &'static str, convert: impl Convert) -> Self {
        self.0.storage.api_version = api_version.into();
        self.0.convert = Some(Arc::new(convert));
        self
    }

    pub fn fields(mut self, paths: &[&'static str]) -> Self {
        self.0.selectable_fields = paths.iter().map(|p| Name::from(*p)).collect();
        self
    }

    pub fn generation(mut self) -> Self {
        self.0.has_generation = true;
        self
    }

    pub fn create_on_update(mut self) -> Self {
        self.0.create_on_update = true;
        self
    }

    /// An update must name the resourceVersion it is made from.
    pub fn conditional_update(mut self) -> Self {
        self.0.unconditional_update = false;
        self
    }

    pub fn columns(mut self, columns: impl IntoIterator<Item = Column>) -> Self {
        self.0.columns = columns.into_iter().collect();
        self
    }

    pub fn strategy(mut self, strategy: impl Strategy) -> Self {
        self.0.strategy = Arc::new(strategy);
        self
    }

    pub fn build(self) -> Resource {
        self.0
    }
}

/// The schema of a built-in kind.
fn type_of(group: &str, version: &str, kind: &str) -> (Arc<SchemaSet>, NodeId) {
    let set = built_in();
    // A test walks all rows; an index outside the set would read as "anything".
    let node = set.kind_node(group, version, kind).unwrap_or(NodeId(u32::MAX));
    (set.clone(), node)
}
