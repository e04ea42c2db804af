//! DefaultPreemption: when a pod fits nowhere, finds the node where evicting pods of lower priority makes room at the least
//! cost. It plans only; who runs the cycle evicts.

mod budgets;
mod choice;
mod known;
mod victims;

use std::sync::Arc;

use crate::diagnosis::{FitError, Tally};
use crate::framework::{CycleState, Failed, Plugin, Point, PostFilter, Reason};
use crate::listers::{Listers, Needs};
use crate::node_info::NodeInfo;
use crate::shape::PodInfo;

use choice::Candidate;
use known::Known;

pub struct DefaultPreemption {
    pub(crate) listers: Arc<Listers>,
    /// At least this share of the nodes that might help is tried, if so many help...
    pub min_candidate_nodes_percentage: u32,
    /// ...and at least this many.
    pub min_candidate_nodes_absolute: u32,
}

impl DefaultPreemption {
    pub fn new(listers: Arc<Listers>) -> Self {
        Self {
            listers,
            min_candidate_nodes_percentage: 10,
            min_candidate_nodes_absolute: 100,
        }
    }

    fn enough_candidates(&self, nodes: usize) -> usize {
        let share = nodes * self.min_candidate_nodes_percentage as usize / 100;
        share.max(self.min_candidate_nodes_absolute as usize).min(nodes)
    }

    /// Why the pod may not preempt others now.
    fn objection(&self, failed: &Failed<'_>) -> Option<&'static str> {
        let pod = failed.pod;
        let policy = pod.pod.spec.as_ref().and_then(|s| s.preemption_policy.as_deref());
        if policy == Some("Never") {
            return Some("not eligible due to preemptionPolicy=Never.");
        }
        let node = pod.nominated_node().and_then(|n| failed.snapshot.named(n))?;
        if failed.error.unresolvable.contains(&node.number) {
            // The room made there is of no use any more.
            return None;
        }
        let going = |p: &PodInfo| p.priority() < pod.priority() && was_preempted(p);
        node.pods
            .iter()
            .any(going)
            .then_some("not eligible due to a terminating pod on the nominated node.")
    }
}

/// Whether the pod is on its way out because a scheduler evicted it.
fn was_preempted(pod: &PodInfo) -> bool {
    let conditions = pod.pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    pod.is_terminating()
        && conditions
            .filter(|c| c.type_ == "DisruptionTarget")
            .any(|c| c.status == "True" && c.reason.as_deref() == Some("PreemptionByScheduler"))
}

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        "DefaultPreemption"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreEnqueue, Point::PostFilter]
    }

    fn post_filter(
        &self,
        state: &mut CycleState,
        failed: &Failed<'_>,
        pick: &mut dyn FnMut(usize) -> usize,
    ) -> Option<PostFilter> {
        let says = |nominate: Option<Arc<str>>, message: String| {
            Some(PostFilter {
                nominate,
                message: format!("preemption: {message}"),
                ..PostFilter::default()
            })
        };
        if let Some(objection) = self.objection(failed) {
            return says(None, objection.to_owned());
        }
        let nodes = &failed.error.resolvable;
        let mut unhelpful = Tally::default();
        let mut best = None;
        if !nodes.is_empty() {
            if !self.listers.has(Needs::BUDGETS) {
                return Some(PostFilter {
                    wants: Needs::BUDGETS,
                    ..PostFilter::default()
                });
            }
            failed.profile.metrics.preemption_attempt();
            let first = pick(nodes.len()) % nodes.len();
            let (behind, ahead) = nodes.split_at(first);
            let order = ahead.iter().chain(behind).filter_map(|n| failed.snapshot.node(*n));
            best = self.dry_run(state, failed, order, &mut unhelpful);
        }
        match best {
            Some(best) => Some(PostFilter {
                nominate: Some(best.node.clone()),
                victims: best.victims.clone(),
                ..PostFilter::default()
            }),
            None => {
                let mut error = FitError::of(failed.snapshot.len());
                if let Some(others) = error.nodes.checked_sub(nodes.len()).filter(|n| *n > 0) {
                    unhelpful.add(&Reason::Fixed("Preemption is not helpful for scheduling"), others);
                }
                unhelpful.into_error(&mut error);
                says(Some("".into()), error.to_string())
            }
        }
    }

    /// What preemption waits for, the plugins that turned the pod down wait for too.
    fn may_help(&self, _event: &crate::event::ClusterEvent, _pod: &PodInfo) -> bool {
        false
    }
}

impl DefaultPreemption {
    /// The node that costs least of those tried, and of those the first.
    fn dry_run<'a>(
        &self,
        state: &mut CycleState,
        failed: &Failed<'_>,
        nodes: impl Iterator<Item = &'a NodeInfo>,
        unhelpful: &mut Tally,
    ) -> Option<Arc<Candidate>> {
        let enough = self.enough_candidates(failed.error.resolvable.len());
        let mut known = Known::take(state, self.listers.budgets.list());
        let mut best: Option<Arc<Candidate>> = None;
        let (mut found, mut harmless) = (0, 0);
        let own = failed.nominations.node(failed.pod.uid());
        for node in nodes {
            let moment = (
                failed.snapshot.generations()[node.number as usize],
                failed.nominations.version(&node.name),
            );
            // A pod leaves no room for itself: there it is not like others of its shape.
            let lasts = failed.by_node_alone && own != Some(&node.name);
            let new;
            let outcome = match known.outcome(node.number, moment).filter(|_| lasts) {
                Some(outcome) => outcome,
                None => {
                    new = victims::on(state, failed, node, known.budgets()).map(Arc::new);
                    if lasts {
                        known.note(node.number, moment, new.clone());
                    }
                    &new
                }
            };
            match outcome {
                Ok(candidate) => {
                    found += 1;
                    harmless += usize::from(candidate.violations == 0);
                    if best.as_ref().is_none_or(|best| candidate.cost < best.cost) {
                        best = Some(candidate.clone());
                    }
                }
                Err(reasons) => reasons.iter().for_each(|reason| unhelpful.add(reason, 1)),
            }
            if harmless > 0 && found >= enough {
                break;
            }
        }
        state.put(known);
        best
    }
}

#[cfg(test)]
mod tests;
