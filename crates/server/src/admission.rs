//! Admission: what may still change or refuse a request after it has been authorized and decoded. One file per plugin;
//! this one owns their order.

mod admin_access;
mod always_pull_images;
mod certificate_requester;
mod certificates;
mod claim_resize;
mod default_classes;
mod default_tolerations;
mod extended_resources;
mod limit_ranger;
mod local_volume;
mod namespace_lifecycle;
mod node_restriction;
mod object_in_use;
mod owner_references;
mod pod_security;
mod priority;
mod resource_quota;
mod runtime_class;
mod service_account;
mod taint_nodes;
mod topology_labels;

use std::sync::Arc;

use async_trait::async_trait;
use coracle_api::object::Object;
use coracle_api::resource::Resource;
use coracle_api::service::{Target, UserInfo};
use coracle_api::status::Status;
use parking_lot::Mutex;

use crate::cache::store_failed;
use crate::core::Core;
use crate::options::AdmissionPlugins;
use crate::registry::{Call, read};

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
    /// Nothing will be written.
    pub dry_run: bool,
    /// What plugins tell the client without refusing.
    warnings: Mutex<Vec<String>>,
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
            dry_run: false,
            warnings: Mutex::default(),
        }
    }

    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    pub fn warn(&self, text: impl Into<String>) {
        self.warnings.lock().push(text.into());
    }

    pub fn into_warnings(self) -> Vec<String> {
        self.warnings.into_inner()
    }

    /// Whether it is about `group`'s `plural`, or its subresource.
    pub fn is_of(&self, group: &str, plural: &str, subresource: &str) -> bool {
        self.row.group == group && self.row.plural == plural && self.target.subresource == subresource
    }

    /// An object that decides about this one, as it is now: the store is asked, not the cache.
    pub async fn find(
        &self,
        group: &str,
        version: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Object>, Status> {
        let table = self.core.registry.table();
        let Some(row) = table.get(group, version, plural) else {
            return Ok(None);
        };
        let found = read::load(self.core, row, &row.key(namespace, name)).await?;
        Ok(found.map(|f| f.object))
    }

    /// The objects of a kind of which there are few, as they are now.
    pub async fn list(&self, group: &str, version: &str, plural: &str, namespace: &str) -> Result<Vec<Object>, Status> {
        let table = self.core.registry.table();
        let Some(row) = table.get(group, version, plural) else {
            return Ok(Vec::new());
        };
        let mut options = coracle_store::ListOptions {
            prefix: row.key_prefix(namespace),
            limit: LIST_PAGE,
            ..coracle_store::ListOptions::default()
        };
        let mut all = Vec::new();
        loop {
            let page = self
                .core
                .store
                .list(options.clone())
                .await
                .map_err(|e| store_failed(&e))?;
            for kv in &page.items {
                let stored = coracle_api::object::StoredObject::from_bytes(kv.value.clone(), kv.mod_revision);
                let mut object = stored.map_err(|e| Status::internal(e.to_string()))?.to_object();
                read::to_served(row, &mut object);
                all.push(object);
            }
            match page.items.last() {
                Some(last) if page.more => {
                    options.revision = Some(page.revision);
                    options.after = Some(last.key.to_string());
                }
                _ => return Ok(all),
            }
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

/// A plugin that can be switched: upstream's name, whether it is on unless said otherwise, and how it is made.
struct Plugin {
    name: &'static str,
    on: bool,
    make: fn(&AdmissionPlugins) -> Box<dyn Admission>,
}

/// What there is, in upstream's order, with upstream's default set (and NodeRestriction, which upstream's installers
/// switch on).
const PLUGINS: &[Plugin] = &[
    plugin("NamespaceLifecycle", true, |_| {
        Box::new(namespace_lifecycle::NamespaceLifecycle)
    }),
    plugin("LimitRanger", true, |_| Box::new(limit_ranger::LimitRanger)),
    plugin("ServiceAccount", true, |_| Box::new(service_account::ServiceAccount)),
    plugin("NodeRestriction", true, |_| Box::new(node_restriction::NodeRestriction)),
    plugin("TaintNodesByCondition", true, |_| {
        Box::new(taint_nodes::TaintNodesByCondition)
    }),
    plugin("AlwaysPullImages", false, |_| {
        Box::new(always_pull_images::AlwaysPullImages)
    }),
    plugin("PodSecurity", true, |options| {
        Box::new(pod_security::PodSecurity::new(&options.pod_security))
    }),
    plugin("Priority", true, |_| Box::new(priority::Priority)),
    plugin("DefaultTolerationSeconds", true, |_| {
        Box::new(default_tolerations::DefaultTolerationSeconds)
    }),
    plugin("ExtendedResourceToleration", false, |_| {
        Box::new(extended_resources::ExtendedResourceToleration)
    }),
    plugin("DefaultStorageClass", true, |_| {
        Box::new(default_classes::DefaultStorageClass)
    }),
    plugin("StorageObjectInUseProtection", true, |_| {
        Box::new(object_in_use::StorageObjectInUseProtection)
    }),
    plugin("OwnerReferencesPermissionEnforcement", false, |_| {
        Box::new(owner_references::OwnerReferences)
    }),
    plugin("PersistentVolumeClaimResize", true, |_| {
        Box::new(claim_resize::PersistentVolumeClaimResize)
    }),
    plugin("RuntimeClass", true, |_| Box::new(runtime_class::RuntimeClass)),
    plugin("CertificateApproval", true, |_| {
        Box::new(certificates::CertificateApproval)
    }),
    plugin("CertificateSigning", true, |_| {
        Box::new(certificates::CertificateSigning)
    }),
    plugin("CertificateSubjectRestriction", true, |_| {
        Box::new(certificates::CertificateSubjectRestriction)
    }),
    plugin("DefaultIngressClass", true, |_| {
        Box::new(default_classes::DefaultIngressClass)
    }),
    plugin("PodTopologyLabels", true, |_| {
        Box::new(topology_labels::PodTopologyLabels)
    }),
    plugin(
        "ResourceQuota",
        true,
        |_| Box::new(resource_quota::ResourceQuota::new()),
    ),
];

/// What is no choice: upstream has it outside of admission, or this server alone has it.
const ALWAYS: &[fn() -> Box<dyn Admission>] = &[
    || Box::new(admin_access::AdminAccess),
    || Box::new(certificate_requester::CertificateRequester),
    || Box::new(certificates::PodCertificates),
    || Box::new(local_volume::LocalVolume),
];

const fn plugin(name: &'static str, on: bool, make: fn(&AdmissionPlugins) -> Box<dyn Admission>) -> Plugin {
    Plugin { name, on, make }
}

/// How many objects are read at a time from the store.
const LIST_PAGE: usize = 500;

/// The plugins that are on, in their order.
pub(crate) struct Chain {
    plugins: Vec<Box<dyn Admission>>,
}

impl Chain {
    /// The default set, changed as the options say.
    pub fn new(options: &AdmissionPlugins) -> Result<Self, String> {
        for (flag, names) in [
            ("enable-admission-plugins", &options.enable),
            ("disable-admission-plugins", &options.disable),
        ] {
            if let Some(unknown) = names.iter().find(|n| !PLUGINS.iter().any(|p| p.name == n.as_str())) {
                let known: Vec<&str> = PLUGINS.iter().map(|p| p.name).collect();
                return Err(format!(
                    "{flag} plugin {unknown:?} is unknown: there are {}",
                    known.join(", ")
                ));
            }
        }
        let both: Vec<&str> = options
            .enable
            .iter()
            .filter(|n| options.disable.contains(n))
            .map(String::as_str)
            .collect();
        if !both.is_empty() {
            return Err(format!(
                "{} in enable-admission-plugins and disable-admission-plugins overlapped",
                both.join(", ")
            ));
        }
        let named = |names: &[String], plugin: &Plugin| names.iter().any(|n| n == plugin.name);
        let plugins = PLUGINS
            .iter()
            .filter(|p| (p.on || named(&options.enable, p)) && !named(&options.disable, p))
            .map(|p| (p.make)(options))
            .chain(ALWAYS.iter().map(|make| make()))
            .collect();
        Ok(Self { plugins })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(enable: &[&str], disable: &[&str]) -> Result<Chain, String> {
        let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        Chain::new(&AdmissionPlugins {
            enable: owned(enable),
            disable: owned(disable),
            ..AdmissionPlugins::default()
        })
    }

    #[test]
    fn plugins_are_switched_by_name_and_nonsense_is_refused() {
        // Besides these there are some that cannot be switched.
        let on = chain(&[], &[]).unwrap().plugins.len();
        assert!(on >= PLUGINS.iter().filter(|p| p.on).count());
        assert_eq!(
            chain(&["AlwaysPullImages"], &["PodSecurity", "Priority"])
                .unwrap()
                .plugins
                .len(),
            on - 1
        );
        let unknown = chain(&["Nonsense"], &[]).err().unwrap();
        assert!(
            unknown.starts_with("enable-admission-plugins plugin \"Nonsense\" is unknown"),
            "{unknown}"
        );
        let both = chain(&["Priority"], &["Priority"]).err().unwrap();
        assert_eq!(
            both,
            "Priority in enable-admission-plugins and disable-admission-plugins overlapped"
        );
    }
}
