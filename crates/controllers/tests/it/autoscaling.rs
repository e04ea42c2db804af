//! HorizontalPodAutoscaler, as <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/> says. The
//! external metrics API is served by objects of a custom resource: one for each series, with its `value`.

mod adapter;
mod sources;

use std::time::Duration;

use coracle_client::{Api, ApiResource, DynamicObject, Patch};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use crate::world::{World, says, template, with};

const GROUP: &str = "external.metrics.k8s.io";

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

struct Queue {
    world: World,
    series: Api<DynamicObject>,
}

impl Queue {
    /// A Deployment of so many replicas, an autoscaler of it by the length of a queue (10 for each pod), and the queue.
    async fn new(replicas: i32, length: &str, spec: Value) -> Self {
        let world = World::new().await;
        let definition = json!({
            "metadata": {"name": format!("jobs.{GROUP}"), "annotations": {"api-approved.kubernetes.io": "unapproved, a test"}},
            "spec": {"group": GROUP, "scope": "Namespaced",
                "names": {"plural": "jobs", "singular": "job", "kind": "ExternalMetricValue"},
                "versions": [{"name": "v1beta1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                    {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]},
        });
        world.make::<CustomResourceDefinition>(definition).await;
        world
            .until::<CustomResourceDefinition>(&format!("jobs.{GROUP}"), |d| {
                let conditions = d.status.iter().flat_map(|s| s.conditions.iter().flatten());
                conditions
                    .into_iter()
                    .any(|c| c.type_ == "Established" && c.status == "True")
            })
            .await;
        let resource = ApiResource {
            group: GROUP.into(),
            version: "v1beta1".into(),
            kind: "ExternalMetricValue".into(),
            plural: "jobs".into(),
            namespaced: true,
        };
        let series = world
            .cluster
            .client
            .dynamic::<DynamicObject>(&resource)
            .within("default");
        let first = json!({"apiVersion": format!("{GROUP}/v1beta1"), "kind": "ExternalMetricValue",
            "metadata": {"name": "jobs", "labels": {"queue": "mail"}}, "metricName": "jobs", "value": length});
        series.create(&crate::harness::from(first)).await.unwrap();
        let deployment = json!({"metadata": {"name": "web"}, "spec": {"replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}}, "template": template("web")}});
        world.make::<Deployment>(deployment).await;
        let pods = world.pods("web").await;
        world.ready(&pods).await;
        let base = json!({
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 1, "maxReplicas": 20,
            "metrics": [{"type": "External", "external": {"metric": {"name": "jobs"},
                "target": {"type": "AverageValue", "averageValue": "10"}}}],
        });
        let autoscaler = json!({"metadata": {"name": "web"}, "spec": with(base, spec)});
        world.make::<HorizontalPodAutoscaler>(autoscaler).await;
        world.settle().await;
        Self { world, series }
    }

    async fn length(&self, length: &str) {
        let patch = Patch::Merge(json!({"value": length}));
        self.series.patch("jobs", patch).await.unwrap();
    }

    async fn replicas(&self) -> i32 {
        let pods = self.world.pods("web").await;
        self.world.ready(&pods).await;
        self.world.get::<Deployment>("web").await.spec.replicas.unwrap()
    }

    async fn condition(&self, kind: &str) -> HorizontalPodAutoscalerCondition {
        let found = self.world.get::<HorizontalPodAutoscaler>("web").await;
        let conditions = found.status.as_ref().unwrap().conditions.clone().unwrap();
        conditions.into_iter().find(|c| c.type_ == kind).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn the_desired_replicas_follow_the_ratio_of_the_metric_to_its_target() {
    let queue = Queue::new(1, "35", json!({})).await;
    // By no more than twice, or four.
    assert_eq!(queue.replicas().await, 4);
    let world = &queue.world;
    world
        .told(
            "web",
            "Normal SuccessfulRescale",
            "New size: 4; reason: external metric jobs(nil) above target",
        )
        .await;
    world.pass(seconds(15)).await;
    let found = world.get::<HorizontalPodAutoscaler>("web").await;
    says(
        &found.status,
        json!({"currentReplicas": 4, "desiredReplicas": 4, "currentMetrics": [
            {"type": "External", "external": {"metric": {"name": "jobs"}, "current": {"averageValue": "8750m"}}}]}),
    );
    assert!(found.status.as_ref().unwrap().last_scale_time.is_some());
    says(
        &queue.condition("ScalingActive").await,
        json!({"status": "True", "reason": "ValidMetricFound", "message":
            "the HPA was able to successfully calculate a replica count from external metric jobs(nil)"}),
    );
    queue.world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn within_the_tolerance_of_10_percent_nothing_is_done() {
    let queue = Queue::new(4, "43", json!({})).await;
    queue.world.pass(seconds(60)).await;
    assert_eq!(queue.replicas().await, 4);
    queue.length("45").await;
    queue.world.pass(seconds(16)).await;
    assert_eq!(queue.replicas().await, 5);
    queue.world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn min_and_max_replicas_limit_and_the_condition_says_so() {
    let queue = Queue::new(4, "900", json!({"minReplicas": 2, "maxReplicas": 6})).await;
    assert_eq!(queue.replicas().await, 6);
    says(
        &queue.condition("ScalingLimited").await,
        json!({"status": "True", "reason": "TooManyReplicas",
            "message": "the desired replica count is more than the maximum replica count"}),
    );
    queue.length("0").await;
    queue.world.pass(seconds(320)).await;
    assert_eq!(queue.replicas().await, 2);
    says(
        &queue.condition("ScalingLimited").await,
        json!({"status": "True", "reason": "TooFewReplicas",
            "message": "the desired replica count is less than the minimum replica count"}),
    );
    queue.world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn scaling_down_waits_for_a_stabilization_window_of_five_minutes() {
    let queue = Queue::new(4, "40", json!({})).await;
    queue.world.pass(seconds(20)).await;
    queue.length("10").await;
    queue.world.pass(seconds(270)).await;
    assert_eq!(queue.replicas().await, 4);
    says(
        &queue.condition("AbleToScale").await,
        json!({"status": "True", "reason": "ScaleDownStabilized", "message":
            "recent recommendations were higher than current one, applying the highest recent recommendation"}),
    );
    queue.world.pass(seconds(60)).await;
    assert_eq!(queue.replicas().await, 1);
    queue.world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn behavior_policies_limit_the_pods_added_in_a_period() {
    let policy = json!({"behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]}}});
    let queue = Queue::new(1, "200", policy).await;
    let mut sizes = vec![queue.replicas().await];
    for _ in 0..3 {
        queue.world.pass(seconds(60)).await;
        sizes.push(queue.replicas().await);
    }
    assert_eq!(sizes, [3, 5, 7, 9]);
    says(
        &queue.condition("ScalingLimited").await,
        json!({"status": "True", "reason": "ScaleUpLimit"}),
    );
    queue.world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn behavior_policies_limit_the_share_removed_in_a_period_and_select_policy_disabled_forbids_it() {
    let down = |rules: Value| json!({"behavior": {"scaleDown": with(json!({"stabilizationWindowSeconds": 0}), rules)}});
    let half = json!({"policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}]});
    let queue = Queue::new(16, "10", down(half)).await;
    let mut sizes = vec![queue.replicas().await];
    for _ in 0..2 {
        queue.world.pass(seconds(60)).await;
        sizes.push(queue.replicas().await);
    }
    assert_eq!(sizes, [8, 4, 2]);
    queue.world.stop().await;
    let queue = Queue::new(16, "10", down(json!({"selectPolicy": "Disabled"}))).await;
    queue.world.pass(seconds(600)).await;
    assert_eq!(queue.replicas().await, 16);
    queue.world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_scale_up_window_takes_the_lowest_recommendation_in_it() {
    let window = json!({"behavior": {"scaleUp": {"stabilizationWindowSeconds": 120}}});
    let queue = Queue::new(2, "20", window).await;
    queue.length("80").await;
    queue.world.pass(seconds(90)).await;
    assert_eq!(queue.replicas().await, 2);
    says(
        &queue.condition("AbleToScale").await,
        json!({"reason": "ScaleUpStabilized", "message":
            "recent recommendations were lower than current one, applying the lowest recent recommendation"}),
    );
    queue.world.pass(seconds(60)).await;
    assert!(queue.replicas().await > 2);
    queue.world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_of_zero_replicas_is_not_scaled() {
    let queue = Queue::new(0, "50", json!({})).await;
    queue.world.pass(seconds(60)).await;
    assert_eq!(queue.replicas().await, 0);
    says(
        &queue.condition("ScalingActive").await,
        json!({"status": "False", "reason": "ScalingDisabled",
            "message": "scaling is disabled since the replica count of the target is zero"}),
    );
    queue.world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_metric_that_cannot_be_had_is_told_and_nothing_is_scaled() {
    let queue = Queue::new(
        2,
        "50",
        json!({"metrics": [{"type": "External", "external": {"metric": {"name": "nosuch"},
        "target": {"type": "Value", "value": "10"}}}]}),
    )
    .await;
    queue.world.pass(seconds(30)).await;
    assert_eq!(queue.replicas().await, 2);
    says(
        &queue.condition("ScalingActive").await,
        json!({"status": "False", "reason": "FailedGetExternalMetric"}),
    );
    let events = queue.world.events("web").await;
    let why = "unable to get external metric default/nosuch/nil: unable to fetch metrics from external metrics API: ";
    assert!(
        events["Warning FailedGetExternalMetric"].starts_with(why),
        "{events:#?}"
    );
    let all =
        format!("invalid metrics (1 invalid out of 1), first error is: failed to get nosuch external metric: {why}");
    assert!(
        events["Warning FailedComputeMetricsReplicas"].starts_with(&all),
        "{events:#?}"
    );
    queue.world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_not_there_makes_the_autoscaler_unable_to_scale() {
    let queue = Queue::new(1, "50", json!({"scaleTargetRef": {"name": "nosuch"}})).await;
    let condition = queue.condition("AbleToScale").await;
    says(&condition, json!({"status": "False", "reason": "FailedGetScale"}));
    let message = condition.message.unwrap();
    assert!(message.starts_with("the HPA controller was unable to get the target's current scale: "));
    queue.world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_two_autoscalers_select_are_ambiguous() {
    let queue = Queue::new(2, "20", json!({})).await;
    let other = json!({"metadata": {"name": "other"}, "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "maxReplicas": 5,
        "metrics": [{"type": "External", "external": {"metric": {"name": "jobs"},
            "target": {"type": "AverageValue", "averageValue": "1"}}}]}});
    queue.world.make::<HorizontalPodAutoscaler>(other).await;
    queue.world.pass(seconds(60)).await;
    assert_eq!(queue.replicas().await, 2);
    says(
        &queue.condition("ScalingActive").await,
        json!({"status": "False", "reason": "AmbiguousSelector"}),
    );
    queue.world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_selector_chooses_the_series_of_the_metric() {
    let metric = json!({"name": "jobs", "selector": {"matchLabels": {"queue": "none"}}});
    let spec = json!({"metrics": [{"type": "External", "external": {"metric": metric,
        "target": {"type": "AverageValue", "averageValue": "10"}}}]});
    let queue = Queue::new(2, "100", spec).await;
    assert_eq!(queue.replicas().await, 2);
    let message = queue.condition("ScalingActive").await.message.unwrap();
    assert!(
        message.contains("no metrics returned from external metrics API"),
        "{message}"
    );
    queue.world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn of_several_policies_the_one_that_allows_the_highest_change_is_selected_by_default_and_with_min_the_lowest() {
    let policies = json!([{"type": "Pods", "value": 4, "periodSeconds": 60}, {"type": "Percent", "value": 10, "periodSeconds": 60}]);
    for (select, wanted) in [(Value::Null, [16, 12]), (json!("Min"), [18, 16])] {
        let rules = json!({"stabilizationWindowSeconds": 0, "policies": policies, "selectPolicy": select});
        let queue = Queue::new(20, "10", json!({"behavior": {"scaleDown": rules}})).await;
        let first = queue.replicas().await;
        queue.world.pass(seconds(60)).await;
        assert_eq!([first, queue.replicas().await], wanted, "{select}");
        queue.world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_number_of_pods_that_a_percentage_allows_is_rounded_up() {
    let rules =
        json!({"stabilizationWindowSeconds": 0, "policies": [{"type": "Percent", "value": 10, "periodSeconds": 60}]});
    let queue = Queue::new(15, "10", json!({"behavior": {"scaleDown": rules}})).await;
    assert_eq!(queue.replicas().await, 13);
    says(
        &queue.condition("ScalingLimited").await,
        json!({"status": "True", "reason": "ScaleDownLimit"}),
    );
    queue.world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn by_default_at_most_4_pods_or_100_percent_are_added_every_15_seconds() {
    // Without any behavior it is to 4 pods, or to twice as many.
    for (spec, wanted) in [
        (json!({}), [4, 8, 16]),
        (json!({"behavior": {"scaleUp": {}}}), [5, 10, 20]),
    ] {
        let queue = Queue::new(1, "200", spec).await;
        let mut sizes = vec![queue.replicas().await];
        for _ in 0..2 {
            queue.world.pass(seconds(15)).await;
            sizes.push(queue.replicas().await);
        }
        assert_eq!(sizes, wanted);
        queue.world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_tolerance_may_be_set_for_each_direction() {
    let queue = Queue::new(10, "104", json!({"behavior": {"scaleUp": {"tolerance": "0.05"}}})).await;
    queue.world.pass(seconds(30)).await;
    assert_eq!(queue.replicas().await, 10);
    queue.length("106").await;
    queue.world.pass(seconds(30)).await;
    assert_eq!(queue.replicas().await, 11);
    queue.world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn replicas_beyond_the_bounds_are_brought_back_whatever_the_metrics_say() {
    let queue = Queue::new(12, "120", json!({"maxReplicas": 9})).await;
    assert_eq!(queue.replicas().await, 9);
    queue
        .world
        .told(
            "web",
            "Normal SuccessfulRescale",
            "New size: 9; reason: Current number of replicas above Spec.MaxReplicas",
        )
        .await;
    queue.world.stop().await;
    let queue = Queue::new(1, "10", json!({"minReplicas": 3})).await;
    assert_eq!(queue.replicas().await, 3);
    queue.world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_was_scaled_to_zero_is_scaled_again_when_its_replicas_are_set_by_hand() {
    let queue = Queue::new(0, "50", json!({})).await;
    let by_hand = json!({"spec": {"replicas": 2}});
    queue.world.merge::<Deployment>("web", by_hand).await;
    queue.replicas().await;
    queue.world.pass(seconds(40)).await;
    assert_eq!(queue.replicas().await, 5);
    queue.world.stop().await;
}
