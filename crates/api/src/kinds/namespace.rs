//! Namespace: a scope for names. It is deleted in two steps: emptied by its controller, then gone when its own
//! finalizers (`spec.finalizers`) are.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cells::{age, age_of, name, str_of, text};
use super::fill::map_made;
use super::row::cluster;
use crate::field::{Cursor, ErrorList};
use crate::meta;
use crate::names;
use crate::object::Object;
use crate::resource::{Resource, Verbs};
use crate::strategy::{NameRule, Strategy};

pub(super) fn row() -> Resource {
    cluster("", "v1", "Namespace", "namespaces")
        .short(&["ns"])
        .verbs(Verbs::ALL.without(Verbs::DELETE_COLLECTION))
        .subresource("finalize", Verbs::UPDATE)
        .status()
        .fields(&["status.phase"])
        .columns([name(), text("Status", "The status of the namespace"), age()])
        .strategy(Namespace)
        .build()
}

struct Namespace;

/// A namespace can be selected by its name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

impl Strategy for Namespace {
    fn name_rule(&self) -> NameRule {
        NameRule::DnsLabel
    }

    fn set_defaults(&self, object: &mut Object) {
        label_with_name(object);
        if let Some(status) = map_made(&mut object.0, "status") {
            super::fill::fill_empty(status, "phase", "Active");
        }
    }

    fn prepare_for_create(&self, object: &mut Object) {
        // The name may have been generated since the defaults were set.
        label_with_name(object);
        object.set(&["status"], json!({"phase": "Active"}));
        let mut finalizers = object.array(&["spec", "finalizers"]).to_vec();
        if !finalizers.contains(&"kubernetes".into()) {
            finalizers.push("kubernetes".into());
        }
        object.set(&["spec", "finalizers"], finalizers);
    }

    /// Finalizers go through the `finalize` subresource.
    fn prepare_for_update(&self, new: &mut Object, old: &Object) {
        keep(new, old, &["spec", "finalizers"]);
    }

    fn prepare_for_subresource_update(&self, _name: &str, new: &mut Object, old: &Object) {
        let finalizers = new.array(&["spec", "finalizers"]).to_vec();
        keep(new, old, &["status"]);
        keep(new, old, &["spec"]);
        new.set(&["spec", "finalizers"], finalizers);
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        for finalizer in spec.at("finalizers").items() {
            errors.faults(&finalizer, names::qualified_name(finalizer.str()));
            meta::validate_standard_finalizer(&finalizer, errors);
        }
    }

    fn validate_update(&self, _new: &Cursor<'_>, _old: &Cursor<'_>, _errors: &mut ErrorList) {}

    fn validate_subresource_update(&self, _name: &str, new: &Cursor<'_>, _old: &Cursor<'_>, errors: &mut ErrorList) {
        self.validate(new, errors);
    }

    fn validate_status_update(&self, new: &Cursor<'_>, _old: &Cursor<'_>, errors: &mut ErrorList) {
        let status = new.at("status");
        let phase = status.at("phase");
        // Upstream's messages have a capital here.
        let place = status.said("Phase");
        let metadata = new.at("metadata");
        match (metadata.at("deletionTimestamp").is_set(), phase.str()) {
            (false, "Active") | (true, "Terminating") => {}
            (false, _) => errors.invalid_value(
                &place,
                &phase.str().into(),
                "may only be 'Active' if `deletionTimestamp` is empty",
            ),
            (true, _) => errors.invalid_value(
                &place,
                &phase.str().into(),
                "may only be 'Terminating' if `deletionTimestamp` is not empty",
            ),
        }
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            str_of(object, &["status", "phase"]),
            age_of(object, now),
        ]
    }
}

fn label_with_name(object: &mut Object) {
    let name = object.name().to_owned();
    if !name.is_empty() {
        object.set(&["metadata", "labels", NAME_LABEL], name);
    }
}

fn keep(new: &mut Object, old: &Object, path: &[&str]) {
    match old.get(path).cloned() {
        Some(value) => new.set(path, value),
        None => {
            new.remove(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{prepared, refuses, texts};
    use super::*;

    #[test]
    fn a_new_namespace_is_active_labelled_and_held() {
        assert_eq!(
            prepared(&row(), json!({"metadata": {"name": "a"}})),
            json!({
                "metadata": {"name": "a", "labels": {"kubernetes.io/metadata.name": "a"}},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
            })
        );
    }

    #[test]
    fn finalizers_are_checked_and_change_only_by_finalize() {
        refuses(
            &row(),
            &json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["example.com/x"]}}),
            &[(
                "/spec/finalizers/0",
                json!("x"),
                "spec.finalizers[0]: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully \
                 qualified",
            )],
        );
        let old = Object::from_value(json!({"spec": {"finalizers": ["kubernetes"]}})).unwrap();
        let mut new = Object::from_value(json!({"spec": {}})).unwrap();
        Namespace.prepare_for_update(&mut new, &old);
        assert_eq!(new, old);
    }

    #[test]
    fn the_phase_follows_deletion() {
        let check = |object: Value| {
            let mut errors = ErrorList::new();
            let row = row();
            row.strategy.validate_status_update(
                &Cursor::root(&object, Some(row.schema())),
                &Cursor::root(&object, None),
                &mut errors,
            );
            texts(&errors)
        };
        assert_eq!(check(json!({"status": {"phase": "Active"}})), [""; 0]);
        assert_eq!(
            check(json!({"status": {"phase": "Terminating"}})),
            ["status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"]
        );
    }
}
