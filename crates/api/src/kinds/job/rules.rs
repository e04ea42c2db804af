//! The rules for a job.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::check::{not_negative, one_of_if_set};
use super::super::pod_spec::validate_template;
use super::super::workload::selects_template;
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::selector::{LabelSelector, validate_label_selector};

/// The most pods that an indexed job runs at a time.
const MOST_PARALLEL: i64 = 100_000;
/// Bytes of the indexes of a success policy.
const LONGEST_INDEXES: usize = 64 * 1024;
/// More completions than that are bounded in what may run and fail.
const MANY_COMPLETIONS: i64 = 100_000;
const MOST_OF_MANY: i64 = 10_000;

/// The rules for a new job, beyond those that always hold.
pub(super) fn validate_new(job: &Cursor<'_>, errors: &mut ErrorList) {
    generated_selector(job, errors);
    let (spec, metadata) = (job.at("spec"), job.at("metadata"));
    let completions = spec.at("completions").int();
    if spec.at("completionMode").str() == "Indexed" && completions > 0 {
        // The index is part of the host's name.
        let name = metadata.at("name");
        let host = format!("{}-{}", name.str(), completions - 1);
        if !names::dns1123_label(&host).is_empty() {
            errors.invalid(
                &name,
                format!("will not able to create pod with invalid DNS label: {host}"),
            );
        }
    }
}

/// Where the selector is the server's to make, it is what the server made of the job's name and uid.
fn generated_selector(job: &Cursor<'_>, errors: &mut ErrorList) {
    let (spec, metadata) = (job.at("spec"), job.at("metadata"));
    let selector = spec.at("selector");
    if spec.at("manualSelector").is_true() || !selector.is_set() {
        return;
    }
    let (uid, name) = (metadata.at("uid").str(), metadata.at("name").str());
    let expected = [
        ("controller-uid", uid),
        ("job-name", name),
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
    ];
    let template = spec.at("template");
    let own = template.at("metadata");
    let labels = own.at("labels");
    for (key, value) in expected {
        let label = labels.key(key);
        let detail = format!("must be '{value}'");
        if !label.is_set() {
            errors.required(&label, detail);
        } else if label.str() != value {
            errors.invalid_value(&label, labels.value().unwrap_or(&Value::Null), detail);
        }
    }
    let label = |key: &str| expected.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
    if let Some(Ok(wanted)) = selector.value().map(LabelSelector::from_json)
        && !wanted.matches(label)
    {
        errors.invalid(&selector, "`selector` not auto-generated");
    }
}

pub(super) fn validate(job: &Cursor<'_>, errors: &mut ErrorList) {
    let spec = job.at("spec");
    let selector = spec.at("selector");
    let template = spec.at("template");
    match selector.value() {
        None => errors.required(&selector, ""),
        Some(value) => {
            validate_label_selector(&selector, errors);
            if let Ok(selector) = LabelSelector::from_json(value) {
                selects_template(&selector, &template, errors);
            }
        }
    }
    validate_spec(&spec, errors);
    validate_template_of_job(&template, &spec, errors);
}

/// The template of a job, and what the job's policies ask of it.
pub(in crate::kinds) fn validate_template_of_job(template: &Cursor<'_>, spec: &Cursor<'_>, errors: &mut ErrorList) {
    validate_template(template, &[], errors);
    let pod = template.at("spec");
    let policy = pod.at("restartPolicy");
    match policy.str() {
        "Never" => {}
        "OnFailure" if spec.at("podFailurePolicy").is_set() => errors.invalid(
            &policy,
            "only \"Never\" is supported when podFailurePolicy is specified",
        ),
        "OnFailure" => {}
        "" | "Always" => errors.required(&policy, "valid values: \"OnFailure\", \"Never\""),
        _ => errors.not_supported(&policy, &["OnFailure", "Never"]),
    }
}

/// The rules for the spec but for selector and template, which a CronJob's jobs share.
pub(in crate::kinds) fn validate_spec(spec: &Cursor<'_>, errors: &mut ErrorList) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        not_negative(&spec.at(field), errors);
    }
    let indexed = spec.at("completionMode").str() == "Indexed";
    let completions = spec.at("completions");
    let mode = spec.at("completionMode");
    one_of_if_set(&mode, &["NonIndexed", "Indexed"], errors);
    let parallelism = spec.at("parallelism");
    if indexed {
        if !completions.is_set() {
            errors.required(&completions, "when completion mode is Indexed");
        }
        if parallelism.int() > MOST_PARALLEL {
            errors.invalid(
                &parallelism,
                format!("must be less than or equal to {MOST_PARALLEL} when completion mode is Indexed"),
            );
        }
    }
    let (per_index, failed) = (spec.at("backoffLimitPerIndex"), spec.at("maxFailedIndexes"));
    for limit in [&per_index, &failed] {
        if limit.is_set() && mode.str() != "Indexed" {
            errors.invalid(limit, "requires indexed completion mode");
        }
    }
    if failed.is_set() && !per_index.is_set() {
        errors.required(&per_index, "when maxFailedIndexes is specified");
    }
    if indexed {
        failed_indexes(spec, errors);
    }
    let managed = spec.at("managedBy");
    if managed.is_set() {
        errors.faults(&managed, names::domain_prefixed_path(managed.str()));
        if managed.str().len() > 63 {
            errors.too_long(&managed, 63);
        }
    }
    failure_policy(spec, errors);
    success_policy(spec, indexed, errors);
}

/// How many indexes may fail, which has to be told when there are very many.
fn failed_indexes(spec: &Cursor<'_>, errors: &mut ErrorList) {
    let (completions, parallelism) = (spec.at("completions"), spec.at("parallelism"));
    let failed = spec.at("maxFailedIndexes");
    if failed.is_set() && completions.is_set() && failed.int() > completions.int() {
        errors.invalid(&failed, "must be less than or equal to completions");
    }
    if failed.int() > MANY_COMPLETIONS {
        errors.invalid(&failed, format!("must be less than or equal to {MANY_COMPLETIONS}"));
    }
    if completions.int() <= MANY_COMPLETIONS || !spec.at("backoffLimitPerIndex").is_set() {
        return;
    }
    if !failed.is_set() {
        let detail = format!("must be specified when completions is above {MANY_COMPLETIONS}");
        errors.required(&failed, detail);
    }
    for limit in [&parallelism, &failed] {
        if limit.int() > MOST_OF_MANY {
            errors.invalid(
                limit,
                format!(
                    "must be less than or equal to {MOST_OF_MANY} when completions are above {MANY_COMPLETIONS} and \
                     used with backoff limit per index"
                ),
            );
        }
    }
}

fn failure_policy(spec: &Cursor<'_>, errors: &mut ErrorList) {
    let policy = spec.at("podFailurePolicy");
    let replacement = spec.at("podReplacementPolicy");
    if !policy.is_set() {
        one_of_if_set(&replacement, &["Failed", "TerminatingOrFailed"], errors);
        return;
    }
    one_of_if_set(&replacement, &["Failed"], errors);
    let rules = policy.at("rules");
    if rules.len() > 20 {
        errors.too_many(&rules, rules.len(), 20);
    }
    let template = spec.at("template");
    let pod = template.at("spec");
    let containers: BTreeSet<String> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| {
            let names: Vec<String> = pod.at(list).items().map(|c| c.at("name").str().to_owned()).collect();
            names
        })
        .collect();
    for rule in rules.items() {
        let action = rule.at("action");
        one_of_these(&action, &["Count", "FailIndex", "FailJob", "Ignore"], errors);
        if action.str() == "FailIndex" && !spec.at("backoffLimitPerIndex").is_set() {
            errors.invalid(&action, "requires the backoffLimitPerIndex to be set");
        }
        let (codes, conditions) = (rule.at("onExitCodes"), rule.at("onPodConditions"));
        if codes.is_set() {
            exit_codes(&codes, &containers, errors);
        }
        if conditions.len() > 20 {
            errors.too_many(&conditions, conditions.len(), 20);
        }
        for pattern in conditions.items() {
            super::super::check::qualified(&pattern.at("type"), errors);
            one_of_these(&pattern.at("status"), &["False", "True", "Unknown"], errors);
        }
        match (codes.is_set(), conditions.is_empty()) {
            (true, false) => errors.invalid_unshown(
                &rule,
                "specifying both OnExitCodes and OnPodConditions is not supported",
            ),
            (false, true) => {
                errors.invalid_unshown(&rule, "specifying one of OnExitCodes and OnPodConditions is required");
            }
            _ => {}
        }
    }
}

/// One of `supported`, which are also told of when there is none: `valid values: ["In" "NotIn"]`.
fn one_of_these(at: &Cursor<'_>, supported: &[&str], errors: &mut ErrorList) {
    if at.is_empty() {
        let all: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        errors.required(at, format!("valid values: [{}]", all.join(" ")));
    } else {
        one_of_if_set(at, supported, errors);
    }
}

fn exit_codes(codes: &Cursor<'_>, containers: &BTreeSet<String>, errors: &mut ErrorList) {
    let operator = codes.at("operator");
    one_of_these(&operator, &["In", "NotIn"], errors);
    let container = codes.at("containerName");
    if container.is_set() && !containers.contains(container.str()) {
        errors.invalid(
            &container,
            "must be one of the container or initContainer names in the pod template",
        );
    }
    let values = codes.at("values");
    if values.is_empty() {
        errors.invalid(&values, "at least one value is required");
    } else if values.len() > 255 {
        errors.too_many(&values, values.len(), 255);
    }
    let mut last = None;
    let mut ordered = true;
    let mut seen = BTreeSet::new();
    for value in values.items() {
        if operator.str() == "In" && value.int() == 0 {
            errors.invalid(&value, "must not be 0 for the In operator");
        }
        if !seen.insert(value.int()) {
            errors.duplicate(&value);
        }
        ordered &= last.is_none_or(|l| l <= value.int());
        last = Some(value.int());
    }
    if !ordered {
        errors.invalid(&values, "must be ordered");
    }
}

fn success_policy(spec: &Cursor<'_>, indexed: bool, errors: &mut ErrorList) {
    let policy = spec.at("successPolicy");
    if !policy.is_set() {
        return;
    }
    if !indexed {
        errors.invalid(&policy, "requires indexed completion mode");
        return;
    }
    let rules = policy.at("rules");
    if rules.is_empty() {
        errors.required(
            &rules,
            "at least one rules must be specified when the successPolicy is specified",
        );
    }
    if rules.len() > 20 {
        errors.too_many(&rules, rules.len(), 20);
    }
    let completions = spec.at("completions").int();
    for rule in rules.items() {
        let (indexes, count) = (rule.at("succeededIndexes"), rule.at("succeededCount"));
        if !indexes.is_set() && !count.is_set() {
            errors.required(
                &rule,
                "at least one of succeededCount or succeededIndexes must be specified",
            );
        }
        let mut total = 0;
        if indexes.is_set() {
            if indexes.str().len() > LONGEST_INDEXES {
                errors.too_long(&indexes, LONGEST_INDEXES);
            }
            match count_indexes(indexes.str(), completions) {
                Ok(n) => total = n,
                Err(fault) => errors.invalid(&indexes, format!("error parsing succeededIndexes: {fault}")),
            }
        }
        if let Some(n) = count.i64() {
            not_negative(&count, errors);
            let mut at_most = |most: i64, what: &str| {
                if n > most {
                    errors.invalid(
                        &count,
                        format!("must be less than or equal to {most} (the number of {what})"),
                    );
                }
            };
            at_most(completions, "specified completions");
            if indexes.is_set() {
                at_most(total, "indexes in the specified succeededIndexes field");
            }
        }
    }
}

/// How many indexes `1,3-5` names.
pub(super) fn count_indexes(text: &str, completions: i64) -> Result<i64, String> {
    let intervals = indexes_within(text, completions)?;
    Ok(intervals.iter().map(|(first, last)| last - first + 1).sum())
}

/// The intervals, ends included, that `1,3-5` names; they ascend and are below the completions.
pub(super) fn indexes_within(text: &str, completions: i64) -> Result<Vec<(i64, i64)>, String> {
    let mut intervals = Vec::new();
    let mut previous = -1;
    if text.is_empty() {
        return Ok(intervals);
    }
    for part in text.split(',') {
        let bounds: Vec<_> = part.split('-').collect();
        let number = |text: &str| {
            text.parse::<i64>()
                .map_err(|_| format!("cannot convert string to integer for index: {text:?}"))
        };
        let fits = |index: i64, text: &str| match index >= completions {
            true => Err(format!("too large index: {text:?}")),
            false => Ok(index),
        };
        let (first, last) = match bounds[..] {
            [first] => (first, None),
            [first, last] => (first, Some(last)),
            _ => {
                return Err(format!(
                    "the fragment {part:?} violates the requirement that an index interval can have at most two parts \
                     separated by '-'"
                ));
            }
        };
        let first = fits(number(first)?, first)?;
        let last = match last {
            None => first,
            Some(text) => {
                let last = fits(number(text)?, text)?;
                if first >= last {
                    return Err(format!("non-increasing order, previous: {first}, current: {last}"));
                }
                last
            }
        };
        if first <= previous {
            return Err(format!("non-increasing order, previous: {previous}, current: {first}"));
        }
        intervals.push((first, last));
        previous = last;
    }
    Ok(intervals)
}

/// Whether a spec says `suspend`.
pub(super) fn is_suspended(job: &Cursor<'_>) -> bool {
    job.at("spec").at("suspend").value() == Some(&Value::Bool(true))
}

#[cfg(test)]
mod tests {
    use super::super::super::check::tests::{created, refuses, with};
    use super::super::row;
    use super::*;
    use serde_json::json;

    fn indexed() -> Value {
        json!({"metadata": {"name": "pi", "namespace": "default", "uid": "u-1"}, "spec": {
            "completionMode": "Indexed", "completions": 200_000, "parallelism": 10, "backoffLimitPerIndex": 1,
            "maxFailedIndexes": 10,
            "successPolicy": {"rules": [{"succeededIndexes": "0-3,7", "succeededCount": 2}]},
            "podFailurePolicy": {"rules": [{"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [1]}}]},
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "x:1"}]}}}})
    }

    #[test]
    fn an_indexed_jobs_limits_are_checked() {
        let long = "a".repeat(60);
        refuses(
            &row(),
            &indexed(),
            &[
                (
                    "/metadata/name",
                    json!(long),
                    &format!(
                        "metadata.name: Invalid value: \"{long}\": will not able to create pod with invalid DNS label: \
                         {long}-199999"
                    ),
                ),
                (
                    "/spec/maxFailedIndexes",
                    json!(null),
                    "spec.maxFailedIndexes: Required value: must be specified when completions is above 100000",
                ),
                (
                    "/spec/parallelism",
                    json!(20_000),
                    "spec.parallelism: Invalid value: 20000: must be less than or equal to 10000 when completions are \
                     above 100000 and used with backoff limit per index",
                ),
                (
                    "/spec/podReplacementPolicy",
                    json!("TerminatingOrFailed"),
                    "spec.podReplacementPolicy: Unsupported value: \"TerminatingOrFailed\": supported values: \"Failed\"",
                ),
                (
                    "/spec/template/spec/restartPolicy",
                    json!("OnFailure"),
                    "spec.template.spec.restartPolicy: Invalid value: \"OnFailure\": only \"Never\" is supported when \
                     podFailurePolicy is specified",
                ),
                (
                    "/spec/podFailurePolicy/rules/0/onExitCodes/operator",
                    json!(""),
                    "spec.podFailurePolicy.rules[0].onExitCodes.operator: Required value: valid values: [\"In\" \
                     \"NotIn\"]",
                ),
                (
                    "/spec/podFailurePolicy/rules/0/onPodConditions",
                    json!([{"type": "DisruptionTarget", "status": "True"}]),
                    "spec.podFailurePolicy.rules[0]: Invalid value: specifying both OnExitCodes and OnPodConditions is \
                     not supported",
                ),
                (
                    "/spec/podFailurePolicy/rules/0/onExitCodes",
                    json!(null),
                    "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is \
                     required",
                ),
                (
                    "/spec/successPolicy/rules/0/succeededCount",
                    json!(6),
                    "spec.successPolicy.rules[0].succeededCount: Invalid value: 6: must be less than or equal to 5 (the \
                     number of indexes in the specified succeededIndexes field)",
                ),
            ],
        );
    }

    #[test]
    fn a_generated_selector_is_not_the_clients_to_give() {
        let own = with(&indexed(), "/spec/selector", json!({"matchLabels": {"app": "pi"}}));
        let errors = created(&row(), own);
        assert_eq!(
            errors[0],
            "spec.selector: Invalid value: \
             {\"matchLabels\":{\"app\":\"pi\",\"batch.kubernetes.io/controller-uid\":\"u-1\"}}: `selector` not \
             auto-generated"
        );
        assert!(
            errors[1].ends_with("`selector` does not match template `labels`"),
            "{errors:?}"
        );
        assert_eq!(errors.len(), 2);
    }

    #[test]
    fn indexes_ascend_and_are_below_the_completions() {
        assert_eq!(indexes_within("0,2-4", 5), Ok(vec![(0, 0), (2, 4)]));
        for (text, fault) in [
            ("x", "cannot convert string to integer for index: \"x\""),
            ("-1", "cannot convert string to integer for index: \"\""),
            ("5", "too large index: \"5\""),
            ("1-5", "too large index: \"5\""),
            ("2-2", "non-increasing order, previous: 2, current: 2"),
            ("1,1", "non-increasing order, previous: 1, current: 1"),
            (
                "1-2-3",
                "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts \
                 separated by '-'",
            ),
        ] {
            assert_eq!(indexes_within(text, 5), Err(fault.to_owned()), "{text}");
        }
    }
}
