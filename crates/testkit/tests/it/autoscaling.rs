//! An autoscaler, its target, and a metrics API.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::json;

use coracle_client::Patch;

use crate::world::World;

fn condition(hpa: &HorizontalPodAutoscaler, kind: &str) -> Option<(String, String)> {
    let conditions = hpa.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|c| c.type_ == kind)?;
    Some((found.status.clone(), found.reason.clone()?))
}

fn says(hpa: &HorizontalPodAutoscaler, kind: &str, status: &str, reason: &str) -> bool {
    condition(hpa, kind) == Some((status.to_owned(), reason.to_owned()))
}

async fn deployment(world: &World, replicas: i32) {
    let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m"}}});
    world
        .create::<Deployment>(json!({
            "metadata": {"name": "web"},
            "spec": {
                "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}},
            },
        }))
        .await;
}

async fn autoscaler(world: &World, target: &str) {
    let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}});
    world
        .create::<HorizontalPodAutoscaler>(json!({
            "metadata": {"name": "web"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target},
                "minReplicas": 1, "maxReplicas": 10, "metrics": [metric],
            },
        }))
        .await;
}

/// `metrics.k8s.io`, as a metrics server would serve it.
async fn metrics_api(world: &World) {
    world
        .create::<CustomResourceDefinition>(json!({
            "metadata": {
                "name": "pods.metrics.k8s.io",
                "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
            },
            "spec": {
                "group": "metrics.k8s.io", "scope": "Namespaced",
                "names": {"plural": "pods", "singular": "pod", "kind": "PodMetrics", "listKind": "PodMetricsList"},
                "versions": [{"name": "v1beta1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
            },
        }))
        .await;
    let definitions = world.api::<CustomResourceDefinition>();
    let established = |d: &CustomResourceDefinition| {
        let conditions = d.status.iter().flat_map(|s| s.conditions.iter().flatten());
        conditions
            .into_iter()
            .any(|c| c.type_ == "Established" && c.status == "True")
    };
    world.wait(&definitions, "pods.metrics.k8s.io", established).await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_grows_with_its_pods_use_and_shrinks_when_it_has_been_idle() {
    let world = World::start().await;
    world.node("n", "z").await;
    metrics_api(&world).await;
    deployment(&world, 2).await;
    let pods = world.api::<Pod>();
    let metrics = world.dynamic("metrics.k8s.io", "v1beta1", "PodMetrics", "pods");
    let two = world.wait_all(&pods, "app=web", |all| all.len() == 2).await;
    for (at, pod) in two.iter().enumerate() {
        let name = pod.metadata.name.as_deref().unwrap();
        pods.bind(name, None, "n").await.unwrap();
        world.run(name, &format!("10.1.0.{}", at + 1), true).await;
        let usage = json!({
            "apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics",
            "metadata": {"name": name, "labels": {"app": "web"}},
            "timestamp": "2026-01-01T00:00:30Z", "window": "30s",
            "containers": [{"name": "c", "usage": {"cpu": "75m", "memory": "1Mi"}}],
        });
        world.create_in(&metrics, usage).await;
    }
    autoscaler(&world, "web").await;
    let autoscalers = world.api::<HorizontalPodAutoscaler>();
    // 75 % where 50 % is wanted, of two pods.
    let grown = world
        .wait(&autoscalers, "web", |h| {
            says(h, "AbleToScale", "True", "SucceededRescale")
        })
        .await;
    let deployments = world.api::<Deployment>();
    assert_eq!(deployments.get("web").await.unwrap().spec.replicas, Some(3));
    assert!(says(&grown, "ScalingActive", "True", "ValidMetricFound"));
    assert!(says(&grown, "ScalingLimited", "False", "DesiredWithinRange"));
    let status = grown.status.as_ref().unwrap();
    assert_eq!((status.current_replicas, status.desired_replicas), (Some(2), 3));
    assert!(status.last_scale_time.is_some());
    let current = &status.current_metrics.as_ref().unwrap()[0]
        .resource
        .as_ref()
        .unwrap()
        .current;
    assert_eq!(current.average_utilization, Some(75));
    assert_eq!(current.average_value.as_ref().map(|q| q.0.as_str()), Some("75m"));

    for pod in &two {
        let idle = Patch::Merge(json!({"containers": [{"name": "c", "usage": {"cpu": "1m"}}]}));
        metrics
            .patch(pod.metadata.name.as_deref().unwrap(), idle)
            .await
            .unwrap();
    }
    let since = world.clock.now();
    world.wait(&deployments, "web", |d| d.spec.replicas < Some(3)).await;
    // The higher recommendation holds for five minutes.
    let waited = world.clock.now().duration_since(since).as_secs();
    assert!((270..=330).contains(&waited), "{waited}");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_autoscaler_tells_what_it_cannot_do() {
    let world = World::start().await;
    let autoscalers = world.api::<HorizontalPodAutoscaler>();
    autoscaler(&world, "web").await;
    world
        .wait(&autoscalers, "web", |h| {
            says(h, "AbleToScale", "False", "FailedGetScale")
        })
        .await;
    deployment(&world, 1).await;
    let failing = world
        .wait(&autoscalers, "web", |h| {
            says(h, "ScalingActive", "False", "FailedGetResourceMetric")
        })
        .await;
    assert!(says(&failing, "AbleToScale", "True", "SucceededGetScale"));
    let deployments = world.api::<Deployment>();
    deployments
        .patch("web", Patch::Merge(json!({"spec": {"replicas": 0}})))
        .await
        .unwrap();
    world
        .wait(&autoscalers, "web", |h| {
            says(h, "ScalingActive", "False", "ScalingDisabled")
        })
        .await;
    deployments
        .patch("web", Patch::Merge(json!({"spec": {"replicas": 50}})))
        .await
        .unwrap();
    world.wait(&deployments, "web", |d| d.spec.replicas == Some(10)).await;
    world.stop().await;
}
