//! Namespaces, service accounts, quotas, budgets and finished objects, as
//! <https://kubernetes.io/docs/tasks/run-application/configure-pdb/>,
//! <https://kubernetes.io/docs/concepts/workloads/pods/disruptions/>,
//! <https://kubernetes.io/docs/concepts/policy/resource-quotas/>,
//! <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/> and
//! <https://kubernetes.io/docs/tasks/administer-cluster/namespaces/> say.

use std::sync::Arc;
use std::time::Duration;

use coracle_client::{DeleteOptions, ListOptions};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, Node, Pod, ReplicationController, ResourceQuota, Secret, ServiceAccount,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};

use crate::harness::{from, until, until_gone};
use crate::world::{World, name, says, template, with};

fn budget(spec: Value) -> Value {
    json!({"metadata": {"name": "web"}, "spec": with(json!({"selector": {"matchLabels": {"app": "web"}}}), spec)})
}

fn deployment(replicas: i32) -> Value {
    json!({"metadata": {"name": "web"}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
        "template": template("web")}})
}

impl World {
    async fn budget_status(&self, wanted: Value) {
        self.settle().await;
        says(&self.get::<PodDisruptionBudget>("web").await.status, wanted);
    }

    async fn quota(&self, hard: Value) {
        self.make::<ResourceQuota>(json!({"metadata": {"name": "q"}, "spec": hard}))
            .await;
        self.settle().await;
    }

    async fn used(&self) -> Value {
        self.settle().await;
        let quota = self.get::<ResourceQuota>("q").await;
        serde_json::to_value(&quota.status.as_ref().unwrap().used).unwrap()
    }
}

fn allowed(status: &Value) -> Value {
    let truth = if status["disruptionsAllowed"] == 0 {
        "False"
    } else {
        "True"
    };
    let reason = if truth == "True" {
        "SufficientPods"
    } else {
        "InsufficientPods"
    };
    json!([{"type": "DisruptionAllowed", "status": truth, "reason": reason}])
}

#[tokio::test(start_paused = true)]
async fn a_budget_by_max_unavailable_is_counted_from_the_scale_of_the_pods_controllers() {
    let world = World::new().await;
    world.make::<Deployment>(deployment(5)).await;
    world
        .make::<PodDisruptionBudget>(budget(json!({"maxUnavailable": 2})))
        .await;
    let pods = world.pods("web").await;
    world
        .budget_status(
            json!({"expectedPods": 5, "desiredHealthy": 3, "currentHealthy": 0, "disruptionsAllowed": 0,
            "observedGeneration": 1}),
        )
        .await;
    world.ready(&pods).await;
    world
        .budget_status(json!({"currentHealthy": 5, "disruptionsAllowed": 2}))
        .await;
    world.run(&name(&*pods[0]), false).await;
    world
        .budget_status(json!({"currentHealthy": 4, "disruptionsAllowed": 1}))
        .await;
    world.run(&name(&*pods[1]), false).await;
    world.settle().await;
    let found = world.get::<PodDisruptionBudget>("web").await;
    let status = serde_json::to_value(&found.status).unwrap();
    assert_eq!(status["disruptionsAllowed"], 0);
    let condition = &found.status.as_ref().unwrap().conditions.as_ref().unwrap()[0];
    says(condition, allowed(&status)[0].clone());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_budget_by_max_unavailable_follows_the_number_of_replicas() {
    let world = World::new().await;
    world.make::<Deployment>(deployment(3)).await;
    world
        .make::<PodDisruptionBudget>(budget(json!({"maxUnavailable": 1})))
        .await;
    world
        .budget_status(json!({"expectedPods": 3, "desiredHealthy": 2}))
        .await;
    world.merge::<Deployment>("web", json!({"spec": {"replicas": 5}})).await;
    world
        .budget_status(json!({"expectedPods": 5, "desiredHealthy": 4}))
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_custom_controller_with_a_scale_may_have_a_budget_by_a_share() {
    let world = World::new().await;
    let scale = json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"});
    let replicas = json!({"type": "object", "properties": {"replicas": {"type": "integer"}}});
    let gears = world
        .define_gears(json!({"subresources": {"scale": scale},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": replicas, "status": replicas}}}}))
        .await;
    let gear =
        json!({"apiVersion": "example.org/v1", "kind": "Gear", "metadata": {"name": "web"}, "spec": {"replicas": 4}});
    let made = gears.create(&from(gear)).await.unwrap();
    let owner = json!({"apiVersion": "example.org/v1", "kind": "Gear", "name": "web", "uid": made.metadata.uid,
        "controller": true});
    for n in 0..3 {
        let meta = json!({"name": format!("web-{n}"), "labels": {"app": "web"}, "ownerReferences": [owner]});
        world
            .make::<Pod>(json!({"metadata": meta, "spec": template("web")["spec"]}))
            .await;
    }
    world.ready(&world.pods("web").await).await;
    world
        .make::<PodDisruptionBudget>(budget(json!({"maxUnavailable": "50%"})))
        .await;
    world
        .budget_status(json!({"expectedPods": 4, "desiredHealthy": 2, "currentHealthy": 3, "disruptionsAllowed": 1}))
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_percentage_is_rounded_up_to_the_next_pod() {
    for (spec, desired) in [
        (json!({"minAvailable": "50%"}), 4),
        (json!({"maxUnavailable": "30%"}), 4),
        (json!({"minAvailable": 2}), 2),
        (json!({"maxUnavailable": 0}), 7),
    ] {
        let world = World::new().await;
        let set = json!({"metadata": {"name": "web"}, "spec": {"replicas": 7, "serviceName": "web",
            "podManagementPolicy": "Parallel", "selector": {"matchLabels": {"app": "web"}}, "template": template("web")}});
        world.make::<StatefulSet>(set).await;
        world.make::<PodDisruptionBudget>(budget(spec.clone())).await;
        let pods = world.pods("web").await;
        world.ready(&pods).await;
        world
            .budget_status(json!({"expectedPods": 7, "desiredHealthy": desired, "disruptionsAllowed": 7 - desired}))
            .await;
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn pods_without_a_controller_can_only_have_a_budget_by_a_number_of_available_pods() {
    let world = World::new().await;
    for n in 0..3 {
        let pod = json!({"metadata": {"name": format!("web-{n}"), "labels": {"app": "web"}}, "spec": template("web")["spec"]});
        world.make::<Pod>(pod).await;
    }
    let pods = world.pods("web").await;
    world.ready(&pods).await;
    world
        .make::<PodDisruptionBudget>(budget(json!({"minAvailable": 2})))
        .await;
    world
        .budget_status(json!({"expectedPods": 3, "desiredHealthy": 2, "disruptionsAllowed": 1}))
        .await;
    world.delete::<PodDisruptionBudget>("web").await;
    world
        .make::<PodDisruptionBudget>(budget(json!({"maxUnavailable": 1})))
        .await;
    world.settle().await;
    let message = "Pods selected by this PodDisruptionBudget (selector: &LabelSelector{MatchLabels:map[string]string\
        {app: web,},MatchExpressions:[]LabelSelectorRequirement{},}) were found to be unmanaged. As a result, the status of \
        the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please \
        set \".spec.minAvailable\" field of the PDB to an integer value.";
    world.told("web", "Warning UnmanagedPods", message).await;
    world
        .budget_status(json!({"expectedPods": 0, "desiredHealthy": 0, "currentHealthy": 3, "disruptionsAllowed": 0}))
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_selector_may_be_a_superset_of_the_pods_of_several_controllers_whose_replicas_are_summed() {
    let world = World::new().await;
    world.make::<Deployment>(deployment(3)).await;
    let controller = json!({"metadata": {"name": "more"}, "spec": {"replicas": 2, "selector": {"app": "web", "more": "yes"},
        "template": with(template("web"), json!({"metadata": {"labels": {"more": "yes"}}}))}});
    world.make::<ReplicationController>(controller).await;
    world
        .make::<PodDisruptionBudget>(budget(json!({"maxUnavailable": "20%"})))
        .await;
    let pods = world.pods("web").await;
    world.ready(&pods).await;
    world
        .budget_status(json!({"expectedPods": 5, "desiredHealthy": 4, "currentHealthy": 5, "disruptionsAllowed": 1}))
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_controller_without_a_scale_can_only_have_a_budget_by_a_number_of_available_pods() {
    let gear = json!([{"apiVersion": "example.org/v1", "kind": "Gear", "name": "g", "uid": "u", "controller": true}]);
    for (owned_by_job, why) in [
        (true, "jobs.batch does not implement the scale subresource"),
        (false, "no matches for kind \"Gear\" in version \"example.org/v1\""),
    ] {
        let world = World::new().await;
        let spec = with(template("web")["spec"].clone(), json!({"restartPolicy": "Never"}));
        if owned_by_job {
            let template = with(template("web"), json!({"spec": spec}));
            world
                .make::<Job>(json!({"metadata": {"name": "j"}, "spec": {"template": template}}))
                .await;
        } else {
            let meta = json!({"name": "web-0", "labels": {"app": "web"}, "ownerReferences": gear});
            world.make::<Pod>(json!({"metadata": meta, "spec": spec})).await;
        }
        let pods = world.pods("web").await;
        world.ready(&pods).await;
        world
            .make::<PodDisruptionBudget>(budget(json!({"maxUnavailable": 1})))
            .await;
        let message = format!("Failed to calculate the number of expected pods: {why}");
        world
            .told("web", "Warning CalculateExpectedPodCountFailed", &message)
            .await;
        let found = world.get::<PodDisruptionBudget>("web").await;
        let status = found.status.as_ref().unwrap();
        assert_eq!(status.disruptions_allowed, Some(0));
        says(
            &status.conditions.as_ref().unwrap()[0],
            json!({"type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "message": why}),
        );
        world
            .merge::<PodDisruptionBudget>("web", json!({"spec": {"maxUnavailable": null, "minAvailable": 0}}))
            .await;
        world
            .budget_status(
                json!({"expectedPods": 1, "desiredHealthy": 0, "currentHealthy": 1, "disruptionsAllowed": 1}),
            )
            .await;
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_selects_nothing_says_no_pods() {
    let world = World::new().await;
    world
        .make::<PodDisruptionBudget>(budget(json!({"minAvailable": 1})))
        .await;
    world
        .budget_status(json!({"expectedPods": 0, "currentHealthy": 0, "disruptionsAllowed": 0}))
        .await;
    world.told("web", "Normal NoPods", "No matching pods found").await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_a_rolling_update_takes_count_against_the_budget_but_the_update_is_not_limited_by_it() {
    let world = World::with_nodes(2, "rules:\n- ready: 5s\n").await;
    let one_by_one = json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}}});
    world.make::<Deployment>(with(deployment(3), one_by_one)).await;
    world
        .make::<PodDisruptionBudget>(budget(json!({"minAvailable": 3})))
        .await;
    let healthy = |b: &PodDisruptionBudget| b.status.as_ref().and_then(|s| s.current_healthy);
    world
        .until::<PodDisruptionBudget>("web", |b| healthy(b) == Some(3))
        .await;
    let changed = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "v2"}]}}}});
    world.merge::<Deployment>("web", changed).await;
    world
        .until::<PodDisruptionBudget>("web", |b| healthy(b) == Some(2))
        .await;
    world
        .until::<Deployment>("web", |d| {
            let status = d.status.as_ref().unwrap();
            status.updated_replicas == Some(3) && status.available_replicas == Some(3)
        })
        .await;
    world
        .budget_status(json!({"currentHealthy": 3, "disruptionsAllowed": 0}))
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn deleting_deployments_or_pods_bypasses_budgets() {
    let world = World::with_nodes(1, "").await;
    world.make::<Deployment>(deployment(2)).await;
    world
        .make::<PodDisruptionBudget>(budget(json!({"maxUnavailable": 0})))
        .await;
    let pods = world.pods("web").await;
    world
        .budget_status(json!({"currentHealthy": 2, "disruptionsAllowed": 0}))
        .await;
    let first = name(&*pods[0]);
    let refused = world.api::<Pod>().evict(&first, &DeleteOptions::default()).await;
    assert!(refused.unwrap_err().is_too_many_requests());
    world.delete::<Pod>(&first).await;
    world.until_gone::<Pod>(&first).await;
    world.delete::<Deployment>("web").await;
    world.settle().await;
    world.pass(Duration::from_secs(60)).await;
    assert!(world.pods("web").await.is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nodes_are_drained_one_after_the_other_as_fast_as_the_budget_allows() {
    let world = World::with_nodes(3, "rules:\n- ready: 20s\n").await;
    world.make::<Deployment>(deployment(3)).await;
    world
        .make::<PodDisruptionBudget>(budget(json!({"minAvailable": 2})))
        .await;
    let alone = json!({"metadata": {"name": "x"}, "spec": template("x")["spec"]});
    world.make::<Pod>(alone).await;
    world.pass(Duration::from_secs(60)).await;
    let evict = async |pod: &str| world.api::<Pod>().evict(pod, &DeleteOptions::default()).await;
    let (all, on) = (world.active("web").await, |p: &Pod| {
        p.spec.as_ref().unwrap().node_name.clone().unwrap()
    });
    assert_eq!(all.len(), 3);
    let (first, second) = (&all[0], &all[1]);
    let cordoned = json!({"spec": {"unschedulable": true}});
    world.merge::<Node>(&on(first), cordoned.clone()).await;
    // One may go, and so may a pod that has no budget.
    evict(&name(&**first)).await.unwrap();
    evict("x").await.unwrap();
    // Its replacement starts on another node; until it is available the next drain is blocked.
    world.pass(Duration::from_secs(10)).await;
    let now = world.active("web").await;
    let is_new = |p: &&Arc<Pod>| all.iter().all(|old| old.metadata.uid != p.metadata.uid);
    let fourth = now.iter().find(is_new).unwrap();
    assert_ne!(on(fourth), on(first));
    assert!(evict(&name(&**second)).await.unwrap_err().is_too_many_requests());
    world.pass(Duration::from_secs(30)).await;
    world
        .budget_status(json!({"currentHealthy": 3, "disruptionsAllowed": 1}))
        .await;
    // Of the two that are there now one may go, and not the other.
    evict(&name(&**second)).await.unwrap();
    assert!(evict(&name(&**fourth)).await.unwrap_err().is_too_many_requests());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_quota_counts_objects_and_what_pods_request_and_forgets_what_is_gone() {
    let world = World::new().await;
    world
        .quota(
            json!({"hard": {"pods": "4", "requests.cpu": "2", "limits.memory": "1Gi", "configmaps": "10",
            "count/replicasets.apps": "5"}}),
        )
        .await;
    let maps = world.list::<ConfigMap>().await.len();
    says(
        &world.used().await,
        json!({"pods": "0", "requests.cpu": "0", "limits.memory": "0", "configmaps": maps.to_string(),
            "count/replicasets.apps": "0"}),
    );
    let resources = json!({"requests": {"cpu": "250m"}, "limits": {"memory": "128Mi"}});
    let mut pod = template("web");
    pod["spec"]["containers"][0]["resources"] = resources;
    let set = json!({"metadata": {"name": "web"}, "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}},
        "template": pod}});
    world.make::<ReplicaSet>(set).await;
    let pods = world.pods("web").await;
    says(
        &world.used().await,
        json!({"pods": "2", "requests.cpu": "500m", "limits.memory": "256Mi", "count/replicasets.apps": "1"}),
    );
    // One that has ended uses nothing.
    world.merge::<ReplicaSet>("web", json!({"spec": {"replicas": 1}})).await;
    world.end(&name(&*pods[0]), 0).await;
    world.end(&name(&*pods[1]), 0).await;
    world.settle().await;
    says(&world.used().await, json!({"pods": "1", "requests.cpu": "250m"}));
    world.delete::<ReplicaSet>("web").await;
    world.until_gone::<ReplicaSet>("web").await;
    world.settle().await;
    says(
        &world.used().await,
        json!({"pods": "0", "requests.cpu": "0", "count/replicasets.apps": "0"}),
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_quota_with_scopes_counts_only_pods_in_them() {
    let world = World::new().await;
    world
        .quota(json!({"hard": {"pods": "4"}, "scopes": ["BestEffort"]}))
        .await;
    for (pod, resources) in [("best", json!({})), ("other", json!({"requests": {"cpu": "1"}}))] {
        let mut spec = template("web")["spec"].clone();
        spec["containers"][0]["resources"] = resources;
        world
            .make::<Pod>(json!({"metadata": {"name": pod}, "spec": spec}))
            .await;
    }
    says(&world.used().await, json!({"pods": "1"}));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_quota_whose_limits_change_shows_the_new_ones() {
    let world = World::new().await;
    world.quota(json!({"hard": {"pods": "4", "secrets": "5"}})).await;
    world
        .merge::<ResourceQuota>("q", json!({"spec": {"hard": {"pods": "8", "secrets": null}}}))
        .await;
    world.settle().await;
    let status = world.get::<ResourceQuota>("q").await.status.clone().unwrap();
    assert_eq!(
        serde_json::to_value(status).unwrap(),
        json!({"hard": {"pods": "8"}, "used": {"pods": "0"}})
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn every_namespace_has_a_default_service_account_and_the_root_certificate_whatever_happens_to_them() {
    let world = World::new().await;
    world.make::<Namespace>(json!({"metadata": {"name": "new"}})).await;
    let client = &world.cluster.client;
    let accounts = client.namespaced::<ServiceAccount>("new");
    let maps = client.namespaced::<ConfigMap>("new");
    let first = until(&world.cluster, accounts.clone(), "default", |_| true).await;
    let certificate = until(&world.cluster, maps.clone(), "kube-root-ca.crt", |_| true).await;
    assert!(certificate.data.as_ref().unwrap()["ca.crt"].starts_with("-----BEGIN CERTIFICATE-----"));
    accounts.delete("default", &Default::default()).await.unwrap();
    until(&world.cluster, accounts, "default", |a| {
        a.metadata.uid != first.metadata.uid
    })
    .await;
    let forged = coracle_client::Patch::Merge(json!({"data": {"ca.crt": "forged"}}));
    maps.patch("kube-root-ca.crt", forged).await.unwrap();
    until(&world.cluster, maps.clone(), "kube-root-ca.crt", |m| {
        m.data == certificate.data
    })
    .await;
    maps.delete("kube-root-ca.crt", &Default::default()).await.unwrap();
    until(&world.cluster, maps, "kube-root-ca.crt", |m| m.data == certificate.data).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_of_type_service_account_token_is_filled_and_goes_with_its_account() {
    let world = World::new().await;
    let account = world
        .make::<ServiceAccount>(json!({"metadata": {"name": "robot"}}))
        .await;
    let secret = |name: &str, account: &str| {
        json!({"metadata": {"name": name, "annotations": {"kubernetes.io/service-account.name": account}},
            "type": "kubernetes.io/service-account-token"})
    };
    world.make::<Secret>(secret("token", "robot")).await;
    let filled = world
        .until::<Secret>("token", |s| s.data.as_ref().is_some_and(|d| d.contains_key("token")))
        .await;
    let data = filled.data.as_ref().unwrap();
    assert_eq!(data["namespace"].0, b"default");
    assert!(data["ca.crt"].0.starts_with(b"-----BEGIN CERTIFICATE-----"));
    assert_eq!(
        filled.metadata.annotations.as_ref().unwrap()["kubernetes.io/service-account.uid"],
        *account.metadata.uid.as_ref().unwrap()
    );
    world.delete::<ServiceAccount>("robot").await;
    world.until_gone::<Secret>("token").await;
    world.make::<Secret>(secret("stray", "nobody")).await;
    world.until_gone::<Secret>("stray").await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_deleted_says_what_is_left_in_it_and_waits_for_finalizers() {
    let world = World::new().await;
    world.make::<Namespace>(json!({"metadata": {"name": "old"}})).await;
    let client = &world.cluster.client;
    let maps = client.namespaced::<ConfigMap>("old");
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]}});
    maps.create(&crate::harness::from(held)).await.unwrap();
    world.settle().await;
    world.delete::<Namespace>("old").await;
    world.settle().await;
    let found = world.get::<Namespace>("old").await;
    let status = found.status.as_ref().unwrap();
    assert_eq!(status.phase.as_deref(), Some("Terminating"));
    for (kind, truth, reason, message) in [
        (
            "NamespaceDeletionDiscoveryFailure",
            "False",
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            "False",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        (
            "NamespaceDeletionContentFailure",
            "False",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        (
            "NamespaceContentRemaining",
            "True",
            "SomeResourcesRemain",
            "Some resources are remaining: configmaps. has 1 resource instances",
        ),
        (
            "NamespaceFinalizersRemaining",
            "True",
            "SomeFinalizersRemain",
            "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances",
        ),
    ] {
        let condition = status.conditions.as_ref().unwrap().iter().find(|c| c.type_ == kind);
        says(
            condition.unwrap(),
            json!({"status": truth, "reason": reason, "message": message}),
        );
    }
    let release = coracle_client::Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("held", release).await.unwrap();
    world.until_gone::<Namespace>("old").await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn controllers_make_nothing_in_a_namespace_that_is_going_and_do_not_complain() {
    let world = World::new().await;
    world.make::<Namespace>(json!({"metadata": {"name": "old"}})).await;
    let client = &world.cluster.client;
    until(
        &world.cluster,
        client.namespaced::<ServiceAccount>("old"),
        "default",
        |_| true,
    )
    .await;
    let mut held = deployment(2);
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let deployments = client.namespaced::<Deployment>("old");
    deployments.create(&crate::harness::from(held)).await.unwrap();
    let pods = client.namespaced::<Pod>("old");
    world.settle().await;
    assert_eq!(pods.list(&ListOptions::default()).await.unwrap().items.len(), 2);
    world.delete::<Namespace>("old").await;
    world.pass(Duration::from_secs(60)).await;
    assert!(pods.list(&ListOptions::default()).await.unwrap().items.is_empty());
    let events = client.namespaced::<k8s_openapi::api::core::v1::Event>("old");
    let events: Vec<Arc<_>> = events.list(&ListOptions::default()).await.unwrap().items;
    assert!(events.iter().all(|e| e.reason.as_deref() != Some("FailedCreate")));
    let release = coracle_client::Patch::Merge(json!({"metadata": {"finalizers": null}}));
    deployments.patch("web", release).await.unwrap();
    until_gone(&world.cluster, client.all::<Namespace>(), "old").await;
    world.stop().await;
}
