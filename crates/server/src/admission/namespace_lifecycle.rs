//! NamespaceLifecycle: nothing is created in a namespace that is absent or going, and the system's own namespaces stay.

use async_trait::async_trait;
use coracle_api::object::Object;
use coracle_api::status::{Cause, Details, Of, Status};

use super::{Admission, Attributes, Operation};
use crate::registry::read;

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) struct NamespaceLifecycle;

#[async_trait]
impl Admission for NamespaceLifecycle {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        match attributes.operation {
            Operation::Delete => attributes.is("namespaces"),
            Operation::Create => attributes.row.is_namespaced(),
            Operation::Update => false,
        }
    }

    async fn validate(&self, attributes: &Attributes<'_>, _object: Option<&Object>) -> Result<(), Status> {
        if attributes.operation == Operation::Delete {
            if IMMORTAL.contains(&attributes.name.as_str()) {
                return Err(attributes.forbidden("this namespace may not be deleted"));
            }
            return Ok(());
        }
        // Asking what one may do in a namespace does not need the namespace.
        if attributes.row.group == "authorization.k8s.io" {
            return Ok(());
        }
        let name = attributes.target.namespace.as_str();
        let terminating = match namespace(attributes, name).await? {
            Some(terminating) => terminating,
            None => {
                return Err(Status::not_found(
                    Of {
                        group: "",
                        plural: "namespaces",
                    },
                    name,
                ));
            }
        };
        if !terminating {
            return Ok(());
        }
        let why = format!("unable to create new content in namespace {name} because it is being terminated");
        let mut status = attributes.forbidden(why);
        let details = status.details.get_or_insert_with(|| Box::new(Details::default()));
        details.causes.push(Cause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {name} is being terminated"),
            field: "metadata.namespace".into(),
        });
        Err(status)
    }
}

/// Whether a namespace is terminating; `None` if there is none.
async fn namespace(attributes: &Attributes<'_>, name: &str) -> Result<Option<bool>, Status> {
    let core = attributes.core;
    let table = core.registry.table();
    let Some(row) = table.get("", "v1", "namespaces") else {
        return Ok(Some(false));
    };
    let key = row.key("", name);
    // The store is asked, not the cache: what was created a moment ago counts.
    if let Some(known) = read::load_stored(core, &key).await? {
        return Ok(Some(known.head().terminating));
    }
    Ok(None)
}
