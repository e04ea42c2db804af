//! RollingUpdate of a DaemonSet: which old pods go (maxUnavailable), or which nodes get a new pod beside the old one
//! (maxSurge). Every node has at most one old and one new pod when this is asked. Pure.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::Pod;

use super::plan::{Look, Plan, living};
use super::pod::is_updated;
use crate::count::resolve;

fn rolling(set: &DaemonSet) -> Option<&RollingUpdateDaemonSet> {
    set.spec.update_strategy.as_ref()?.rolling_update.as_ref()
}

pub fn is_rolling(set: &DaemonSet) -> bool {
    let strategy = set.spec.update_strategy.as_ref();
    strategy.and_then(|s| s.type_.as_deref()) == Some("RollingUpdate")
}

/// maxSurge and maxUnavailable of so many pods, both rounded up; with neither, one may be unavailable.
pub fn bounds(set: &DaemonSet, desired: usize) -> (usize, usize) {
    if !is_rolling(set) {
        return (0, 0);
    }
    let total = i32::try_from(desired).unwrap_or(i32::MAX);
    let of = |value| usize::try_from(resolve(value, total, true)).unwrap_or(0);
    let surge = of(rolling(set).and_then(|r| r.max_surge.as_ref()));
    let unavailable = of(rolling(set).and_then(|r| r.max_unavailable.as_ref()));
    match (surge, unavailable) {
        (0, 0) => (0, 1),
        both => both,
    }
}

/// The new and the old pod of a node.
type Pair<'p> = (Option<&'p Arc<Pod>>, Option<&'p Arc<Pod>>);

/// The pair of a node's pods. `None` when it has several of one kind, which the next look mends.
fn pair<'p>(pods: &'p [Arc<Pod>], hash: &str) -> Option<Pair<'p>> {
    let (mut new, mut old) = (None, None);
    for pod in pods.iter().filter(|p| living(p)) {
        let place = if is_updated(pod, hash) { &mut new } else { &mut old };
        if place.replace(pod).is_some() {
            return None;
        }
    }
    Some((new, old))
}

pub(super) fn roll(look: &Look<'_>, plan: &mut Plan) {
    if look.surge > 0 {
        surge(look, plan);
    } else {
        replace(look, plan);
    }
}

/// The nodes that have a pod or should have one.
fn nodes<'l>(look: &'l Look<'_>) -> impl Iterator<Item = (&'l str, &'l [Arc<Pod>])> {
    let without = look
        .fits
        .iter()
        .filter(|(node, fit)| fit.run && !look.pods.contains_key(**node));
    let with = look.pods.iter().map(|(node, pods)| (node.as_str(), pods.as_slice()));
    with.chain(without.map(|(node, _)| (*node, [].as_slice())))
}

/// Old pods go as far as maxUnavailable lets them. Those that are not available serve no one, and go at once; their nodes
/// count all the same.
fn replace(look: &Look<'_>, plan: &mut Plan) {
    let mut unavailable = 0;
    let mut candidates = Vec::new();
    for (_, pods) in nodes(look) {
        match pair(pods, look.observed.hash) {
            Some((Some(new), None)) => unavailable += usize::from(!look.is_available(new)),
            Some((None, Some(old))) if look.is_available(old) => candidates.push(old.clone()),
            Some((None, Some(old))) => {
                plan.delete.push(old.clone());
                unavailable += 1;
            }
            // None yet, or none any more, or too many.
            _ => unavailable += 1,
        }
    }
    candidates.truncate(look.unavailable.saturating_sub(unavailable));
    plan.delete.append(&mut candidates);
}

/// New pods come beside old ones, as many as maxSurge lets them; an old one goes when its successor is available.
fn surge(look: &Look<'_>, plan: &mut Plan) {
    let (mut surging, mut available) = (0, 0_usize);
    let mut candidates = Vec::new();
    let mut leaving = Vec::new();
    for (node, pods) in nodes(look) {
        let Some((new, old)) = pair(pods, look.observed.hash) else {
            surging += 1;
            continue;
        };
        available += usize::from(old.or(new).is_some_and(|p| look.is_available(p)));
        let Some(old) = old else { continue };
        let runs = look.fits.get(node).is_some_and(|f| f.run);
        match (new, look.is_available(old)) {
            (Some(new), true) if !look.is_available(new) => surging += 1,
            (Some(_), _) => plan.delete.push(old.clone()),
            (None, false) if runs => plan.create.push(node.to_owned()),
            (None, false) => plan.delete.push(old.clone()),
            (None, true) if runs => candidates.push(node.to_owned()),
            (None, true) => leaving.push(old.clone()),
        }
    }
    // Pods on nodes that are given up go only when there are enough others.
    leaving.truncate(available.saturating_sub(look.desired()));
    plan.delete.append(&mut leaving);
    candidates.truncate(look.surge.saturating_sub(surging));
    plan.create.append(&mut candidates);
}
