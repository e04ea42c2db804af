//! Which ReplicaSet is a Deployment's newest, its revision, and what history to drop.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use crate::template::{Digests, digest};

pub const REVISION: &str = "deployment.kubernetes.io/revision";
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// Annotations of a Deployment that say something of the Deployment alone.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

pub fn annotation<'a>(set: &'a ReplicaSet, key: &str) -> Option<&'a str> {
    set.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

pub fn revision(set: &ReplicaSet) -> i64 {
    annotation(set, REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}

/// The ReplicaSet of the Deployment's current template: the oldest, should there be several.
pub fn find_new(deployment: &Deployment, sets: &[Arc<ReplicaSet>], digests: &Digests) -> Option<Arc<ReplicaSet>> {
    let wanted = digests.of(&deployment.metadata, || digest(&deployment.spec.template));
    let is_new = |set: &&&Arc<ReplicaSet>| {
        let template = set.spec.template.as_ref();
        template.is_some_and(|template| digests.of(&set.metadata, || digest(template)) == wanted)
    };
    let mut sorted: Vec<&Arc<ReplicaSet>> = sets.iter().collect();
    sort_by_age(&mut sorted);
    sorted.iter().find(is_new).map(|s| Arc::clone(s))
}

pub fn sort_by_age(sets: &mut [&Arc<ReplicaSet>]) {
    sets.sort_by(|a, b| {
        let key = |s: &ReplicaSet| (s.metadata.creation_timestamp.clone(), s.metadata.name.clone());
        key(a).cmp(&key(b))
    });
}

/// What the new ReplicaSet's annotations should be: the Deployment's (but for its own), the next revision, and the
/// revisions this set had before. Also returns the revision.
pub fn annotations(
    deployment: &Deployment,
    existing: Option<&ReplicaSet>,
    old: &[Arc<ReplicaSet>],
) -> (BTreeMap<String, String>, i64) {
    let mut out = existing
        .and_then(|s| s.metadata.annotations.clone())
        .unwrap_or_default();
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) {
            out.insert(key.clone(), value.clone());
        }
    }
    let next = old.iter().map(|s| revision(s)).max().unwrap_or(0) + 1;
    let current = existing.map_or(0, revision);
    if current < next {
        if current > 0 {
            let mut history: Vec<String> = out
                .get(REVISION_HISTORY)
                .map(|h| h.split(',').filter(|r| !r.is_empty()).map(str::to_owned).collect())
                .unwrap_or_default();
            history.push(current.to_string());
            out.insert(REVISION_HISTORY.into(), history.join(","));
        }
        out.insert(REVISION.into(), next.to_string());
    }
    (out, next.max(current))
}

/// Old sets beyond `revisionHistoryLimit`, oldest revisions first; those that still have pods stay.
pub fn beyond_history<'s>(deployment: &Deployment, old: &'s [Arc<ReplicaSet>]) -> Vec<&'s Arc<ReplicaSet>> {
    let Some(limit) = deployment.spec.revision_history_limit else {
        return Vec::new();
    };
    let mut sets: Vec<&Arc<ReplicaSet>> = old.iter().filter(|s| s.metadata.deletion_timestamp.is_none()).collect();
    let excess = sets.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
    sets.sort_by_key(|s| revision(s));
    sets.truncate(excess);
    sets.retain(|s| {
        let status = s.status.as_ref();
        let empty = status.is_none_or(|st| st.replicas == 0) && super::replicas(s) == 0;
        let observed = status.and_then(|st| st.observed_generation).unwrap_or(0);
        empty && s.metadata.generation.unwrap_or(0) <= observed
    });
    sets
}
