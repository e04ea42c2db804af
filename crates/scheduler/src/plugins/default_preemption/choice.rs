//! Which of several nodes costs least: by the documented criteria, one after the other.

use std::sync::Arc;

use coracle_clock::Timestamp;

use crate::shape::PodInfo;

/// A node, and who would have to go. There is at least one victim.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub node: Arc<str>,
    /// The most important first.
    pub victims: Vec<PodInfo>,
    /// How many of them a disruption budget would keep.
    pub violations: usize,
}

/// When the pod began to run; one that has not yet is the newest of all.
pub fn started(pod: &PodInfo) -> Timestamp {
    let status = pod.pod.status.as_ref();
    status
        .and_then(|s| s.start_time.as_ref())
        .map_or(Timestamp::MAX, |t| t.0)
}

/// The more important first: by priority, then the one that has run longer.
pub fn by_importance(a: &PodInfo, b: &PodInfo) -> std::cmp::Ordering {
    let order = b
        .priority()
        .cmp(&a.priority())
        .then_with(|| started(a).cmp(&started(b)));
    // Any order will do in the end, as long as it is the same every time.
    order.then_with(|| a.uid().cmp(b.uid()))
}

/// The smaller the better.
type Cost = (usize, i32, i64, usize, std::cmp::Reverse<Timestamp>);

fn cost(candidate: &Candidate) -> Cost {
    let victims = &candidate.victims;
    let highest = victims.iter().map(PodInfo::priority).max().unwrap_or(i32::MIN);
    // Shifted, so that many pods of negative priority do not seem cheaper than few.
    let sum = victims.iter().map(|v| i64::from(v.priority()) + (1 << 31)).sum();
    let of_highest = victims.iter().filter(|v| v.priority() == highest);
    let earliest = of_highest.map(started).min().unwrap_or(Timestamp::MAX);
    (
        candidate.violations,
        highest,
        sum,
        victims.len(),
        std::cmp::Reverse(earliest),
    )
}

/// 1. the fewest violated budgets; 2. the lowest highest priority; 3. the lowest sum of priorities; 4. the fewest victims;
///    5. the latest start of the most important victims; 6. the first.
pub fn best<'a>(candidates: impl Iterator<Item = &'a Candidate>) -> Option<&'a Candidate> {
    candidates.min_by_key(|c| cost(c))
}
