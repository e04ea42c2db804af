use super::*;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

const FULL: &str = r#"
seed: 7
nodes:
  podCIDR: 10.64.0.0/12
  podPrefixLength: 26
  leaseInterval: 20s
  statusInterval: 10m
  outages:
  - nodes: [fake-3, "fake-1*"]
    fraction: 0.5
    after: 1m..2m
    lasting: 5m
  - nodes: [fake-2]
rules:
- match: {namespace: "team-*", labels: {app: db}, ownerKind: StatefulSet, node: "fake-*"}
  create: 2s
  ready: 5s..10s
- run: 10s
  exitCode: 3
  crashes: 0.25
  pullRecovery: never
  terminate: forever
"#;

#[test]
fn every_field_is_read_and_what_is_not_said_has_its_default() {
    let config = Config::parse(FULL).unwrap();
    assert_eq!(config.seed, 7);
    assert_eq!(config.nodes.pod_cidr.to_string(), "10.64.0.0/12");
    assert_eq!(config.nodes.pod_prefix_length, 26);
    assert_eq!(config.nodes.lease_interval, Duration::from_secs(20));
    assert_eq!(config.nodes.status_interval, Duration::from_secs(600));
    assert_eq!(config.nodes.outages.len(), 2);
    assert_eq!(
        config.nodes.outages[0].lasting,
        Some(Delay::between_ms(300_000, 300_000))
    );
    assert_eq!(config.nodes.outages[1].fraction, 1.0);
    assert_eq!(config.nodes.outages[1].lasting, None);
    assert_eq!(config.rules[0].stages.ready, Delay::between_ms(5000, 10_000));
    assert_eq!(config.rules[0].stages.init, Stages::default().init);
    assert_eq!(config.rules[1].stages.exit_code, 3);
    assert_eq!(config.rules[1].stages.terminate, None);
    assert_eq!(Config::parse("").unwrap(), Config::default());
    assert_eq!(Config::parse("# nothing\n").unwrap(), Config::default());
}

#[test]
fn a_mistake_is_told_by_field_and_line() {
    for (text, line, words) in [
        (
            "seed: 1\nsede: 2\n",
            2,
            "sede: unknown field; there are seed, nodes and rules",
        ),
        (
            "nodes:\n  leaseIntervall: 1s\n",
            2,
            "nodes.leaseIntervall: unknown field",
        ),
        ("rules: {}\n", 1, "rules: a map is not a list"),
        ("nodes:\n- a\n", 1, "nodes: a list is not a map"),
        ("seed: 1\nnodes: yes\n", 2, "nodes: true is not a map"),
        (
            "nodes:\n  outages:\n  - nodes: fake-1\n",
            3,
            "nodes.outages[0].nodes: \"fake-1\" is not a list",
        ),
        (
            "nodes:\n  outages:\n  - fractoin: 0.5\n",
            3,
            "nodes.outages[0].fractoin: unknown field; there are nodes, fraction, after and lasting",
        ),
        (
            "rules:\n- match:\n    namespace: x\n    labels: {a: b}\n    namespase: y\n",
            5,
            "rules[0].match.namespase: unknown field; there are namespace, ownerKind, node and labels",
        ),
        (
            "rules:\n- match:\n    labels:\n      a: b\n      c: 5\n",
            5,
            "rules[0].match.labels[c]: 5 is not a text",
        ),
        ("just text\n", 1, "\"just text\" is not a map"),
        ("seed: many\n", 1, "seed: \"many\" is not a whole number"),
        (
            "nodes:\n  leaseInterval: soon\n",
            2,
            "nodes.leaseInterval: \"soon\" is no duration",
        ),
        (
            "nodes:\n  leaseInterval: 10ms\n",
            2,
            "nodes.leaseInterval: must be at least 1s",
        ),
        ("nodes:\n  podCIDR: 10.0.0.0/99\n", 2, "nodes.podCIDR"),
        (
            "nodes:\n  podCIDR: 10.0.0.0/16\n  podPrefixLength: 12\n",
            3,
            "nodes.podPrefixLength: 12 must be from 16",
        ),
        (
            "nodes:\n  outages:\n  - after: 1s\n    fraction: 2\n",
            4,
            "nodes.outages[0].fraction: 2 is not a fraction",
        ),
        (
            "rules:\n- run: 1s\n- match: {ownerKind: Job}\n  run: 5\n",
            4,
            "rules[1].run: \"5\" is no duration",
        ),
        (
            "rules:\n- rum: 1s\n",
            2,
            "rules[0].rum: unknown field; there are match, create",
        ),
        (
            "rules:\n- exitCode: 300\n",
            2,
            "rules[0].exitCode: 300 is not an exit code",
        ),
        ("rules:\n- crashes: 1.5\n", 2, "rules[0].crashes"),
        ("rules:\n- ready: 5s..1s\n", 2, "ends before it begins"),
        (
            "rules:\n- match: {owner: Job}\n",
            2,
            "rules[0].match.owner: unknown field",
        ),
        ("rules:\n- match: Job\n", 2, "rules[0].match: \"Job\" is not a map"),
        ("rules:\n- run: [1s]\n", 2, "rules[0].run"),
        ("seed: [\n", 1, "unclosed bracket"),
        ("seed: 1\nseed: 2\n", 2, "seed"),
    ] {
        let error = Config::parse(text).unwrap_err();
        assert_eq!(error.line, line, "{text:?} says {error}");
        let said = error.to_string();
        assert!(
            said.contains(words) && said.contains(&format!("line {line}")),
            "{text:?} says {said}"
        );
    }
}

#[test]
fn the_examples_are_good_and_the_page_names_every_field() {
    let stages = include_str!("../../../../examples/fake-nodes/stages.yaml");
    assert_eq!(Config::parse(stages).unwrap().rules.len(), 3);
    let template = include_str!("../../../../examples/fake-nodes/node.yaml");
    assert_eq!(crate::NodeTemplate::parse(template).unwrap().taints.len(), 1);
    let page = include_str!("../../../../docs/fake-nodes.md");
    for field in rule::FIELDS {
        assert!(page.contains(&format!("| `{field}` | ")), "{field}");
    }
}

fn pod(value: serde_json::Value) -> Pod {
    serde_json::from_value(value).unwrap()
}

#[test]
fn the_first_rule_that_matches_holds_and_annotations_override_it() {
    let rules = Config::parse(FULL).unwrap().rules;
    let database = pod(json!({
        "metadata": {
            "namespace": "team-a", "labels": {"app": "db", "x": "y"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "1", "controller": true}],
            "annotations": {"fake.coracle.io/ready": "1s", "fake.coracle.io/exitCode": "9", "fake.coracle.io/rn": "1s", "other": "x"},
        },
        "spec": {"nodeName": "fake-12", "containers": []},
    }));
    let (stages, wrong) = rule::stages_of(&rules, &database);
    assert_eq!(stages.create, Delay::between_ms(2000, 2000));
    assert_eq!(stages.ready, Delay::between_ms(1000, 1000));
    assert_eq!(stages.exit_code, 9);
    assert_eq!(wrong.len(), 1);
    assert!(wrong[0].contains("fake.coracle.io/rn: unknown field"), "{wrong:?}");

    let other = pod(json!({"metadata": {"namespace": "team-a"}, "spec": {"nodeName": "fake-12", "containers": []}}));
    assert_eq!(rule::stages_of(&rules, &other).0.exit_code, 3);
}

#[test]
fn without_rules_pods_of_jobs_end_and_others_run_on() {
    let owned = |kind: &str| {
        pod(json!({
            "metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": kind, "name": "o", "uid": "1", "controller": true}]},
            "spec": {"containers": []},
        }))
    };
    assert!(rule::stages_of(&[], &owned("Job")).0.run.is_some());
    assert!(rule::stages_of(&[], &owned("ReplicaSet")).0.run.is_none());
}

#[test]
fn patterns_match_whole_names() {
    for (pattern, text, expected) in [
        ("fake-1", "fake-1", true),
        ("fake-1", "fake-11", false),
        ("fake-1*", "fake-11", true),
        ("*-1", "fake-1", true),
        ("f*k*1", "fake-1", true),
        ("f*z*1", "fake-1", false),
        ("*", "", true),
        ("a*a", "a", false),
    ] {
        assert_eq!(rule::glob(pattern, text), expected, "{pattern} {text}");
    }
}

#[test]
fn outages_hit_the_nodes_they_name_from_when_they_say() {
    let life = Config::parse("nodes:\n  outages:\n  - nodes: [fake-1]\n    after: 10s\n    lasting: 5s\n")
        .unwrap()
        .nodes;
    assert!(life.outages_of(1, "fake-2", 0).is_empty());
    let windows = life.outages_of(1, "fake-1", 1000);
    assert_eq!(windows, [(11_000, Some(16_000))]);
    assert_eq!(dead_until(&windows, 10_999), None);
    assert_eq!(dead_until(&windows, 11_000), Some(Some(16_000)));
    assert_eq!(dead_until(&windows, 16_000), None);

    let half = Config::parse("nodes:\n  outages:\n  - fraction: 0.5\n").unwrap().nodes;
    let hit = |seed| {
        (0..100)
            .filter(|n| !half.outages_of(seed, &format!("fake-{n}"), 0).is_empty())
            .collect::<Vec<_>>()
    };
    assert_eq!(hit(3), hit(3));
    assert_ne!(hit(3), hit(4));
    assert!((30..70).contains(&hit(3).len()));
}
