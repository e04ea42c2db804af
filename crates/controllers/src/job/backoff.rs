//! How long a job waits before it replaces a failed pod: 10 s, then twice as long for each further failure, at most six
//! minutes. Computed from the pods themselves, so that a restart forgets nothing. Pure.

use std::sync::Arc;

use coracle_clock::Timestamp;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;

use crate::pods::{condition, phase};

const FIRST: i64 = 10;
const MOST: i64 = 360;

/// The wait after so many failures in a row.
fn delay(failures: u32) -> SignedDuration {
    match failures {
        0 => SignedDuration::ZERO,
        n => SignedDuration::from_secs(FIRST.saturating_mul(1 << (n - 1).min(16)).min(MOST)),
    }
}

/// When the pod finished: its last container's end, or the best that is known instead.
pub fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
    let ends = statuses.filter_map(|c| c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
    if let Some(last) = ends.map(|t| t.0).max() {
        return Some(last);
    }
    if let Some(deleted) = &pod.metadata.deletion_timestamp {
        let grace = SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or(0));
        return deleted.0.checked_sub(grace).ok();
    }
    let changed = condition(pod, "Ready").and_then(|c| c.last_transition_time.as_ref());
    let known = changed.or(pod.metadata.creation_timestamp.as_ref());
    known.map(|t| t.0)
}

/// Until when no pod may be created, given the pods that failed and those that succeeded: failures before the last
/// success are forgiven.
pub fn until<'p>(failed: impl Iterator<Item = &'p Arc<Pod>>, all: &[Arc<Pod>]) -> Option<Timestamp> {
    let succeeded = all.iter().filter(|p| phase(p) == "Succeeded");
    let last_success = succeeded.filter_map(|p| finished_at(p)).max();
    let mut failures = 0;
    let mut last: Option<Timestamp> = None;
    for at in failed.filter_map(|p| finished_at(p)) {
        if last_success.is_none_or(|s| at > s) {
            failures += 1;
            last = last.max(Some(at));
        }
    }
    after(failures, last?)
}

/// Until when, after the last of so many failures.
pub fn after(failures: u32, last: Timestamp) -> Option<Timestamp> {
    last.checked_add(delay(failures)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_pods_are_recreated_with_an_exponential_back_off_delay_capped_at_six_minutes() {
        let seconds: Vec<i64> = (0..9).map(|n| delay(n).as_secs()).collect();
        assert_eq!(seconds, [0, 10, 20, 40, 80, 160, 320, 360, 360]);
        assert_eq!(delay(u32::MAX).as_secs(), 360);
    }
}
