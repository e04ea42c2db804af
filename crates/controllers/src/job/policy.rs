//! What a job's policies say of its pods: podFailurePolicy of a failed pod, successPolicy of the completed indexes. Pure.

use k8s_openapi::api::batch::v1::{JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::Pod;

use super::indexes::Indexes;
use crate::pods::phase;

/// What a failure means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts towards the back-off limits: the rule Count, and whatever no rule matches.
    Count,
    /// It does not count.
    Ignore,
    /// Its index has failed for good.
    FailIndex,
    /// The whole job has; the text says which rule matched.
    FailJob(String),
}

/// The first rule that matches a failed pod decides. Only pods that have really failed are matched: of one that is merely
/// being deleted nothing is known yet.
pub fn judge(spec: &JobSpec, pod: &Pod) -> Verdict {
    decided(spec, pod).map_or(Verdict::Count, |(_, verdict)| verdict)
}

/// The action of the rule that decides about a failed pod, if one does.
pub fn action<'s>(spec: &'s JobSpec, pod: &Pod) -> Option<&'s str> {
    decided(spec, pod).map(|(action, _)| action)
}

fn decided<'s>(spec: &'s JobSpec, pod: &Pod) -> Option<(&'s str, Verdict)> {
    let policy = spec.pod_failure_policy.as_ref().filter(|_| phase(pod) == "Failed")?;
    policy.rules.iter().enumerate().find_map(|(at, rule)| {
        let matched = matches(rule, pod)?;
        let verdict = match rule.action.as_str() {
            "Ignore" => Verdict::Ignore,
            "Count" => Verdict::Count,
            "FailIndex" if spec.backoff_limit_per_index.is_some() => Verdict::FailIndex,
            "FailJob" => Verdict::FailJob(format!("{matched} matching FailJob rule at index {at}")),
            // An action that is not known: the rule is skipped.
            _ => return None,
        };
        Some((rule.action.as_str(), verdict))
    })
}

fn full_name(pod: &Pod) -> String {
    let meta = &pod.metadata;
    format!(
        "{}/{}",
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default()
    )
}

/// What of the pod matches the rule, in words.
fn matches(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    if let Some(wanted) = &rule.on_exit_codes {
        return exit_code(wanted, pod);
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let conditions = pod.status.as_ref()?.conditions.as_deref().unwrap_or_default();
    let condition = conditions.iter().find(|c| {
        patterns
            .iter()
            .any(|p| p.type_ == c.type_ && p.status.as_deref().unwrap_or("True") == c.status)
    })?;
    Some(format!("Pod {} has condition {}", full_name(pod), condition.type_))
}

fn exit_code(wanted: &PodFailurePolicyOnExitCodesRequirement, pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let all = status.container_statuses.iter().chain(&status.init_container_statuses);
    let of_name = |name: &str| wanted.container_name.as_deref().is_none_or(|n| n == name);
    for container in all.flatten().filter(|c| of_name(&c.name)) {
        let Some(ended) = container.state.as_ref().and_then(|s| s.terminated.as_ref()) else {
            continue;
        };
        let listed = wanted.values.contains(&ended.exit_code);
        let matched = match wanted.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        };
        // A container that succeeded is no failure, whatever the operator.
        if ended.exit_code != 0 && matched {
            return Some(format!(
                "Container {} for pod {} failed with exit code {}",
                container.name,
                full_name(pod),
                ended.exit_code
            ));
        }
    }
    None
}

/// The success policy's first rule that the completed indexes meet.
pub fn success(spec: &JobSpec, completed: &Indexes) -> Option<String> {
    let completions = spec.completions.unwrap_or(0);
    let rules = &spec.success_policy.as_ref()?.rules;
    let met = rules.iter().position(|rule| {
        let (done, of) = match &rule.succeeded_indexes {
            Some(text) => {
                let wanted = Indexes::parse(text, completions);
                (completed.common(&wanted), wanted.len())
            }
            None => (completed.len(), completions),
        };
        of > 0 && done >= rule.succeeded_count.unwrap_or(of)
    })?;
    Some(format!("Matched rules at index {met}"))
}
