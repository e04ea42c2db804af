//! What the documentation says of nodes that fail, sentence by sentence.

use std::time::Duration;

use coracle_clock::{Clock, Timestamp};
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::health::{GRACE, Heartbeats, STARTUP_GRACE, unknown};
use super::taints::{Eviction, NOT_READY, UNREACHABLE, plan};
use super::zone::{Permit, Zones, zone_of};

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().unwrap()
}

fn node(change: Value) -> Node {
    let mut all = json!({
        "metadata": {"name": "n", "creationTimestamp": "2026-01-01T00:10:00Z"},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    });
    json_patch::merge(&mut all, &change);
    serde_json::from_value(all).unwrap()
}

fn with_conditions(conditions: &[(&str, &str)]) -> Node {
    let list: Vec<Value> = conditions
        .iter()
        .map(|(t, s)| json!({"type": t, "status": s}))
        .collect();
    node(json!({"status": {"conditions": list}}))
}

fn texts(node: &Node, eviction: Eviction) -> Option<Vec<String>> {
    let taints = plan(node, eviction, now())?;
    let mut texts: Vec<String> = taints.iter().map(|t| format!("{}:{}", t.key, t.effect)).collect();
    texts.sort();
    Some(texts)
}

#[test]
fn conditions_become_taints_that_keep_pods_away() {
    for (conditions, expected) in [
        (vec![("Ready", "True")], None),
        (vec![("Ready", "False")], Some("not-ready")),
        (vec![("Ready", "Unknown")], Some("unreachable")),
        (
            vec![("Ready", "True"), ("MemoryPressure", "True")],
            Some("memory-pressure"),
        ),
        (vec![("Ready", "True"), ("DiskPressure", "True")], Some("disk-pressure")),
        (vec![("Ready", "True"), ("PIDPressure", "True")], Some("pid-pressure")),
        (
            vec![("Ready", "True"), ("NetworkUnavailable", "True")],
            Some("network-unavailable"),
        ),
        (
            vec![("Ready", "True"), ("MemoryPressure", "Unknown"), ("Own", "True")],
            None,
        ),
    ] {
        let expected = expected.map(|key| vec![format!("node.kubernetes.io/{key}:NoSchedule")]);
        assert_eq!(
            texts(&with_conditions(&conditions), Eviction::Clear),
            expected,
            "{conditions:?}"
        );
    }
    let cordoned = node(json!({"spec": {"unschedulable": true}}));
    assert_eq!(
        texts(&cordoned, Eviction::Clear),
        Some(vec!["node.kubernetes.io/unschedulable:NoSchedule".to_owned()])
    );
}

#[test]
fn taints_of_others_stay_and_our_own_go_when_their_cause_does() {
    let it = node(json!({"spec": {"taints": [
        {"key": "mine", "effect": "NoExecute"},
        {"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"},
        {"key": NOT_READY, "effect": "NoSchedule"},
        {"key": UNREACHABLE, "effect": "NoExecute"},
        {"key": NOT_READY, "effect": "PreferNoSchedule"},
    ]}}));
    assert_eq!(
        texts(&it, Eviction::Clear),
        Some(vec![
            "mine:NoExecute".to_owned(),
            format!("{NOT_READY}:PreferNoSchedule")
        ])
    );
}

#[test]
fn a_node_is_emptied_for_one_reason_at_a_time() {
    let unreachable = node(json!({
        "spec": {"taints": [{"key": NOT_READY, "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"},
            {"key": UNREACHABLE, "effect": "NoSchedule"}]},
        "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]},
    }));
    assert_eq!(texts(&unreachable, Eviction::Wait), None);
    let swapped = plan(&unreachable, Eviction::Because(UNREACHABLE), now()).unwrap();
    let evicting: Vec<_> = swapped.iter().filter(|t| t.effect == "NoExecute").collect();
    assert_eq!(evicting.len(), 1);
    assert_eq!(evicting[0].key, UNREACHABLE);
    assert_eq!(evicting[0].time_added.as_ref().map(|t| t.0), Some(now()));
}

#[test]
fn a_silent_node_says_nothing_any_more() {
    let it = node(json!({"status": {"conditions": [
        {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": "2026-01-01T00:09:00Z"},
        {"type": "MemoryPressure", "status": "False"},
        {"type": "NetworkUnavailable", "status": "False"},
        {"type": "Own", "status": "True"},
    ]}}));
    let after = unknown(&it, now()).unwrap();
    let of = |kind: &str| {
        let c = after.iter().find(|c| c.type_ == kind).unwrap();
        (c.status.as_str(), c.reason.as_deref())
    };
    assert_eq!(of("Ready"), ("Unknown", Some("NodeStatusUnknown")));
    assert_eq!(of("MemoryPressure"), ("Unknown", Some("NodeStatusUnknown")));
    assert_eq!(of("DiskPressure"), ("Unknown", Some("NodeStatusNeverUpdated")));
    assert_eq!(of("NetworkUnavailable"), ("False", None));
    assert_eq!(of("Own"), ("True", None));
    let ready = after.iter().find(|c| c.type_ == "Ready").unwrap();
    assert_eq!(ready.message.as_deref(), Some("Kubelet stopped posting node status."));
    assert_eq!(ready.last_transition_time.as_ref().map(|t| t.0), Some(now()));
    let mut said = it;
    said.status.as_mut().unwrap().conditions = Some(after);
    assert_eq!(unknown(&said, now()), None);
}

#[tokio::test(start_paused = true)]
async fn a_node_may_be_silent_for_its_grace_and_a_new_one_for_longer() {
    let clock = Clock::starting_at(now());
    let heartbeats = Heartbeats::new(clock);
    let known = node(json!({}));
    let new = node(json!({"metadata": {"name": "new"}, "status": null}));
    assert_eq!(heartbeats.left(&known), GRACE);
    clock.sleep(Duration::from_secs(20)).await;
    assert_eq!(heartbeats.left(&known), GRACE - Duration::from_secs(20));
    assert_eq!(heartbeats.left(&new), STARTUP_GRACE - Duration::from_secs(20));
    heartbeats.heard_of("n");
    assert_eq!(heartbeats.left(&known), GRACE);
    clock.sleep(GRACE).await;
    assert_eq!(heartbeats.left(&known), Duration::ZERO);
    heartbeats.reset();
    assert_eq!(heartbeats.left(&known), GRACE);
}

fn in_zone(name: &str, zone: &str) -> Node {
    node(json!({"metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}}}))
}

/// So many nodes of a zone, of which the first so many are not ready.
fn fill(zones: &mut Zones, zone: &str, all: usize, bad: usize) -> Vec<Node> {
    let nodes: Vec<Node> = (0..all).map(|n| in_zone(&format!("{zone}{n}"), zone)).collect();
    for (at, node) in nodes.iter().enumerate() {
        zones.observe(node, at >= bad);
    }
    nodes
}

#[tokio::test(start_paused = true)]
async fn the_more_of_a_zone_fails_the_slower_its_nodes_are_emptied() {
    let clock = Clock::starting_at(now());
    for (all, bad, expected) in [
        (10, 1, Permit::After(Duration::from_secs(10))),
        (10, 5, Permit::After(Duration::from_secs(10))),
        (10, 6, Permit::Never),
        (100, 54, Permit::After(Duration::from_secs(10))),
        (100, 55, Permit::After(Duration::from_secs(100))),
        // Two of three are few nodes, whatever their share.
        (3, 2, Permit::After(Duration::from_secs(10))),
        // All of one zone, while others are well.
        (10, 10, Permit::After(Duration::from_secs(10))),
    ] {
        let mut zones = Zones::default();
        fill(&mut zones, "good", 3, 0);
        let nodes = fill(&mut zones, "z", all, bad);
        let zone = zone_of(&nodes[0]);
        let first = zones.permit(&zone, clock.instant());
        let second = zones.permit(&zone, clock.instant());
        if expected == Permit::Never {
            assert_eq!((first, second), (Permit::Never, Permit::Never), "{bad} of {all}");
        } else {
            assert_eq!((first, second), (Permit::Granted, expected), "{bad} of {all}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn when_no_node_is_well_anywhere_none_is_emptied_until_one_is() {
    let clock = Clock::starting_at(now());
    let mut zones = Zones::default();
    let nodes = fill(&mut zones, "a", 2, 2);
    let other = fill(&mut zones, "b", 1, 1);
    assert!(zones.all_disrupted());
    assert_eq!(zones.permit(&zone_of(&nodes[0]), clock.instant()), Permit::Never);
    let news = zones.observe(&other[0], true);
    assert!(news.over && news.look_again && !zones.all_disrupted());
    assert_eq!(zones.permit(&zone_of(&nodes[0]), clock.instant()), Permit::Granted);
    // The same news twice is none.
    assert_eq!(zones.observe(&other[0], true), Default::default());
    assert!(zones.remove("b0").look_again && zones.all_disrupted());
}

#[test]
fn excluded_nodes_do_not_count_for_their_zone() {
    let mut zones = Zones::default();
    fill(&mut zones, "z", 1, 1);
    assert!(zones.all_disrupted());
    let mut well = in_zone("x", "z");
    zones.observe(&well, true);
    assert!(!zones.all_disrupted());
    let labels = well.metadata.labels.get_or_insert_default();
    labels.insert("node.kubernetes.io/exclude-disruption".into(), String::new());
    zones.observe(&well, true);
    assert!(zones.all_disrupted());
}
