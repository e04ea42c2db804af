//! PriorityLevelConfiguration: how many requests of one priority are served at a time.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, str_of, text};
use super::check::{not_negative, one_of};
use super::fill::{at, fill, fill_empty, fill_zero, map_made};
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
        let spec = object.at("spec");
        let kind = spec.at("type");
        let (exempt, limited) = (spec.at("exempt"), spec.at("limited"));
        match kind.str() {
            "Exempt" => {
                if limited.is_set() {
                    errors.forbidden(&limited, "must be nil if the type is not Limited");
                }
            }
            "Limited" => {
                if exempt.is_set() {
                    errors.forbidden(&exempt, "must be nil if the type is Limited");
                }
                if !limited.is_set() {
                    errors.required(&limited, "must not be empty when type is Limited");
                }
            }
            _ => one_of(&kind, &["Exempt", "Limited"], errors),
        }
        for level in [&exempt, &limited] {
            not_negative(&level.at("nominalConcurrencyShares"), errors);
            let lendable = level.at("lendablePercent");
            if lendable.is_set() && !(0..=100).contains(&lendable.int()) {
                errors.invalid(&lendable, "must be between 0 and 100, inclusive");
            }
        }
        let response = limited.at("limitResponse");
        if !response.is_set() {
            return;
        }
        let (kind, queuing) = (response.at("type"), response.at("queuing"));
        match (kind.str(), queuing.is_set()) {
            ("Reject", true) => errors.forbidden(&queuing, "must be nil if limited.limitResponse.type is not Limited"),
            ("Queue", false) => {
                errors.required(&queuing, "must not be empty if limited.limitResponse.type is Limited");
            }
            ("Reject" | "Queue", _) => {}
            _ => errors.not_supported(&kind, &["Queue", "Reject"]),
        }
        let (queues, hand) = (queuing.at("queues"), queuing.at("handSize"));
        if hand.int() > queues.int() {
            errors.invalid(&hand, format!("should not be greater than queues ({})", queues.int()));
        }
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
