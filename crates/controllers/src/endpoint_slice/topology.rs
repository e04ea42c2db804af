//! Topology mode `Auto`: each zone gets a share of a service's endpoints in proportion to its CPU, from its own zone as
//! far as possible. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, EndpointSlice, ForZone};

use super::plan::Plan;

/// By how much more than its share an endpoint may be asked at most.
const OVERLOAD: f64 = 0.2;
const ZONE: &str = "topology.kubernetes.io/zone";
const EXCLUDED: [&str; 2] = [
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/master",
];

/// Each zone's share of all CPU; empty when it cannot be told.
pub type Ratios = BTreeMap<String, f64>;

/// Whether the service's annotations ask for it; the older name goes first.
pub fn is_asked_for(service: &Service) -> bool {
    let annotations = service.metadata.annotations.as_ref();
    let value = annotations.and_then(|a| {
        a.get("service.kubernetes.io/topology-aware-hints")
            .or_else(|| a.get("service.kubernetes.io/topology-mode"))
    });
    value.is_some_and(|v| v == "Auto" || v == "auto")
}

/// What counts of a node: its zone and its CPU, if it is ready and runs workloads.
pub fn capacity(node: &Node) -> Option<(String, i64)> {
    let labels = node.metadata.labels.as_ref();
    let label = |key: &str| labels.and_then(|l| l.get(key));
    let status = node.status.as_ref()?;
    let mut conditions = status.conditions.iter().flatten();
    let ready = conditions.any(|c| c.type_ == "Ready" && c.status == "True");
    if !ready || EXCLUDED.iter().any(|key| label(key).is_some()) {
        return None;
    }
    let cpu = status.allocatable.as_ref().and_then(|a| a.get("cpu"));
    let cpu = cpu
        .and_then(|q| Quantity::try_from(q).ok())
        .map_or(0, |q| q.milli_value());
    Some((label(ZONE).cloned().unwrap_or_default(), cpu))
}

/// The zones' shares. One node of which too little is known spoils it for all.
pub fn ratios<'n>(nodes: impl Iterator<Item = &'n Node>) -> Ratios {
    let mut zones: BTreeMap<String, i64> = BTreeMap::new();
    for (zone, cpu) in nodes.filter_map(capacity) {
        if zone.is_empty() || cpu == 0 {
            return Ratios::new();
        }
        *zones.entry(zone).or_default() += cpu;
    }
    let total: i64 = zones.values().sum();
    if zones.len() < 2 {
        return Ratios::new();
    }
    zones
        .into_iter()
        .map(|(zone, cpu)| (zone, cpu as f64 / total as f64))
        .collect()
}

struct Share {
    maximum: usize,
    desired: f64,
}

fn shares(ratios: &Ratios, endpoints: usize) -> Result<BTreeMap<&str, Share>, String> {
    let counts = || format!("({endpoints} endpoints, {} zones)", ratios.len());
    if ratios.is_empty() {
        let why = "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes";
        return Err(why.to_owned());
    }
    if ratios.len() > endpoints {
        return Err(format!("Insufficient number of endpoints {}", counts()));
    }
    let wanted: Vec<(&str, usize, f64)> = ratios
        .iter()
        .map(|(zone, ratio)| {
            let desired = ratio * endpoints as f64;
            let minimum = (desired * (1.0 / (1.0 + OVERLOAD))).ceil();
            (zone.as_str(), minimum as usize, desired.max(minimum))
        })
        .collect();
    let least: usize = wanted.iter().map(|(_, minimum, _)| minimum).sum();
    let Some(spare) = endpoints.checked_sub(least) else {
        let why = "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold";
        return Err(format!("{why} {}", counts()));
    };
    let shares = wanted.into_iter().map(|(zone, minimum, desired)| {
        let maximum = minimum + spare;
        (zone, Share { maximum, desired })
    });
    Ok(shares.collect())
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|c| c.ready) == Some(true)
}

fn hint(zone: &str) -> EndpointHints {
    EndpointHints {
        for_zones: Some(vec![ForZone { name: zone.to_owned() }]),
        for_nodes: None,
    }
}

/// How many endpoints of a slice are meant for each zone, if that is still good.
fn hinted<'s>(
    slice: &EndpointSlice,
    shares: &BTreeMap<&'s str, Share>,
    given: &BTreeMap<&'s str, usize>,
) -> Option<BTreeMap<&'s str, usize>> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for endpoint in slice.endpoints.iter().flatten().filter(|e| is_ready(e)) {
        let zones = endpoint.hints.as_ref()?.for_zones.as_ref().filter(|z| !z.is_empty())?;
        for zone in zones {
            let (known, _) = shares.get_key_value(zone.name.as_str())?;
            *counts.entry(*known).or_default() += 1;
        }
    }
    let fits = counts.iter().all(|(zone, count)| {
        let before = given.get(zone).copied().unwrap_or(0);
        shares.get(zone).is_some_and(|share| count + before <= share.maximum)
    });
    fits.then_some(counts)
}

/// Sets the hints of what is written, and writes slices whose hints are no longer good. `Err` says why there can be
/// none.
pub(super) fn assign(ratios: &Ratios, plan: &mut Plan, unchanged: &[Arc<EndpointSlice>]) -> Result<(), String> {
    let ready = |s: &EndpointSlice| s.endpoints.iter().flatten().filter(|e| is_ready(e)).count();
    let written: usize = plan.create.iter().chain(&plan.update).map(ready).sum();
    let total = written + unchanged.iter().map(|s| ready(s)).sum::<usize>();
    let shares = shares(ratios, total)?;
    let mut given: BTreeMap<&str, usize> = BTreeMap::new();
    for slice in unchanged {
        match hinted(slice, &shares, &given) {
            Some(counts) => counts
                .into_iter()
                .for_each(|(zone, n)| *given.entry(zone).or_default() += n),
            None => plan.update.push((**slice).clone()),
        }
    }
    let all = || {
        plan.create
            .iter()
            .chain(&plan.update)
            .flat_map(|s| s.endpoints.iter().flatten())
    };
    if all().any(|e| is_ready(e) && e.zone.as_ref().is_none_or(String::is_empty)) {
        return Err("One or more endpoints do not have a zone specified".to_owned());
    }
    for endpoint in all().filter(|e| is_ready(e)) {
        if let Some((zone, _)) = endpoint.zone.as_ref().and_then(|z| shares.get_key_value(z.as_str())) {
            *given.entry(*zone).or_default() += 1;
        }
    }
    let (mut giving, mut receiving) = moves(&shares, &given);
    let endpoints = plan.create.iter_mut().chain(&mut plan.update);
    for endpoint in endpoints.flat_map(|s| s.endpoints.iter_mut().flatten()) {
        let Some(zone) = endpoint.zone.clone().filter(|_| is_ready(endpoint)) else {
            endpoint.hints = None;
            continue;
        };
        // Its own zone, or one that has too few.
        let gives = giving.get_mut(zone.as_str()).filter(|n| **n > 0);
        let takes = receiving.iter_mut().find(|(_, n)| **n > 0);
        endpoint.hints = Some(match (gives, takes) {
            (Some(gives), Some((to, takes))) => {
                *gives -= 1;
                *takes -= 1;
                hint(to)
            }
            _ => hint(&zone),
        });
    }
    Ok(())
}

fn by_amount(a: &&mut (&str, f64), b: &&mut (&str, f64)) -> std::cmp::Ordering {
    a.1.total_cmp(&b.1)
}

type Moves<'s> = BTreeMap<&'s str, usize>;

/// How many endpoints zones with too many give, and zones with too few receive.
fn moves<'s>(shares: &BTreeMap<&'s str, Share>, given: &BTreeMap<&'s str, usize>) -> (Moves<'s>, Moves<'s>) {
    let mut over: Vec<(&str, f64)> = Vec::new();
    let mut under: Vec<(&str, f64)> = Vec::new();
    for (zone, share) in shares {
        let has = given.get(zone).copied().unwrap_or(0) as f64;
        if has > share.desired {
            over.push((*zone, has - share.desired));
        } else if has < share.desired {
            under.push((*zone, share.desired - has));
        }
    }
    let (mut giving, mut receiving) = (Moves::new(), Moves::new());
    loop {
        let from = over.iter_mut().max_by(by_amount);
        let to = under.iter_mut().max_by(by_amount);
        let (Some(from), Some(to)) = (from, to) else { break };
        if (from.1 < 1.0 && to.1 < 1.0) || from.1 < 0.5 || to.1 < 0.5 {
            break;
        }
        from.1 -= 1.0;
        to.1 -= 1.0;
        *giving.entry(from.0).or_default() += 1;
        *receiving.entry(to.0).or_default() += 1;
    }
    (giving, receiving)
}
