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
    pub cost: Cost,
}

/// What a candidate costs, by the documented criteria: 1. the fewest violated budgets; 2. the lowest highest priority; 3. the
/// lowest sum of priorities; 4. the fewest victims; 5. the latest start of the most important victims. The smaller the better.
pub type Cost = (usize, i32, i64, usize, std::cmp::Reverse<Timestamp>);

impl Candidate {
    pub fn new(node: Arc<str>, mut victims: Vec<PodInfo>, violations: usize) -> Self {
        victims.sort_by(by_importance);
        let highest = victims.first().map_or(i32::MIN, PodInfo::priority);
        // Shifted, so that many pods of negative priority do not seem cheaper than few.
        let sum = victims.iter().map(|v| i64::from(v.priority()) + (1 << 31)).sum();
        // Of equals the one that has run longest is the first.
        let earliest = victims.first().map_or(Timestamp::MAX, started);
        let latest_is_best = std::cmp::Reverse(earliest);
        Self {
            node,
            cost: (violations, highest, sum, victims.len(), latest_is_best),
            victims,
            violations,
        }
    }
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
