//! ValidatingWebhookConfiguration and MutatingWebhookConfiguration: who else is asked about a request.

use jiff::Timestamp;
use serde_json::Value;

use super::admission_rule;
use super::cells::{age, age_of, integer, name};
use super::check::{one_of, one_of_if_set};
use super::fill::{each, fill, fill_empty, map_made};
use super::row::cluster;
use super::webhook_client;
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::resource::Resource;
use crate::selector::validate_label_selector;
use crate::strategy::Strategy;

pub(super) fn validating_row() -> Resource {
    shared(
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        WebhookConfiguration { mutating: false },
    )
}

pub(super) fn mutating_row() -> Resource {
    shared(
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        WebhookConfiguration { mutating: true },
    )
}

fn shared(kind: &'static str, plural: &'static str, strategy: WebhookConfiguration) -> Resource {
    cluster("admissionregistration.k8s.io", "v1", kind, plural)
        .category("api-extensions")
        .generation()
        .conditional_update()
        .columns([
            name(),
            integer(
                "Webhooks",
                "Webhooks indicates the number of webhooks registered in this configuration",
            ),
            age(),
        ])
        .strategy(strategy)
        .build()
}

struct WebhookConfiguration {
    mutating: bool,
}

impl Strategy for WebhookConfiguration {
    fn set_defaults(&self, object: &mut Object) {
        let mutating = self.mutating;
        each(&mut object.0, "webhooks", |webhook| {
            fill_empty(webhook, "failurePolicy", "Fail");
            fill_empty(webhook, "matchPolicy", "Equivalent");
            fill(webhook, "namespaceSelector", serde_json::json!({}));
            fill(webhook, "objectSelector", serde_json::json!({}));
            fill(webhook, "timeoutSeconds", 10);
            if mutating {
                fill_empty(webhook, "reinvocationPolicy", "Never");
            }
            admission_rule::default_rules(webhook, "rules");
            if let Some(config) = map_made(webhook, "clientConfig")
                && let Some(service) = super::fill::at(config, "service")
            {
                fill(service, "port", 443);
            }
        });
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let mut seen = std::collections::BTreeSet::new();
        for webhook in object.at("webhooks").items() {
            let name = webhook.at("name");
            if name.is_empty() {
                errors.required(&name, "");
            } else {
                errors.faults(&name, names::fully_qualified_name(name.str()));
            }
            one_webhook(&webhook, self.mutating, errors);
            if !name.is_empty() && !seen.insert(name.str().to_owned()) {
                errors.duplicate(&name);
            }
        }
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            object.array(&["webhooks"]).len().into(),
            age_of(object, now),
        ]
    }
}

fn one_webhook(webhook: &Cursor<'_>, mutating: bool, errors: &mut ErrorList) {
    for rule in webhook.at("rules").items() {
        admission_rule::rule(&rule, errors);
    }
    one_of_if_set(&webhook.at("failurePolicy"), &["Fail", "Ignore"], errors);
    one_of_if_set(&webhook.at("matchPolicy"), &["Equivalent", "Exact"], errors);
    let effects = webhook.at("sideEffects");
    if !effects.is_set() {
        errors.required(&effects, "must specify one of None, NoneOnDryRun");
    } else {
        one_of(&effects, &["None", "NoneOnDryRun"], errors);
    }
    let timeout = webhook.at("timeoutSeconds");
    if timeout.i64().is_some_and(|n| !(1..=30).contains(&n)) {
        errors.invalid(&timeout, "the timeout value must be between 1 and 30 seconds");
    }
    validate_label_selector(&webhook.at("namespaceSelector"), errors);
    validate_label_selector(&webhook.at("objectSelector"), errors);
    if mutating {
        one_of_if_set(&webhook.at("reinvocationPolicy"), &["IfNeeded", "Never"], errors);
    }
    let client = webhook.at("clientConfig");
    webhook_client::validate(&client, &client, errors);
    admission_rule::match_conditions(&webhook.at("matchConditions"), false, errors);
    review_versions(&webhook.at("admissionReviewVersions"), errors);
}

/// The versions that a webhook reads, of which the server has to write one.
fn review_versions(versions: &Cursor<'_>, errors: &mut ErrorList) {
    if versions.is_empty() {
        errors.required(versions, "must specify one of v1, v1beta1");
        return;
    }
    let mut seen = std::collections::BTreeSet::new();
    for version in versions.items() {
        if !seen.insert(version.str().to_owned()) {
            errors.invalid(&version, "duplicate version");
            continue;
        }
        errors.faults(&version, names::dns1035_label(version.str()));
    }
    if !versions.strs().any(|v| matches!(v, "v1" | "v1beta1")) {
        errors.invalid(versions, "must include at least one of v1, v1beta1");
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{defaulted, refuses};
    use super::*;
    use serde_json::json;

    #[test]
    fn webhooks_are_complete() {
        let valid = json!({"metadata": {"name": "w"}, "webhooks": [{"name": "a.example.com", "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "clientConfig": {"service": {"name": "s", "namespace": "n"}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]}]});
        let webhook = &defaulted(&mutating_row(), valid.clone())["webhooks"][0];
        assert_eq!(
            (
                &webhook["failurePolicy"],
                &webhook["matchPolicy"],
                &webhook["timeoutSeconds"],
                &webhook["reinvocationPolicy"],
                &webhook["rules"][0]["scope"],
                &webhook["clientConfig"]["service"]["port"],
            ),
            (
                &json!("Fail"),
                &json!("Equivalent"),
                &json!(10),
                &json!("Never"),
                &json!("*"),
                &json!(443)
            )
        );
        refuses(
            &validating_row(),
            &valid,
            &[
                (
                    "/webhooks/0/name",
                    json!("a"),
                    "webhooks[0].name: Invalid value: \"a\": should be a domain with at least three segments separated by \
                     dots",
                ),
                (
                    "/webhooks/0/sideEffects",
                    json!("Some"),
                    "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
                ),
                (
                    "/webhooks/0/timeoutSeconds",
                    json!(31),
                    "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
                ),
                (
                    "/webhooks/0/clientConfig/url",
                    json!("https://x"),
                    "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
                ),
                (
                    "/webhooks/0/clientConfig",
                    json!({"url": "http://x/y"}),
                    "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired \
                     format: https://host[/path]",
                ),
                (
                    "/webhooks/0/clientConfig",
                    json!({"url": "https:///y"}),
                    "webhooks[0].clientConfig.url: Invalid value: \"\": host must be specified; desired format: \
                     https://host[/path]",
                ),
                (
                    "/webhooks/0/clientConfig",
                    json!({"url": "https://me@x"}),
                    "webhooks[0].clientConfig.url: Invalid value: \"me\": user information is not permitted in the URL",
                ),
                (
                    "/webhooks/0/clientConfig",
                    json!({"url": "https://x?a=b"}),
                    "webhooks[0].clientConfig.url: Invalid value: \"a=b\": query parameters are not permitted in the URL",
                ),
                (
                    "/webhooks/0/clientConfig/service/name",
                    json!(""),
                    "webhooks[0].clientConfig.service.name: Required value: service name is required",
                ),
                (
                    "/webhooks/0/clientConfig/service/port",
                    json!(65_536),
                    "webhooks[0].clientConfig.service.port: Invalid value: 65536: port is not valid: must be between 1 and \
                     65535, inclusive",
                ),
                (
                    "/webhooks/0/admissionReviewVersions/1",
                    json!("v1"),
                    "webhooks[0].admissionReviewVersions[1]: Invalid value: \"v1\": duplicate version",
                ),
                (
                    "/webhooks/0/rules/0/resources",
                    json!(["pods/*", "pods/log"]),
                    "webhooks[0].rules[0].resources[1]: Invalid value: \"pods/log\": if 'pods/*' is present, must not \
                     specify pods/log",
                ),
                (
                    "/webhooks/0/rules/0/resources",
                    json!(["*", "pods"]),
                    "webhooks[0].rules[0].resources: Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify \
                     other resources without subresources",
                ),
                (
                    "/webhooks/0/matchConditions",
                    json!([{"name": "a", "expression": "request.name"}]),
                    "webhooks[0].matchConditions[0].expression: Invalid value: \"request.name\": must evaluate to bool but \
                     got string",
                ),
                (
                    "/webhooks/0/rules/0/operations/0",
                    json!("PATCH"),
                    "webhooks[0].rules[0].operations[0]: Unsupported value: \"PATCH\": supported values: \"*\", \
                     \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\"",
                ),
            ],
        );
    }
}
