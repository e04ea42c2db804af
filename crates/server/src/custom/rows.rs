//! The rows of a definition: one for each version that it serves.

use std::sync::Arc;

use coracle_api::object::Object;
use coracle_api::resource::{Name, Resource, ScalePaths, Scope, Storage, Subresource, Verbs};
use coracle_api::schema::custom;
use serde_json::Value;

use crate::discovery::rank;

use super::columns;
use super::form::Form;
use super::strategy::CustomStrategy;

const READ_WRITE: Verbs = Verbs::GET.or(Verbs::PATCH).or(Verbs::UPDATE);

/// See the module. While the definition goes, nothing new is created. Objects of revisions after `since` are of the form
/// that this definition demands.
pub(super) fn rows(definition: &Object, terminating: bool, since: u64) -> Vec<Resource> {
    let text = |path: &[&str]| definition.str(path).unwrap_or_default().to_owned();
    let group = text(&["spec", "group"]);
    let plural = text(&["spec", "names", "plural"]);
    let kind = text(&["spec", "names", "kind"]);
    let singular = Some(text(&["spec", "names", "singular"]))
        .filter(|s| !s.is_empty())
        .unwrap_or_else(|| kind.to_lowercase());
    let list_kind = Some(text(&["spec", "names", "listKind"]))
        .filter(|s| !s.is_empty())
        .unwrap_or_else(|| format!("{kind}List"));
    let names = |field: &str| -> Vec<Name> {
        let list = definition.array(&["spec", "names", field]).iter();
        list.filter_map(Value::as_str)
            .map(|s| Name::from(s.to_owned()))
            .collect()
    };
    let versions = definition.array(&["spec", "versions"]);
    let is = |version: &Value, field: &str| version.get(field).and_then(Value::as_bool).unwrap_or(false);
    let name_of = |version: &Value| {
        version
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let stored = versions
        .iter()
        .find(|v| is(v, "storage"))
        .map(name_of)
        .unwrap_or_default();
    let scope = if text(&["spec", "scope"]) == "Cluster" {
        Scope::Cluster
    } else {
        Scope::Namespaced
    };
    let verbs = if terminating {
        Verbs::ALL.without(Verbs::CREATE)
    } else {
        Verbs::ALL
    };
    let row = |version: &Value| {
        let source = version.pointer("/schema/openAPIV3Schema");
        let (schema, schema_root) = custom::from_schema(source);
        let schema = Arc::new(schema);
        let columns = columns::parse(version.get("additionalPrinterColumns"));
        let fields = version
            .get("selectableFields")
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        let paths = fields.iter().filter_map(|f| f.get("jsonPath")?.as_str());
        Resource {
            group: group.clone().into(),
            version: name_of(version).into(),
            kind: kind.clone().into(),
            plural: plural.clone().into(),
            singular: singular.clone().into(),
            list_kind: list_kind.clone().into(),
            short_names: names("shortNames"),
            categories: names("categories"),
            scope,
            verbs,
            subresources: subresources(version),
            storage: Storage {
                prefix: format!("{group}/{plural}").into(),
                api_version: format!("{group}/{stored}").into(),
            },
            convert: Some(Arc::new(Form {
                api_version: format!("{group}/{}", name_of(version)),
                stored_version: format!("{group}/{stored}"),
                has_defaults: schema.nodes.iter().any(|n| n.default.is_some()),
                schema: schema.clone(),
                root: schema_root,
                since,
            })),
            columns: columns.iter().map(|c| c.column.clone()).collect(),
            strategy: Arc::new(CustomStrategy::new(schema.clone(), schema_root, source, columns)),
            schema,
            schema_root,
            selectable_fields: paths
                .map(|p| Name::from(p.trim_start_matches('.').to_owned()))
                .collect(),
            has_generation: true,
            create_on_update: false,
            unconditional_update: false,
            custom: true,
            deprecation: deprecation(&group, &kind, version, versions).map(Name::from),
            protobuf: false,
        }
    };
    versions.iter().filter(|v| is(v, "served")).map(row).collect()
}

/// What clients of a deprecated version are told: its own text, or which version to use instead.
fn deprecation(group: &str, kind: &str, version: &Value, versions: &[Value]) -> Option<String> {
    let is = |version: &Value, field: &str| version.get(field) == Some(&Value::Bool(true));
    let name = |version: &Value| {
        version
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    if !is(version, "deprecated") {
        return None;
    }
    if let Some(text) = version.get("deprecationWarning").and_then(Value::as_str) {
        return Some(text.to_owned());
    }
    let this = name(version);
    let served = versions.iter().filter(|v| is(v, "served") && !is(v, "deprecated"));
    let better = served.map(name).filter(|other| rank(other) > rank(&this));
    let instead = better
        .max_by_key(|other| rank(other))
        .map(|other| format!("; use {group}/{other} {kind}"));
    Some(format!(
        "{group}/{this} {kind} is deprecated{}",
        instead.unwrap_or_default()
    ))
}

fn subresources(version: &Value) -> Vec<Subresource> {
    let mut all = Vec::new();
    if version.pointer("/subresources/status").is_some_and(|s| !s.is_null()) {
        all.push(Subresource {
            name: "status".into(),
            verbs: READ_WRITE,
            kind: None,
            scale: None,
            connect: false,
        });
    }
    if let Some(scale) = version.pointer("/subresources/scale").filter(|s| s.is_object()) {
        let path = |field: &str| {
            scale
                .get(field)
                .and_then(Value::as_str)
                .map(|s| Name::from(s.to_owned()))
        };
        all.push(Subresource {
            name: "scale".into(),
            verbs: READ_WRITE,
            kind: Some(("autoscaling".into(), "v1".into(), "Scale".into())),
            scale: Some(ScalePaths {
                spec_replicas: path("specReplicasPath").unwrap_or_default(),
                status_replicas: path("statusReplicasPath").unwrap_or_default(),
                label_selector: path("labelSelectorPath"),
            }),
            connect: false,
        });
    }
    all
}
