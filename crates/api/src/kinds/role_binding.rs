//! RoleBinding and ClusterRoleBinding: who may do what a role says.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, text};
use super::fill::{at, each, fill_empty};
use super::row::{Row, cluster, namespaced};
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::{NameRule, Strategy};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn role_binding_row() -> Resource {
    shared(
        namespaced(GROUP, "v1", "RoleBinding", "rolebindings"),
        RoleBinding { namespaced: true },
    )
}

pub(super) fn cluster_role_binding_row() -> Resource {
    shared(
        cluster(GROUP, "v1", "ClusterRoleBinding", "clusterrolebindings"),
        RoleBinding { namespaced: false },
    )
}

fn shared(row: Row, binding: RoleBinding) -> Resource {
    row.create_on_update()
        .columns([
            name(),
            text("Role", "The role that is granted."),
            age(),
            text("Users", "Users in the binding").wide(),
            text("Groups", "Groups in the binding").wide(),
            text("ServiceAccounts", "ServiceAccounts in the binding").wide(),
        ])
        .strategy(binding)
        .build()
}

struct RoleBinding {
    namespaced: bool,
}

impl Strategy for RoleBinding {
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn set_defaults(&self, object: &mut Object) {
        if let Some(role) = at(&mut object.0, "roleRef") {
            fill_empty(role, "apiGroup", GROUP);
        }
        each(&mut object.0, "subjects", |subject| {
            if matches!(subject.get("kind").and_then(Value::as_str), Some("User" | "Group")) {
                fill_empty(subject, "apiGroup", GROUP);
            }
        });
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let role = object.at("roleRef");
        let group = role.at("apiGroup");
        if group.str() != GROUP {
            errors.not_supported_value(&group, &group.str().into(), &[GROUP]);
        }
        let kind = role.at("kind");
        let kinds: &[&str] = if self.namespaced {
            &["Role", "ClusterRole"]
        } else {
            &["ClusterRole"]
        };
        if !kinds.contains(&kind.str()) {
            errors.not_supported_value(&kind, &kind.str().into(), kinds);
        }
        let name = role.at("name");
        if name.is_empty() {
            errors.required(&name, "");
        } else {
            errors.faults(&name, names::path_segment(name.str()));
        }
        for subject in object.at("subjects").items() {
            self.subject(&subject, errors);
        }
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        self.validate(new, errors);
        let (role, old_role) = (new.at("roleRef"), old.at("roleRef"));
        if role.value() != old_role.value() {
            errors.invalid(&role, "cannot change roleRef");
        }
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let role = |field| object.str(&["roleRef", field]).unwrap_or_default();
        vec![
            object.name().into(),
            format!("{}/{}", role("kind"), role("name")).into(),
            age_of(object, now),
            subjects(object, "User").into(),
            subjects(object, "Group").into(),
            subjects(object, "ServiceAccount").into(),
        ]
    }
}

impl RoleBinding {
    fn subject(&self, subject: &Cursor<'_>, errors: &mut ErrorList) {
        let (name, group) = (subject.at("name"), subject.at("apiGroup"));
        if name.is_empty() {
            errors.required(&name, "");
        }
        let kind = subject.at("kind");
        match kind.str() {
            "ServiceAccount" => {
                if !name.is_empty() {
                    errors.faults(&name, names::dns1123_subdomain(name.str()));
                }
                if !group.is_empty() {
                    errors.not_supported(&group, &[""]);
                }
                let namespace = subject.at("namespace");
                if namespace.is_empty() && !self.namespaced {
                    errors.required(&namespace, "");
                }
            }
            "User" | "Group" => {
                if name.is_empty() {
                    let why = format!("{} name cannot be empty", kind.str().to_lowercase());
                    errors.invalid_value(&name, &"".into(), why);
                }
                if group.str() != GROUP {
                    errors.not_supported(&group, &[GROUP]);
                }
            }
            _ => errors.not_supported_value(&kind, &kind.str().into(), &["ServiceAccount", "User", "Group"]),
        }
    }
}

/// The names of the subjects of one kind; service accounts with their namespace.
fn subjects(object: &Object, kind: &str) -> String {
    let names: Vec<String> = object
        .array(&["subjects"])
        .iter()
        .filter(|s| s.get("kind").and_then(Value::as_str) == Some(kind))
        .map(|s| {
            let field = |name| s.get(name).and_then(Value::as_str).unwrap_or_default();
            if kind == "ServiceAccount" && !field("namespace").is_empty() {
                format!("{}/{}", field("namespace"), field("name"))
            } else {
                field("name").to_owned()
            }
        })
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{created, defaulted, refuses, refuses_update, with};
    use super::*;
    use serde_json::json;

    #[test]
    fn role_and_subjects_are_checked() {
        let valid = json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "view"}, "subjects": [
            {"kind": "User", "name": "ada"}, {"kind": "ServiceAccount", "name": "a", "namespace": "n"}]});
        let row = cluster_role_binding_row();
        let object = defaulted(&row, valid.clone());
        assert_eq!(object["roleRef"]["apiGroup"], GROUP);
        assert_eq!(object["subjects"][0]["apiGroup"], GROUP);
        assert_eq!(object["subjects"][1].get("apiGroup"), None);
        refuses(
            &row,
            &valid,
            &[
                (
                    "/roleRef/kind",
                    json!("Role"),
                    "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
                ),
                ("/roleRef/name", json!(""), "roleRef.name: Required value"),
                (
                    "/subjects/0/kind",
                    json!("Robot"),
                    "subjects[0].kind: Unsupported value: \"Robot\": supported values: \"ServiceAccount\", \"User\", \
                     \"Group\"",
                ),
                ("/subjects/1/name", json!(""), "subjects[1].name: Required value"),
                (
                    "/subjects/1/namespace",
                    json!(""),
                    "subjects[1].namespace: Required value",
                ),
            ],
        );
        for (kind, word) in [("User", "user"), ("Group", "group")] {
            let nobody = with(&valid, "/subjects/0", json!({"kind": kind, "name": ""}));
            assert_eq!(
                created(&row, nobody),
                [
                    "subjects[0].name: Required value".to_owned(),
                    format!("subjects[0].name: Invalid value: \"\": {word} name cannot be empty"),
                ]
            );
        }
        refuses_update(
            &row,
            &valid,
            &[(
                "/roleRef/name",
                json!("edit"),
                "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\
                 \"name\":\"edit\"}: cannot change roleRef",
            )],
        );
    }

    #[test]
    fn the_wide_table_sorts_subjects_by_kind() {
        let binding = Object::from_value(json!({
            "metadata": {"name": "b"},
            "roleRef": {"kind": "ClusterRole", "name": "view"},
            "subjects": [
                {"kind": "User", "name": "ada"}, {"kind": "User", "name": "bob"}, {"kind": "Group", "name": "ops"},
                {"kind": "ServiceAccount", "name": "default", "namespace": "kube-system"},
            ],
        }))
        .unwrap();
        assert_eq!(
            Value::from(RoleBinding { namespaced: true }.cells(&binding, Timestamp::UNIX_EPOCH)),
            json!([
                "b",
                "ClusterRole/view",
                "<unknown>",
                "ada, bob",
                "ops",
                "kube-system/default"
            ])
        );
    }
}
