//! What must never happen. A rule sees every commit, and the state of everything right after it; it may remember what it has
//! seen. What a component may not know yet (its view is late by so much at most) is not held against it.

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
            Box::new(volume::Volumes::default()),
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
