//! What a sequence does next: pure, so that a table can test it.

use std::sync::Arc;

use k8s_openapi::Resource as _;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::sequence::{Sequence, SequenceStatus, Step};

/// What to make, and what to tell.
pub struct Plan {
    pub create: Option<Job>,
    pub status: SequenceStatus,
}

fn is(job: &Job, condition: &str) -> bool {
    let conditions = job.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|c| c.type_ == condition && c.status == "True")
}

fn is_own(job: &Job, sequence: &Sequence) -> bool {
    let owners = job.metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().any(|o| Some(&o.uid) == sequence.metadata.uid.as_ref())
}

/// `find` knows the Jobs that there are, by name.
pub fn plan(sequence: &Sequence, find: impl Fn(&str) -> Option<Arc<Job>>) -> Plan {
    let name = sequence.metadata.name.as_deref().unwrap_or_default();
    for (step, done) in sequence.spec.steps.iter().zip(0..) {
        let told = |phase: &str| SequenceStatus {
            phase: phase.to_owned(),
            step: step.name.clone(),
            done,
        };
        match find(&format!("{name}-{}", step.name)) {
            None => {
                return Plan {
                    create: Some(made(sequence, step)),
                    status: told("Running"),
                };
            }
            Some(job) if is(&job, "Complete") && is_own(&job, sequence) => {}
            // One that is somebody else's will never be this sequence's.
            Some(job) => {
                let phase = match is(&job, "Failed") || !is_own(&job, sequence) {
                    true => "Failed",
                    false => "Running",
                };
                return Plan {
                    create: None,
                    status: told(phase),
                };
            }
        }
    }
    Plan {
        create: None,
        status: SequenceStatus {
            phase: "Complete".into(),
            step: String::new(),
            done: i32::try_from(sequence.spec.steps.len()).unwrap_or(i32::MAX),
        },
    }
}

fn made(sequence: &Sequence, step: &Step) -> Job {
    let name = sequence.metadata.name.clone().unwrap_or_default();
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{}", step.name)),
            owner_references: Some(vec![OwnerReference {
                api_version: Sequence::API_VERSION.into(),
                kind: Sequence::KIND.into(),
                name,
                uid: sequence.metadata.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(step.job.clone()),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::SequenceSpec;

    fn sequence() -> Sequence {
        let step = |name: &str| Step {
            name: name.into(),
            ..Step::default()
        };
        let steps = vec![step("a"), step("b")];
        let mut sequence = Sequence::new("s", SequenceSpec { steps });
        sequence.metadata.uid = Some("u".into());
        sequence
    }

    fn job(condition: &str, owner: &str) -> Option<Arc<Job>> {
        let job = serde_json::json!({
            "metadata": {"ownerReferences": [{"apiVersion": "", "kind": "", "name": "", "uid": owner}]},
            "status": {"conditions": [{"type": condition, "status": "True"}]},
        });
        Some(Arc::new(serde_json::from_value(job).unwrap()))
    }

    #[test]
    fn a_step_begins_when_the_one_before_it_is_complete_and_not_before() {
        for (first, second, creates, phase, step) in [
            (None, None, true, "Running", "a"),
            (job("Suspended", "u"), None, false, "Running", "a"),
            (job("Failed", "u"), None, false, "Failed", "a"),
            (job("Complete", "other"), None, false, "Failed", "a"),
            (job("Complete", "u"), None, true, "Running", "b"),
            (job("Complete", "u"), job("Complete", "u"), false, "Complete", ""),
        ] {
            let find = |name: &str| if name == "s-a" { first.clone() } else { second.clone() };
            let plan = plan(&sequence(), find);
            let told = (plan.status.phase.as_str(), plan.status.step.as_str());
            assert_eq!((plan.create.is_some(), told), (creates, (phase, step)));
        }
    }
}
