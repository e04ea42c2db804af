//! Who asks for devices as an administrator, that others have already, asks in a namespace that is meant for it.

use async_trait::async_trait;
use coracle_api::field::{FieldError, FieldErrorKind};
use coracle_api::object::Object;
use coracle_api::status::Status;
use serde_json::Value;

use super::{Admission, Attributes, Operation};

const GROUP: &str = "resource.k8s.io";
const LABEL: &str = "resource.kubernetes.io/admin-access";

pub(super) struct AdminAccess;

#[async_trait]
impl Admission for AdminAccess {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create
            && (attributes.is_of(GROUP, "resourceclaims", "") || attributes.is_of(GROUP, "resourceclaimtemplates", ""))
    }

    async fn validate(&self, attributes: &Attributes<'_>, claim: Option<&Object>) -> Result<(), Status> {
        if !claim.is_some_and(asks_as_administrator) {
            return Ok(());
        }
        let namespace = attributes
            .find("", "v1", "namespaces", "", &attributes.target.namespace)
            .await?;
        if namespace.is_some_and(|n| n.label(LABEL) == Some("true")) {
            return Ok(());
        }
        let error = FieldError {
            kind: FieldErrorKind::Forbidden,
            path: String::new(),
            value: String::new(),
            detail: format!("admin access to devices requires the `{LABEL}: true` label on the containing namespace"),
        };
        let (group, kind) = (&attributes.row.group, &attributes.row.kind);
        Err(Status::invalid(group, kind, &attributes.name, &[error]))
    }
}

/// Of a claim, or of a template's.
fn asks_as_administrator(claim: &Object) -> bool {
    [
        &["spec", "devices", "requests"][..],
        &["spec", "spec", "devices", "requests"],
    ]
    .into_iter()
    .flat_map(|path| claim.array(path))
    .any(|request| request.pointer("/exactly/adminAccess") == Some(&Value::Bool(true)))
}
