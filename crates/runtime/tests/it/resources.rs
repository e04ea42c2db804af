//! Limits, usage, and the want of memory.

use coracle_runtime::{ContainerId, PodRuntime, Resources, SandboxId};

use crate::node::{Node, memory, over_both, shell, sleeper};

over_both! {
    limits_reach_the_container_and_the_pod_and_can_be_changed
    a_container_killed_for_want_of_memory_is_told_apart
    usage_is_measured_for_containers_and_pods
}

/// A pod of one container that sleeps, both with limits.
struct Limited {
    pod: SandboxId,
    id: ContainerId,
    /// The pod's control group, and the container's own.
    group: String,
    own: String,
}

impl Limited {
    async fn start(node: &Node<impl PodRuntime>, of_pod: Resources, of_container: Resources) -> Self {
        let mut config = node.sandbox_config("pod");
        config.resources = of_pod;
        let pod = node.engine.run_sandbox(config).await.unwrap().id;
        let mut container = sleeper();
        container.resources = of_container;
        let id = node.start(&pod, container).await;
        let group = format!("{}/pod", node.cgroup);
        let own = format!("{group}/{id}");
        Self { pod, id, group, own }
    }
}

async fn limits_reach_the_container_and_the_pod_and_can_be_changed(node: Node<impl PodRuntime>) {
    let of_pod = Resources {
        pids_limit: Some(200),
        ..memory(256 << 20)
    };
    let of_container = Resources {
        cpu_shares: Some(256),
        oom_score_adj: Some(500),
        ..memory(64 << 20)
    };
    let limited = Limited::start(&node, of_pod, of_container).await;
    let limit = |group: &str| node.cgroup_file("memory", group, "memory.limit_in_bytes");
    assert_eq!(
        (limit(&limited.group), limit(&limited.own)),
        ((256 << 20).to_string(), (64 << 20).to_string())
    );
    assert_eq!(node.cgroup_file("pids", &limited.group, "pids.max"), "200");
    assert_eq!(node.cgroup_file("cpu", &limited.own, "cpu.shares"), "256");
    assert_eq!(node.sh(&limited.id, "cat /proc/1/oom_score_adj").await, "500");

    let more = memory(96 << 20);
    node.engine.update_resources(&limited.id, more).await.unwrap();
    assert_eq!(limit(&limited.own), (96 << 20).to_string());
    let known = node.engine.container_status(&limited.id).await.unwrap().resources;
    assert_eq!((known.memory_limit, known.cpu_shares), (Some(96 << 20), Some(256)));
    let more = memory(300 << 20);
    node.engine.update_sandbox_resources(&limited.pod, more).await.unwrap();
    assert_eq!(limit(&limited.group), (300 << 20).to_string());
    node.finish().await;
}

#[tokio::test]
async fn quotas_and_numbers_of_processes_are_limited_and_the_container_sees_its_limits() {
    let node = Node::new().await;
    let of_pod = Resources {
        cpu_shares: Some(512),
        ..Resources::default()
    };
    let of_container = Resources {
        cpu_quota: Some(50_000),
        cpu_period: Some(100_000),
        pids_limit: Some(50),
        ..memory(64 << 20)
    };
    let limited = Limited::start(&node, of_pod, of_container).await;
    assert_eq!(node.cgroup_file("cpu", &limited.group, "cpu.shares"), "512");
    let quota = || node.cgroup_file("cpu", &limited.own, "cpu.cfs_quota_us");
    assert_eq!(quota(), "50000");
    assert_eq!(node.cgroup_file("pids", &limited.own, "pids.max"), "50");
    let seen = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes";
    assert_eq!(node.sh(&limited.id, seen).await, (64 << 20).to_string());

    let more = Resources {
        cpu_quota: Some(80_000),
        ..Resources::default()
    };
    node.engine.update_resources(&limited.id, more).await.unwrap();
    assert_eq!(quota(), "80000");
    let known = node.engine.container_status(&limited.id).await.unwrap().resources;
    assert_eq!((known.memory_limit, known.pids_limit), (Some(64 << 20), Some(50)));
    let pod_limit = Resources {
        pids_limit: Some(300),
        ..Resources::default()
    };
    node.engine
        .update_sandbox_resources(&limited.pod, pod_limit)
        .await
        .unwrap();
    assert_eq!(node.cgroup_file("pids", &limited.group, "pids.max"), "300");
    node.finish().await;
}

async fn a_container_killed_for_want_of_memory_is_told_apart(node: Node<impl PodRuntime>) {
    let pod = node.sandbox().await;
    let mut config = shell("x=0123456789; while :; do x=$x$x; done");
    config.resources = memory(16 << 20);
    let (status, _) = node.run(&pod, config).await;
    assert_eq!((status.exit_code, status.oom_killed), (Some(137), true));
    assert_eq!(status.reason.as_deref(), Some("OOMKilled"));
    node.finish().await;
}

async fn usage_is_measured_for_containers_and_pods(node: Node<impl PodRuntime>) {
    let pod = node.sandbox().await;
    let mut config = shell("i=0; while test $i -lt 20000; do i=$((i+1)); done; echo ready; sleep 1000");
    config.resources = memory(64 << 20);
    let id = node.start(&pod, config).await;
    crate::lifecycle::wait_for_log(&node, &id, "ready").await;
    let stats = node.engine.container_stats(&id).await.unwrap();
    assert!(
        stats.cpu_usage_ns > 1_000_000 && stats.memory_usage > 0 && stats.pids >= 1,
        "{stats:?}"
    );
    assert!(stats.memory_working_set <= stats.memory_usage);
    assert_eq!(stats.memory_limit, Some(64 << 20));
    let of_pod = node.engine.sandbox_stats(&pod).await.unwrap();
    assert!(of_pod.memory_usage >= stats.memory_rss && of_pod.cpu_usage_ns >= stats.cpu_usage_ns);
    node.finish().await;
}

#[tokio::test]
async fn what_a_container_has_written_is_measured() {
    let node = Node::new().await;
    let pod = node.sandbox().await;
    let id = node.start(&pod, sleeper()).await;
    node.sh(&id, "dd if=/dev/zero of=/data bs=1M count=3 2>/dev/null").await;
    let disk = node.engine.container_disk_usage(&id).await.unwrap();
    assert!(disk.bytes >= 3 << 20 && disk.bytes < 4 << 20, "{disk:?}");
    node.finish().await;
}
