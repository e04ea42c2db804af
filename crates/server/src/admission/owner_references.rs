//! OwnerReferencesPermissionEnforcement: who changes an object's owners must be allowed to delete it, and who lets it
//! hold up an owner's deletion must be allowed to change that owner's finalizers. Off by default, as upstream.

use async_trait::async_trait;
use coracle_api::object::Object;
use coracle_api::resource::split_api_version;
use coracle_api::status::Status;
use serde_json::Value;

use super::{Admission, Attributes, Operation};
use crate::authz::{Attributes as Question, Decision, ResourceAttributes};

pub(super) struct OwnerReferences;

const OWNERS: [&str; 2] = ["metadata", "ownerReferences"];

#[async_trait]
impl Admission for OwnerReferences {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        let pods_node = attributes.is_of("", "pods", "status");
        matches!(attributes.operation, Operation::Create | Operation::Update) && !pods_node
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        let before = attributes.old.map_or(&[][..], |o| o.array(&OWNERS));
        let after = object.array(&OWNERS);
        if before == after {
            return Ok(());
        }
        let delete = ResourceAttributes {
            group: attributes.row.group.to_string(),
            resource: attributes.row.plural.to_string(),
            subresource: attributes.target.subresource.clone(),
            namespace: attributes.target.namespace.clone(),
            name: attributes.name.clone(),
            ..ResourceAttributes::default()
        };
        if let Some(reason) = refused(attributes, "delete", delete).await? {
            return Err(attributes.forbidden(format!(
                "cannot set an ownerRef on a resource you can't delete: {reason}"
            )));
        }
        for owner in newly_blocking(before, after) {
            let text = |field: &str| owner.get(field).and_then(Value::as_str).unwrap_or_default();
            let table = attributes.core.registry.table();
            let Some(row) = table.by_api_version(text("apiVersion"), text("kind")) else {
                return Err(attributes.forbidden(format!(
                    "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {} Kind \
                     {}",
                    text("apiVersion"),
                    text("kind")
                )));
            };
            let finalizers = ResourceAttributes {
                group: split_api_version(text("apiVersion")).0.to_owned(),
                resource: row.plural.to_string(),
                subresource: "finalizers".into(),
                namespace: if row.is_namespaced() {
                    attributes.target.namespace.clone()
                } else {
                    String::new()
                },
                name: text("name").to_owned(),
                ..ResourceAttributes::default()
            };
            if let Some(reason) = refused(attributes, "update", finalizers).await? {
                return Err(attributes.forbidden(format!(
                    "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers \
                     on: {reason}"
                )));
            }
        }
        Ok(())
    }
}

/// Why the user may not, if so.
async fn refused(
    attributes: &Attributes<'_>,
    verb: &str,
    resource: ResourceAttributes,
) -> Result<Option<String>, Status> {
    let question = Question {
        user: attributes.user.clone(),
        verb: verb.into(),
        resource: Some(resource),
        path: String::new(),
    };
    Ok(match attributes.core.authorizer.authorize(&question).await? {
        Decision::Allow(_) => None,
        Decision::NoOpinion(reason) => Some(format!("{reason}, <nil>")),
    })
}

/// The references that hold up their owner's deletion now and did not before.
fn newly_blocking<'a>(before: &'a [Value], after: &'a [Value]) -> impl Iterator<Item = &'a Value> {
    let blocks = |r: &Value| r.get("blockOwnerDeletion").and_then(Value::as_bool) == Some(true);
    after.iter().filter(move |new| {
        let known = before.iter().find(|old| old.get("uid") == new.get("uid"));
        blocks(new) && !known.is_some_and(blocks)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_reference_blocks_anew_when_it_is_new_or_did_not_block() {
        let one = |uid: &str, block: bool| json!({"uid": uid, "blockOwnerDeletion": block});
        let before = [one("a", true), one("b", false)];
        let after = [one("a", true), one("b", true), one("c", true), one("d", false)];
        let uids: Vec<&str> = newly_blocking(&before, &after)
            .filter_map(|r| r.get("uid")?.as_str())
            .collect();
        assert_eq!(uids, ["b", "c"]);
    }
}
