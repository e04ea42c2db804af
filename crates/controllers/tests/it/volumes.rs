//! Volumes and claims.

use coracle_client::{DeleteOptions, Patch};
use k8s_openapi::api::core::v1::{Event, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::harness::{cluster, create, until, until_gone};

fn pv(name: &str, size: &str, policy: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": policy, "hostPath": {"path": "/data"}}})
}

fn pvc(name: &str, class: Option<&str>) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "storageClassName": class, "resources": {"requests": {"storage": "5Gi"}}}})
}

fn phase_of_claim(claim: &PersistentVolumeClaim) -> &str {
    claim
        .status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .unwrap_or_default()
}

fn phase_of_volume(volume: &PersistentVolume) -> &str {
    volume
        .status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .unwrap_or_default()
}

fn held(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.finalizers.iter().flatten().any(|f| f == finalizer)
}

fn volume_of(claim: &PersistentVolumeClaim) -> &str {
    claim
        .spec
        .as_ref()
        .and_then(|s| s.volume_name.as_deref())
        .unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn claims_take_the_smallest_volumes_and_release_them_when_they_go() {
    let cluster = cluster().await;
    let volumes = cluster.client.all::<PersistentVolume>();
    let claims = cluster.client.namespaced::<PersistentVolumeClaim>("default");
    for (name, size) in [("large", "50Gi"), ("middle", "10Gi"), ("small", "5Gi")] {
        create::<PersistentVolume>(&cluster.client, pv(name, size, "Retain")).await;
        until(&cluster, volumes.clone(), name, |v| phase_of_volume(v) == "Available").await;
    }
    for (name, volume) in [("a", "small"), ("b", "middle"), ("c", "large")] {
        create::<PersistentVolumeClaim>(&cluster.client, pvc(name, Some(""))).await;
        let claim = until(&cluster, claims.clone(), name, |c| phase_of_claim(c) == "Bound").await;
        assert_eq!(volume_of(&claim), volume);
        until(&cluster, claims.clone(), name, |c| {
            held(&c.metadata, "kubernetes.io/pvc-protection")
        })
        .await;
    }
    let size = claims.get("c").await.unwrap().status.clone().unwrap().capacity.unwrap()["storage"].clone();
    assert_eq!(size.0, "50Gi");
    // One more has to wait for a volume that comes later.
    create::<PersistentVolumeClaim>(&cluster.client, pvc("d", Some(""))).await;
    create::<PersistentVolume>(&cluster.client, pv("late", "6Gi", "Retain")).await;
    let claim = until(&cluster, claims.clone(), "d", |c| phase_of_claim(c) == "Bound").await;
    assert_eq!(volume_of(&claim), "late");

    claims.delete("a", &DeleteOptions::default()).await.unwrap();
    until_gone(&cluster, claims.clone(), "a").await;
    let released = until(&cluster, volumes.clone(), "small", |v| phase_of_volume(v) == "Released").await;
    // Retained for an administrator: it still says whose it was, and nobody else gets it.
    assert_eq!(
        released
            .spec
            .as_ref()
            .unwrap()
            .claim_ref
            .as_ref()
            .unwrap()
            .name
            .as_deref(),
        Some("a")
    );
    assert!(released.status.as_ref().unwrap().last_phase_transition_time.is_some());

    // A volume that is deleted under its claim stays until the claim lets go; then it is gone.
    until(&cluster, volumes.clone(), "middle", |v| {
        held(&v.metadata, "kubernetes.io/pv-protection")
    })
    .await;
    volumes.delete("middle", &DeleteOptions::default()).await.unwrap();
    assert!(
        volumes
            .get("middle")
            .await
            .unwrap()
            .metadata
            .deletion_timestamp
            .is_some()
    );
    claims.delete("b", &DeleteOptions::default()).await.unwrap();
    until_gone(&cluster, volumes.clone(), "middle").await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_volume_is_taken_away_is_lost() {
    let cluster = cluster().await;
    let volumes = cluster.client.all::<PersistentVolume>();
    let claims = cluster.client.namespaced::<PersistentVolumeClaim>("default");
    create::<PersistentVolume>(&cluster.client, pv("v", "5Gi", "Retain")).await;
    create::<PersistentVolumeClaim>(&cluster.client, pvc("c", Some(""))).await;
    until(&cluster, claims.clone(), "c", |c| phase_of_claim(c) == "Bound").await;
    until(&cluster, volumes.clone(), "v", |v| {
        held(&v.metadata, "kubernetes.io/pv-protection")
    })
    .await;
    let without = json!({"metadata": {"finalizers": null}});
    volumes.delete("v", &DeleteOptions::default()).await.unwrap();
    volumes.patch("v", Patch::Merge(without)).await.unwrap();
    let lost = until(&cluster, claims.clone(), "c", |c| phase_of_claim(c) == "Lost").await;
    assert!(lost.status.as_ref().unwrap().capacity.is_none());
    let events = cluster.client.namespaced::<Event>("default");
    until_event(&cluster, events, "ClaimLost").await;
    cluster.stop().await;
}

async fn until_event(cluster: &coracle_testkit::TestCluster, events: coracle_client::Api<Event>, reason: &str) {
    use coracle_client::{ListOptions, WatchEvent};
    use futures::StreamExt;
    let mut changes = events.watch(&ListOptions::default()).await.unwrap();
    let found = cluster.clock.timeout(std::time::Duration::from_secs(3600), async {
        while let Some(Ok(change)) = changes.next().await {
            if let WatchEvent::Added(event) | WatchEvent::Modified(event) = change
                && event.reason.as_deref() == Some(reason)
            {
                return;
            }
        }
        panic!("the watch ended");
    });
    found.await.expect(reason);
}

#[tokio::test(start_paused = true)]
async fn policies_that_nobody_can_carry_out_fail_with_an_event() {
    let cluster = cluster().await;
    let volumes = cluster.client.all::<PersistentVolume>();
    let claims = cluster.client.namespaced::<PersistentVolumeClaim>("default");
    for (policy, reason) in [("Recycle", "VolumeFailedRecycle"), ("Delete", "VolumeFailedDelete")] {
        let name = policy.to_lowercase();
        create::<PersistentVolume>(&cluster.client, pv(&name, "5Gi", policy)).await;
        create::<PersistentVolumeClaim>(&cluster.client, pvc(&name, Some(""))).await;
        until(&cluster, claims.clone(), &name, |c| phase_of_claim(c) == "Bound").await;
        claims.delete(&name, &DeleteOptions::default()).await.unwrap();
        let failed = until(&cluster, volumes.clone(), &name, |v| phase_of_volume(v) == "Failed").await;
        assert!(failed.status.as_ref().unwrap().message.is_some());
        until_event(&cluster, cluster.client.namespaced::<Event>("default"), reason).await;
    }
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_without_a_class_gets_the_default_one_when_there_is_one() {
    let cluster = cluster().await;
    let claims = cluster.client.namespaced::<PersistentVolumeClaim>("default");
    let classes = cluster.client.all::<StorageClass>();
    classes.delete("standard", &DeleteOptions::default()).await.unwrap();
    create::<PersistentVolumeClaim>(&cluster.client, pvc("c", None)).await;
    until(&cluster, claims.clone(), "c", |c| phase_of_claim(c) == "Pending").await;
    create::<StorageClass>(
        &cluster.client,
        json!({"metadata": {"name": "new", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "example.com/disk"}),
    )
    .await;
    let handed = until(&cluster, claims.clone(), "c", |c| {
        c.metadata
            .annotations
            .iter()
            .flatten()
            .any(|(k, _)| k == "volume.kubernetes.io/storage-provisioner")
    })
    .await;
    let spec = handed.spec.as_ref().unwrap();
    assert_eq!(spec.storage_class_name.as_deref(), Some("new"));
    // What the provisioner then makes is bound.
    let mut made = pv("made", "5Gi", "Delete");
    made["metadata"]["annotations"] = json!({"pv.kubernetes.io/provisioned-by": "example.com/disk"});
    made["spec"]["storageClassName"] = json!("new");
    made["spec"]["claimRef"] = json!({"namespace": "default", "name": "c", "uid": handed.metadata.uid});
    create::<PersistentVolume>(&cluster.client, made).await;
    let bound = until(&cluster, claims.clone(), "c", |c| phase_of_claim(c) == "Bound").await;
    assert_eq!(volume_of(&bound), "made");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_standard_class_gives_a_directory_of_the_selected_node_and_takes_it_back() {
    let cluster = cluster().await;
    let volumes = cluster.client.all::<PersistentVolume>();
    let claims = cluster.client.namespaced::<PersistentVolumeClaim>("default");
    create::<Node>(
        &cluster.client,
        json!({"metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "n1"},
            "annotations": {"coracle.dev/local-volumes": "/data/volumes"}}}),
    )
    .await;
    create::<PersistentVolumeClaim>(&cluster.client, pvc("c", Some("standard"))).await;
    until_event(
        &cluster,
        cluster.client.namespaced::<Event>("default"),
        "WaitForFirstConsumer",
    )
    .await;
    // The scheduler's part.
    let selected = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}}});
    claims.patch("c", Patch::Merge(selected)).await.unwrap();
    let claim = until(&cluster, claims.clone(), "c", |c| phase_of_claim(c) == "Bound").await;
    let name = format!("pvc-{}", claim.metadata.uid.as_deref().unwrap());
    assert_eq!(volume_of(&claim), name);
    let volume = volumes.get(&name).await.unwrap();
    let path = volume.spec.as_ref().unwrap().local.as_ref().unwrap().path.clone();
    assert_eq!(path, format!("/data/volumes/{name}"));

    claims.delete("c", &DeleteOptions::default()).await.unwrap();
    // Held for the node.
    until(&cluster, volumes.clone(), &name, |v| {
        let left: Vec<&str> = v.metadata.finalizers.iter().flatten().map(String::as_str).collect();
        v.metadata.deletion_timestamp.is_some() && left == ["coracle.dev/local-volume"]
    })
    .await;
    // A node that is gone cannot see to it.
    cluster
        .client
        .all::<Node>()
        .delete("n1", &DeleteOptions::default())
        .await
        .unwrap();
    until_gone(&cluster, volumes, &name).await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_without_local_volumes_is_taken_off_the_claim() {
    let cluster = cluster().await;
    let claims = cluster.client.namespaced::<PersistentVolumeClaim>("default");
    let labels = json!({"kubernetes.io/hostname": "n1"});
    create::<Node>(&cluster.client, json!({"metadata": {"name": "n1", "labels": labels}})).await;
    create::<PersistentVolumeClaim>(&cluster.client, pvc("c", Some("standard"))).await;
    let events = || cluster.client.namespaced::<Event>("default");
    until_event(&cluster, events(), "WaitForFirstConsumer").await;
    // Events of one instant about one object have one name.
    cluster.clock.sleep(std::time::Duration::from_secs(1)).await;
    let selected = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}}});
    claims.patch("c", Patch::Merge(selected.clone())).await.unwrap();
    until(&cluster, claims.clone(), "c", |c| {
        let annotations = c.metadata.annotations.as_ref();
        !annotations.is_some_and(|a| a.contains_key("volume.kubernetes.io/selected-node"))
    })
    .await;
    until_event(&cluster, events(), "ProvisioningFailed").await;

    // As soon as the node has a place for them it is as good as another.
    let told = json!({"metadata": {"annotations": {"coracle.dev/local-volumes": "/data/volumes"}}});
    let nodes = cluster.client.all::<Node>();
    nodes.patch("n1", Patch::Merge(told)).await.unwrap();
    claims.patch("c", Patch::Merge(selected)).await.unwrap();
    until(&cluster, claims, "c", |c| phase_of_claim(c) == "Bound").await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_the_standard_class_that_asks_for_more_gets_it() {
    let cluster = cluster().await;
    let claims = cluster.client.namespaced::<PersistentVolumeClaim>("default");
    create::<Node>(
        &cluster.client,
        json!({"metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "n1"},
            "annotations": {"coracle.dev/local-volumes": "/data/volumes"}}}),
    )
    .await;
    create::<PersistentVolumeClaim>(&cluster.client, pvc("c", Some("standard"))).await;
    let selected = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}}});
    claims.patch("c", Patch::Merge(selected)).await.unwrap();
    let claim = until(&cluster, claims.clone(), "c", |c| phase_of_claim(c) == "Bound").await;
    let more = json!({"spec": {"resources": {"requests": {"storage": "8Gi"}}}});
    claims.patch("c", Patch::Merge(more)).await.unwrap();
    until(&cluster, claims, "c", |c| {
        let capacity = c.status.as_ref().and_then(|s| s.capacity.as_ref());
        capacity.is_some_and(|c| c["storage"].0 == "8Gi")
    })
    .await;
    let volume = cluster
        .client
        .all::<PersistentVolume>()
        .get(volume_of(&claim))
        .await
        .unwrap();
    assert_eq!(
        volume.spec.as_ref().unwrap().capacity.as_ref().unwrap()["storage"].0,
        "8Gi"
    );
    until_event(
        &cluster,
        cluster.client.namespaced::<Event>("default"),
        "VolumeResizeSuccessful",
    )
    .await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_volume_has_a_claim_of_the_pods_which_is_protected_while_the_pod_has_a_node() {
    let cluster = cluster().await;
    let pods = cluster.client.namespaced::<Pod>("default");
    let claims = cluster.client.namespaced::<PersistentVolumeClaim>("default");
    create::<Node>(&cluster.client, json!({"metadata": {"name": "n1"}})).await;
    until(
        &cluster,
        cluster
            .client
            .namespaced::<k8s_openapi::api::core::v1::ServiceAccount>("default"),
        "default",
        |_| true,
    )
    .await;
    let pod = |name: &str, volume: Value| {
        json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"nodeName": "n1",
            "containers": [{"name": "c", "image": "i"}], "volumes": [volume]}})
    };
    let template = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let ephemeral = json!({"name": "v", "ephemeral": {"volumeClaimTemplate": template}});
    let owner = create::<Pod>(&cluster.client, pod("p", ephemeral)).await;
    let claim = until(&cluster, claims.clone(), "p-v", |c| {
        c.metadata.finalizers.as_ref().is_some_and(|f| !f.is_empty())
    })
    .await;
    let reference = &claim.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!(Some(&reference.uid), owner.metadata.uid.as_ref());

    create::<PersistentVolumeClaim>(&cluster.client, pvc("used", Some(""))).await;
    let named = json!({"name": "v", "persistentVolumeClaim": {"claimName": "used"}});
    create::<Pod>(&cluster.client, pod("q", named)).await;
    until(&cluster, claims.clone(), "used", |c| {
        c.metadata.finalizers.as_ref().is_some_and(|f| !f.is_empty())
    })
    .await;
    claims.delete("used", &DeleteOptions::default()).await.unwrap();
    assert!(claims.get("used").await.unwrap().metadata.deletion_timestamp.is_some());
    let now = DeleteOptions {
        grace_period_seconds: Some(0),
        ..DeleteOptions::default()
    };
    for name in ["q", "p"] {
        pods.delete(name, &now).await.unwrap();
    }
    until_gone(&cluster, claims.clone(), "used").await;
    // The collector deletes what the pod owned, and nothing holds it.
    until_gone(&cluster, claims, "p-v").await;
    cluster.stop().await;
}
