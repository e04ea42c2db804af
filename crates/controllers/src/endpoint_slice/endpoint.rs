//! What a pod is to a service: whether it is an endpoint at all, by which addresses and ports, and in which state.
//! EndpointSlices and Endpoints are made from the same answers.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pods::{is_finished, is_ready, node_name};

const ZONE: &str = "topology.kubernetes.io/zone";
const HEADLESS: &str = "None";

/// A family of addresses, by the names of slices and of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn parse(name: &str) -> Option<Self> {
        match name {
            "IPv4" => Some(Self::V4),
            "IPv6" => Some(Self::V6),
            _ => None,
        }
    }
}

pub fn cluster_ip(service: &Service) -> &str {
    let spec = service.spec.as_ref();
    spec.and_then(|s| s.cluster_ip.as_deref()).unwrap_or_default()
}

/// Whether the service has no address of its own.
pub fn is_headless(service: &Service) -> bool {
    cluster_ip(service) == HEADLESS
}

pub fn publishes_not_ready(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.and_then(|s| s.publish_not_ready_addresses).unwrap_or(false)
}

/// The families of a service in their order. Where the server has not set them, that of its address counts, or both.
pub fn families(service: &Service) -> Vec<Family> {
    let named = service.spec.iter().flat_map(|s| s.ip_families.iter().flatten());
    let named: Vec<Family> = named.filter_map(|f| Family::parse(f)).collect();
    if !named.is_empty() {
        return named;
    }
    match cluster_ip(service).parse() {
        Ok(ip) => vec![Family::of(ip)],
        Err(_) => vec![Family::V4, Family::V6],
    }
}

fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = pod.status.as_ref() else {
        return Vec::new();
    };
    let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    all.filter_map(|ip| ip.parse().ok()).collect()
}

/// The pod's addresses of one family.
pub fn addresses_of(pod: &Pod, family: Family) -> Vec<String> {
    let all = addresses(pod).into_iter();
    all.filter(|ip| Family::of(*ip) == family)
        .map(|ip| ip.to_string())
        .collect()
}

/// Whether the pod can have traffic, now or (when it becomes ready) later.
pub fn is_endpoint(pod: &Pod, with_terminating: bool) -> bool {
    let status = pod.status.as_ref();
    let has_address = status.is_some_and(|s| {
        s.pod_ip.as_ref().is_some_and(|ip| !ip.is_empty()) || s.pod_ips.as_ref().is_some_and(|ips| !ips.is_empty())
    });
    has_address && !is_finished(pod) && (with_terminating || pod.metadata.deletion_timestamp.is_none())
}

/// The name that the pod has in the service's domain, if it is to have one.
pub fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.as_ref().filter(|h| !h.is_empty())?;
    let same = spec.subdomain == service.metadata.name && pod.metadata.namespace == service.metadata.namespace;
    same.then(|| hostname.clone())
}

pub fn target_of(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// The pod as an endpoint of the service, on the node it runs on (if that is known).
pub fn endpoint(pod: &Pod, node: Option<&Node>, service: &Service, family: Family) -> Endpoint {
    let serving = is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let labels = node.and_then(|n| n.metadata.labels.as_ref());
    let zone = labels.and_then(|l| l.get(ZONE)).filter(|z| !z.is_empty());
    Endpoint {
        addresses: addresses_of(pod, family),
        conditions: Some(EndpointConditions {
            ready: Some(publishes_not_ready(service) || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname(pod, service),
        node_name: Some(node_name(pod).to_owned()).filter(|n| !n.is_empty()),
        target_ref: Some(target_of(pod)),
        zone: zone.cloned(),
        ..Endpoint::default()
    }
}

/// The number that a service's port has in the pod: as it says, or of the container port of that name and protocol.
pub fn find_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match port.target_port.as_ref() {
        Some(IntOrString::Int(number)) if *number != 0 => return Some(*number),
        Some(IntOrString::String(name)) => name,
        _ => return Some(port.port),
    };
    let protocol = |p: Option<&str>| p.unwrap_or("TCP").to_owned();
    let wanted = protocol(port.protocol.as_deref());
    let spec = pod.spec.as_ref()?;
    let init = spec.init_containers.iter().flatten();
    let sidecars = init.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten());
    let mut named = ports.filter(|p| p.name.as_ref() == Some(name) && protocol(p.protocol.as_deref()) == wanted);
    named.next().map(|p| p.container_port)
}

/// The service's ports as the pod has them. Those that it lacks are left out.
pub fn ports(pod: &Pod, service: &Service) -> Vec<EndpointPort> {
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(find_port(pod, port)?),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

/// Whether an update of a pod can matter to services: what they select by and what endpoints tell of it.
pub fn changed(old: &Pod, new: &Pod) -> bool {
    let facts = |p: &Pod| {
        (
            p.metadata.deletion_timestamp.is_some(),
            is_finished(p),
            is_ready(p),
            node_name(p).to_owned(),
            addresses(p),
            p.metadata.uid.clone(),
        )
    };
    let names = |p: &Pod| {
        let spec = p.spec.as_ref();
        spec.map(|s| (s.hostname.clone(), s.subdomain.clone()))
    };
    old.metadata.labels != new.metadata.labels || facts(old) != facts(new) || names(old) != names(new)
}
