//! What an object counts for in a ResourceQuota: which resources, how much, and whether a quota's scopes cover it. The
//! quota controller and the admission of new objects share it, so that both count alike. It decides nothing about
//! limits and knows no list of objects.
//!
//! [`Evaluator`] is a resource's way of counting; [`Counted`] is one object of it, in its typed form.

mod claim;
mod pod;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, Pod, ResourceQuota, ResourceQuotaSpec, ScopedResourceSelectorRequirement, Service,
};
use k8s_openapi::api::resource::v1::ResourceClaim;

use crate::object::StoredObject;
use crate::quantity::{Quantity, QuantityFormat};

pub use pod::{pod_limits, pod_requests};

/// Amounts by the names that a quota's `hard` uses.
pub type Usage = BTreeMap<String, Quantity>;

/// The name under which objects of a resource are counted: `count/deployments.apps`, `count/pods`.
pub fn object_count_name(group: &str, plural: &str) -> String {
    if group.is_empty() {
        format!("count/{plural}")
    } else {
        format!("count/{plural}.{group}")
    }
}

/// How the objects of one resource are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Evaluator {
    Pods,
    Services,
    PersistentVolumeClaims,
    ResourceClaims,
    /// Objects are counted, whatever they hold.
    Objects {
        count: String,
        /// The older name for the same number.
        alias: Option<&'static str>,
    },
}

impl Evaluator {
    /// The evaluator of a resource: every one can at least be counted.
    pub fn of(group: &str, plural: &str) -> Self {
        match (group, plural) {
            ("", "pods") => Self::Pods,
            ("", "services") => Self::Services,
            ("", "persistentvolumeclaims") => Self::PersistentVolumeClaims,
            ("resource.k8s.io", "resourceclaims") => Self::ResourceClaims,
            _ => Self::Objects {
                count: object_count_name(group, plural),
                alias: match (group, plural) {
                    ("", "configmaps") => Some("configmaps"),
                    ("", "resourcequotas") => Some("resourcequotas"),
                    ("", "replicationcontrollers") => Some("replicationcontrollers"),
                    ("", "secrets") => Some("secrets"),
                    _ => None,
                },
            },
        }
    }

    /// Whether objects of the resource count towards this name.
    pub fn tracks(&self, name: &str) -> bool {
        match self {
            Self::Pods => pod::tracks(name),
            Self::Services => matches!(
                name,
                "count/services" | "services" | "services.nodeports" | "services.loadbalancers"
            ),
            Self::PersistentVolumeClaims => claim::volume_claim_tracks(name),
            Self::ResourceClaims => claim::resource_claim_tracks(name),
            Self::Objects { count, alias } => name == count || Some(name) == *alias,
        }
    }

    /// Whether a write can change what an object counts for. A claim's status is such a write only if
    /// [its usage](Counted::usage) or scopes differ.
    pub fn is_charged(&self, creating: bool, subresource: &str) -> bool {
        match (self, subresource) {
            (Self::Pods, "resize") => !creating,
            (Self::Pods | Self::Objects { .. }, "") => creating,
            (Self::Services | Self::PersistentVolumeClaims | Self::ResourceClaims, "") => true,
            (Self::PersistentVolumeClaims, "status") => !creating,
            _ => false,
        }
    }

    /// The object as what it counts for.
    pub fn counted(&self, stored: &StoredObject) -> Result<Counted, serde_json::Error> {
        Ok(match self {
            Self::Pods => Counted::Pod(stored.typed()?),
            Self::Services => Counted::Service(stored.typed()?),
            Self::PersistentVolumeClaims => Counted::PersistentVolumeClaim(stored.typed()?),
            Self::ResourceClaims => Counted::ResourceClaim(stored.typed()?),
            Self::Objects { .. } => Counted::Object,
        })
    }

    /// What the object adds to every quota that covers it. Pods that have finished, or whose grace period is over at
    /// `now`, count as objects only.
    pub fn usage(&self, object: &Counted, now: Timestamp) -> Usage {
        match (self, object) {
            (_, Counted::Pod(pod)) => pod::usage(pod, now),
            (_, Counted::Service(service)) => service_usage(service),
            (_, Counted::PersistentVolumeClaim(claim)) => claim::volume_claim_usage(claim),
            (_, Counted::ResourceClaim(claim)) => claim::resource_claim_usage(claim),
            (Self::Objects { count, alias }, Counted::Object) => {
                let names = alias.iter().map(|a| (*a).to_owned()).chain([count.clone()]);
                names.map(|name| (name, one())).collect()
            }
            (_, Counted::Object) => Usage::new(),
        }
    }

    /// Whether the quota tracks something of the object and all its scopes cover it. `hard` is the list of names that
    /// the quota enforces: its status's in admission, its spec's when usage is computed.
    pub fn is_covered<'n>(
        &self,
        spec: &ResourceQuotaSpec,
        mut hard: impl Iterator<Item = &'n str>,
        object: &Counted,
    ) -> bool {
        hard.any(|name| self.tracks(name)) && scopes(spec).iter().all(|scope| object.is_in_scope(scope))
    }
}

/// An object in the form in which it is counted.
#[derive(Clone, Debug)]
pub enum Counted {
    Pod(std::sync::Arc<Pod>),
    Service(std::sync::Arc<Service>),
    PersistentVolumeClaim(std::sync::Arc<PersistentVolumeClaim>),
    ResourceClaim(std::sync::Arc<ResourceClaim>),
    /// Any other: it only has to be there.
    Object,
}

impl Counted {
    pub fn is_in_scope(&self, scope: &ScopedResourceSelectorRequirement) -> bool {
        match self {
            Self::Pod(pod) => pod::is_in_scope(pod, scope),
            Self::PersistentVolumeClaim(claim) => claim::is_in_scope(claim, scope),
            _ => false,
        }
    }

    /// Why the object cannot be charged: when a quota limits CPU or memory, every container has to say how much it
    /// wants. `required` are the names that the quota enforces.
    pub fn missing<'n>(&self, required: impl Iterator<Item = &'n str>) -> Option<String> {
        match self {
            Self::Pod(pod) => pod::missing(pod, required),
            _ => None,
        }
    }
}

/// The scopes of a quota in one form: plain scopes are those that have to exist.
pub fn scopes(spec: &ResourceQuotaSpec) -> Vec<ScopedResourceSelectorRequirement> {
    let plain = spec
        .scopes
        .iter()
        .flatten()
        .map(|scope| ScopedResourceSelectorRequirement {
            operator: "Exists".into(),
            scope_name: scope.clone(),
            values: None,
        });
    let selector = spec
        .scope_selector
        .iter()
        .flat_map(|s| s.match_expressions.iter().flatten());
    plain.chain(selector.cloned()).collect()
}

/// Adds `more` to `usage`, for the names that `usage` has.
pub fn add(usage: &mut Usage, more: &Usage) {
    for (name, amount) in more {
        if let Some(sum) = usage.get_mut(name) {
            *sum += *amount;
        }
    }
}

/// The names that the quota's spec limits.
pub fn hard_names(quota: &ResourceQuota) -> BTreeSet<String> {
    let hard = quota.spec.iter().flat_map(|s| s.hard.iter().flatten());
    hard.map(|(name, _)| name.clone()).collect()
}

fn one() -> Quantity {
    Quantity::new(1, QuantityFormat::DecimalSi)
}

/// What the values that an object has for a scope mean to a requirement on it.
fn selects(requirement: &ScopedResourceSelectorRequirement, value: Option<&str>) -> bool {
    let listed = || requirement.values.iter().flatten().any(|v| Some(v.as_str()) == value);
    match requirement.operator.as_str() {
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "In" => listed(),
        "NotIn" => !listed(),
        _ => false,
    }
}

fn service_usage(service: &Service) -> Usage {
    let count = |n: usize| Quantity::new(i64::try_from(n).unwrap_or(i64::MAX), QuantityFormat::DecimalSi);
    let spec = service.spec.as_ref();
    let ports = spec.and_then(|s| s.ports.as_deref()).unwrap_or_default();
    let (mut node_ports, mut balancers) = (0, 0);
    match spec.and_then(|s| s.type_.as_deref()) {
        Some("NodePort") => node_ports = ports.len(),
        Some("LoadBalancer") => {
            balancers = 1;
            // Ports are counted before they are allocated: it is the intent that counts.
            node_ports = if spec.and_then(|s| s.allocate_load_balancer_node_ports) == Some(false) {
                ports.iter().filter(|p| p.node_port.is_some_and(|n| n != 0)).count()
            } else {
                ports.len()
            };
        }
        _ => {}
    }
    [
        ("count/services", 1),
        ("services", 1),
        ("services.nodeports", node_ports),
        ("services.loadbalancers", balancers),
    ]
    .map(|(name, n)| (name.to_owned(), count(n)))
    .into()
}
