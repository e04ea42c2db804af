//! Disruption budgets, and evictions that ask them.

use coracle_client::{DeleteOptions, Patch};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use crate::world::World;

fn counts(budget: &PodDisruptionBudget) -> (i32, i32, i32, i32) {
    let status = budget.status.clone().unwrap_or_default();
    let n = |v: Option<i32>| v.unwrap_or(0);
    (
        n(status.expected_pods),
        n(status.current_healthy),
        n(status.desired_healthy),
        n(status.disruptions_allowed),
    )
}

fn budget(spec: Value) -> Value {
    let mut all = json!({"selector": {"matchLabels": {"app": "web"}}});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"metadata": {"name": "web"}, "spec": all})
}

#[tokio::test(start_paused = true)]
async fn evictions_are_granted_while_the_budget_allows_them() {
    let world = World::start().await;
    world.node("n", "z").await;
    world
        .create::<PodDisruptionBudget>(budget(json!({"maxUnavailable": 1})))
        .await;
    let template =
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    world
        .create::<ReplicaSet>(json!({
            "metadata": {"name": "web"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template},
        }))
        .await;
    let pods = world.api::<Pod>();
    let three = world.wait_all(&pods, "app=web", |all| all.len() == 3).await;
    let budgets = world.api::<PodDisruptionBudget>();
    world.wait(&budgets, "web", |b| counts(b) == (3, 0, 2, 0)).await;
    let names: Vec<String> = three.iter().filter_map(|p| p.metadata.name.clone()).collect();
    for (at, name) in names.iter().enumerate() {
        pods.bind(name, None, "n").await.unwrap();
        world.run(name, &format!("10.1.0.{}", at + 1), true).await;
    }
    world.wait(&budgets, "web", |b| counts(b) == (3, 3, 2, 1)).await;

    pods.evict(&names[0], &DeleteOptions::default()).await.unwrap();
    let refused = pods.evict(&names[1], &DeleteOptions::default()).await.unwrap_err();
    assert!(refused.is_too_many_requests(), "{refused}");
    // The set makes another; until it is healthy none may go.
    let four = world.wait_all(&pods, "app=web", |all| {
        all.iter().filter(|p| p.metadata.deletion_timestamp.is_none()).count() == 3
    });
    let new = four.await.iter().find_map(|p| {
        let name = p.metadata.name.clone()?;
        (!names.contains(&name)).then_some(name)
    });
    let new = new.unwrap();
    world.wait(&budgets, "web", |b| counts(b) == (3, 2, 2, 0)).await;
    pods.bind(&new, None, "n").await.unwrap();
    world.run(&new, "10.1.0.9", true).await;
    world.wait(&budgets, "web", |b| counts(b) == (3, 3, 2, 1)).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_custom_resource_says_by_its_scale_how_many_pods_there_should_be() {
    let world = World::start().await;
    world.node("n", "z").await;
    world
        .create::<CustomResourceDefinition>(json!({
            "metadata": {"name": "gangs.example.com"},
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": {"plural": "gangs", "singular": "gang", "kind": "Gang", "listKind": "GangList"},
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}},
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                        "spec": {"type": "object", "properties": {"size": {"type": "integer"}}},
                        "status": {"type": "object", "properties": {"size": {"type": "integer"}}},
                    }}},
                }],
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
    world.wait(&definitions, "gangs.example.com", established).await;
    let gangs = world.dynamic("example.com", "v1", "Gang", "gangs");
    let gang = json!({"apiVersion": "example.com/v1", "kind": "Gang", "metadata": {"name": "g"}, "spec": {"size": 4}});
    let gang = world.create_in(&gangs, gang).await;
    world
        .create::<PodDisruptionBudget>(budget(json!({"minAvailable": "50%"})))
        .await;
    world.pod("p", "n", "10.1.0.1", json!({"app": "web"}), json!({})).await;
    let owner = json!([{"apiVersion": "example.com/v1", "kind": "Gang", "name": "g", "uid": gang.metadata.uid, "controller": true}]);
    let owned = Patch::Merge(json!({"metadata": {"ownerReferences": owner}}));
    world.api::<Pod>().patch("p", owned).await.unwrap();
    let budgets = world.api::<PodDisruptionBudget>();
    world.wait(&budgets, "web", |b| counts(b) == (4, 1, 2, 0)).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_not_disturbed_after_all_says_so_after_two_minutes() {
    let world = World::start().await;
    world.node("n", "z").await;
    world.pod("p", "n", "10.1.0.1", json!({}), json!({})).await;
    let since = world.clock.now().to_string();
    let target = json!({"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "lastTransitionTime": since});
    let pods = world.api::<Pod>();
    let patch = Patch::Strategic(json!({"status": {"conditions": [target]}}));
    pods.status().patch("p", patch).await.unwrap();
    let start = world.clock.now();
    world
        .wait(&pods, "p", |p| {
            let conditions = p.status.iter().flat_map(|s| s.conditions.iter().flatten());
            conditions
                .into_iter()
                .any(|c| c.type_ == "DisruptionTarget" && c.status == "False")
        })
        .await;
    let waited = world.clock.now().duration_since(start).as_secs();
    assert!((119..=122).contains(&waited), "{waited}");
    world.stop().await;
}
