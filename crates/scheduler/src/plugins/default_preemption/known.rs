//! What evicting would come to on nodes, found out for an earlier pod like this one: it holds as long as the budgets do, and
//! the node's generation and the version of the pods that are nominated to it.

use std::sync::Arc;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::budgets::Budgets;
use super::choice::Candidate;
use super::victims::Unhelpful;
use crate::framework::CycleState;

pub type Outcome = Result<Arc<Candidate>, Unhelpful>;

/// See the [module](self).
pub struct Known {
    objects: Vec<Arc<PodDisruptionBudget>>,
    budgets: Budgets,
    /// By node number, with when it was found.
    outcomes: Vec<Option<((u64, u64), Outcome)>>,
}

impl Known {
    /// Out of the state, to be put back; nothing is known if the budgets have changed.
    pub fn take(state: &mut CycleState, mut objects: Vec<Arc<PodDisruptionBudget>>) -> Self {
        objects.sort_by(|a, b| a.metadata.uid.cmp(&b.metadata.uid));
        let same = |known: &Self| {
            known.objects.len() == objects.len() && known.objects.iter().zip(&objects).all(|(a, b)| Arc::ptr_eq(a, b))
        };
        match state.take::<Self>() {
            Some(known) if same(&known) => known,
            _ => Self {
                budgets: Budgets::new(objects.clone()),
                objects,
                outcomes: Vec::new(),
            },
        }
    }

    pub fn budgets(&self) -> &Budgets {
        &self.budgets
    }

    pub fn outcome(&self, node: u32, moment: (u64, u64)) -> Option<&Outcome> {
        let (then, outcome) = self.outcomes.get(node as usize)?.as_ref()?;
        (*then == moment).then_some(outcome)
    }

    pub fn note(&mut self, node: u32, moment: (u64, u64), outcome: Outcome) {
        let at = node as usize;
        if self.outcomes.len() <= at {
            self.outcomes.resize_with(at + 1, || None);
        }
        self.outcomes[at] = Some((moment, outcome));
    }
}
