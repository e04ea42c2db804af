//! What must never happen. A rule sees every commit, and the state of everything right after it; it may remember what it has
//! seen. What a component may not know yet (its view is late by so much at most) is not held against it.
//!
//! That a rule catches what it is there for was tried by breaking the controllers on purpose, one at a time. The first seed
//! that caught each:
//!
//! | what was broken | seed | caught by |
//! |---|---|---|
//! | expectations do not block | 5 | `job`: more at work than parallelism, an index twice |
//! | a ReplicaSet makes one pod more than it lacks | 1 | `replicas` |
//! | a Deployment's new set grows by one more than maxSurge | 18 | `deployment` |
//! | a Deployment gives up one available pod more than maxUnavailable | 18 | `deployment` |
//! | a DaemonSet takes one pod that serves more than maxUnavailable | 19 | `daemon` |
//! | a DaemonSet makes a second pod where the first is not ready | 2 | `daemon` |
//! | a StatefulSet's update takes one more than maxUnavailable, or does not count what is unavailable | 4 | `stateful` |
//! | a Job makes one pod more than parallelism | 1 | `job` |
//! | a succeeded pod is let go of before it is noted | 3 | `job` |
//! | a note does not become a count | 1 | `job` |
//! | a noted pod is noted again | 9 | no rest |
//! | the names of a CronJob's Jobs do not follow from the tick | 17 | `cronjob`: two for one tick |
//! | a Job 40 s before its tick; while suspended; beside another under Forbid; one kept too many | 1, 1, 13, 3 | `cronjob` |
//! | dependents of absent owners stay | 2 | `ownership`, at rest |
//! | an owner lets go of pods that are going | 1 | `ownership` |
//! | taints that do not evict evict; tolerations do not count | 1, 9 | `eviction` |
//! | the pod collector gives up pods whose node is there | 1 | `replicas` |
//! | a budget allows one disruption more | 3 | no rest |
//! | the scheduler overlooks taints, resources, unbound claims | 2, 3, 4 | `scheduling`, `volume` |
//! | an autoscaler goes beyond its maximum | 18 | no quiet |
//!
//! In 24 seeds nothing has caught these: a Recreate that does not wait; nodes without a daemon not counted as unavailable; an
//! ordered StatefulSet that waits for nobody; what a Deployment wrote forgotten; a CronJob that forgets what it started or does
//! not say so; an eviction that takes nothing from its budget; the preemption of equals; a collector that overlooks a living
//! owner beside an absent one, or one orphan of several; a Job that ends before its pods; cordons overlooked. Nor in the first
//! four: an index given out again while it is busy or done; an ordered StatefulSet that waits for being there and not for
//! serving; doubts after lost answers ignored; claims that go while they are used. To catch them the rules need fewer excuses,
//! or the users longer pauses.

mod autoscaler;
mod cronjob;
mod daemon;
mod deployment;
mod disruption;
mod eviction;
mod given_up;
mod job;
mod ownership;
mod replicas;
mod scheduling;
mod stateful;
mod volume;

pub use deployment::available as deployment_available;
pub use volume::claims_of;

use std::time::Duration;

use crate::model::{Commit, Model};

pub trait Rule: Send {
    fn judge(&mut self, model: &Model, commit: &Commit, faults: &mut Vec<String>);

    /// What must hold once all has come to rest.
    fn judge_rest(&self, _model: &Model, _faults: &mut Vec<String>) {}
}

pub struct Rules(Vec<Box<dyn Rule>>);

impl Rules {
    /// For a cluster whose components may be late by `staleness`.
    pub fn new(staleness: Duration) -> Self {
        let staleness = staleness.as_secs_f64();
        Self(vec![
            Box::new(replicas::Replicas::default()),
            Box::new(deployment::Deployments::new(staleness)),
            Box::new(daemon::Daemons::new(staleness)),
            Box::new(stateful::StatefulSets::new(staleness)),
            Box::new(job::Jobs::default()),
            Box::new(cronjob::CronJobs::new(staleness)),
            Box::new(ownership::Ownership::default()),
            Box::new(scheduling::Scheduling::new(staleness)),
            Box::new(disruption::Disruptions::new(staleness)),
            Box::new(eviction::Evictions::new(staleness)),
            Box::new(volume::Volumes::new(staleness)),
            Box::new(autoscaler::Autoscalers::new(staleness)),
        ])
    }

    pub fn judge(&mut self, model: &Model, commit: &Commit) -> Vec<String> {
        let mut faults = Vec::new();
        for rule in &mut self.0 {
            rule.judge(model, commit, &mut faults);
        }
        faults
    }

    pub fn judge_rest(&self, model: &Model) -> Vec<String> {
        let mut faults = Vec::new();
        for rule in &self.0 {
            rule.judge_rest(model, &mut faults);
        }
        faults
    }
}
