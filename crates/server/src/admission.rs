//! Admission: what may still change or refuse a request after it has been authorized and decoded. One file per plugin;
//! this one owns their order.

mod certificate_requester;
mod default_tolerations;
mod local_volume;
mod namespace_lifecycle;
mod node_restriction;
mod priority;
mod service_account;

use std::sync::Arc;

use async_trait::async_trait;
use coracle_api::object::Object;
use coracle_api::resource::Resource;
use coracle_api::service::{Target, UserInfo};
use coracle_api::status::Status;

use crate::core::Core;
use crate::registry::Call;

/// What a request does to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
}

/// A request as admission sees it.
pub(crate) struct Attributes<'a> {
    pub core: &'a Arc<Core>,
    pub user: &'a UserInfo,
    pub target: &'a Target,
    pub row: &'a Resource,
    pub operation: Operation,
    /// The object's name, also where the path has none.
    pub name: String,
    pub old: Option<&'a Object>,
}

impl<'a> Attributes<'a> {
    pub fn new(call: &'a Call<'_>, operation: Operation, name: &str, old: Option<&'a Object>) -> Attributes<'a> {
        Attributes {
            core: call.core,
            user: call.user,
            target: &call.target,
            row: &call.row,
            operation,
            name: name.to_owned(),
            old,
        }
    }

    /// Whether it is about the core group's `plural` itself.
    pub fn is(&self, plural: &str) -> bool {
        self.row.group.is_empty() && self.row.plural == plural && self.target.subresource.is_empty()
    }

    /// A refusal in upstream's form.
    pub fn forbidden(&self, why: impl AsRef<str>) -> Status {
        let of = coracle_api::status::Of {
            group: &self.row.group,
            plural: &self.row.plural,
        };
        Status::forbidden(of, &self.name, why.as_ref())
    }
}

/// One plugin.
#[async_trait]
pub(crate) trait Admission: Send + Sync {
    /// Whether the plugin has anything to do with the request.
    fn handles(&self, attributes: &Attributes<'_>) -> bool;

    /// Changes the object, and says whether it did.
    async fn mutate(&self, _attributes: &Attributes<'_>, _object: &mut Object) -> Result<bool, Status> {
        Ok(false)
    }

    /// Refuses the request, or not. There is no object when one is deleted.
    async fn validate(&self, _attributes: &Attributes<'_>, _object: Option<&Object>) -> Result<(), Status> {
        Ok(())
    }
}

/// All plugins in their order.
pub(crate) struct Chain {
    plugins: Vec<Box<dyn Admission>>,
}

impl Chain {
    pub fn built_in() -> Self {
        Self {
            plugins: vec![
                Box::new(namespace_lifecycle::NamespaceLifecycle),
                Box::new(service_account::ServiceAccount),
                Box::new(default_tolerations::DefaultTolerationSeconds),
                Box::new(priority::Priority),
                Box::new(node_restriction::NodeRestriction),
                Box::new(local_volume::LocalVolume),
                Box::new(certificate_requester::CertificateRequester),
            ],
        }
    }

    /// Lets every plugin change the object; whether one did.
    pub async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Object) -> Result<bool, Status> {
        let mut changed = false;
        for plugin in &self.plugins {
            if plugin.handles(attributes) {
                changed |= plugin.mutate(attributes, object).await?;
            }
        }
        Ok(changed)
    }

    pub async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>) -> Result<(), Status> {
        for plugin in &self.plugins {
            if plugin.handles(attributes) {
                plugin.validate(attributes, object).await?;
            }
        }
        Ok(())
    }
}
