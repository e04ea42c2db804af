//! What is counted, under the names of <https://kubernetes.io/docs/reference/instrumentation/metrics/>.

use std::time::Duration;

use coracle_testkit::TestCluster;
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Node, Pod};
use prometheus_client::registry::Registry;
use serde_json::json;

use crate::world::{World, name, template, with};

/// The value of a series, as `/metrics` shows it; labels may be left out.
fn counted(cluster: &TestCluster, series: &str, labels: &[&str]) -> f64 {
    let mut registry = Registry::default();
    cluster.metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let of = |line: &&str| {
        let (found, rest) = line.split_once(['{', ' ']).unwrap_or_default();
        found == series && labels.iter().all(|l| rest.contains(l))
    };
    let values = text
        .lines()
        .filter(of)
        .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

fn pod() -> serde_json::Value {
    with(template("work"), json!({"spec": {"restartPolicy": "Never"}}))
}

#[tokio::test(start_paused = true)]
async fn jobs_are_counted_by_how_they_end_their_pods_by_how_they_were_tracked() {
    let world = World::new().await;
    let rules = json!([{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [7]}}]);
    let job = json!({"metadata": {"name": "work"}, "spec": {"template": pod(), "completions": 2, "parallelism": 2,
        "completionMode": "Indexed", "podFailurePolicy": {"rules": rules}, "ttlSecondsAfterFinished": 10}});
    world.make::<Job>(job).await;
    let pods = world.active("work").await;
    world.end(&name(&*pods[0]), 7).await;
    world.end(&name(&*pods[1]), 0).await;
    world.pass(Duration::from_secs(12)).await;
    let pods = world.active("work").await;
    world.end(&name(&*pods[0]), 0).await;
    world.until_gone::<Job>("work").await;
    world.settle().await;
    let elsewhere = json!({"metadata": {"name": "far"}, "spec": {"template": pod(), "managedBy": "example.com/queue"}});
    world.make::<Job>(elsewhere).await;
    world.settle().await;
    let indexed = r#"completion_mode="Indexed""#;
    for (series, labels, wanted) in [
        (
            "jobs_finished_total",
            vec![indexed, r#"result="succeeded""#, r#"reason="CompletionsReached""#],
            1.0,
        ),
        ("job_pods_finished_total", vec![indexed, r#"result="succeeded""#], 2.0),
        (
            "job_finished_indexes_total",
            vec![r#"status="succeeded""#, r#"backoffLimit="global""#],
            2.0,
        ),
        (
            "pod_failures_handled_by_failure_policy_total",
            vec![r#"action="Ignore""#],
            1.0,
        ),
        ("terminated_pods_tracking_finalizer_total", vec![r#"event="add""#], 3.0),
        (
            "terminated_pods_tracking_finalizer_total",
            vec![r#"event="delete""#],
            3.0,
        ),
        (
            "job_pods_creation_total",
            vec![r#"reason="new""#, r#"status="succeeded""#],
            3.0,
        ),
        (
            "jobs_by_external_controller_total",
            vec![r#"controller_name="example.com/queue""#],
            1.0,
        ),
    ] {
        let found = counted(&world.cluster, &format!("job_controller_{series}"), &labels);
        assert_eq!(found, wanted, "{series} {labels:?}");
    }
    let syncs = counted(
        &world.cluster,
        "job_controller_job_syncs_total",
        &[r#"action="pods_created""#],
    );
    assert!(syncs >= 2.0, "{syncs}");
    let deleted = "ttl_after_finished_controller_job_deletion_duration_seconds_count";
    assert_eq!(counted(&world.cluster, deleted, &[]), 1.0);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nodes_are_counted_by_zone_and_so_are_pods_that_go_because_of_them() {
    let world = World::new().await;
    let now = world.cluster.clock.now();
    for (node, truth) in [("n1", "True"), ("n2", "False")] {
        let labels = json!({"topology.kubernetes.io/zone": "a"});
        world
            .make::<Node>(json!({"metadata": {"name": node, "labels": labels}}))
            .await;
        let ready = json!({"type": "Ready", "status": truth, "lastHeartbeatTime": now, "lastTransitionTime": now});
        world.status::<Node>(node, json!({"conditions": [ready]})).await;
    }
    let on = |node: &str, name: &str| json!({"metadata": {"name": name, "labels": {"app": "web"}}, "spec": with(template("web")["spec"].clone(), json!({"nodeName": node}))});
    world.make::<Pod>(on("n1", "tainted")).await;
    world.make::<Pod>(on("gone", "orphan")).await;
    let taint = json!({"spec": {"taints": [{"key": "own", "effect": "NoExecute"}]}});
    world.merge::<Node>("n1", taint).await;
    world.pass(Duration::from_secs(30)).await;
    let zone = [r#"zone="/a""#];
    for (series, wanted) in [
        ("zone_size", 2.0),
        ("zone_health", 50.0),
        ("unhealthy_nodes_in_zone", 1.0),
        ("evictions_total", 1.0),
    ] {
        assert_eq!(
            counted(&world.cluster, &format!("node_collector_{series}"), &zone),
            wanted,
            "{series}"
        );
    }
    assert_eq!(
        counted(&world.cluster, "taint_eviction_controller_pod_deletions_total", &[]),
        1.0
    );
    world.pass(Duration::from_secs(30)).await;
    let orphaned = [r#"namespace="default""#, r#"reason="orphaned""#];
    assert_eq!(
        counted(&world.cluster, "pod_gc_collector_force_delete_pods_total", &orphaned),
        1.0
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn autoscalers_cron_jobs_and_sets_are_counted() {
    let world = World::new().await;
    let autoscaler = json!({"metadata": {"name": "web"}, "spec": {"maxReplicas": 3,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web"},
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]}});
    world.make::<HorizontalPodAutoscaler>(autoscaler).await;
    let set = json!({"metadata": {"name": "web"}, "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
        "template": template("web")}});
    world.make::<ReplicaSet>(set).await;
    let pods = world.pods("web").await;
    world.ready(&pods).await;
    world.pass(Duration::from_secs(20)).await;
    world.merge::<ReplicaSet>("web", json!({"spec": {"replicas": 1}})).await;
    let set = json!({"metadata": {"name": "db"}, "spec": {"replicas": 2, "serviceName": "db",
        "selector": {"matchLabels": {"app": "db"}}, "template": template("db")}});
    world.make::<StatefulSet>(set).await;
    let cron = json!({"metadata": {"name": "tick"}, "spec": {"schedule": "* * * * *",
        "jobTemplate": {"spec": {"template": pod()}}}});
    world.make::<CronJob>(cron).await;
    world.pass(Duration::from_secs(90)).await;
    let of = |controller: &str, series: &str, labels: &[&str]| {
        counted(&world.cluster, &format!("{controller}_{series}"), labels)
    };
    let autoscaling = "horizontal_pod_autoscaler_controller";
    assert_eq!(of(autoscaling, "num_horizontal_pod_autoscalers", &[]), 1.0);
    let internal = [r#"action="none""#, r#"error="internal""#];
    assert!(of(autoscaling, "reconciliations_total", &internal) >= 2.0);
    assert!(
        of(
            autoscaling,
            "metric_computation_total",
            &[r#"metric_type="Resource""#, internal[1]]
        ) >= 2.0
    );
    assert!(
        of(
            "cronjob_controller",
            "cronjob_job_creation_skew_duration_seconds_count",
            &[]
        ) >= 1.0
    );
    assert_eq!(
        of("replicaset_controller", "sorting_deletion_age_ratio_count", &[]),
        2.0
    );
    let db = [r#"statefulset_name="db""#, r#"pod_management_policy="OrderedReady""#];
    assert_eq!(of("statefulset_controller", "statefulset_max_unavailable", &db), 1.0);
    assert_eq!(
        of("statefulset_controller", "statefulset_unavailable_replicas", &db),
        2.0
    );
    world.delete::<StatefulSet>("db").await;
    world.settle().await;
    assert_eq!(
        of("statefulset_controller", "statefulset_unavailable_replicas", &db),
        0.0
    );
    world.stop().await;
}
