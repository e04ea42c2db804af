//! CustomResourceDefinition: a kind that is added at run time. What its rows are is the server's to make.

mod budget;
mod default;
mod expressions;
mod list_type;
mod rule;
mod schema;
mod spec;
mod structural;
mod version;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cells::created_at_cells;
use super::fill::{at, each, fill_empty, map_at};
use super::row::cluster;
use crate::field::{Cursor, ErrorList, FieldError, FieldErrorKind, quoted, show};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

/// Annotation by which a definition in one of Kubernetes' own groups says that it was approved.
pub const APPROVAL: &str = "api-approved.kubernetes.io";

pub(super) fn row() -> Resource {
    cluster(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
    )
    .short(&["crd", "crds"])
    .category("api-extensions")
    .status()
    .generation()
    .conditional_update()
    .strategy(CustomResourceDefinition)
    .build()
}

/// Whether a group is one of Kubernetes' own, where definitions need to be approved.
pub fn is_protected(group: &str) -> bool {
    [".k8s.io", ".kubernetes.io"]
        .iter()
        .any(|domain| group.ends_with(domain))
        || matches!(group, "k8s.io" | "kubernetes.io")
}

struct CustomResourceDefinition;

impl Strategy for CustomResourceDefinition {
    fn set_defaults(&self, object: &mut Object) {
        let Some(spec) = at(&mut object.0, "spec") else { return };
        if let Some(names) = at(spec, "names") {
            let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
            if !kind.is_empty() {
                fill_empty(names, "singular", &kind.to_lowercase());
                fill_empty(names, "listKind", &format!("{kind}List"));
            }
        }
        if spec.get("conversion").is_none_or(Value::is_null) {
            spec.insert("conversion".into(), json!({"strategy": "None"}));
        }
        if let Some(service) = map_at(spec, &["conversion", "webhook", "clientConfig", "service"]) {
            super::fill::fill_zero(service, "port", 443);
        }
        // What is not said of a version is false.
        each(spec, "versions", |version| {
            for field in ["served", "storage"] {
                version.entry(field).or_insert(Value::Bool(false));
            }
        });
    }

    fn prepare_for_create(&self, object: &mut Object) {
        remember_stored(object);
    }

    fn prepare_for_update(&self, new: &mut Object, _old: &Object) {
        remember_stored(new);
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        spec::validate(object, None, errors);
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        spec::validate(new, Some(old), errors);
        stored_versions(new, errors);
    }

    fn validate_status_update(&self, new: &Cursor<'_>, _old: &Cursor<'_>, errors: &mut ErrorList) {
        spec::names(&new.at("status").at("acceptedNames"), errors);
    }

    fn cells(&self, object: &Object, _now: Timestamp) -> Vec<Value> {
        created_at_cells(object)
    }
}

/// The version in which objects are stored from now on is among those in which some are stored.
fn remember_stored(object: &mut Object) {
    let versions = object.array(&["spec", "versions"]);
    let storage = versions.iter().find(|v| v.get("storage") == Some(&true.into()));
    let Some(name) = storage.and_then(|v| v.get("name")).cloned() else {
        return;
    };
    let mut stored = object.array(&["status", "storedVersions"]).to_vec();
    if !stored.contains(&name) {
        stored.push(name);
        object.set(&["status", "storedVersions"], stored);
    }
}

/// No version goes while there may be objects stored in it.
fn stored_versions(object: &Cursor<'_>, errors: &mut ErrorList) {
    let spec = object.at("spec");
    let versions = spec.at("versions");
    let status = object.at("status");
    let stored = status.at("storedVersions");
    for at in stored.items() {
        let name = at.str();
        if !versions.items().any(|v| v.at("name").str() == name) {
            errors.invalid(
                &at,
                format!(
                    "missing from spec.versions; {name} was previously a storage version, and must remain in \
                     spec.versions until a storage migration ensures no data remains persisted in {name} and removes \
                     {name} from status.storedVersions"
                ),
            );
        }
    }
}

/// Mistakes in a schema, whose places are no fields of the definition's own type: paths are made by hand.
struct Faults<'e> {
    errors: &'e mut ErrorList,
}

impl Faults<'_> {
    fn push(&mut self, kind: FieldErrorKind, path: &str, value: String, detail: impl Into<String>) {
        self.errors.push(FieldError {
            kind,
            path: path.to_owned(),
            value,
            detail: detail.into(),
        });
    }

    fn required(&mut self, path: &str, detail: impl Into<String>) {
        self.push(FieldErrorKind::Required, path, String::new(), detail);
    }

    fn forbidden(&mut self, path: &str, detail: impl Into<String>) {
        self.push(FieldErrorKind::Forbidden, path, String::new(), detail);
    }

    fn invalid(&mut self, path: &str, value: &Value, detail: impl Into<String>) {
        self.push(FieldErrorKind::Invalid, path, show(value), detail);
    }

    fn not_supported(&mut self, path: &str, value: &Value, supported: &[&str]) {
        let names: Vec<String> = supported.iter().map(|s| quoted(s)).collect();
        let detail = format!("supported values: {}", names.join(", "));
        self.push(FieldErrorKind::NotSupported, path, show(value), detail);
    }
}

#[cfg(test)]
mod tests;
