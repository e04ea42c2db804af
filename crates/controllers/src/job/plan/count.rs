//! Counting: which pods have finished, which of them are noted and which are counted. Pure.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::Pod;

use super::{Look, count, nonzero};
use crate::job::pod::{self, failures, is_held};
use crate::job::policy::{self, Verdict};
use crate::pods::{is_finished, phase};

/// How many uids a status holds at most; further finished pods are noted when these have been counted.
const MOST_NOTED: usize = 500;

impl Look<'_> {
    pub(super) fn turn_notes_into_counts(&mut self) {
        let held: HashSet<&str> = self
            .pods
            .iter()
            .filter(|p| is_held(p))
            .filter_map(|p| p.metadata.uid.as_deref())
            .collect();
        let settle = |noted: &mut Vec<String>, counted: &mut Option<i32>| {
            let before = noted.len();
            noted.retain(|uid| held.contains(uid.as_str()));
            *counted = nonzero(counted.unwrap_or(0).saturating_add(count(before - noted.len())));
        };
        settle(&mut self.noted_succeeded, &mut self.status.succeeded);
        settle(&mut self.noted_failed, &mut self.status.failed);
    }

    pub(super) fn sort_finished(&mut self) {
        for pod in self.pods.iter().filter(|p| is_held(p)) {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            if self.noted_succeeded.contains(&uid) || self.noted_failed.contains(&uid) {
                self.plan.let_go.push(pod.clone());
            } else if phase(pod) == "Succeeded" {
                match (self.indexed, self.valid_index(pod)) {
                    // The set of indexes counts a pod once, however often it is added.
                    (true, Some(index)) => {
                        self.completed.insert(index);
                        self.plan.let_go.push(pod.clone());
                    }
                    (true, None) => self.plan.let_go.push(pod.clone()),
                    (false, _) => self.new_succeeded.push(pod.clone()),
                }
            } else if self.is_failed(pod) {
                if self.indexed && self.valid_index(pod).is_none() {
                    self.plan.let_go.push(pod.clone());
                } else {
                    self.new_failed.push((pod.clone(), policy::judge(self.spec, pod)));
                }
            }
        }
        if let Some(limit) = self.spec.backoff_limit_per_index {
            self.sort_by_index(u32::try_from(limit).unwrap_or(0));
        }
    }

    /// Which indexes have failed for good, and which failures the next pod of an index has to carry on.
    fn sort_by_index(&mut self, limit: u32) {
        for (pod, verdict) in &self.new_failed {
            let Some(index) = self.valid_index(pod) else { continue };
            let before = failures(pod);
            if *verdict == Verdict::FailIndex || *verdict != Verdict::Ignore && before.counted >= limit {
                self.failed_indexes.insert(index);
                continue;
            }
            let mut next = before;
            match verdict {
                Verdict::Ignore => next.ignored = next.ignored.saturating_add(1),
                _ => next.counted = next.counted.saturating_add(1),
            }
            let replaced = self
                .pods
                .iter()
                .any(|p| pod::index(p) == Some(index) && failures(p).all() > before.all());
            let known = self.last_failure.get(&index).map(|(_, f)| f.all());
            if !replaced && known.is_none_or(|k| next.all() > k) {
                self.last_failure.insert(index, (pod.clone(), next));
            }
        }
        let (completed, failed) = (&self.completed, &self.failed_indexes);
        self.last_failure
            .retain(|index, _| !completed.contains(*index) && !failed.contains(*index));
    }

    fn is_full(&self) -> bool {
        self.noted_succeeded.len() + self.noted_failed.len() >= MOST_NOTED
    }

    /// Notes the uids of finished pods; from then on they may go.
    pub(super) fn count_finished(&mut self) {
        let uid = |p: &Pod| p.metadata.uid.clone().unwrap_or_default();
        for pod in std::mem::take(&mut self.new_succeeded) {
            if self.is_full() {
                self.new_succeeded.push(pod);
                continue;
            }
            self.noted_succeeded.push(uid(&pod));
            self.plan.let_go.push(pod);
        }
        let kept: HashSet<String> = match self.end {
            None => self.last_failure.values().map(|(p, _)| uid(p)).collect(),
            Some(_) => HashSet::new(),
        };
        let failed_job = self.end.as_ref().is_some_and(|e| !e.success);
        let mut failed = std::mem::take(&mut self.new_failed);
        if failed_job {
            // Whatever still runs has failed with its job.
            let noted: HashSet<String> = failed.iter().map(|(p, _)| uid(p)).collect();
            let running = self.pods.iter().filter(|p| is_held(p) && !is_finished(p));
            failed.extend(
                running
                    .filter(|p| !noted.contains(&uid(p)) && !self.noted_failed.contains(&uid(p)))
                    .map(|p| (p.clone(), Verdict::Count)),
            );
        }
        for (pod, verdict) in failed {
            if kept.contains(&uid(&pod)) {
                continue;
            }
            if verdict != Verdict::Ignore {
                if self.is_full() {
                    self.new_failed.push((pod, verdict));
                    continue;
                }
                self.noted_failed.push(uid(&pod));
            }
            self.plan.let_go.push(pod);
        }
    }
}
