//! The rules for a job.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::check::{not_negative, one_of, one_of_if_set};
use super::super::pod_spec::validate_template;
use super::super::workload::selects_template;
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::selector::{LabelSelector, validate_label_selector};

/// The most pods that an indexed job runs at a time.
const MOST_PARALLEL: i64 = 100_000;

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
    if !matches!(policy.str(), "OnFailure" | "Never") {
        errors.required(&policy, "valid values: \"OnFailure\", \"Never\"");
    } else if policy.str() != "Never" && spec.at("podFailurePolicy").is_set() {
        errors.invalid(
            &policy,
            "only \"Never\" is supported when podFailurePolicy is specified",
        );
    } else if policy.str() != "Never" && spec.at("backoffLimitPerIndex").is_set() {
        errors.invalid(
            &policy,
            "only \"Never\" is supported when backoffLimitPerIndex is specified",
        );
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
    one_of_if_set(&mode, &["Indexed", "NonIndexed"], errors);
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
    if per_index.is_set() && !indexed {
        errors.invalid(&per_index, "requires indexed completion mode");
    }
    if failed.is_set() {
        if !per_index.is_set() {
            errors.required(&per_index, "when maxFailedIndexes is specified");
        }
        if completions.is_set() && failed.int() > completions.int() {
            errors.invalid(&failed, "must be less than or equal to completions");
        }
    }
    let managed = spec.at("managedBy");
    if managed.is_set() {
        errors.faults(&managed, names::domain_prefixed_path(managed.str()));
        if managed.str().len() > 63 {
            errors.too_long(&managed, 63);
        }
    }
    one_of_if_set(
        &spec.at("podReplacementPolicy"),
        &["Failed", "TerminatingOrFailed"],
        errors,
    );
    failure_policy(spec, errors);
    success_policy(spec, indexed, errors);
}

fn failure_policy(spec: &Cursor<'_>, errors: &mut ErrorList) {
    let policy = spec.at("podFailurePolicy");
    if !policy.is_set() {
        return;
    }
    let replacement = spec.at("podReplacementPolicy");
    if replacement.is_set() && replacement.str() != "Failed" {
        errors.not_supported(&replacement, &["Failed"]);
    }
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
        one_of(&action, &["Count", "FailIndex", "FailJob", "Ignore"], errors);
        if action.str() == "FailIndex" && !spec.at("backoffLimitPerIndex").is_set() {
            errors.invalid(&action, "requires the backoffLimitPerIndex to be set");
        }
        let (codes, conditions) = (rule.at("onExitCodes"), rule.at("onPodConditions"));
        match (codes.is_set(), conditions.is_empty()) {
            (true, false) => errors.invalid(
                &rule,
                "specifying both OnExitCodes and OnPodConditions is not supported",
            ),
            (false, true) => errors.invalid(&rule, "specifying one of OnExitCodes and OnPodConditions is required"),
            _ => {}
        }
        if codes.is_set() {
            exit_codes(&codes, &containers, errors);
        }
        if conditions.len() > 20 {
            errors.too_many(&conditions, conditions.len(), 20);
        }
        for pattern in conditions.items() {
            super::super::check::qualified(&pattern.at("type"), errors);
            one_of(&pattern.at("status"), &["False", "True", "Unknown"], errors);
        }
    }
}

fn exit_codes(codes: &Cursor<'_>, containers: &BTreeSet<String>, errors: &mut ErrorList) {
    let operator = codes.at("operator");
    one_of(&operator, &["In", "NotIn"], errors);
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
        } else if last.is_some_and(|l| l > value.int()) {
            ordered = false;
        }
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
        let mut total = None;
        if indexes.is_set() {
            match count_indexes(indexes.str(), completions) {
                Ok(n) => total = Some(n),
                Err(fault) => errors.invalid(&indexes, format!("error parsing succeededIndexes: {fault}")),
            }
        }
        if let Some(n) = count.i64() {
            not_negative(&count, errors);
            if n == 0 {
                errors.invalid(&count, "must be greater than 0");
            }
            if n > completions {
                errors.invalid(&count, "must be less than or equal to completions");
            }
            if total.is_some_and(|t| n > t) {
                errors.invalid(
                    &count,
                    "must be less than or equal to the number of indexes in the specified succeededIndexes field",
                );
            }
        }
    }
}

/// How many indexes `1,3-5` names; they ascend and are below the completions.
fn count_indexes(text: &str, completions: i64) -> Result<i64, String> {
    let mut total = 0;
    let mut last = -1;
    if text.is_empty() {
        return Ok(0);
    }
    for part in text.split(',') {
        let (first, end) = part.split_once('-').unwrap_or((part, part));
        let number = |t: &str| {
            t.parse::<i64>()
                .map_err(|_| format!("cannot convert string to integer for index: {t:?}"))
        };
        let (first, end) = (number(first)?, number(end)?);
        if first <= last {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        if end < first {
            return Err(format!("non-increasing order, previous: {first}, current: {end}"));
        }
        if end >= completions {
            return Err(format!("too large index: {:?}", end.to_string()));
        }
        total += end - first + 1;
        last = end;
    }
    Ok(total)
}

/// Whether a spec says `suspend`.
pub(super) fn is_suspended(job: &Cursor<'_>) -> bool {
    job.at("spec").at("suspend").value() == Some(&Value::Bool(true))
}
