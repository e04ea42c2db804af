//! Topology hints: for which zones and nodes an endpoint is meant, as a service's trafficDistribution (or its topology
//! mode) wants it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, EndpointSlice, ForNode, ForZone};

use super::plan::Plan;
use super::topology::{self, Ratios};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Distribution {
    Anywhere,
    SameZone,
    SameNode,
}

fn distribution(service: &Service) -> Distribution {
    let spec = service.spec.as_ref();
    match spec.and_then(|s| s.traffic_distribution.as_deref()) {
        Some("PreferClose" | "PreferSameZone") => Distribution::SameZone,
        Some("PreferSameNode") => Distribution::SameNode,
        _ => Distribution::Anywhere,
    }
}

fn wanted(endpoint: &Endpoint, distribution: Distribution) -> Option<EndpointHints> {
    if distribution == Distribution::Anywhere {
        return None;
    }
    if endpoint.conditions.as_ref().and_then(|c| c.ready) != Some(true) {
        // Of one that has no traffic it does not matter: no write for it.
        return endpoint.hints.clone();
    }
    let for_zones = endpoint.zone.clone().map(|name| vec![ForZone { name }]);
    let node = endpoint
        .node_name
        .clone()
        .filter(|_| distribution == Distribution::SameNode);
    let for_nodes = node.map(|name| vec![ForNode { name }]);
    (for_zones.is_some() || for_nodes.is_some()).then_some(EndpointHints { for_nodes, for_zones })
}

/// Sets the hints of everything that is written, and adds the slices whose hints alone are wrong.
pub(super) fn set(service: &Service, plan: &mut Plan, unchanged: &[Arc<EndpointSlice>], ratios: &Ratios, family: &str) {
    if !topology::is_asked_for(service) {
        return apply(distribution(service), plan, unchanged);
    }
    let before = plan.update.len();
    match topology::assign(ratios, plan, unchanged) {
        Ok(()) => plan.told.push((
            true,
            format!("Topology Aware Hints has been enabled, addressType: {family}"),
        )),
        Err(why) => {
            plan.told.push((false, format!("{why}, addressType: {family}")));
            plan.update.truncate(before);
            apply(Distribution::Anywhere, plan, unchanged);
        }
    }
}

fn apply(distribution: Distribution, plan: &mut Plan, unchanged: &[Arc<EndpointSlice>]) {
    let wrong = |slice: &EndpointSlice| {
        let mut endpoints = slice.endpoints.iter().flatten();
        endpoints.any(|e| e.hints != wanted(e, distribution))
    };
    let more = unchanged.iter().filter(|s| wrong(s)).map(|s| (**s).clone());
    plan.update.extend(more);
    for slice in plan.create.iter_mut().chain(&mut plan.update) {
        for endpoint in slice.endpoints.iter_mut().flatten() {
            endpoint.hints = wanted(endpoint, distribution);
        }
    }
}
