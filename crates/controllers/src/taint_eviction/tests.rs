//! What the documentation says of NoExecute taints, sentence by sentence.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Taint, Toleration};
use serde_json::{Value, json};

use super::plan::{Stay, stay};

fn taint(value: Value) -> Taint {
    serde_json::from_value(value).unwrap()
}

fn toleration(value: Value) -> Toleration {
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_pod_stays_as_long_as_the_shortest_toleration_that_it_needs() {
    let taints = [
        taint(json!({"key": "a", "effect": "NoExecute"})),
        taint(json!({"key": "b", "effect": "NoExecute"})),
    ];
    let on = |key: &str, seconds: Option<i64>| json!({"key": key, "operator": "Exists", "tolerationSeconds": seconds});
    let seconds = |n| Stay::For(Duration::from_secs(n));
    for (number, tolerations, expected) in [
        (0, vec![], Stay::Free),
        (1, vec![], Stay::No),
        (1, vec![on("b", None)], Stay::No),
        (1, vec![on("a", None)], Stay::Forever),
        (1, vec![on("a", Some(300)), on("b", Some(5))], seconds(300)),
        (2, vec![on("a", Some(300)), on("b", Some(5))], seconds(5)),
        (2, vec![on("a", Some(300)), on("b", None)], seconds(300)),
        (2, vec![on("a", Some(300))], Stay::No),
        (1, vec![json!({"operator": "Exists"})], Stay::Forever),
        // Without a key nothing equals.
        (1, vec![json!({"operator": "Equal"})], Stay::No),
        (1, vec![on("a", Some(0))], seconds(0)),
        (1, vec![on("a", Some(-1))], seconds(0)),
    ] {
        let taints: Vec<&Taint> = taints.iter().take(number).collect();
        let typed: Vec<Toleration> = tolerations.iter().cloned().map(toleration).collect();
        assert_eq!(stay(&taints, &typed), expected, "{number} {tolerations:?}");
    }
}
