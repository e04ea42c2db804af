//! `/metrics`: what the agent tells of itself.

use coracle_runtime::{ContainerState, ContainerStatus, SandboxState, SandboxStatus};

use super::{Text, seconds};
use crate::node_object::KUBELET_VERSION;
use crate::stats::machine::Process;

/// What the agent tells of itself.
pub(in crate::stats) struct AgentFacts {
    pub(in crate::stats) node: String,
    pub(in crate::stats) pods: usize,
    pub(in crate::stats) sandboxes: Vec<SandboxStatus>,
    pub(in crate::stats) containers: Vec<ContainerStatus>,
    pub(in crate::stats) process: Process,
    /// Pods with users of their own: how many were to be started, and how many were not.
    pub(in crate::stats) own_users: (u64, u64),
}

/// `/metrics`
pub(in crate::stats) fn agent(facts: &AgentFacts) -> String {
    let mut text = Text::default();
    let running = facts
        .sandboxes
        .iter()
        .filter(|s| s.state == SandboxState::Ready)
        .count();
    text.family(
        "kubelet_active_pods",
        "gauge",
        "The number of pods the kubelet considers active.",
    );
    text.sample("kubelet_active_pods", &[], facts.pods as f64, None);
    text.family("kubelet_node_name", "gauge", "The node's name. The count is always 1.");
    text.sample("kubelet_node_name", &[("node", &facts.node)], 1.0, None);
    text.family(
        "kubelet_running_containers",
        "gauge",
        "Number of containers currently running",
    );
    for (state, name) in [
        (ContainerState::Created, "created"),
        (ContainerState::Exited, "exited"),
        (ContainerState::Running, "running"),
    ] {
        let count = facts.containers.iter().filter(|c| c.state == state).count();
        text.sample(
            "kubelet_running_containers",
            &[("container_state", name)],
            count as f64,
            None,
        );
    }
    text.family(
        "kubelet_running_pods",
        "gauge",
        "Number of pods that have a running pod sandbox",
    );
    text.sample("kubelet_running_pods", &[], running as f64, None);
    let (tried, failed) = facts.own_users;
    for (name, help, count) in [
        (
            "kubelet_started_user_namespaced_pods_total",
            "Cumulative number of pods with user namespaces started.",
            tried,
        ),
        (
            "kubelet_started_user_namespaced_pods_errors_total",
            "Cumulative number of errors when starting pods with user namespaces.",
            failed,
        ),
    ] {
        text.family(name, "counter", help);
        text.sample(name, &[], count as f64, None);
    }
    text.family("kubernetes_build_info", "gauge", "The version that the node speaks.");
    text.sample("kubernetes_build_info", &[("git_version", KUBELET_VERSION)], 1.0, None);
    let process = &facts.process;
    for (name, kind, help, value) in [
        (
            "process_cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds.",
            seconds(process.cpu_ns),
        ),
        (
            "process_open_fds",
            "gauge",
            "Number of open file descriptors.",
            process.open_files as f64,
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory size in bytes.",
            process.rss as f64,
        ),
        (
            "process_start_time_seconds",
            "gauge",
            "Start time of the process since unix epoch in seconds.",
            process.started_at,
        ),
    ] {
        text.family(name, kind, help);
        text.sample(name, &[], value, None);
    }
    text.0
}
