//! Which pods of a job come and which go. Pure.

use std::collections::HashSet;
use std::sync::Arc;

use coracle_clock::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::Look;
use crate::job::backoff;
use crate::job::pod::{Failures, NewPod, index};
use crate::pods::{is_active, is_terminating, rank_for_deletion};

/// How many pods one reconcile creates or deletes at most.
const BURST: usize = 500;

impl Look<'_> {
    /// Which pods to delete, or else to create.
    pub(super) fn act(&mut self) {
        if let Some(end) = &self.end {
            // What still runs when the job has succeeded is not needed, and has not failed.
            self.plan.forget_deleted = end.success;
            self.plan.delete = self.active.iter().take(BURST).cloned().collect();
            return;
        }
        self.plan.forget_deleted = true;
        let active = self.active.len();
        let parallelism = usize::try_from(self.spec.parallelism.unwrap_or(1)).unwrap_or(0);
        let wanted = match (self.suspended, self.spec.completions) {
            (true, _) => 0,
            // A work queue: once a pod has succeeded, no new ones are made.
            (false, None) if self.succeeded() > 0 => active.min(parallelism),
            (false, None) => parallelism,
            (false, Some(all)) => parallelism.min(usize::try_from(all.saturating_sub(self.succeeded())).unwrap_or(0)),
        };
        if !self.suspended && self.spec.completions.is_some() && active > wanted && wanted == 0 && self.succeeded() > 0
        {
            self.note(
                true,
                "TooManyActivePods",
                "Too many active pods running after completion count reached",
            );
        }
        let mut doomed = if self.indexed {
            self.superfluous_of_index()
        } else {
            Vec::new()
        };
        if active > wanted + doomed.len() {
            let gone: HashSet<Option<String>> = doomed.iter().map(|p| p.metadata.uid.clone()).collect();
            let mut ranked = self.active.clone();
            rank_for_deletion(&mut ranked, &self.active, self.now);
            let more = ranked.into_iter().filter(|p| !gone.contains(&p.metadata.uid));
            doomed.extend(more.take(active - wanted - doomed.len()));
        }
        if !doomed.is_empty() {
            doomed.truncate(BURST);
            self.plan.delete = doomed;
            return;
        }
        let waiting = match self.only_failed {
            true => self.pods.iter().filter(|p| is_terminating(p)).count(),
            false => 0,
        };
        let missing = wanted.saturating_sub(active + waiting).min(BURST);
        if missing > 0 {
            self.create(missing);
        }
    }

    /// Active pods without a valid index, or of one that is done or has an active pod already.
    fn superfluous_of_index(&self) -> Vec<Arc<Pod>> {
        let mut taken = HashSet::new();
        let mut ranked = self.active.clone();
        rank_for_deletion(&mut ranked, &self.active, self.now);
        // The first in rank go first, so the last one keeps the index.
        let mut spare = |p: &Arc<Pod>| {
            self.valid_index(p)
                .is_none_or(|i| self.completed.contains(i) || self.failed_indexes.contains(i) || !taken.insert(i))
        };
        ranked.into_iter().rev().filter(|p| spare(p)).collect()
    }

    fn create(&mut self, missing: usize) {
        let per_index = self.spec.backoff_limit_per_index.is_some() && self.indexed;
        if !per_index {
            let failed = self.pods.iter().filter(|p| self.is_failed(p));
            let until = backoff::until(failed, self.pods);
            if until.is_some_and(|at| at > self.now) {
                self.check_at(until);
                return;
            }
        }
        if !self.indexed {
            self.plan.create = vec![NewPod::default(); missing];
            return;
        }
        let busy = |p: &&Arc<Pod>| is_active(p) || self.only_failed && is_terminating(p);
        let busy: HashSet<i32> = self.pods.iter().filter(busy).filter_map(|p| index(p)).collect();
        let mut later = None;
        for index in 0..self.completions {
            if self.plan.create.len() == missing {
                break;
            }
            if busy.contains(&index) || self.completed.contains(index) || self.failed_indexes.contains(index) {
                continue;
            }
            let mut failures = per_index.then(Failures::default);
            if let Some((pod, next)) = self.last_failure.get(&index) {
                let until = backoff::finished_at(pod).and_then(|at| backoff::after(next.all(), at));
                if let Some(until) = until.filter(|at| *at > self.now) {
                    later = Some(later.map_or(until, |l: Timestamp| l.min(until)));
                    continue;
                }
                failures = Some(*next);
            }
            self.plan.create.push(NewPod {
                index: Some(index),
                failures,
            });
        }
        self.check_at(later);
    }
}
