//! A quota's status, by tables. What objects count for is tested beside the evaluators.

use coracle_api::quota::Usage;
use k8s_openapi::api::core::v1::ResourceQuota;
use serde_json::{Value, json};

use super::plan::{counted_resource, plan};

fn quota(hard: Value, status: Value) -> ResourceQuota {
    serde_json::from_value(json!({"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": status})).unwrap()
}

fn used(amounts: &[(&str, &str)]) -> Usage {
    amounts
        .iter()
        .map(|(name, amount)| ((*name).to_owned(), amount.parse().unwrap()))
        .collect()
}

#[test]
fn the_status_repeats_what_is_hard_and_says_what_of_it_is_used() {
    let it = quota(json!({"pods": "10", "cpu": "2"}), json!({}));
    let status = plan(&it, &used(&[("pods", "3"), ("cpu", "500m"), ("memory", "1Gi")])).unwrap();
    assert_eq!(
        serde_json::to_value(status).unwrap(),
        json!({"hard": {"pods": "10", "cpu": "2"}, "used": {"pods": "3", "cpu": "500m"}})
    );
}

#[test]
fn amounts_are_compared_and_not_their_texts() {
    let status = json!({"hard": {"cpu": "2000m"}, "used": {"cpu": "0.5"}});
    let it = quota(json!({"cpu": "2"}), status);
    assert_eq!(plan(&it, &used(&[("cpu", "500m")])), None);
    assert!(plan(&it, &used(&[("cpu", "501m")])).is_some());
}

#[test]
fn a_limit_that_changes_or_goes_takes_its_use_with_it() {
    let status = json!({"hard": {"pods": "10", "cpu": "2"}, "used": {"pods": "1", "cpu": "1"}});
    let it = quota(json!({"pods": "5"}), status);
    let status = plan(&it, &used(&[("pods", "1")])).unwrap();
    assert_eq!(
        serde_json::to_value(status).unwrap(),
        json!({"hard": {"pods": "5"}, "used": {"pods": "1"}})
    );
}

#[test]
fn what_cannot_be_counted_now_stays_as_it_was() {
    let hard = json!({"count/widgets.example.com": "5", "count/gears.example.com": "5"});
    let status = json!({"hard": hard, "used": {"count/widgets.example.com": "2"}});
    assert_eq!(plan(&quota(hard, status), &used(&[])), None);
}

#[test]
fn names_of_counts_name_resources() {
    for (name, expected) in [
        ("count/pods", Some(("", "pods"))),
        ("count/deployments.apps", Some(("apps", "deployments"))),
        ("count/widgets.example.com", Some(("example.com", "widgets"))),
        ("secrets", Some(("", "secrets"))),
        ("resourcequotas", Some(("", "resourcequotas"))),
        ("pods", None),
        ("requests.cpu", None),
        ("services.nodeports", None),
    ] {
        assert_eq!(counted_resource(name), expected, "{name}");
    }
}
