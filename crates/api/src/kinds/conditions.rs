//! Conditions of the general form, which newer kinds have in their status.

use std::collections::BTreeSet;

use crate::field::{Cursor, ErrorList};
use crate::names;

/// Bytes.
const LONGEST_REASON: usize = 1024;
/// Bytes.
const LONGEST_MESSAGE: usize = 32 * 1024;

/// The rules for a list of conditions.
pub(super) fn validate(list: &Cursor<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for condition in list.items() {
        let kind = condition.at("type");
        if !seen.insert(kind.str().to_owned()) {
            errors.duplicate(&kind);
        }
        one(&condition, errors);
    }
}

fn one(condition: &Cursor<'_>, errors: &mut ErrorList) {
    let (kind, status) = (condition.at("type"), condition.at("status"));
    names::label_name(&kind, kind.str(), errors);
    if !matches!(status.str(), "True" | "False" | "Unknown") {
        errors.not_supported_value(&status, &status.str().into(), &["False", "True", "Unknown"]);
    }
    let generation = condition.at("observedGeneration");
    if generation.int() < 0 {
        errors.invalid(&generation, "must be greater than or equal to zero");
    }
    let (time, reason, message) = (
        condition.at("lastTransitionTime"),
        condition.at("reason"),
        condition.at("message"),
    );
    if !time.is_set() {
        errors.required(&time, "must be set");
    }
    if reason.is_empty() {
        errors.required(&reason, "must be set");
    } else {
        errors.faults(&reason, names::condition_reason(reason.str()));
        if reason.str().len() > LONGEST_REASON {
            errors.too_long(&reason, LONGEST_REASON);
        }
    }
    if message.str().len() > LONGEST_MESSAGE {
        errors.too_long(&message, LONGEST_MESSAGE);
    }
}
