//! Which slices a service needs, made of those that it has with as few writes as possible: an endpoint stays where it
//! is, slices that change anyway are filled first, and slices that are to go are used again. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::endpoint::{Family, cluster_ip, endpoint, families, is_endpoint, is_headless, ports, publishes_not_ready};
use super::hints;
use super::topology::Ratios;
use crate::owner::controller_reference;

pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub const HEADLESS: &str = "service.kubernetes.io/headless";
pub const CONTROLLER: &str = "endpointslice-controller.k8s.io";
/// So many endpoints a slice.
pub const CAPACITY: usize = 100;

/// What to write. Slices to create have no name of their own yet.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    pub create: Vec<EndpointSlice>,
    pub update: Vec<EndpointSlice>,
    pub delete: Vec<Arc<EndpointSlice>>,
    /// Whether topology mode could be followed, and what to tell people of it.
    pub told: Vec<(bool, String)>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.create.is_empty() && self.update.is_empty() && self.delete.is_empty()
    }

    fn add(&mut self, other: Self) {
        self.create.extend(other.create);
        self.update.extend(other.update);
        self.delete.extend(other.delete);
        self.told.extend(other.told);
    }

    /// Uses slices that would go in the place of new ones.
    pub fn recycle(&mut self, may: impl Fn(&EndpointSlice, &EndpointSlice) -> bool) {
        let mut kept = Vec::new();
        for going in std::mem::take(&mut self.delete) {
            match self.create.pop_if(|new| may(&going, new)) {
                Some(mut slice) => {
                    slice.metadata.name.clone_from(&going.metadata.name);
                    slice
                        .metadata
                        .resource_version
                        .clone_from(&going.metadata.resource_version);
                    slice.metadata.generate_name = None;
                    self.update.push(slice);
                }
                None => kept.push(going),
            }
        }
        self.delete = kept;
    }
}

/// What makes two endpoints the same one, whatever their state: addresses and target.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Identity {
    addresses: Vec<String>,
    target: Option<(Option<String>, Option<String>, Option<String>)>,
}

pub(crate) fn identity(endpoint: &Endpoint) -> Identity {
    let mut addresses = endpoint.addresses.clone();
    addresses.sort();
    let target = endpoint.target_ref.as_ref();
    Identity {
        addresses,
        target: target.map(|t| (t.kind.clone(), t.namespace.clone(), t.name.clone())),
    }
}

/// Ports in one order, to be compared and to group by.
pub(crate) type PortKey = Vec<(Option<String>, Option<String>, Option<i32>, Option<String>)>;

pub(crate) fn port_key(ports: &[EndpointPort]) -> PortKey {
    let mut key: PortKey = ports
        .iter()
        .map(|p| (p.name.clone(), p.protocol.clone(), p.port, p.app_protocol.clone()))
        .collect();
    key.sort();
    key
}

/// Whether two states of one endpoint say the same. Hints are set later and do not count.
pub(crate) fn says_the_same(a: &Endpoint, b: &Endpoint) -> bool {
    let target = |e: &Endpoint| e.target_ref.as_ref().and_then(|t| t.uid.clone());
    a.conditions == b.conditions
        && a.hostname == b.hostname
        && a.node_name == b.node_name
        && a.zone == b.zone
        && target(a) == target(b)
}

pub(crate) fn is_owned_by(slice: &EndpointSlice, owner: &ObjectMeta) -> bool {
    let references = slice.metadata.owner_references.iter().flatten();
    references.into_iter().any(|r| Some(&r.uid) == owner.uid.as_ref())
}

/// A name's beginning: with a dash, if there is room for what the server appends.
pub(crate) fn name_prefix(owner: &str) -> String {
    if owner.len() < 253 {
        format!("{owner}-")
    } else {
        owner.to_owned()
    }
}

/// The labels of the service's slices: the service's own, and those that say whose they are.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if cluster_ip(service).is_empty() || is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(SERVICE_NAME.into(), service.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    labels
}

fn new_slice(service: &Service, family: Family, ports: Vec<EndpointPort>) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(name_prefix(service.metadata.name.as_deref().unwrap_or_default())),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            owner_references: Some(vec![controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.name().into(),
        endpoints: Some(Vec::new()),
        ports: Some(ports),
    }
}

/// Brings the service's slices in line with its pods. Pods of nodes that nobody knows are left out, unless the service
/// publishes whatever there is. `ratios` matter to services in topology mode only.
pub fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    slices: &[Arc<EndpointSlice>],
    node: impl Fn(&str) -> Option<Arc<Node>>,
    ratios: &Ratios,
) -> Plan {
    let families = families(service);
    let mut plan = Plan::default();
    let is_wanted = |s: &EndpointSlice| families.iter().any(|f| f.name() == s.address_type);
    let (wanted, unwanted): (Vec<_>, Vec<_>) = slices.iter().cloned().partition(|s| is_wanted(s));
    for family in &families {
        let existing: Vec<_> = wanted
            .iter()
            .filter(|s| s.address_type == family.name())
            .cloned()
            .collect();
        plan.add(plan_family(service, pods, existing, &node, *family, ratios));
    }
    plan.delete.extend(unwanted);
    plan.recycle(|going, new| going.address_type == new.address_type && is_owned_by(going, &service.metadata));
    if service.metadata.deletion_timestamp.is_some() {
        // The garbage collector is about to delete them.
        plan.create.clear();
    }
    plan
}

struct Desired {
    ports: Vec<EndpointPort>,
    endpoints: BTreeMap<Identity, Endpoint>,
}

fn plan_family(
    service: &Service,
    pods: &[Arc<Pod>],
    existing: Vec<Arc<EndpointSlice>>,
    node: &impl Fn(&str) -> Option<Arc<Node>>,
    family: Family,
    ratios: &Ratios,
) -> Plan {
    let mut plan = Plan::default();
    let mut groups: BTreeMap<PortKey, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in &existing {
        if is_owned_by(slice, &service.metadata) {
            let key = port_key(slice.ports.as_deref().unwrap_or_default());
            groups.entry(key).or_default().push(slice.clone());
        } else {
            plan.delete.push(slice.clone());
        }
    }
    let mut desired: BTreeMap<PortKey, Desired> = BTreeMap::new();
    for pod in pods.iter().filter(|p| is_endpoint(p, true)) {
        let ports = ports(pod, service);
        let group = desired.entry(port_key(&ports)).or_insert_with(|| Desired {
            ports,
            endpoints: BTreeMap::new(),
        });
        let on = node(crate::pods::node_name(pod));
        if on.is_none() && !publishes_not_ready(service) {
            continue;
        }
        let endpoint = endpoint(pod, on.as_deref(), service, family);
        if !endpoint.addresses.is_empty() {
            group.endpoints.insert(identity(&endpoint), endpoint);
        }
    }
    for (key, group) in desired {
        let slices = groups.remove(&key).unwrap_or_default();
        plan.add(place(service, family, slices, group));
    }
    plan.delete.extend(groups.into_values().flatten());
    if plan.create.is_empty() && plan.delete.len() == existing.len() {
        keep_a_placeholder(&mut plan, new_slice(service, family, Vec::new()));
    }
    let touched = |slice: &EndpointSlice, plan: &Plan| {
        let name = &slice.metadata.name;
        plan.update.iter().any(|s| s.metadata.name == *name) || plan.delete.iter().any(|s| s.metadata.name == *name)
    };
    let unchanged: Vec<_> = existing.into_iter().filter(|s| !touched(s, &plan)).collect();
    hints::set(service, &mut plan, &unchanged, ratios, family.name());
    plan
}

/// A service without endpoints still has one slice, which says so.
fn keep_a_placeholder(plan: &mut Plan, placeholder: EndpointSlice) {
    if let [only] = plan.delete.as_slice() {
        let same = only.endpoints.as_ref().is_none_or(Vec::is_empty)
            && only.ports.as_ref().is_none_or(Vec::is_empty)
            && only.metadata.labels == placeholder.metadata.labels
            && only.metadata.owner_references == placeholder.metadata.owner_references;
        if same {
            plan.delete.clear();
            return;
        }
    }
    plan.create.push(placeholder);
}

/// Places the endpoints that have one set of ports.
fn place(service: &Service, family: Family, existing: Vec<Arc<EndpointSlice>>, desired: Desired) -> Plan {
    let Desired { ports, mut endpoints } = desired;
    let labels = labels(service);
    let mut plan = Plan::default();
    let mut unchanged = Vec::new();
    // What is placed stays; what has gone leaves.
    for slice in existing {
        let before = slice.endpoints.as_deref().unwrap_or_default();
        let mut differs = false;
        let mut kept = Vec::with_capacity(before.len());
        for old in before {
            if let Some(new) = endpoints.remove(&identity(old)) {
                differs |= !says_the_same(old, &new);
                kept.push(new);
            }
        }
        differs |= kept.len() != before.len();
        if differs && kept.is_empty() {
            plan.delete.push(slice);
        } else if differs || slice.metadata.labels.as_ref() != Some(&labels) {
            let mut changed = (*slice).clone();
            changed.endpoints = Some(kept);
            changed.metadata.labels = Some(labels.clone());
            plan.update.push(changed);
        } else {
            unchanged.push(slice);
        }
    }
    let mut left = endpoints.into_values();
    // Slices that are written anyway take the new ones first, the fullest before the others.
    let size = |s: &EndpointSlice| s.endpoints.as_ref().map_or(0, Vec::len);
    plan.update.sort_by_key(|s| std::cmp::Reverse(size(s)));
    for slice in &mut plan.update {
        fill(slice, &mut left);
    }
    // Few that are left go into the one slice that has just enough room; else new slices are made.
    let mut left: Vec<Endpoint> = left.collect();
    while !left.is_empty() {
        let room = |s: &EndpointSlice| CAPACITY.checked_sub(size(s) + left.len());
        let fitting = unchanged.iter().enumerate().filter_map(|(at, s)| Some((room(s)?, at)));
        let best = fitting.min();
        let mut rest = std::mem::take(&mut left).into_iter();
        match best {
            Some((_, at)) => {
                let mut slice = (*unchanged.swap_remove(at)).clone();
                fill(&mut slice, &mut rest);
                plan.update.push(slice);
            }
            None => {
                let mut slice = new_slice(service, family, ports.clone());
                fill(&mut slice, &mut rest);
                plan.create.push(slice);
            }
        }
        left = rest.collect();
    }
    plan
}

fn fill(slice: &mut EndpointSlice, from: &mut impl Iterator<Item = Endpoint>) {
    let endpoints = slice.endpoints.get_or_insert_default();
    let room = CAPACITY.saturating_sub(endpoints.len());
    endpoints.extend(from.take(room));
}
