//! What one look at a StatefulSet and its pods leads to. Pure.
//!
//! Pods that are wanted come first, then those that are too many, then those of an old revision. With OrderedReady each
//! waits for the one before it; with Parallel none does.

use std::sync::Arc;
use std::time::Duration;

use coracle_clock::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::Value;

use super::identity::{self, has_ordinal, ordinal, ordinals, revision};
use super::{claims, rollout};
use crate::history;
use crate::pods::{Availability, availability, is_ready, phase};

/// What is observed.
pub struct Observed<'a> {
    pub set: &'a StatefulSet,
    /// Those that the set controls.
    pub pods: &'a [Arc<Pod>],
    pub current: &'a ControllerRevision,
    pub update: &'a ControllerRevision,
    /// A claim of the set's namespace, by name.
    pub claim: &'a dyn Fn(&str) -> Option<Arc<PersistentVolumeClaim>>,
    pub now: Timestamp,
}

/// What has to be right before pods come and go.
#[derive(Debug)]
pub enum Mend {
    /// Claims that a pod waits for.
    Claims {
        pod: Arc<Pod>,
        claims: Vec<PersistentVolumeClaim>,
    },
    /// A merge patch of a pod's labels.
    Labels { pod: Arc<Pod>, patch: Value },
    Owners {
        claim: Arc<PersistentVolumeClaim>,
        owners: Vec<OwnerReference>,
    },
}

/// A pod that comes, with claims that are to be there before, or one that goes.
#[derive(Debug)]
pub enum Step {
    Create {
        pod: Arc<Pod>,
        claims: Vec<PersistentVolumeClaim>,
    },
    Delete(Arc<Pod>),
}

#[derive(Debug, Default)]
pub struct Plan {
    pub mend: Vec<Mend>,
    pub steps: Vec<Step>,
    pub status: StatefulSetStatus,
    pub check_again: Option<Duration>,
}

/// A wanted pod: one that is there, or one that is to be made.
pub(super) struct Replica {
    pub ordinal: i32,
    pub pod: Arc<Pod>,
    pub exists: bool,
}

pub(super) struct Look<'a> {
    pub observed: &'a Observed<'a>,
    /// By ordinal.
    pub replicas: Vec<Replica>,
    /// Too many, the highest ordinal first.
    condemned: Vec<(i32, Arc<Pod>)>,
    pub ordered: bool,
    min_ready: i32,
}

/// Whether what comes after has to wait.
#[derive(PartialEq, Eq)]
enum Flow {
    On,
    Wait,
}

pub(super) fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

impl<'a> Look<'a> {
    fn new(observed: &'a Observed<'a>) -> Self {
        let set = observed.set;
        let mut condemned = Vec::new();
        let (start, count) = ordinals(set);
        let mut wanted: Vec<Option<Arc<Pod>>> = vec![None; usize::try_from(count).unwrap_or(0)];
        for pod in observed.pods {
            let Some(ordinal) = ordinal(set, pod.metadata.name.as_deref().unwrap_or_default()) else {
                continue;
            };
            let at = usize::try_from(ordinal.saturating_sub(start)).ok();
            match at
                .and_then(|at| wanted.get_mut(at))
                .filter(|_| has_ordinal(set, ordinal))
            {
                Some(place) => *place = Some(pod.clone()),
                None => condemned.push((ordinal, pod.clone())),
            }
        }
        condemned.sort_by_key(|(ordinal, _)| std::cmp::Reverse(*ordinal));
        let replicas = (start..).zip(wanted).map(|(ordinal, pod)| match pod {
            Some(pod) => Replica {
                ordinal,
                pod,
                exists: true,
            },
            None => Replica {
                ordinal,
                pod: Arc::new(new_pod(observed, ordinal)),
                exists: false,
            },
        });
        Self {
            replicas: replicas.collect(),
            condemned,
            ordered: set.spec.pod_management_policy.as_deref() != Some("Parallel"),
            min_ready: set.spec.min_ready_seconds.unwrap_or(0),
            observed,
        }
    }

    pub fn availability(&self, pod: &Pod) -> Availability {
        availability(pod, self.min_ready, self.observed.now)
    }

    pub fn is_available(&self, pod: &Pod) -> bool {
        self.availability(pod) == Availability::Available
    }

    /// Not serving, or not for long.
    pub fn is_unavailable(&self, pod: &Pod) -> bool {
        is_terminating(pod) || !self.is_available(pod)
    }

    /// Claims of an ordinal that are not there.
    fn missing_claims(&self, ordinal: i32) -> Vec<PersistentVolumeClaim> {
        let mut all = claims::make(self.observed.set, ordinal);
        // One that is being deleted is tried all the same: the API server's answer is what the user has to see.
        all.retain(|c| {
            let name = c.metadata.name.as_deref().unwrap_or_default();
            (self.observed.claim)(name).is_none_or(|there| there.metadata.deletion_timestamp.is_some())
        });
        all
    }

    fn claims_of(&self, ordinal: i32) -> impl Iterator<Item = Arc<PersistentVolumeClaim>> {
        let names = claims::names(self.observed.set, ordinal).into_iter();
        names.filter_map(|(_, claim)| (self.observed.claim)(&claim))
    }

    fn mend_owners(&self, pod: &Pod, ordinal: i32, plan: &mut Plan) {
        for claim in self.claims_of(ordinal) {
            if let Some(owners) = claims::owners(&claim, self.observed.set, pod, ordinal) {
                plan.mend.push(Mend::Owners { claim, owners });
            }
        }
    }

    /// One wanted pod.
    fn replica(&self, replica: &Replica, plan: &mut Plan) -> Flow {
        let (pod, ordinal) = (&replica.pod, replica.ordinal);
        if replica.exists && matches!(phase(pod), "Failed" | "Succeeded") {
            if !is_terminating(pod) {
                plan.steps.push(Step::Delete(pod.clone()));
            }
            return Flow::Wait;
        }
        if !replica.exists {
            let leftover = |c| claims::is_leftover(&c, self.observed.set, pod);
            if !self.claims_of(ordinal).any(leftover) {
                plan.steps.push(Step::Create {
                    pod: pod.clone(),
                    claims: self.missing_claims(ordinal),
                });
            }
            return Flow::Wait;
        }
        if phase(pod) == "Pending" {
            let claims = self.missing_claims(ordinal);
            if !claims.is_empty() {
                plan.mend.push(Mend::Claims {
                    pod: pod.clone(),
                    claims,
                });
            }
        }
        let serves = phase(pod) == "Running" && !self.is_unavailable(pod);
        if self.ordered && !serves {
            return Flow::Wait;
        }
        if let Some(patch) = identity::mend(pod, ordinal) {
            plan.mend.push(Mend::Labels {
                pod: pod.clone(),
                patch,
            });
        }
        self.mend_owners(pod, ordinal, plan);
        Flow::On
    }

    /// One pod too many. With OrderedReady one goes at a time, and only when those below it serve; the lowest that
    /// does not serve itself need not.
    fn condemned(&self, ordinal: i32, pod: &Arc<Pod>, first_unavailable: Option<&Arc<Pod>>, plan: &mut Plan) -> Flow {
        self.mend_owners(pod, ordinal, plan);
        if is_terminating(pod) {
            return Flow::Wait;
        }
        let is_first = first_unavailable.is_some_and(|first| Arc::ptr_eq(first, pod));
        if self.ordered && !is_first && !self.is_available(pod) {
            return Flow::Wait;
        }
        plan.steps.push(Step::Delete(pod.clone()));
        Flow::Wait
    }

    /// Carries out a phase. Whether the next one has to wait.
    fn all<T>(&self, items: &[T], mut each: impl FnMut(&T) -> Flow) -> Flow {
        for item in items {
            if each(item) == Flow::Wait && self.ordered {
                return Flow::Wait;
            }
        }
        Flow::On
    }

    fn act(&self, plan: &mut Plan) {
        if self.all(&self.replicas, |r| self.replica(r, plan)) == Flow::Wait {
            return;
        }
        let replicas = self.replicas.iter().map(|r| &r.pod);
        let upwards = self.condemned.iter().rev().map(|(_, pod)| pod);
        let first = replicas.chain(upwards).find(|p| self.is_unavailable(p));
        if self.all(&self.condemned, |(o, p)| self.condemned(*o, p, first, plan)) == Flow::Wait {
            return;
        }
        rollout::roll(self, plan);
    }

    fn status(&self) -> StatefulSetStatus {
        let Observed {
            set, current, update, ..
        } = self.observed;
        let (mut ready, mut available, mut of_current, mut of_update) = (0, 0, 0, 0);
        for pod in self.observed.pods {
            if phase(pod) == "Running" && is_ready(pod) {
                ready += 1;
                available += i32::from(self.is_available(pod));
            }
            if !is_terminating(pod) {
                of_current += i32::from(revision(pod) == history::name(current));
                of_update += i32::from(revision(pod) == history::name(update));
            }
        }
        let old = set.status.clone().unwrap_or_default();
        StatefulSetStatus {
            observed_generation: set.metadata.generation,
            replicas: i32::try_from(self.observed.pods.len()).unwrap_or(i32::MAX),
            ready_replicas: Some(ready),
            available_replicas: Some(available),
            current_replicas: Some(of_current),
            updated_replicas: Some(of_update),
            current_revision: Some(history::name(current).to_owned()),
            update_revision: Some(history::name(update).to_owned()),
            collision_count: old.collision_count,
            conditions: old.conditions,
        }
    }
}

/// The pod for an ordinal that has none. Below the partition it is of the current revision still.
fn new_pod(observed: &Observed<'_>, ordinal: i32) -> Pod {
    let set = observed.set;
    let of_current = rollout::keeps_current(set, ordinal);
    let revision = if of_current { observed.current } else { observed.update };
    let template: PodTemplateSpec = history::template(revision).unwrap_or_else(|| set.spec.template.clone());
    identity::make(set, &template, history::name(revision), ordinal)
}

pub fn plan(observed: &Observed<'_>) -> Plan {
    let look = Look::new(observed);
    let mut plan = Plan::default();
    if observed.set.metadata.deletion_timestamp.is_none() {
        look.act(&mut plan);
    }
    plan.status = look.status();
    rollout::note_deletions(&look, &plan.steps, &mut plan.status);
    rollout::complete(observed.set, &mut plan.status);
    let zero = |count: &mut Option<i32>| *count = count.filter(|n| *n != 0);
    zero(&mut plan.status.ready_replicas);
    zero(&mut plan.status.current_replicas);
    zero(&mut plan.status.updated_replicas);
    let waits = observed.pods.iter().filter_map(|p| match look.availability(p) {
        Availability::At(at) => Duration::try_from(at.duration_since(observed.now)).ok(),
        _ => None,
    });
    plan.check_again = waits.min();
    plan
}
