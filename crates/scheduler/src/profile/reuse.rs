//! What of a profile's work for one pod holds for the next one like it, as its plugins [say](Reuse).

use super::{Profile, Sequence};
use crate::framework::{CycleState, Point, Reuse};
use crate::node_info::NodeInfo;
use crate::shape::PodInfo;
use crate::snapshot::PodChange;

/// The plugins that a search for a node runs.
pub(super) fn searching(sequences: &[Sequence]) -> Vec<usize> {
    let points = [Point::PreFilter, Point::Filter, Point::PreScore, Point::Score];
    let mut out: Vec<usize> = points.iter().flat_map(|p| sequences[*p as usize].clone()).collect();
    out.sort_unstable();
    out.dedup();
    out
}

impl Profile {
    /// The plugins of [`Reuse::Node`], a bit each by number; `None` if some plugin lets nothing be used again.
    pub(crate) fn reuse(&self, pod: &PodInfo) -> Option<u64> {
        let mut by_node = 0;
        for &number in &self.searching {
            match self.plugins[number].reuse(pod) {
                Reuse::Nothing => return None,
                Reuse::State => {}
                Reuse::Node => by_node |= 1 << number,
            }
        }
        Some(by_node)
    }

    /// Brings the state of a pod like this one up to date.
    pub(crate) fn carry(&self, state: &mut CycleState, pod: &PodInfo, change: &PodChange, node: &NodeInfo) {
        for &number in &self.searching {
            self.plugins[number].carry(state, pod, &change.pod, node, change.by);
        }
    }

    /// The filters that have something to say about the pod, in order: first those whose verdict holds as long as the node
    /// does, then, from the first that is none of them on, the others.
    pub(crate) fn split_filters(&self, state: &CycleState, by_node: u64, lasting: &mut Sequence, other: &mut Sequence) {
        lasting.clear();
        other.clear();
        for &number in &self.sequences[Point::Filter as usize] {
            if state.skip_filter & (1 << number) != 0 {
                continue;
            }
            match other.is_empty() && by_node & (1 << number) != 0 {
                true => lasting.push(number),
                false => other.push(number),
            }
        }
    }

    /// The plugins that score the pod's nodes, by number and in order, and whether what each says holds as long as the node
    /// does.
    pub(crate) fn scorers(&self, state: &CycleState, by_node: u64) -> impl Iterator<Item = (usize, bool)> {
        let (skip, all) = (state.skip_score, &self.sequences[Point::Score as usize]);
        let asked = all.iter().copied().filter(move |number| skip & (1 << number) == 0);
        asked.map(move |number| (number, by_node & (1 << number) != 0))
    }
}
