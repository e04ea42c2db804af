//! The slices that say what an Endpoints object says: one for each set of ports and family of addresses. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort as Port, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::endpoint_slice::endpoint::Family;
use crate::endpoint_slice::plan::{
    Identity, MANAGED_BY, Plan, PortKey, SERVICE_NAME, identity, is_owned_by, name_prefix, port_key, says_the_same,
};
use crate::endpoint_slice::trigger;
use crate::owner::controller_reference;

pub const CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";
/// So many addresses of a subset are mirrored.
pub const CAPACITY: usize = 1000;
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What to write, and what could not be mirrored.
#[derive(Debug, Default)]
pub struct Mirror {
    pub plan: Plan,
    pub invalid: usize,
    /// Beyond the capacity of a subset, or invalid.
    pub skipped: usize,
}

type Desired = (Vec<EndpointPort>, BTreeMap<Identity, Endpoint>);

pub fn plan(endpoints: &Endpoints, slices: &[Arc<EndpointSlice>]) -> Mirror {
    let mut mirror = Mirror::default();
    let mut desired: BTreeMap<(PortKey, Family), Desired> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports = ports(subset.ports.as_deref().unwrap_or_default());
        let ready = subset.addresses.iter().flatten().map(|a| (a, true));
        let not_ready = subset.not_ready_addresses.iter().flatten().map(|a| (a, false));
        let mut added = 0;
        for (address, ready) in ready.chain(not_ready) {
            if added >= CAPACITY {
                mirror.skipped += 1;
                continue;
            }
            let Ok(ip) = address.ip.parse::<IpAddr>() else {
                mirror.invalid += 1;
                mirror.skipped += 1;
                continue;
            };
            added += 1;
            let endpoint = endpoint(address, ip, ready);
            let key = (port_key(&ports), Family::of(ip));
            let (_, group) = desired.entry(key).or_insert_with(|| (ports.clone(), BTreeMap::new()));
            group.insert(identity(&endpoint), endpoint);
        }
    }
    let mut existing: BTreeMap<(PortKey, String), Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in slices {
        let key = port_key(slice.ports.as_deref().unwrap_or_default());
        existing
            .entry((key, slice.address_type.clone()))
            .or_default()
            .push(slice.clone());
    }
    for ((key, family), (ports, group)) in desired {
        let have = existing.remove(&(key, family.name().to_owned())).unwrap_or_default();
        keep_one(&mut mirror.plan, endpoints, have, family, ports, group);
    }
    mirror.plan.delete.extend(existing.into_values().flatten());
    mirror
        .plan
        .recycle(|going, new| going.address_type == new.address_type && is_owned_by(going, &endpoints.metadata));
    if endpoints.metadata.deletion_timestamp.is_some() {
        mirror.plan.create.clear();
    }
    mirror
}

fn keep_one(
    plan: &mut Plan,
    endpoints: &Endpoints,
    have: Vec<Arc<EndpointSlice>>,
    family: Family,
    ports: Vec<EndpointPort>,
    group: BTreeMap<Identity, Endpoint>,
) {
    let mut have = have.into_iter();
    let first = have.next();
    plan.delete.extend(have);
    let mut slice = new_slice(endpoints, family, ports);
    if let Some(first) = &first {
        let listed = first.endpoints.as_deref().unwrap_or_default();
        let same = listed.len() == group.len()
            && listed
                .iter()
                .all(|old| group.get(&identity(old)).is_some_and(|new| says_the_same(old, new)))
            && first.metadata.labels == slice.metadata.labels
            && first.metadata.annotations.clone().unwrap_or_default()
                == slice.metadata.annotations.clone().unwrap_or_default()
            && is_owned_by(first, &endpoints.metadata);
        if same {
            return;
        }
        slice.metadata.generate_name = None;
        slice.metadata.name.clone_from(&first.metadata.name);
        slice
            .metadata
            .resource_version
            .clone_from(&first.metadata.resource_version);
    }
    slice.endpoints = Some(group.into_values().take(CAPACITY).collect());
    if first.is_some() {
        plan.update.push(slice);
    } else {
        plan.create.push(slice);
    }
}

fn new_slice(endpoints: &Endpoints, family: Family, ports: Vec<EndpointPort>) -> EndpointSlice {
    let meta = &endpoints.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let mut labels = meta.labels.clone().unwrap_or_default();
    let prefix = name_prefix(&name);
    labels.insert(SERVICE_NAME.into(), name);
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    let mut annotations = meta.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| key != LAST_APPLIED && key != trigger::ANNOTATION);
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(prefix),
            namespace: meta.namespace.clone(),
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            owner_references: Some(vec![controller_reference(endpoints)]),
            ..ObjectMeta::default()
        },
        address_type: family.name().into(),
        endpoints: None,
        ports: Some(ports),
    }
}

fn ports(ports: &[Port]) -> Vec<EndpointPort> {
    let mirrored = ports.iter().map(|p| EndpointPort {
        name: Some(p.name.clone().unwrap_or_default()),
        port: Some(p.port),
        protocol: Some(p.protocol.clone().unwrap_or_else(|| "TCP".into())),
        app_protocol: p.app_protocol.clone(),
    });
    mirrored.collect()
}

fn endpoint(address: &EndpointAddress, ip: IpAddr, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone().filter(|h| !h.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}
