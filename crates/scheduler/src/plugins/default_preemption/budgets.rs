//! Disruption budgets, as far as preemption respects them: it tries to stay within them and goes beyond if it must.

use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::shape::PodInfo;

/// Parsed once per preemption.
pub struct Budgets(Vec<(Arc<PodDisruptionBudget>, LabelSelector)>);

impl Budgets {
    pub fn new(budgets: Vec<Arc<PodDisruptionBudget>>) -> Self {
        let parsed = budgets.into_iter().filter_map(|b| {
            let selector = LabelSelector::from_typed(b.spec.as_ref()?.selector.as_ref()).ok()?;
            (!selector.is_nothing() && !selector.is_everything()).then_some((b, selector))
        });
        Self(parsed.collect())
    }

    /// Splits pods, in the order given, into those whose eviction goes beyond a budget and those whose does not, if all are
    /// evicted one after another.
    pub fn split(&self, pods: Vec<PodInfo>) -> (Vec<PodInfo>, Vec<PodInfo>) {
        let mut left: Vec<i32> = self
            .0
            .iter()
            .map(|(b, _)| b.status.as_ref().and_then(|s| s.disruptions_allowed).unwrap_or(0))
            .collect();
        let (mut beyond, mut within) = (Vec::new(), Vec::new());
        for pod in pods {
            let mut violates = false;
            for ((budget, selector), left) in self.0.iter().zip(&mut left) {
                let disrupted = budget.status.as_ref().and_then(|s| s.disrupted_pods.as_ref());
                if budget.metadata.namespace.as_deref() != Some(pod.namespace())
                    || pod.shape.labels().is_empty()
                    || !selector.matches_labels(pod.shape.labels())
                    || disrupted.is_some_and(|d| d.contains_key(pod.name()))
                {
                    continue;
                }
                *left -= 1;
                violates |= *left < 0;
            }
            if violates { &mut beyond } else { &mut within }.push(pod);
        }
        (beyond, within)
    }
}
