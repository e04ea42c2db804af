//! ControllerRevision: a snapshot of a template, which StatefulSet and DaemonSet roll back to.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, int_of, name, text};
use super::check::{immutable, not_negative};
use super::row::namespaced;
use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::resource::{Resource, split_api_version};
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("apps", "v1", "ControllerRevision", "controllerrevisions")
        .columns([
            name(),
            text("Controller", "Controller of the object"),
            text("Revision", "The number of the revision."),
            age(),
        ])
        .strategy(ControllerRevision)
        .build()
}

struct ControllerRevision;

impl Strategy for ControllerRevision {
    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let data = object.at("data");
        if !data.is_set() {
            errors.required(&data, "data is mandatory");
        }
        not_negative(&object.at("revision"), errors);
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        self.validate(new, errors);
        immutable(&new.at("data"), &old.at("data"), errors);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            controller(object).into(),
            int_of(object, &["revision"]).into(),
            age_of(object, now),
        ]
    }
}

/// `statefulset.apps/web`, from the owner that is the controller.
fn controller(object: &Object) -> String {
    let owners = object.array(&["metadata", "ownerReferences"]);
    let controller = owners.iter().find(|o| o.get("controller") == Some(&Value::Bool(true)));
    let Some(owner) = controller else {
        return "<none>".to_owned();
    };
    let field = |name| owner.get(name).and_then(Value::as_str).unwrap_or_default();
    let kind = field("kind").to_lowercase();
    let (group, _) = split_api_version(field("apiVersion"));
    let name = field("name");
    if group.is_empty() {
        format!("{kind}/{name}")
    } else {
        format!("{kind}.{group}/{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_controller_is_told_by_kind_group_and_name() {
        let revision =
            |owners: Value| Object::from_value(json!({"metadata": {"name": "r", "ownerReferences": owners}})).unwrap();
        assert_eq!(controller(&revision(json!([]))), "<none>");
        let owner = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "controller": true});
        assert_eq!(controller(&revision(json!([owner]))), "statefulset.apps/web");
    }
}
