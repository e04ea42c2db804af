//! The end of a namespace.

use coracle_client::{DeleteOptions, Patch};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use serde_json::json;

use crate::world::World;

fn condition<'n>(namespace: &'n Namespace, kind: &str) -> Option<(&'n str, &'n str, &'n str)> {
    let all = namespace.status.as_ref()?.conditions.as_ref()?;
    let found = all.iter().find(|c| c.type_ == kind)?;
    let (reason, message) = (found.reason.as_deref()?, found.message.as_deref()?);
    Some((found.status.as_str(), reason, message))
}

#[tokio::test(start_paused = true)]
async fn pods_go_before_everything_else_and_the_conditions_say_what_is_left_and_what_holds_it() {
    let world = World::new(&["a"]).await;
    world.create::<Namespace>(json!({"metadata": {"name": "ending"}})).await;
    world
        .until_in::<ServiceAccount>("ending", "pods may be made", |all| !all.is_empty())
        .await;
    world
        .create::<Pod>(json!({
            "metadata": {"name": "held", "namespace": "ending", "finalizers": ["example.org/hold"]},
            "spec": {"serviceAccountName": "default", "containers": [{"name": "c", "image": "v1"}], "automountServiceAccountToken": false},
        }))
        .await;
    world
        .create::<ConfigMap>(json!({"metadata": {"name": "settings", "namespace": "ending"}}))
        .await;
    let client = &world.cluster.client;
    let namespaces = client.all::<Namespace>();
    namespaces.delete("ending", &DeleteOptions::default()).await.unwrap();
    let told = world
        .until_cluster::<Namespace>("ending", "the conditions", |n| {
            condition(n, "NamespaceFinalizersRemaining").is_some()
        })
        .await
        .unwrap();
    for (kind, expected) in [
        (
            "NamespaceDeletionDiscoveryFailure",
            ("False", "ResourcesDiscovered", "All resources successfully discovered"),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            (
                "False",
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed",
            ),
        ),
        (
            "NamespaceDeletionContentFailure",
            (
                "False",
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
        ),
        (
            "NamespaceContentRemaining",
            (
                "True",
                "SomeResourcesRemain",
                "Some resources are remaining: pods. has 1 resource instances",
            ),
        ),
        (
            "NamespaceFinalizersRemaining",
            (
                "True",
                "SomeFinalizersRemain",
                "Some content in the namespace has finalizers remaining: example.org/hold in 1 resource instances",
            ),
        ),
    ] {
        assert_eq!(condition(&told, kind), Some(expected), "{kind}");
    }
    let maps = client.namespaced::<ConfigMap>("ending");
    assert!(maps.find("settings").await.unwrap().is_some(), "it waits for the pod");
    let pods = client.namespaced::<Pod>("ending");
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    pods.patch("held", free).await.unwrap();
    let gone = world
        .until_cluster::<Namespace>("ending", "it is gone", |_| false)
        .await;
    assert!(gone.is_none());
    world.stop().await;
}
