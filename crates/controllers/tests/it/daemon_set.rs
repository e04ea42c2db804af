//! DaemonSet, as <https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/>,
//! <https://kubernetes.io/docs/tasks/manage-daemon/update-daemon-set/> and the fields' descriptions say.

use std::sync::Arc;
use std::time::Duration;

use coracle_client::{DeleteOptions, ListOptions, Patch, Propagation};
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use crate::world::{World, name, names, says, template, with};

fn set(spec: Value) -> Value {
    let base = json!({"selector": {"matchLabels": {"app": "agent"}}, "template": template("agent")});
    json!({"metadata": {"name": "agent"}, "spec": with(base, spec)})
}

fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

fn image_of(pod: &Pod) -> &str {
    pod.spec.as_ref().unwrap().containers[0].image.as_deref().unwrap()
}

/// The node that a daemon is meant for.
fn meant_for(pod: &Pod) -> String {
    let affinity = pod.spec.as_ref().unwrap().affinity.as_ref().unwrap();
    let required = affinity.node_affinity.as_ref().unwrap();
    let terms = &required
        .required_during_scheduling_ignored_during_execution
        .as_ref()
        .unwrap()
        .node_selector_terms;
    let field = &terms[0].match_fields.as_ref().unwrap()[0];
    assert_eq!((field.key.as_str(), field.operator.as_str()), ("metadata.name", "In"));
    field.values.as_ref().unwrap()[0].clone()
}

fn nodes_of(pods: &[Arc<Pod>]) -> Vec<String> {
    let mut nodes: Vec<String> = pods.iter().map(|p| meant_for(p)).collect();
    nodes.sort();
    nodes
}

impl World {
    async fn node(&self, name: &str, labels: Value) {
        self.make::<Node>(json!({"metadata": {"name": name, "labels": labels}}))
            .await;
    }

    async fn nodes(&self, count: usize) {
        for n in 1..=count {
            self.node(&format!("n{n}"), json!({})).await;
        }
    }

    async fn taint(&self, node: &str, effect: &str) {
        let taints = json!([{"key": "own", "effect": effect}]);
        self.merge::<Node>(node, json!({"spec": {"taints": taints}})).await;
    }

    /// Deletes the set without its pods.
    async fn orphan(&self) {
        let orphan = DeleteOptions {
            propagation: Some(Propagation::Orphan),
            ..DeleteOptions::default()
        };
        self.api::<DaemonSet>().delete("agent", &orphan).await.unwrap();
        self.until_gone::<DaemonSet>("agent").await;
    }

    async fn daemon_status(&self, wanted: Value) {
        self.settle().await;
        says(&self.get::<DaemonSet>("agent").await.status, wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_daemon_set_ensures_that_all_nodes_run_a_copy_of_a_pod_bound_by_the_scheduler() {
    let world = World::new().await;
    world.nodes(3).await;
    world.make::<DaemonSet>(set(json!({}))).await;
    let pods = world.pods("agent").await;
    assert_eq!(nodes_of(&pods), ["n1", "n2", "n3"]);
    assert!(pods.iter().all(|p| p.spec.as_ref().unwrap().node_name.is_none()));
    world
        .daemon_status(
            json!({"desiredNumberScheduled": 3, "currentNumberScheduled": 3, "numberMisscheduled": 0,
            "numberReady": 0, "numberUnavailable": 3, "numberAvailable": null, "updatedNumberScheduled": 3,
            "observedGeneration": 1}),
        )
        .await;
    world.ready(&pods).await;
    world
        .daemon_status(json!({"numberReady": 3, "numberAvailable": 3, "numberUnavailable": null}))
        .await;
    let events = world.events("agent").await;
    assert!(events["Normal SuccessfulCreate"].starts_with("Created pod: agent-"));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn as_nodes_are_added_pods_are_added_and_as_nodes_are_removed_those_pods_are_garbage_collected() {
    let world = World::new().await;
    world.nodes(1).await;
    world.make::<DaemonSet>(set(json!({}))).await;
    assert_eq!(nodes_of(&world.pods("agent").await), ["n1"]);
    world.node("n2", json!({})).await;
    assert_eq!(nodes_of(&world.pods("agent").await), ["n1", "n2"]);
    world.delete::<Node>("n1").await;
    world.pass(Duration::from_secs(60)).await;
    assert_eq!(nodes_of(&world.pods("agent").await), ["n2"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn if_node_labels_are_changed_pods_are_added_to_newly_matching_nodes_and_deleted_from_others() {
    let world = World::new().await;
    world.node("n1", json!({"disk": "ssd"})).await;
    world.node("n2", json!({})).await;
    let selector = json!({"template": {"spec": {"nodeSelector": {"disk": "ssd"}}}});
    world.make::<DaemonSet>(set(selector)).await;
    assert_eq!(nodes_of(&world.pods("agent").await), ["n1"]);
    world
        .merge::<Node>("n2", json!({"metadata": {"labels": {"disk": "ssd"}}}))
        .await;
    assert_eq!(nodes_of(&world.pods("agent").await), ["n1", "n2"]);
    world
        .merge::<Node>("n1", json!({"metadata": {"labels": {"disk": null}}}))
        .await;
    assert_eq!(nodes_of(&world.pods("agent").await), ["n2"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn required_node_affinity_chooses_the_nodes_and_preferred_does_not() {
    let world = World::new().await;
    world.node("n1", json!({"cpu": "8"})).await;
    world.node("n2", json!({"cpu": "2"})).await;
    let term = |operator: &str, value: &str| json!({"matchExpressions": [{"key": "cpu", "operator": operator, "values": [value]}]});
    let affinity = json!({"template": {"spec": {"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term("Gt", "4")]},
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": term("In", "2")}],
    }}}}});
    world.make::<DaemonSet>(set(affinity)).await;
    assert_eq!(nodes_of(&world.pods("agent").await), ["n1"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_affinity_to_the_node_takes_the_place_of_the_templates_which_stays_as_it_is() {
    let world = World::new().await;
    world.node("n1", json!({"kind": "big"})).await;
    let terms = json!([{"matchExpressions": [{"key": "kind", "operator": "In", "values": ["big"]}]}]);
    let affinity =
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}});
    world
        .make::<DaemonSet>(set(json!({"template": {"spec": {"affinity": affinity}}})))
        .await;
    assert_eq!(nodes_of(&world.pods("agent").await), ["n1"]);
    let found = world.get::<DaemonSet>("agent").await;
    says(&found.spec.template.spec, json!({"affinity": affinity}));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_set_of_tolerations_is_added_automatically() {
    let world = World::new().await;
    world.nodes(1).await;
    world
        .make::<DaemonSet>(set(json!({"template": {"spec": {"hostNetwork": true}}})))
        .await;
    let pod = world.pods("agent").await.remove(0);
    let tolerations = pod.spec.as_ref().unwrap().tolerations.clone().unwrap();
    for (key, effect) in [
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
        ("network-unavailable", "NoSchedule"),
    ] {
        let there = tolerations
            .iter()
            .find(|t| t.key == Some(format!("node.kubernetes.io/{key}")));
        let there = there.unwrap_or_else(|| panic!("{key}"));
        says(
            there,
            json!({"operator": "Exists", "effect": effect, "tolerationSeconds": null}),
        );
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_untolerated_no_schedule_taint_keeps_new_daemons_away_and_no_execute_takes_old_ones() {
    let world = World::new().await;
    world.nodes(2).await;
    world.taint("n2", "NoSchedule").await;
    world.make::<DaemonSet>(set(json!({}))).await;
    assert_eq!(nodes_of(&world.pods("agent").await), ["n1"]);
    world.daemon_status(json!({"desiredNumberScheduled": 1})).await;
    world.taint("n1", "NoSchedule").await;
    assert_eq!(nodes_of(&world.pods("agent").await), ["n1"]);
    world
        .daemon_status(json!({"desiredNumberScheduled": 0, "numberMisscheduled": 1, "currentNumberScheduled": 0}))
        .await;
    world.taint("n1", "NoExecute").await;
    assert!(world.pods("agent").await.is_empty());
    world.daemon_status(json!({"numberMisscheduled": 0})).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_daemon_is_killed_and_made_again_with_back_off() {
    let world = World::new().await;
    world.nodes(1).await;
    world.make::<DaemonSet>(set(json!({}))).await;
    let mut waits = Vec::new();
    for _ in 0..4 {
        let failing = name(&*world.pods("agent").await[0]);
        world.end(&failing, 1).await;
        let failed = world.cluster.clock.now();
        world.until_gone::<Pod>(&failing).await;
        waits.push(world.cluster.clock.now().duration_since(failed).as_secs());
        world
            .told(
                "agent",
                "Warning FailedDaemonPod",
                &format!("Found failed daemon pod default/{failing} on node n1, will try to kill it"),
            )
            .await;
    }
    // At once, then a second, two and four after the one before; the test itself takes some of it.
    assert!(waits[0] == 0 && waits.is_sorted(), "{waits:?}");
    assert_eq!(world.pods("agent").await.len(), 1);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_succeeded_daemon_is_deleted_and_made_again() {
    let world = World::new().await;
    world.nodes(1).await;
    world.make::<DaemonSet>(set(json!({}))).await;
    let first = name(&*world.pods("agent").await[0]);
    world.end(&first, 0).await;
    let pods = names(&world.pods("agent").await);
    assert!(pods.len() == 1 && pods[0] != first, "{pods:?}");
    let message = format!("Found succeeded daemon pod default/{first} on node n1, will try to delete it");
    world.told("agent", "Normal SucceededDaemonPod", &message).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn with_on_delete_new_pods_are_only_created_when_old_ones_are_deleted_by_hand() {
    let world = World::new().await;
    world.nodes(2).await;
    world
        .make::<DaemonSet>(set(json!({"updateStrategy": {"type": "OnDelete"}})))
        .await;
    let pods = world.pods("agent").await;
    world.ready(&pods).await;
    world.merge::<DaemonSet>("agent", image("v2")).await;
    let pods = world.pods("agent").await;
    assert!(pods.iter().all(|p| image_of(p) == "v1"));
    world
        .daemon_status(json!({"updatedNumberScheduled": null, "observedGeneration": 2}))
        .await;
    world.kill(&name(&*pods[0])).await;
    let pods = world.pods("agent").await;
    assert_eq!(pods.iter().filter(|p| image_of(p) == "v2").count(), 1);
    world.daemon_status(json!({"updatedNumberScheduled": 1})).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn with_rolling_update_at_most_one_pod_is_down_on_a_node_at_a_time_by_default() {
    let world = World::new().await;
    world.nodes(3).await;
    world.make::<DaemonSet>(set(json!({}))).await;
    let pods = world.pods("agent").await;
    world.ready(&pods).await;
    world.merge::<DaemonSet>("agent", image("v2")).await;
    for done in 1..=3 {
        let pods = world.pods("agent").await;
        let new: Vec<_> = pods.iter().filter(|p| image_of(p) == "v2").cloned().collect();
        assert_eq!((pods.len(), new.len()), (3, done));
        world.ready(&new).await;
    }
    world
        .daemon_status(json!({"updatedNumberScheduled": 3, "numberAvailable": 3}))
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn max_unavailable_is_a_number_or_a_share_rounded_up() {
    let world = World::new().await;
    world.nodes(5).await;
    let share = json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": "30%"}}});
    world.make::<DaemonSet>(set(share)).await;
    let pods = world.pods("agent").await;
    world.ready(&pods).await;
    world.merge::<DaemonSet>("agent", image("v2")).await;
    let pods = world.pods("agent").await;
    assert_eq!(pods.iter().filter(|p| image_of(p) == "v2").count(), 2);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_daemon_is_available_once_it_has_been_ready_for_min_ready_seconds_without_a_break() {
    for (seconds, passed, available) in [(0, 0, 2), (20, 15, 0), (20, 20, 2)] {
        let world = World::new().await;
        world.nodes(2).await;
        world.make::<DaemonSet>(set(json!({"minReadySeconds": seconds}))).await;
        let counted = |ready, available: u64| {
            let or_none = |n: u64| if n == 0 { Value::Null } else { n.into() };
            json!({"desiredNumberScheduled": 2, "numberReady": ready, "numberAvailable": or_none(available),
                "numberUnavailable": or_none(2 - available)})
        };
        world.daemon_status(counted(0, 0)).await;
        let pods = world.pods("agent").await;
        let since = world.cluster.clock.now();
        world.ready(&pods).await;
        let already = world.cluster.clock.now().duration_since(since).unsigned_abs();
        world.pass(Duration::from_secs(passed).saturating_sub(already)).await;
        world.daemon_status(counted(2, available)).await;
        // One that has been not ready meanwhile begins anew.
        world.run(&name(&*pods[0]), false).await;
        world.settle().await;
        world.run(&name(&*pods[0]), true).await;
        let again = if seconds == 0 { 2 } else { 1 };
        world.daemon_status(counted(2, again)).await;
        world.pass(Duration::from_secs(seconds)).await;
        world.daemon_status(counted(2, 2)).await;
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollout_waits_for_min_ready_seconds_before_the_next_node() {
    let world = World::new().await;
    world.nodes(2).await;
    world.make::<DaemonSet>(set(json!({"minReadySeconds": 20}))).await;
    world.ready(&world.pods("agent").await).await;
    world.pass(Duration::from_secs(20)).await;
    world.merge::<DaemonSet>("agent", image("v2")).await;
    let new = || async {
        let mut pods = world.pods("agent").await;
        pods.retain(|p| image_of(p) == "v2");
        pods
    };
    world.ready(&new().await).await;
    world.pass(Duration::from_secs(10)).await;
    assert_eq!(new().await.len(), 1);
    world.pass(Duration::from_secs(10)).await;
    assert_eq!(new().await.len(), 2);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn with_max_surge_the_old_pod_goes_when_its_successor_is_available() {
    let world = World::new().await;
    world.nodes(2).await;
    let surge =
        json!({"updateStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}, "minReadySeconds": 5});
    world.make::<DaemonSet>(set(surge)).await;
    let pods = world.pods("agent").await;
    world.ready(&pods).await;
    world.pass(Duration::from_secs(5)).await;
    world.merge::<DaemonSet>("agent", image("v2")).await;
    let pods = world.pods("agent").await;
    assert_eq!(pods.len(), 3);
    let new: Vec<_> = pods.iter().filter(|p| image_of(p) == "v2").cloned().collect();
    world.ready(&new).await;
    assert_eq!(world.pods("agent").await.len(), 3);
    world.pass(Duration::from_secs(5)).await;
    // The first node is done, and the second has its turn.
    let pods = world.pods("agent").await;
    assert_eq!(pods.iter().filter(|p| image_of(p) == "v2").count(), 2);
    assert_eq!(pods.iter().filter(|p| image_of(p) == "v1").count(), 1);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn each_template_is_a_controller_revision_and_a_rollback_makes_the_old_one_the_newest() {
    let world = World::new().await;
    world.nodes(1).await;
    world.make::<DaemonSet>(set(json!({}))).await;
    world.settle().await;
    world.merge::<DaemonSet>("agent", image("v2")).await;
    world.settle().await;
    let revisions = || async {
        let options = ListOptions {
            label_selector: "app=agent".into(),
            ..ListOptions::default()
        };
        let mut all = world.api::<ControllerRevision>().list(&options).await.unwrap().items;
        all.sort_by_key(|r| r.revision);
        all
    };
    let two = revisions().await;
    assert_eq!(two.iter().map(|r| r.revision.unwrap()).collect::<Vec<_>>(), [1, 2]);
    for revision in &two {
        let hash = &revision.metadata.labels.as_ref().unwrap()["controller-revision-hash"];
        assert_eq!(name(&**revision), format!("agent-{hash}"));
    }
    // What `kubectl rollout undo` sends.
    let undo = Patch::Strategic(two[0].data.0.clone());
    world.api::<DaemonSet>().patch("agent", undo).await.unwrap();
    world.settle().await;
    let after = revisions().await;
    assert_eq!(after.iter().map(|r| r.revision.unwrap()).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(name(&*after[1]), name(&*two[0]));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn revision_history_limit_counts_the_revisions_that_no_pod_is_of() {
    let world = World::new().await;
    world.nodes(1).await;
    world.make::<DaemonSet>(set(json!({"revisionHistoryLimit": 1}))).await;
    for next in ["v2", "v3", "v4"] {
        let pods = world.pods("agent").await;
        world.ready(&pods).await;
        world.merge::<DaemonSet>("agent", image(next)).await;
    }
    let pods = world.pods("agent").await;
    world.ready(&pods).await;
    let mut left: Vec<_> = world.list::<ControllerRevision>().await;
    left.sort_by_key(|r| r.revision);
    assert_eq!(left.iter().map(|r| r.revision.unwrap()).collect::<Vec<_>>(), [3, 4]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_matching_pod_on_a_node_is_adopted_and_no_second_one_is_made() {
    let world = World::new().await;
    world.nodes(1).await;
    let bare = json!({"metadata": {"name": "bare", "labels": {"app": "agent"}},
        "spec": with(template("agent")["spec"].clone(), json!({"nodeName": "n1"}))});
    world.make::<Pod>(bare).await;
    let strategy = json!({"updateStrategy": {"type": "OnDelete"}});
    world.make::<DaemonSet>(set(strategy)).await;
    assert_eq!(names(&world.pods("agent").await), ["bare"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn on_real_schedules_a_rollout_comes_to_every_node() {
    let world = World::with_nodes(5, "rules:\n- ready: 3s\n").await;
    world.make::<DaemonSet>(set(json!({}))).await;
    let ready = |d: &DaemonSet| d.status.as_ref().is_some_and(|s| s.number_available == Some(5));
    world.until::<DaemonSet>("agent", ready).await;
    world.merge::<DaemonSet>("agent", image("v2")).await;
    let updated = |d: &DaemonSet| {
        let status = d.status.as_ref().unwrap();
        status.observed_generation == Some(2) && status.updated_number_scheduled == Some(5) && ready(d)
    };
    world.until::<DaemonSet>("agent", updated).await;
    let pods = world.pods("agent").await;
    assert_eq!(nodes_of(&pods), ["fake-0", "fake-1", "fake-2", "fake-3", "fake-4"]);
    for pod in &pods {
        assert_eq!(pod.spec.as_ref().unwrap().node_name.as_ref(), Some(&meant_for(pod)));
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn daemons_that_run_on_nodes_that_are_not_ready_are_not_evicted() {
    let world = World::new().await;
    world.nodes(2).await;
    world.make::<DaemonSet>(set(json!({}))).await;
    assert_eq!(nodes_of(&world.pods("agent").await), ["n1", "n2"]);
    let now = world.cluster.clock.now();
    let not_ready = json!({"conditions": [{"type": "Ready", "status": "False", "lastHeartbeatTime": now, "lastTransitionTime": now}]});
    world.status::<Node>("n1", not_ready).await;
    world.settle().await;
    let tainted = world.get::<Node>("n1").await;
    assert!(!tainted.spec.as_ref().unwrap().taints.as_ref().unwrap().is_empty());
    world.pass(Duration::from_secs(900)).await;
    let pods = world.pods("agent").await;
    assert_eq!(nodes_of(&pods), ["n1", "n2"]);
    assert!(pods.iter().all(|p| p.metadata.deletion_timestamp.is_none()));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn daemons_are_made_on_cordoned_nodes() {
    let world = World::new().await;
    world.nodes(1).await;
    world
        .merge::<Node>("n1", json!({"spec": {"unschedulable": true}}))
        .await;
    world.make::<DaemonSet>(set(json!({}))).await;
    assert_eq!(nodes_of(&world.pods("agent").await), ["n1"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_changed_is_made_after_the_template_the_next_time_its_node_is_created() {
    let world = World::new().await;
    world.nodes(1).await;
    world.make::<DaemonSet>(set(json!({}))).await;
    let pods = names(&world.pods("agent").await);
    let image = json!({"spec": {"containers": [{"name": "c", "image": "mine"}]}});
    let patched = world.api::<Pod>().patch(&pods[0], Patch::Strategic(image)).await;
    patched.unwrap();
    world
        .merge::<Pod>(&pods[0], json!({"metadata": {"labels": {"own": "yes"}}}))
        .await;
    let kept = world.pods("agent").await;
    assert_eq!((names(&kept), image_of(&kept[0])), (pods.clone(), "mine"));
    world.delete::<Node>("n1").await;
    assert!(world.pods("agent").await.is_empty());
    world.nodes(1).await;
    let again = world.pods("agent").await;
    assert_eq!((again.len(), image_of(&again[0])), (1, "v1"));
    assert!(!again[0].metadata.labels.as_ref().unwrap().contains_key("own"));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn adopted_pods_of_another_template_are_replaced_as_the_update_strategy_says() {
    for (strategy, new) in [("OnDelete", 0), ("RollingUpdate", 1)] {
        let world = World::new().await;
        world.nodes(2).await;
        world.make::<DaemonSet>(set(json!({}))).await;
        world.ready(&world.pods("agent").await).await;
        world.orphan().await;
        let other = json!({"updateStrategy": {"type": strategy},
            "template": {"spec": {"containers": [{"name": "c", "image": "v2"}]}}});
        world.make::<DaemonSet>(set(other)).await;
        let pods = world.pods("agent").await;
        let updated = pods.iter().filter(|p| image_of(p) == "v2").count();
        assert_eq!((pods.len(), updated), (2, new), "{strategy}");
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn deleting_a_daemon_set_cleans_up_its_pods_and_orphaned_ones_are_adopted_by_a_new_one() {
    let world = World::new().await;
    world.nodes(2).await;
    world.make::<DaemonSet>(set(json!({}))).await;
    let before = names(&world.pods("agent").await);
    world.orphan().await;
    assert_eq!(names(&world.pods("agent").await), before);
    world.make::<DaemonSet>(set(json!({}))).await;
    assert_eq!(names(&world.pods("agent").await), before);
    world.delete::<DaemonSet>("agent").await;
    world.until_gone::<DaemonSet>("agent").await;
    assert!(world.pods("agent").await.is_empty());
    world.stop().await;
}
