//! Garbage collection, as <https://kubernetes.io/docs/concepts/architecture/garbage-collection/> and
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/owners-dependents/> say.

use std::time::Duration;

use coracle_client::{Api, DeleteOptions, DynamicObject, Propagation};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use crate::harness::{until, until_gone};
use crate::world::World;

fn owned_by(name: &str, owner: &Value) -> Value {
    json!({"metadata": {"name": name, "ownerReferences": [owner]}})
}

fn reference(kind: &str, name: &str, uid: Option<&String>) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": uid})
}

fn blocking(mut reference: Value) -> Value {
    reference["blockOwnerDeletion"] = json!(true);
    reference
}

fn policy(propagation: Propagation) -> DeleteOptions {
    DeleteOptions {
        propagation: Some(propagation),
        ..DeleteOptions::default()
    }
}

impl World {
    /// Makes a config map, and says how to refer to it.
    async fn owner(&self, name: &str) -> Value {
        let made = self.make::<ConfigMap>(json!({"metadata": {"name": name}})).await;
        reference("ConfigMap", name, made.metadata.uid.as_ref())
    }

    async fn is_there(&self, map: &str) -> bool {
        self.settle().await;
        self.find::<ConfigMap>(map).await.is_some()
    }
}

#[tokio::test(start_paused = true)]
async fn in_background_deletion_the_owner_goes_immediately_and_the_dependents_after_it() {
    let world = World::new().await;
    let owner = world.owner("owner").await;
    let dependent = world.make::<ConfigMap>(owned_by("dependent", &owner)).await;
    let below = reference("ConfigMap", "dependent", dependent.metadata.uid.as_ref());
    world.make::<Secret>(owned_by("below", &below)).await;
    world
        .api::<ConfigMap>()
        .delete("owner", &policy(Propagation::Background))
        .await
        .unwrap();
    assert!(world.find::<ConfigMap>("owner").await.is_none());
    world.until_gone::<ConfigMap>("dependent").await;
    world.until_gone::<Secret>("below").await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn in_foreground_deletion_the_owner_stays_until_the_dependents_that_block_it_are_gone() {
    let world = World::new().await;
    let owner = world.owner("owner").await;
    let mut held = owned_by("held", &blocking(owner.clone()));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    world.make::<ConfigMap>(held).await;
    let mut free = owned_by("free", &owner);
    free["metadata"]["finalizers"] = json!(["example.com/hold"]);
    world.make::<ConfigMap>(free).await;
    world
        .api::<ConfigMap>()
        .delete("owner", &policy(Propagation::Foreground))
        .await
        .unwrap();
    world.settle().await;
    let waiting = world.get::<ConfigMap>("owner").await;
    assert!(waiting.metadata.deletion_timestamp.is_some());
    assert_eq!(
        waiting.metadata.finalizers.as_deref(),
        Some(["foregroundDeletion".to_owned()].as_slice())
    );
    for name in ["held", "free"] {
        assert!(world.get::<ConfigMap>(name).await.metadata.deletion_timestamp.is_some());
    }
    let release = json!({"metadata": {"finalizers": null}});
    world.merge::<ConfigMap>("held", release).await;
    // The other does not block it.
    world.until_gone::<ConfigMap>("owner").await;
    assert!(world.is_there("free").await);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn with_the_orphan_policy_dependents_stay_without_the_reference() {
    let world = World::new().await;
    let owner = world.owner("owner").await;
    let other = world.owner("other").await;
    let mut dependent = owned_by("dependent", &owner);
    dependent["metadata"]["ownerReferences"] = json!([owner, other]);
    world.make::<ConfigMap>(dependent).await;
    world
        .api::<ConfigMap>()
        .delete("owner", &policy(Propagation::Orphan))
        .await
        .unwrap();
    world.until_gone::<ConfigMap>("owner").await;
    let left = world.get::<ConfigMap>("dependent").await;
    let references = left.metadata.owner_references.as_ref().unwrap();
    assert_eq!(references.len(), 1);
    assert_eq!(references[0].name, "other");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_with_several_owners_goes_with_the_last_of_them() {
    let world = World::new().await;
    let (a, b) = (world.owner("a").await, world.owner("b").await);
    let mut dependent = owned_by("dependent", &a);
    dependent["metadata"]["ownerReferences"] = json!([a, b]);
    world.make::<ConfigMap>(dependent).await;
    world.delete::<ConfigMap>("a").await;
    assert!(world.is_there("dependent").await);
    let left = world.get::<ConfigMap>("dependent").await;
    assert_eq!(left.metadata.owner_references.as_ref().unwrap().len(), 1);
    world.delete::<ConfigMap>("b").await;
    world.until_gone::<ConfigMap>("dependent").await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_whose_owner_never_existed_is_collected() {
    let world = World::new().await;
    let absent = reference(
        "ConfigMap",
        "absent",
        Some(&"00000000-0000-0000-0000-000000000001".into()),
    );
    world.make::<ConfigMap>(owned_by("dependent", &absent)).await;
    world.until_gone::<ConfigMap>("dependent").await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_of_the_same_name_and_another_uid_is_another_owner() {
    let world = World::new().await;
    world.owner("owner").await;
    let other = reference(
        "ConfigMap",
        "owner",
        Some(&"00000000-0000-0000-0000-000000000001".into()),
    );
    world.make::<ConfigMap>(owned_by("dependent", &other)).await;
    world.until_gone::<ConfigMap>("dependent").await;
    assert!(world.is_there("owner").await);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_namespaced_owner_in_another_namespace_is_treated_as_absent_and_a_warning_is_told() {
    let world = World::new().await;
    world.make::<Namespace>(json!({"metadata": {"name": "far"}})).await;
    let far = world.cluster.client.namespaced::<ConfigMap>("far");
    let owner = crate::harness::from(json!({"metadata": {"name": "owner"}}));
    let owner = far.create(&owner).await.unwrap();
    let uid = owner.metadata.uid.clone().unwrap();
    let reference = reference("ConfigMap", "owner", Some(&uid));
    world.settle().await;
    world.make::<ConfigMap>(owned_by("dependent", &reference)).await;
    world.until_gone::<ConfigMap>("dependent").await;
    let message = format!(
        "ownerRef [v1/ConfigMap, namespace: default, name: owner, uid: {uid}] does not exist in namespace \"default\""
    );
    world
        .told("dependent", "Warning OwnerRefInvalidNamespace", &message)
        .await;
    assert!(far.find("owner").await.unwrap().is_some());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_scoped_object_that_names_a_namespaced_owner_is_not_collected_and_a_warning_is_told() {
    let world = World::new().await;
    let owner = world.owner("owner").await;
    world.settle().await;
    world.make::<Node>(json!({"metadata": {"name": "n1"}})).await;
    world.settle().await;
    let owned = json!({"metadata": {"ownerReferences": [owner]}});
    world.merge::<Node>("n1", owned).await;
    world.pass(Duration::from_secs(600)).await;
    assert!(world.find::<Node>("n1").await.is_some());
    let uid = owner["uid"].as_str().unwrap();
    let message =
        format!("ownerRef [v1/ConfigMap, namespace: , name: owner, uid: {uid}] does not exist in namespace \"\"");
    world.told("n1", "Warning OwnerRefInvalidNamespace", &message).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_scoped_owner_may_own_in_every_namespace() {
    let world = World::new().await;
    let node = world.make::<Node>(json!({"metadata": {"name": "n1"}})).await;
    let owner = reference("Node", "n1", node.metadata.uid.as_ref());
    world.make::<ConfigMap>(owned_by("dependent", &owner)).await;
    assert!(world.is_there("dependent").await);
    world.delete::<Node>("n1").await;
    world.until_gone::<ConfigMap>("dependent").await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn owners_that_block_each_other_in_a_circle_all_go() {
    let world = World::new().await;
    let (a, b) = (world.owner("a").await, world.owner("b").await);
    for (name, owner) in [("a", &b), ("b", &a)] {
        let patch = json!({"metadata": {"ownerReferences": [blocking(owner.clone())]}});
        world.merge::<ConfigMap>(name, patch).await;
    }
    world.settle().await;
    world
        .api::<ConfigMap>()
        .delete("a", &policy(Propagation::Foreground))
        .await
        .unwrap();
    world.until_gone::<ConfigMap>("a").await;
    world.until_gone::<ConfigMap>("b").await;
    world.stop().await;
}

impl World {
    async fn gear(&self, gears: &Api<DynamicObject>, name: &str, owners: Value) -> Value {
        let object = json!({"apiVersion": "example.org/v1", "kind": "Gear",
            "metadata": {"name": name, "ownerReferences": owners}});
        let made = gears.create(&crate::harness::from(object)).await.unwrap();
        let uid = &made.metadata.uid;
        json!({"apiVersion": "example.org/v1", "kind": "Gear", "name": name, "uid": uid})
    }
}

#[tokio::test(start_paused = true)]
async fn custom_resources_are_owners_and_dependents_as_soon_as_they_are_served() {
    let world = World::new().await;
    let owner = world.owner("owner").await;
    let gears = world.define_gears(json!({})).await;
    let gear = world.gear(&gears, "gear", json!([owner])).await;
    world.make::<ConfigMap>(owned_by("below", &gear)).await;
    assert!(world.is_there("below").await);
    world.delete::<ConfigMap>("owner").await;
    world.settle().await;
    assert!(gears.find("gear").await.unwrap().is_none());
    world.until_gone::<ConfigMap>("below").await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn when_a_definition_goes_its_objects_dependents_go_and_a_new_definition_is_followed_again() {
    let world = World::new().await;
    let gears = world.define_gears(json!({})).await;
    let gear = world.gear(&gears, "gear", json!(null)).await;
    world.make::<ConfigMap>(owned_by("below", &gear)).await;
    world.settle().await;
    world.delete::<CustomResourceDefinition>("gears.example.org").await;
    world.until_gone::<CustomResourceDefinition>("gears.example.org").await;
    world.until_gone::<ConfigMap>("below").await;
    let gears = world.define_gears(json!({})).await;
    let gear = world.gear(&gears, "again", json!(null)).await;
    world.make::<ConfigMap>(owned_by("below", &gear)).await;
    assert!(world.is_there("below").await);
    gears.delete("again", &DeleteOptions::default()).await.unwrap();
    world.until_gone::<ConfigMap>("below").await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_whose_owners_kind_is_not_served_is_left_alone_until_it_is() {
    let world = World::new().await;
    let unknown = json!({"apiVersion": "example.org/v1", "kind": "Gear", "name": "gear",
        "uid": "00000000-0000-0000-0000-000000000001"});
    world.make::<ConfigMap>(owned_by("dependent", &unknown)).await;
    world.pass(Duration::from_secs(3600)).await;
    assert!(world.is_there("dependent").await);
    world.define_gears(json!({})).await;
    world.until_gone::<ConfigMap>("dependent").await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn foreground_deletion_of_a_custom_resource_waits_for_its_dependents() {
    let world = World::new().await;
    let gears = world.define_gears(json!({})).await;
    let gear = world.gear(&gears, "gear", json!(null)).await;
    let mut held = owned_by("held", &blocking(gear));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    world.make::<ConfigMap>(held).await;
    world.settle().await;
    gears.delete("gear", &policy(Propagation::Foreground)).await.unwrap();
    world.settle().await;
    assert!(gears.find("gear").await.unwrap().is_some());
    world
        .merge::<ConfigMap>("held", json!({"metadata": {"finalizers": null}}))
        .await;
    world.settle().await;
    assert!(gears.find("gear").await.unwrap().is_none());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_deleted_takes_everything_in_it_along() {
    let world = World::new().await;
    world.make::<Namespace>(json!({"metadata": {"name": "far"}})).await;
    let client = &world.cluster.client;
    let maps = client.namespaced::<ConfigMap>("far");
    until(&world.cluster, maps.clone(), "kube-root-ca.crt", |_| true).await;
    world.delete::<Namespace>("far").await;
    until_gone(&world.cluster, maps, "kube-root-ca.crt").await;
    world.until_gone::<Namespace>("far").await;
    world.stop().await;
}
