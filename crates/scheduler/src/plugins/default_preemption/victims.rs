//! Who would have to go from a node for a pod to fit: all of lower priority at first, of whom as many as possible may stay,
//! those that a budget protects before others and the more important before the less.

use smallvec::{SmallVec, smallvec};

use super::budgets::Budgets;
use super::choice::{Candidate, by_importance};
use crate::framework::{CycleState, Failed, Reason};
use crate::node_info::NodeInfo;
use crate::shape::PodInfo;

/// Why evicting does not help.
pub type Unhelpful = SmallVec<[Reason; 2]>;

const NO_VICTIMS: Reason = Reason::Fixed("No preemption victims found for incoming pod");

/// Tries the pod on a copy of the node. The state is in the end as it was.
pub fn on(
    state: &mut CycleState,
    failed: &Failed<'_>,
    node: &NodeInfo,
    budgets: &Budgets,
) -> Result<Candidate, Unhelpful> {
    let lower = |p: &&PodInfo| p.priority() < failed.pod.priority();
    let mut potential: Vec<PodInfo> = node.pods.iter().filter(lower).cloned().collect();
    if potential.is_empty() {
        return Err(smallvec![NO_VICTIMS]);
    }
    potential.sort_by(by_importance);
    let mut trial = Trial {
        state,
        failed,
        node: node.clone(),
        gone: Vec::new(),
    };
    for pod in &potential {
        trial.evict(pod);
    }
    if let Err(reasons) = trial.verdict() {
        trial.undo();
        return Err(reasons);
    }
    let (beyond, within) = budgets.split(potential);
    let mut violations = 0;
    for (pods, protected) in [(beyond, true), (within, false)] {
        for pod in pods {
            trial.spare(&pod);
            if trial.verdict().is_err() {
                trial.evict(&pod);
                violations += usize::from(protected);
            }
        }
    }
    let victims = trial.undo();
    if victims.is_empty() {
        // It fits as it is: no need to evict anyone.
        return Err(smallvec![NO_VICTIMS]);
    }
    Ok(Candidate::new(node.name.clone(), victims, violations))
}

struct Trial<'a, 'f> {
    state: &'a mut CycleState,
    failed: &'a Failed<'f>,
    node: NodeInfo,
    gone: Vec<PodInfo>,
}

impl Trial<'_, '_> {
    fn evict(&mut self, pod: &PodInfo) {
        if let Some(pod) = self.node.remove_pod(pod.uid()) {
            let Failed { profile, pod: new, .. } = self.failed;
            profile.remove_pod(self.state, new, &pod, &self.node);
            self.gone.push(pod);
        }
    }

    fn spare(&mut self, pod: &PodInfo) {
        if let Some(at) = self.gone.iter().position(|p| p.uid() == pod.uid()) {
            let pod = self.gone.swap_remove(at);
            self.node.add_pod(pod.clone());
            let Failed { profile, pod: new, .. } = self.failed;
            profile.add_pod(self.state, new, &pod, &self.node);
        }
    }

    fn verdict(&mut self) -> Result<(), Unhelpful> {
        let Failed {
            profile,
            pod,
            nominations,
            ..
        } = self.failed;
        let verdict = profile.filter_with_nominated(self.state, pod, &self.node, nominations);
        verdict.map_err(|(_, rejection)| rejection.reasons)
    }

    /// Brings the state back; who was gone.
    fn undo(self) -> Vec<PodInfo> {
        let mut node = self.node;
        for pod in &self.gone {
            node.add_pod(pod.clone());
            self.failed.profile.add_pod(self.state, self.failed.pod, pod, &node);
        }
        self.gone
    }
}
