//! PriorityLevelConfiguration: how many requests of one priority are served at a time.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, str_of, text};
use super::fill::{at, fill, fill_empty, fill_zero, map_made};
use super::flow_control;
use super::flow_schema::unique_conditions;
use super::row::cluster;
use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster(
        "flowcontrol.apiserver.k8s.io",
        "v1",
        "PriorityLevelConfiguration",
        "prioritylevelconfigurations",
    )
    .status()
    .generation()
    .columns([
        name(),
        text("Type", "Exempt or Limited."),
        text(
            "NominalConcurrencyShares",
            "The level's share of the server's concurrency.",
        ),
        text("Queues", "How many queues there are."),
        text("HandSize", "How many queues a flow may use."),
        text("QueueLengthLimit", "How many requests may wait in a queue."),
        age(),
    ])
    .strategy(PriorityLevelConfiguration)
    .build()
}

const MOST_QUEUES: i64 = 10_000_000;
/// Bits of a hash that hands are dealt from.
const HASH_BITS: f64 = 60.0;

struct PriorityLevelConfiguration;

impl Strategy for PriorityLevelConfiguration {
    fn set_defaults(&self, object: &mut Object) {
        let Some(spec) = at(&mut object.0, "spec") else {
            return;
        };
        if let Some(exempt) = at(spec, "exempt") {
            fill(exempt, "nominalConcurrencyShares", 0);
            fill(exempt, "lendablePercent", 0);
        }
        let Some(limited) = at(spec, "limited") else {
            return;
        };
        fill(limited, "nominalConcurrencyShares", 30);
        fill(limited, "lendablePercent", 0);
        if let Some(response) = map_made(limited, "limitResponse") {
            fill_empty(response, "type", "Reject");
            if let Some(queuing) = at(response, "queuing") {
                fill_zero(queuing, "queues", 64);
                fill_zero(queuing, "handSize", 8);
                fill_zero(queuing, "queueLengthLimit", 50);
            }
        }
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let (metadata, spec) = (object.at("metadata"), object.at("spec"));
        let kind = spec.at("type");
        if (metadata.at("name").str() == "exempt") != (kind.str() == "Exempt") {
            errors.invalid_value(
                &kind,
                &kind.str().into(),
                "type must be 'Exempt' if and only if name is 'exempt'",
            );
        }
        let (exempt, limited) = (spec.at("exempt"), spec.at("limited"));
        match kind.str() {
            "Exempt" => {
                shares(&exempt, errors);
                if limited.is_set() {
                    errors.forbidden(&limited, "");
                }
            }
            "Limited" => {
                if exempt.is_set() {
                    errors.forbidden(&exempt, "");
                }
                if limited.is_set() {
                    shares(&limited, errors);
                    let borrowed = limited.at("borrowingLimitPercent");
                    if borrowed.int() < 0 {
                        errors.invalid(&borrowed, "if specified, must be a non-negative integer");
                    }
                    limit_response(&limited.at("limitResponse"), errors);
                } else {
                    errors.required(&limited, "");
                }
            }
            "" => errors.required(&kind, ""),
            other => errors.not_supported_value(&kind, &other.into(), &["Exempt", "Limited"]),
        }
        flow_control::is_fixed(object, "PriorityLevelConfiguration", errors);
        unique_conditions(&object.at("status"), errors);
    }

    fn validate_status_update(&self, new: &Cursor<'_>, _old: &Cursor<'_>, errors: &mut ErrorList) {
        unique_conditions(&new.at("status"), errors);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let cell = |path: &[&str]| object.get(path).cloned().unwrap_or_else(|| "<none>".into());
        let queuing = |field| cell(&["spec", "limited", "limitResponse", "queuing", field]);
        vec![
            object.name().into(),
            str_of(object, &["spec", "type"]),
            cell(&["spec", "limited", "nominalConcurrencyShares"]),
            queuing("queues"),
            queuing("handSize"),
            queuing("queueLengthLimit"),
            age_of(object, now),
        ]
    }
}

fn shares(level: &Cursor<'_>, errors: &mut ErrorList) {
    let (shares, lendable) = (level.at("nominalConcurrencyShares"), level.at("lendablePercent"));
    if shares.int() < 0 {
        errors.invalid(&shares, "must be a non-negative integer");
    }
    if !(0..=100).contains(&lendable.int()) {
        errors.invalid(&lendable, "must be between 0 and 100, inclusive");
    }
}

fn limit_response(response: &Cursor<'_>, errors: &mut ErrorList) {
    let (kind, queuing) = (response.at("type"), response.at("queuing"));
    match (kind.str(), queuing.is_set()) {
        ("Reject", true) => errors.forbidden(&queuing, ""),
        ("Queue", false) => errors.required(&queuing, ""),
        ("Queue", true) => queues(&queuing, errors),
        ("Reject", false) => {}
        (other, _) => errors.not_supported_value(&kind, &other.into(), &["Queue", "Reject"]),
    }
}

fn queues(queuing: &Cursor<'_>, errors: &mut ErrorList) {
    let positive = |at: &Cursor<'_>, errors: &mut ErrorList| {
        if at.int() <= 0 {
            errors.invalid_value(at, &at.int().into(), "must be positive");
        }
        at.int() > 0
    };
    let (queues, hand) = (queuing.at("queues"), queuing.at("handSize"));
    positive(&queuing.at("queueLengthLimit"), errors);
    if positive(&queues, errors) && queues.int() > MOST_QUEUES {
        errors.invalid(&queues, format!("must not be greater than {MOST_QUEUES}"));
    }
    if !positive(&hand, errors) {
        return;
    }
    let (deck, size) = (queues.int(), hand.int());
    if size > deck {
        return errors.invalid(&hand, format!("should not be greater than queues ({deck})"));
    }
    // A hand is dealt from the bits of one hash.
    let bits = ((deck as f64).log2() * size as f64).ceil();
    if bits > HASH_BITS {
        errors.invalid(
            &hand,
            format!(
                "required entropy bits of deckSize {deck} and handSize {size} should not be greater than {HASH_BITS}"
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{created, defaulted, refuses};
    use super::*;
    use serde_json::json;

    #[test]
    fn the_exempt_level_is_the_one_of_that_name() {
        let exempt = json!({"metadata": {"name": "low"}, "spec": {"type": "Exempt"}});
        refuses(
            &row(),
            &json!({"metadata": {"name": "exempt"}, "spec": {"type": "Exempt"}}),
            &[(
                "/metadata/name",
                json!("low"),
                "spec.type: Invalid value: \"Exempt\": type must be 'Exempt' if and only if name is 'exempt'",
            )],
        );
        let limited = json!({"metadata": {"name": "exempt"}, "spec": {"type": "Exempt", "limited": {}}});
        assert_eq!(created(&row(), limited)[0], "spec.limited: Forbidden");
        assert_eq!(defaulted(&row(), exempt)["spec"]["exempt"], Value::Null);
    }

    #[test]
    fn a_level_is_checked() {
        let valid = json!({"metadata": {"name": "low"}, "spec": {"type": "Limited",
            "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}});
        assert_eq!(
            defaulted(&row(), valid.clone())["spec"]["limited"],
            json!({"nominalConcurrencyShares": 30, "lendablePercent": 0, "limitResponse": {"type": "Queue",
                "queuing": {"queues": 64, "handSize": 8, "queueLengthLimit": 50}}})
        );
        let queuing = "spec.limited.limitResponse.queuing";
        refuses(
            &row(),
            &valid,
            &[
                (
                    "/spec/limited/lendablePercent",
                    json!(101),
                    "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
                ),
                (
                    "/spec/limited/limitResponse/type",
                    json!("Reject"),
                    "spec.limited.limitResponse.queuing: Forbidden",
                ),
                (
                    "/spec/limited/limitResponse/queuing",
                    json!(null),
                    "spec.limited.limitResponse.queuing: Required value",
                ),
                ("/spec/type", json!(""), "spec.type: Required value"),
                ("/spec/limited", json!(null), "spec.limited: Required value"),
                ("/spec/exempt", json!({}), "spec.exempt: Forbidden"),
                (
                    "/spec/limited/limitResponse/queuing/queues",
                    json!(4),
                    &format!("{queuing}.handSize: Invalid value: 8: should not be greater than queues (4)"),
                ),
                (
                    "/spec/limited/limitResponse/queuing/handSize",
                    json!(11),
                    &format!(
                        "{queuing}.handSize: Invalid value: 11: required entropy bits of deckSize 64 and handSize 11 \
                         should not be greater than 60"
                    ),
                ),
                (
                    "/spec/limited/limitResponse/queuing/queueLengthLimit",
                    json!(-1),
                    &format!("{queuing}.queueLengthLimit: Invalid value: -1: must be positive"),
                ),
            ],
        );
    }
}
