//! The garbage collector with kinds that come and go.

use std::sync::Arc;

use coracle_client::{ApiResource, DeleteOptions, DynamicObject};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use crate::world::{World, names};

fn gears() -> ApiResource {
    ApiResource {
        group: "example.org".into(),
        version: "v1".into(),
        kind: "Gear".into(),
        plural: "gears".into(),
        namespaced: true,
    }
}

async fn define(world: &World) {
    world
        .create::<CustomResourceDefinition>(json!({
            "metadata": {"name": "gears.example.org"},
            "spec": {
                "group": "example.org", "scope": "Namespaced",
                "names": {"plural": "gears", "singular": "gear", "kind": "Gear", "listKind": "GearList"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                }}}],
            },
        }))
        .await;
    let api = world.cluster.client.all::<CustomResourceDefinition>();
    let clock = world.cluster.clock;
    // In virtual time; the definition is established by another controller.
    for _ in 0..1000 {
        let definition = api.get("gears.example.org").await.unwrap();
        let conditions = definition.status.iter().flat_map(|s| s.conditions.iter().flatten());
        if conditions
            .into_iter()
            .any(|c| c.type_ == "Established" && c.status == "True")
        {
            return;
        }
        clock.sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the definition is not established");
}

async fn gear(world: &World, name: &str) -> Arc<DynamicObject> {
    let resource = gears();
    let api = world
        .cluster
        .client
        .dynamic::<DynamicObject>(&resource)
        .within("default");
    api.create(&DynamicObject::new(&resource, name)).await.unwrap()
}

fn owned_by(owner: Value, name: &str, namespace: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": namespace, "ownerReferences": [owner]}})
}

fn reference(gear: &DynamicObject) -> Value {
    json!({"apiVersion": "example.org/v1", "kind": "Gear", "name": gear.metadata.name, "uid": gear.metadata.uid})
}

#[tokio::test(start_paused = true)]
async fn dependents_of_a_custom_resource_go_with_it_even_when_its_definition_goes_too() {
    let world = World::new(&[]).await;
    define(&world).await;
    let (one, two) = (gear(&world, "one").await, gear(&world, "two").await);
    world
        .create::<ConfigMap>(owned_by(reference(&one), "of-one", "default"))
        .await;
    world
        .create::<ConfigMap>(owned_by(reference(&two), "of-two", "default"))
        .await;
    let resource = gears();
    let api = world
        .cluster
        .client
        .dynamic::<DynamicObject>(&resource)
        .within("default");
    api.delete("one", &DeleteOptions::default()).await.unwrap();
    world
        .until::<ConfigMap>("its dependent is gone", |all| {
            let all = names(all);
            !all.contains(&"of-one") && all.contains(&"of-two")
        })
        .await;
    let definitions = world.cluster.client.all::<CustomResourceDefinition>();
    definitions
        .delete("gears.example.org", &DeleteOptions::default())
        .await
        .unwrap();
    world
        .until::<ConfigMap>("the other dependent is gone", |all| !names(all).contains(&"of-two"))
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_absent_owner_is_no_owner_and_one_in_another_namespace_neither_which_is_told() {
    let world = World::new(&[]).await;
    world.create::<Namespace>(json!({"metadata": {"name": "other"}})).await;
    let absent = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "nobody"});
    world
        .create::<ConfigMap>(owned_by(absent, "of-absent", "default"))
        .await;
    let owner = world
        .create::<ConfigMap>(json!({"metadata": {"name": "far", "namespace": "other"}}))
        .await;
    let far = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "far", "uid": owner.metadata.uid});
    world.create::<ConfigMap>(owned_by(far, "of-far", "default")).await;
    world
        .until::<ConfigMap>("both are gone", |all| {
            let all = names(all);
            !all.contains(&"of-absent") && !all.contains(&"of-far")
        })
        .await;
    world
        .until::<Event>("the event", |all| {
            all.iter().any(|e| {
                e.reason.as_deref() == Some("OwnerRefInvalidNamespace")
                    && e.involved_object.name.as_deref() == Some("of-far")
            })
        })
        .await;
    world.stop().await;
}
