//! The Endpoints object of a service: its pods' addresses grouped by the ports they share, cut at a thousand. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::endpoint_slice::endpoint::{
    Family, addresses_of, cluster_ip, families, find_port, hostname, is_endpoint, is_headless, publishes_not_ready,
    target_of,
};
use crate::endpoint_slice::plan::HEADLESS;
use crate::endpoint_slice::trigger;
use crate::pods::{is_ready, node_name};

pub const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
pub const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
pub const CONTROLLER: &str = "endpoint-controller";
/// So many addresses fit.
const CAPACITY: usize = 1000;

/// The object as it should be, or `None` if `current` is right. A new one has no resourceVersion.
pub fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    current: Option<&Endpoints>,
    trigger: Option<coracle_clock::Timestamp>,
) -> Option<Endpoints> {
    let (subsets, truncated) = truncate(subsets(service, pods));
    let labels = labels(service);
    if let Some(current) = current {
        let annotations = current.metadata.annotations.as_ref();
        let said = annotations.and_then(|a| a.get(OVER_CAPACITY)).map(String::as_str);
        let right = current.subsets.clone().unwrap_or_default() == subsets
            && current.metadata.labels.clone().unwrap_or_default() == labels
            && said == truncated.then_some("truncated");
        if right {
            return None;
        }
    }
    let mut meta = current.map_or_else(
        || ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        |c| c.metadata.clone(),
    );
    let annotations = meta.annotations.get_or_insert_default();
    let mut set = |key: &str, value: Option<String>| match value {
        Some(value) => annotations.insert(key.to_owned(), value),
        None => annotations.remove(key),
    };
    set(trigger::ANNOTATION, trigger.map(trigger::text));
    set(OVER_CAPACITY, truncated.then(|| "truncated".to_owned()));
    meta.labels = Some(labels);
    Some(Endpoints {
        metadata: meta,
        subsets: Some(subsets),
    })
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if cluster_ip(service).is_empty() || is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    labels
}

/// An address in the order of addresses, then of pods.
type AddressKey = (Option<IpAddr>, String);
/// A port in the order of names.
type PortKey = (String, String, i32, Option<String>);

/// What is known of one address.
struct Known {
    address: EndpointAddress,
    ready: bool,
    ports: Vec<PortKey>,
}

fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let all = publishes_not_ready(service);
    let family = families(service).first().copied().unwrap_or(Family::V4);
    let ports = service
        .spec
        .as_ref()
        .and_then(|s| s.ports.as_deref())
        .unwrap_or_default();
    let mut known: BTreeMap<AddressKey, Known> = BTreeMap::new();
    for pod in pods.iter().filter(|p| is_endpoint(p, all)) {
        let Some(ip) = addresses_of(pod, family).into_iter().next() else {
            continue;
        };
        let found: Vec<PortKey> = ports
            .iter()
            .filter_map(|port| {
                let number = find_port(pod, port)?;
                Some((
                    port.name.clone().unwrap_or_default(),
                    port.protocol.clone().unwrap_or_else(|| "TCP".into()),
                    number,
                    port.app_protocol.clone(),
                ))
            })
            .collect();
        // Without ports only a headless service means anything.
        if found.is_empty() && !(ports.is_empty() && is_headless(service)) {
            continue;
        }
        let key = (ip.parse().ok(), pod.metadata.uid.clone().unwrap_or_default());
        let entry = known.entry(key).or_insert_with(|| Known {
            address: EndpointAddress {
                ip,
                hostname: hostname(pod, service),
                node_name: Some(node_name(pod).to_owned()).filter(|n| !n.is_empty()),
                target_ref: Some(target_of(pod)),
            },
            ready: all || is_ready(pod),
            ports: Vec::new(),
        });
        entry.ports.extend(found);
        entry.ports.sort();
        entry.ports.dedup();
    }
    let mut groups: BTreeMap<Vec<PortKey>, EndpointSubset> = BTreeMap::new();
    for Known { address, ready, ports } in known.into_values() {
        let subset = groups.entry(ports.clone()).or_insert_with(|| EndpointSubset {
            ports: (!ports.is_empty()).then(|| ports.into_iter().map(port).collect()),
            ..EndpointSubset::default()
        });
        let list = if ready {
            &mut subset.addresses
        } else {
            &mut subset.not_ready_addresses
        };
        list.get_or_insert_default().push(address);
    }
    groups.into_values().collect()
}

fn port((name, protocol, port, app_protocol): PortKey) -> EndpointPort {
    EndpointPort {
        name: (!name.is_empty()).then_some(name),
        protocol: Some(protocol),
        port,
        app_protocol,
    }
}

/// Cuts what is too much: addresses that are not ready before ready ones, the same share of every subset.
fn truncate(mut subsets: Vec<EndpointSubset>) -> (Vec<EndpointSubset>, bool) {
    let ready = |s: &EndpointSubset| s.addresses.as_ref().map_or(0, Vec::len);
    let other = |s: &EndpointSubset| s.not_ready_addresses.as_ref().map_or(0, Vec::len);
    let total_ready: usize = subsets.iter().map(ready).sum();
    let total_other: usize = subsets.iter().map(other).sum();
    if total_ready + total_other <= CAPACITY {
        return (subsets, false);
    }
    let room_for_ready = total_ready.min(CAPACITY);
    let mut ready_left = room_for_ready;
    let mut other_left = CAPACITY - room_for_ready;
    // Each subset's share, rounded up as long as there is room.
    let share = |part: usize, room: usize, of: usize, left: &mut usize| {
        let wanted = if of == 0 { 0 } else { (part * room).div_ceil(of) };
        let given = wanted.min(*left).min(part);
        *left -= given;
        given
    };
    let room_for_other = other_left;
    for subset in &mut subsets {
        let keep = share(ready(subset), room_for_ready, total_ready, &mut ready_left);
        shorten(&mut subset.addresses, keep);
        let keep = share(other(subset), room_for_other, total_other, &mut other_left);
        shorten(&mut subset.not_ready_addresses, keep);
    }
    subsets.retain(|s| s.addresses.is_some() || s.not_ready_addresses.is_some());
    (subsets, true)
}

fn shorten(list: &mut Option<Vec<EndpointAddress>>, keep: usize) {
    if let Some(addresses) = list {
        addresses.truncate(keep);
    }
    if keep == 0 {
        *list = None;
    }
}
