//! How many replicas each ReplicaSet of a Deployment should have: rolling updates, Recreate, and proportional scaling
//! while a rollout is under way. Pure arithmetic.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::revision::{DESIRED_REPLICAS, MAX_REPLICAS, annotation, sort_by_age};
use super::{available, replicas, wanted};
use crate::count::resolve;

/// One set to bring to a size.
#[derive(Clone, Debug, PartialEq)]
pub struct Resize {
    pub set: Arc<ReplicaSet>,
    pub to: i32,
}

/// maxSurge (rounded up) and maxUnavailable (rounded down; 1 when both come out as 0). Recreate surges never.
pub fn fenceposts(deployment: &Deployment) -> (i32, i32) {
    let rolling = deployment
        .spec
        .strategy
        .as_ref()
        .and_then(|s| s.rolling_update.as_ref());
    if is_recreate(deployment) {
        return (0, 0);
    }
    let total = wanted(deployment);
    if total == 0 {
        return (resolve(rolling.and_then(|r| r.max_surge.as_ref()), 0, true), 0);
    }
    let surge = resolve(rolling.and_then(|r| r.max_surge.as_ref()), total, true);
    let unavailable = resolve(rolling.and_then(|r| r.max_unavailable.as_ref()), total, false);
    (
        surge,
        if surge == 0 && unavailable == 0 {
            1
        } else {
            unavailable.min(total)
        },
    )
}

pub fn is_recreate(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.strategy.as_ref();
    strategy.and_then(|s| s.type_.as_deref()) == Some("Recreate")
}

fn sum(sets: &[Arc<ReplicaSet>], of: impl Fn(&ReplicaSet) -> i32) -> i32 {
    sets.iter().map(|s| of(s)).sum()
}

/// The size of the new set: as large as maxSurge allows beside the others.
pub fn new_size(deployment: &Deployment, new: i32, all: &[Arc<ReplicaSet>]) -> i32 {
    let wanted = wanted(deployment);
    if is_recreate(deployment) {
        return wanted;
    }
    let room = wanted + fenceposts(deployment).0 - sum(all, replicas);
    if room <= 0 {
        new
    } else {
        new + room.min(wanted - new).max(0)
    }
}

/// The next step of a rolling update: the new set grows, or old sets shrink; nothing when neither may.
pub fn roll(deployment: &Deployment, new: &Arc<ReplicaSet>, old: &[Arc<ReplicaSet>]) -> Vec<Resize> {
    let mut all = old.to_vec();
    all.push(new.clone());
    let current = replicas(new);
    let target = match current.cmp(&wanted(deployment)) {
        std::cmp::Ordering::Equal => current,
        std::cmp::Ordering::Greater => wanted(deployment),
        std::cmp::Ordering::Less => new_size(deployment, current, &all),
    };
    if target != current {
        return vec![Resize {
            set: new.clone(),
            to: target,
        }];
    }
    shrink_old(deployment, new, old, &all)
}

fn shrink_old(
    deployment: &Deployment,
    new: &Arc<ReplicaSet>,
    old: &[Arc<ReplicaSet>],
    all: &[Arc<ReplicaSet>],
) -> Vec<Resize> {
    if sum(old, replicas) == 0 {
        return Vec::new();
    }
    let least_available = wanted(deployment) - fenceposts(deployment).1;
    let new_unavailable = replicas(new) - available(new);
    let most = sum(all, replicas) - least_available - new_unavailable;
    if most <= 0 {
        return Vec::new();
    }
    let mut by_age: Vec<&Arc<ReplicaSet>> = old.iter().collect();
    sort_by_age(&mut by_age);
    let mut sizes: Vec<i32> = by_age.iter().map(|s| replicas(s)).collect();
    // Replicas that are not available serve no one: they go first.
    let mut cleaned = 0;
    for (size, set) in sizes.iter_mut().zip(&by_age) {
        let unhealthy = (*size - available(set)).max(0).min(most - cleaned);
        *size -= unhealthy;
        cleaned += unhealthy;
    }
    // Then as many available ones as may be spared.
    let mut spare = (sum(all, available) - least_available).max(0);
    for size in &mut sizes {
        let step = (*size).min(spare);
        *size -= step;
        spare -= step;
    }
    let changed = by_age.iter().zip(sizes).filter(|(s, size)| replicas(s) != *size);
    changed.map(|(s, to)| Resize { set: Arc::clone(s), to }).collect()
}

/// Whether the Deployment was scaled since its sets were last sized.
pub fn was_scaled(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> bool {
    sets.iter().filter(|s| replicas(s) > 0).any(|s| {
        annotation(s, DESIRED_REPLICAS)
            .and_then(|d| d.parse::<i32>().ok())
            .is_some_and(|d| d != wanted(deployment))
    })
}

/// Sizes for a scaled or paused Deployment: all to the one active set, or in proportion to their sizes.
pub fn proportional(deployment: &Deployment, new: Option<&Arc<ReplicaSet>>, old: &[Arc<ReplicaSet>]) -> Vec<Resize> {
    let wanted = wanted(deployment);
    let all: Vec<Arc<ReplicaSet>> = old.iter().chain(new).cloned().collect();
    let active: Vec<&Arc<ReplicaSet>> = all.iter().filter(|s| replicas(s) > 0).collect();
    let only = match active.as_slice() {
        [] => new.or_else(|| {
            let mut by_age: Vec<&Arc<ReplicaSet>> = all.iter().collect();
            sort_by_age(&mut by_age);
            by_age.last().copied()
        }),
        [one] => Some(*one),
        _ => None,
    };
    if let Some(only) = only {
        // Also when it has that size already: its annotations must say the new desired count.
        let set = only.clone();
        return vec![Resize { set, to: wanted }];
    }
    if new.is_some_and(|n| is_saturated(deployment, n)) {
        let rest = old.iter().filter(|s| replicas(s) > 0);
        return rest.map(|s| Resize { set: s.clone(), to: 0 }).collect();
    }
    if is_recreate(deployment) || active.is_empty() {
        return Vec::new();
    }
    let surge = fenceposts(deployment).0;
    let allowed = if wanted > 0 { wanted + surge } else { 0 };
    let to_add = allowed - active.iter().map(|s| replicas(s)).sum::<i32>();
    let mut by_size = active;
    // The larger first; among equals the newer first when growing and the older first when shrinking.
    sort_by_age(&mut by_size);
    if to_add > 0 {
        by_size.reverse();
    }
    by_size.sort_by_key(|s| std::cmp::Reverse(replicas(s)));
    let mut added = 0;
    let mut sizes = Vec::with_capacity(by_size.len());
    for set in &by_size {
        let share = share(deployment, set, surge, to_add, added);
        sizes.push(replicas(set) + share);
        added += share;
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    let resized = by_size.into_iter().zip(sizes);
    // Sets of unchanged size are listed too: their annotations must say the new desired count.
    resized.map(|(s, to)| Resize { set: Arc::clone(s), to }).collect()
}

fn share(deployment: &Deployment, set: &ReplicaSet, surge: i32, to_add: i32, added: i32) -> i32 {
    let current = replicas(set);
    if current == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let wanted = wanted(deployment);
    let fraction = if wanted == 0 {
        -current
    } else {
        let status_replicas = deployment.status.as_ref().and_then(|s| s.replicas).unwrap_or(0);
        let before = annotation(set, MAX_REPLICAS)
            .and_then(|m| m.parse().ok())
            .unwrap_or(status_replicas);
        if before == 0 {
            0
        } else {
            let scaled = f64::from(current) * f64::from(wanted + surge) / f64::from(before);
            scaled.round() as i32 - current
        }
    };
    let left = to_add - added;
    if to_add > 0 {
        fraction.min(left)
    } else {
        fraction.max(left)
    }
}

fn is_saturated(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let wanted = wanted(deployment);
    let desired = annotation(set, DESIRED_REPLICAS).and_then(|d| d.parse().ok());
    replicas(set) == wanted && desired == Some(wanted) && available(set) == wanted
}
