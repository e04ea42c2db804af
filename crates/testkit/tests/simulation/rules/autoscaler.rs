//! An autoscaler sets no other number of replicas than its bounds allow, whichever it was told of late.

use super::Rule;
use crate::json;
use crate::model::{Commit, Model};

pub struct Autoscalers {
    staleness: f64,
    /// When which least and most were said.
    said: Vec<(f64, i64, i64)>,
}

impl Autoscalers {
    pub fn new(staleness: f64) -> Self {
        Self {
            staleness,
            said: Vec::new(),
        }
    }
}

impl Rule for Autoscalers {
    fn judge(&mut self, _model: &Model, commit: &Commit, faults: &mut Vec<String>) {
        if commit.is_of("horizontalpodautoscalers")
            && let Some(autoscaler) = commit.after.as_deref()
        {
            let bound = |field: &str| json::int(json::at(autoscaler, "spec"), field);
            let bounds = (bound("minReplicas"), bound("maxReplicas"));
            if self.said.last().is_none_or(|(_, min, max)| (*min, *max) != bounds) {
                self.said.push((commit.seconds, bounds.0, bounds.1));
            }
        }
        if !commit.is_of("deployments") || commit.actor != "horizontal-pod-autoscaler" {
            return;
        }
        let Some((before, after)) = commit.states() else { return };
        let (was, is) = (json::int(before, "spec.replicas"), json::int(after, "spec.replicas"));
        // What was said may be believed until long enough after something else was said.
        let until = self.said.iter().skip(1).map(|(when, _, _)| *when);
        let until = until.chain([f64::MAX]);
        let mut believed = self
            .said
            .iter()
            .zip(until)
            .filter(|(_, until)| until + self.staleness + 30.0 >= commit.seconds);
        if was != is && !believed.any(|((_, min, max), _)| (*min..=*max).contains(&is)) {
            faults.push(format!("{} is scaled to {is}, out of bounds", json::name(after)));
        }
    }
}
