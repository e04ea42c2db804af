//! Tables: what was granted, what runs, and what has to change.

use super::*;
use crate::pod::scripted::instance;

fn pod(resources: Value, policy: Value) -> Arc<Pod> {
    let pod = json!({"metadata": {"name": "p", "generation": 2}, "spec": {
        "containers": [{"name": "c", "resources": resources, "resizePolicy": policy}]}});
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn cpu_and_memory(cpu: &str, memory: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}})
}

fn running(pod: &Pod) -> BTreeMap<ContainerId, ContainerStatus> {
    let container = &pod.spec.as_ref().unwrap().containers[0];
    let instance = ContainerStatus {
        resources: resources::of_container(pod, container, 1 << 30),
        ..instance("c", 0, ContainerState::Running)
    };
    [(instance.id.clone(), instance)].into()
}

#[test]
fn a_container_changes_by_what_differs_and_restarts_only_if_its_policy_says_so() {
    let before = pod(cpu_and_memory("500m", "64Mi"), json!([]));
    let instances = running(&before);
    assert_eq!(changes(&before, &instances), []);
    let memory_restarts = json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"},
        {"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    for (cpu, memory, restart, shrinks) in [
        ("1", "64Mi", false, false),
        ("500m", "128Mi", true, false),
        ("500m", "32Mi", true, true),
        ("250m", "64Mi", false, false),
    ] {
        let after = pod(cpu_and_memory(cpu, memory), memory_restarts.clone());
        let [change] = changes(&after, &instances).try_into().unwrap();
        assert_eq!(
            (change.restart, change.shrinks_memory),
            (restart, shrinks),
            "{cpu} {memory}"
        );
        let wanted = resources::of_container(&after, &after.spec.as_ref().unwrap().containers[0], 1 << 30);
        assert_eq!(
            (change.to.cpu_shares, change.to.cpu_quota, change.to.memory_limit),
            (wanted.cpu_shares, wanted.cpu_quota, wanted.memory_limit)
        );
        assert_eq!(change.to.oom_score_adj, None, "a resize does not touch it");
    }
}

#[test]
fn what_was_granted_outlives_the_agent_and_hides_what_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let before = pod(cpu_and_memory("500m", "64Mi"), json!([]));
    assert_eq!(Granted::read(dir.path()), None);
    Granted::of(&before).write(dir.path()).unwrap();
    let granted = Granted::read(dir.path()).unwrap();
    let wanted = pod(cpu_and_memory("9", "64Mi"), json!([]));
    assert_eq!(*granted.apply(&wanted), *before);
    assert!(
        Arc::ptr_eq(&granted.apply(&before), &before),
        "nothing is copied for nothing"
    );
    let nothing = pod(json!({}), json!([]));
    let empty = tempfile::tempdir().unwrap();
    Granted::of(&nothing).write(empty.path()).unwrap();
    assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0);
}

#[test]
fn the_status_shows_what_the_runtime_has_until_it_has_what_was_granted() {
    let before = pod(cpu_and_memory("500m", "64Mi"), json!([]));
    let instances = running(&before);
    let instance = instances.values().next().unwrap();
    let of = |pod: &Pod| serde_json::to_value(shown(pod, &pod.spec.as_ref().unwrap().containers[0], instance)).unwrap();
    assert_eq!(of(&before), cpu_and_memory("500m", "64Mi"));
    let after = pod(cpu_and_memory("1", "128Mi"), json!([]));
    let expected = json!({"requests": {"cpu": "500m", "memory": "128Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}});
    assert_eq!(of(&after), expected);
}

#[test]
fn a_pod_s_own_limits_leave_room_for_both_while_its_containers_change() {
    let small = pod_limits(&pod(cpu_and_memory("500m", "128Mi"), json!([])));
    let large = pod_limits(&pod(cpu_and_memory("1", "64Mi"), json!([])));
    let both = roomiest(&small, &large);
    assert_eq!((both.cpu_quota, both.memory_limit), (Some(100_000), Some(128 << 20)));
    let free = pod_limits(&pod(json!({"requests": {"cpu": "1"}}), json!([])));
    assert_eq!(free.memory_limit, Some(-1));
    assert_eq!(roomiest(&free, &small).memory_limit, Some(-1));
}

#[test]
fn an_event_of_a_resize_tells_of_what() {
    let text = message("Pod resize started", &pod(cpu_and_memory("1", "64Mi"), json!([])), None);
    assert_eq!(
        text,
        "Pod resize started: {\"containers\":[{\"name\":\"c\",\"resources\":{\"limits\":{\"cpu\":\"1\",\"memory\":\"64Mi\"},\
         \"requests\":{\"cpu\":\"1\",\"memory\":\"64Mi\"}}}],\"generation\":2}"
    );
}
