//! RollingUpdate of a StatefulSet: which pods of an old revision go, from the highest ordinal down to the partition, as far
//! as maxUnavailable lets them; and when a rollout is over. Pure.

use k8s_openapi::api::apps::v1::{RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetStatus};

use super::identity::{ordinals, revision};
use super::plan::{Look, Plan, Replica, Step, is_terminating};
use crate::count::resolve;
use crate::history;

fn rolling(set: &StatefulSet) -> Option<&RollingUpdateStatefulSetStrategy> {
    set.spec.update_strategy.as_ref()?.rolling_update.as_ref()
}

fn is_rolling(set: &StatefulSet) -> bool {
    let strategy = set.spec.update_strategy.as_ref();
    strategy.and_then(|s| s.type_.as_deref()).unwrap_or("RollingUpdate") == "RollingUpdate"
}

/// Whether a pod of this ordinal is made of the current revision, not of the newest.
pub fn keeps_current(set: &StatefulSet, ordinal: i32) -> bool {
    let (start, _) = ordinals(set);
    match rolling(set) {
        Some(rolling) => ordinal < start.saturating_add(rolling.partition.unwrap_or(0)),
        None if is_rolling(set) => {
            let current = set.status.as_ref().and_then(|s| s.current_replicas).unwrap_or(0);
            ordinal < start.saturating_add(current)
        }
        None => false,
    }
}

/// At least one, or nothing would ever be updated.
pub fn max_unavailable(set: &StatefulSet) -> usize {
    let (_, replicas) = ordinals(set);
    let value = rolling(set).and_then(|r| r.max_unavailable.as_ref());
    let most = value.map_or(1, |v| resolve(Some(v), replicas, false));
    usize::try_from(most).unwrap_or(1).max(1)
}

pub(super) fn roll(look: &Look<'_>, plan: &mut Plan) {
    let set = look.observed.set;
    if !is_rolling(set) {
        return;
    }
    let newest = history::name(look.observed.update);
    let partition = rolling(set).and_then(|r| r.partition).unwrap_or(0);
    let from = usize::try_from(partition).unwrap_or(0);
    let unavailable = look.replicas.iter().filter(|r| look.is_unavailable(&r.pod)).count();
    let mut left = max_unavailable(set).saturating_sub(unavailable);
    let is_old = |r: &&Replica| r.exists && revision(&r.pod) != newest && !is_terminating(&r.pod);
    // Ended pods have been told to go already.
    let ended = |r: &Replica| crate::pods::is_finished(&r.pod);
    let downwards = || {
        look.replicas
            .iter()
            .skip(from)
            .rev()
            .filter(is_old)
            .filter(|r| !ended(r))
    };
    if !look.ordered {
        // Pods that do not serve anyway cost nothing, so they go first and all together.
        let broken = downwards().filter(|r| !look.is_available(&r.pod));
        plan.steps.extend(broken.map(|r| Step::Delete(r.pod.clone())));
    }
    for replica in downwards().filter(|r| look.ordered || look.is_available(&r.pod)) {
        if left == 0 {
            return;
        }
        left -= 1;
        plan.steps.push(Step::Delete(replica.pod.clone()));
    }
}

/// Pods of the current revision that are told to go count for it no longer.
pub(super) fn note_deletions(look: &Look<'_>, steps: &[Step], status: &mut StatefulSetStatus) {
    let of = |name: &str| {
        let deleted = steps
            .iter()
            .filter(|s| matches!(s, Step::Delete(pod) if revision(pod) == name));
        i32::try_from(deleted.count()).unwrap_or(i32::MAX)
    };
    let less = |count: Option<i32>, name: &str| count.map(|n| (n - of(name)).max(0));
    status.current_replicas = less(status.current_replicas, history::name(look.observed.current));
    status.updated_replicas = less(status.updated_replicas, history::name(look.observed.update));
}

/// Once every pod is of the newest revision and ready, that revision is the current one.
pub fn complete(set: &StatefulSet, status: &mut StatefulSetStatus) {
    let (_, wanted) = ordinals(set);
    let all = |count: Option<i32>| count.unwrap_or(0) == wanted;
    if is_rolling(set) && status.replicas == wanted && all(status.updated_replicas) && all(status.ready_replicas) {
        status.current_replicas = status.updated_replicas;
        status.current_revision.clone_from(&status.update_revision);
    }
}
