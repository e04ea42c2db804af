//! Where the numbers come from: the resource metrics API, and the custom one for pods and objects.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use serde_json::{Value, json};

use super::adapter::{self, Told};
use super::seconds;
use crate::world::{World, says, template, with};

/// A Deployment of pods that each ask for 100m CPU, and an autoscaler by these metrics.
async fn scaled(replicas: i32, metrics: Value, tell: impl Fn(&Told)) -> (World, Told) {
    let (world, told) = adapter::cluster().await;
    let mut pod = template("web");
    pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "100m"}});
    let deployment = json!({"metadata": {"name": "web"}, "spec": {"replicas": replicas,
        "selector": {"matchLabels": {"app": "web"}}, "template": pod}});
    world.make::<Deployment>(deployment).await;
    let pods = world.pods("web").await;
    world.ready(&pods).await;
    // The CPU of pods that are starting is not believed.
    world.pass(seconds(400)).await;
    tell(&told);
    let autoscaler = json!({"metadata": {"name": "web"}, "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "minReplicas": 1, "maxReplicas": 20, "metrics": metrics}});
    world.make::<HorizontalPodAutoscaler>(autoscaler).await;
    world.settle().await;
    (world, told)
}

async fn replicas(world: &World) -> i32 {
    world.settle().await;
    world.get::<Deployment>("web").await.spec.replicas.unwrap()
}

/// What the status says of the first metric.
async fn current(world: &World) -> Value {
    let found = world.get::<HorizontalPodAutoscaler>("web").await;
    let metrics = found.status.as_ref().unwrap().current_metrics.clone().unwrap();
    serde_json::to_value(&metrics[0]).unwrap()
}

async fn active(world: &World) -> Value {
    let found = world.get::<HorizontalPodAutoscaler>("web").await;
    let conditions = found.status.as_ref().unwrap().conditions.clone().unwrap();
    let active = conditions.into_iter().find(|c| c.type_ == "ScalingActive");
    serde_json::to_value(active.unwrap()).unwrap()
}

fn cpu(target: Value) -> Value {
    json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}])
}

fn used(containers: Value) -> impl Fn(&Told) {
    move |told| told.usage(containers.clone())
}

#[tokio::test(start_paused = true)]
async fn a_utilization_is_a_percentage_of_the_request_and_its_mean_over_the_pods_is_scaled_by() {
    let metrics = cpu(json!({"type": "Utilization", "averageUtilization": 80}));
    let (world, told) = scaled(2, metrics, used(json!({"c": {"cpu": "160m"}}))).await;
    assert_eq!(replicas(&world).await, 4);
    world
        .told(
            "web",
            "Normal SuccessfulRescale",
            "New size: 4; reason: cpu resource utilization (percentage of request) above target",
        )
        .await;
    says(
        &current(&world).await,
        json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 160, "averageValue": "160m"}}}),
    );
    let pods = world.pods("web").await;
    world.ready(&pods).await;
    told.usage(json!({"c": {"cpu": "40m"}}));
    // As soon as nothing else was wanted for five minutes.
    world.pass(seconds(330)).await;
    assert_eq!(replicas(&world).await, 2);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn if_a_target_raw_value_is_set_the_raw_values_are_used_directly() {
    let metrics = cpu(json!({"type": "AverageValue", "averageValue": "50m"}));
    let (world, _) = scaled(2, metrics, used(json!({"c": {"cpu": "100m"}}))).await;
    assert_eq!(replicas(&world).await, 4);
    says(
        &current(&world).await,
        json!({"resource": {"current": {"averageValue": "100m"}}}),
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_usages_of_all_containers_are_summed_up_and_a_container_resource_looks_at_one() {
    let usage = json!({"c": {"cpu": "30m"}, "log": {"cpu": "70m"}});
    let by_pod = cpu(json!({"type": "AverageValue", "averageValue": "50m"}));
    let (world, _) = scaled(2, by_pod, used(usage.clone())).await;
    assert_eq!(replicas(&world).await, 4);
    world.stop().await;
    let target = json!({"type": "AverageValue", "averageValue": "30m"});
    let by_container = json!([{"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c", "target": target}}]);
    let (world, _) = scaled(2, by_container, used(usage)).await;
    assert_eq!(replicas(&world).await, 2);
    says(
        &current(&world).await,
        json!({"containerResource": {"name": "cpu", "container": "c", "current": {"averageValue": "30m"}}}),
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_request_there_is_no_utilization_and_nothing_is_done() {
    let metrics = json!([{"type": "Resource", "resource": {"name": "memory",
        "target": {"type": "Utilization", "averageUtilization": 50}}}]);
    let (world, _) = scaled(2, metrics, used(json!({"c": {"memory": "1Gi"}}))).await;
    world.pass(seconds(60)).await;
    assert_eq!(replicas(&world).await, 2);
    let active = active(&world).await;
    says(&active, json!({"status": "False", "reason": "FailedGetResourceMetric"}));
    let message = active["message"].as_str().unwrap();
    assert!(message.contains("missing request for memory"), "{message}");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_metrics_work_as_resource_metrics_do_but_with_raw_values() {
    let metrics = json!([{"type": "Pods", "pods": {"metric": {"name": "requests"},
        "target": {"type": "AverageValue", "averageValue": "1k"}}}]);
    let (world, _) = scaled(2, metrics, |told| told.of_pods("requests", "2k")).await;
    assert_eq!(replicas(&world).await, 4);
    world
        .told(
            "web",
            "Normal SuccessfulRescale",
            "New size: 4; reason: pods metric requests above target",
        )
        .await;
    says(
        &current(&world).await,
        json!({"type": "Pods", "pods": {"metric": {"name": "requests"}, "current": {"averageValue": "2k"}}}),
    );
    world.stop().await;
}

fn of_object(target: Value) -> Value {
    json!([{"type": "Object", "object": {"metric": {"name": "hits"}, "target": target,
        "describedObject": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "main-route"}}}])
}

const HITS: &str = "ingresses.networking.k8s.io/main-route/hits";

#[tokio::test(start_paused = true)]
async fn a_single_metric_of_an_object_is_compared_to_the_target_as_it_is() {
    let metrics = of_object(json!({"type": "Value", "value": "10k"}));
    let (world, _) = scaled(2, metrics, |told| told.of_object(HITS, "20k")).await;
    assert_eq!(replicas(&world).await, 4);
    says(
        &current(&world).await,
        json!({"type": "Object", "object": {"metric": {"name": "hits"}, "current": {"value": "20k"}}}),
    );
    world
        .told(
            "web",
            "Normal SuccessfulRescale",
            "New size: 4; reason: Ingress metric hits above target",
        )
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn this_value_can_be_divided_by_the_number_of_pods_before_the_comparison() {
    let metrics = of_object(json!({"type": "AverageValue", "averageValue": "10k"}));
    let (world, _) = scaled(2, metrics, |told| told.of_object(HITS, "30k")).await;
    assert_eq!(replicas(&world).await, 3);
    says(
        &current(&world).await,
        json!({"object": {"current": {"averageValue": "15k"}}}),
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_metric_of_an_object_that_cannot_be_had_is_told_with_its_object() {
    let metrics = of_object(json!({"type": "Value", "value": "10k"}));
    let (world, _) = scaled(2, metrics, |_| {}).await;
    let why =
        "unable to get metric hits: Ingress on default main-route/unable to fetch metrics from custom metrics API: ";
    let events = world.events("web").await;
    assert!(events["Warning FailedGetObjectMetric"].starts_with(why), "{events:#?}");
    let condition = active(&world).await;
    says(
        &condition,
        json!({"status": "False", "reason": "FailedGetObjectMetric"}),
    );
    let told = condition["message"].as_str().unwrap();
    assert!(
        told.starts_with(&format!("the HPA was unable to compute the replica count: {why}")),
        "{told}"
    );
    world.stop().await;
}

fn both() -> Value {
    let pods = json!({"type": "Pods", "pods": {"metric": {"name": "requests"},
        "target": {"type": "AverageValue", "averageValue": "1k"}}});
    let mut metrics = cpu(json!({"type": "Utilization", "averageUtilization": 100}));
    metrics.as_array_mut().unwrap().push(pods);
    metrics
}

#[tokio::test(start_paused = true)]
async fn of_multiple_metrics_the_largest_of_the_desired_replica_counts_is_chosen() {
    let (world, _) = scaled(2, both(), |told| {
        told.usage(json!({"c": {"cpu": "110m"}}));
        told.of_pods("requests", "1500");
    })
    .await;
    assert_eq!(replicas(&world).await, 3);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn if_a_metric_cannot_be_had_a_scale_down_is_skipped_and_a_scale_up_is_not() {
    // The metric of pods is not there.
    let (world, told) = scaled(4, both(), used(json!({"c": {"cpu": "10m"}}))).await;
    world.pass(seconds(900)).await;
    assert_eq!(replicas(&world).await, 4);
    says(
        &active(&world).await,
        json!({"status": "False", "reason": "FailedGetPodsMetric"}),
    );
    told.usage(json!({"c": {"cpu": "200m"}}));
    world.pass(seconds(20)).await;
    assert_eq!(replicas(&world).await, 8);
    says(
        &active(&world).await,
        json!({"status": "True", "reason": "ValidMetricFound"}),
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_are_being_deleted_or_have_failed_are_left_out() {
    let metrics = cpu(json!({"type": "Utilization", "averageUtilization": 100}));
    let (world, _) = scaled(2, metrics, used(json!({"c": {"cpu": "100m"}}))).await;
    let mut pod = template("web");
    pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "10m"}});
    let stray = with(
        json!({"metadata": {"name": "stray", "labels": {"app": "web"}}, "spec": pod["spec"]}),
        json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "none", "uid": "none",
            "controller": true}], "finalizers": ["example.com/hold"]}}),
    );
    world.make::<k8s_openapi::api::core::v1::Pod>(stray).await;
    world.end("stray", 1).await;
    world.pass(seconds(60)).await;
    // It would use ten times what it asks for.
    assert_eq!(replicas(&world).await, 2);
    says(&active(&world).await, json!({"status": "True"}));
    world.stop().await;
}
