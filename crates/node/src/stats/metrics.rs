//! Metrics in Prometheus' text format, by upstream's names. Pure.

use std::fmt::Write;

use coracle_clock::Timestamp;
use coracle_runtime::{ContainerState, ContainerStatus, SandboxState, SandboxStatus};

use super::machine::{Interface, Process};
use super::sample::{ContainerUsage, PodUsage, Snapshot};
use crate::node_object::KUBELET_VERSION;

type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Families of samples, written one after the other.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64, at: Option<Timestamp>) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{text}\"", if index == 0 { '{' } else { ',' });
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = write!(self.0, " {value}");
        if let Some(at) = at {
            let _ = write!(self.0, " {}", at.as_millisecond());
        }
        self.0.push('\n');
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

fn since_epoch(at: Timestamp) -> f64 {
    at.as_nanosecond() as f64 / 1e9
}

/// `/metrics/resource`
pub(super) fn resource(snapshot: &Snapshot) -> String {
    let mut text = Text::default();
    let node: [(&str, &str, &str, f64); 3] = [
        (
            "node_cpu_usage_seconds_total",
            "counter",
            "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
            seconds(snapshot.machine.cpu_ns),
        ),
        (
            "node_memory_working_set_bytes",
            "gauge",
            "[STABLE] Current working set of the node in bytes",
            snapshot.machine.working_set as f64,
        ),
        (
            "node_swap_usage_bytes",
            "gauge",
            "[ALPHA] Current swap usage of the node in bytes. Reported only on non-windows systems",
            snapshot.machine.swap as f64,
        ),
    ];
    type OfContainer = fn(&ContainerUsage) -> f64;
    let containers: [(&str, &str, &str, OfContainer); 4] = [
        (
            "container_cpu_usage_seconds_total",
            "counter",
            "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
            |c| seconds(c.stats.cpu_usage_ns),
        ),
        (
            "container_memory_working_set_bytes",
            "gauge",
            "[STABLE] Current working set of the container in bytes",
            |c| c.stats.memory_working_set as f64,
        ),
        (
            "container_start_time_seconds",
            "gauge",
            "[STABLE] Start time of the container since unix epoch in seconds",
            |c| since_epoch(c.started_at),
        ),
        (
            "container_swap_usage_bytes",
            "gauge",
            "[ALPHA] Current amount of the container swap usage in bytes. Reported only on non-windows systems",
            |c| c.stats.swap_usage as f64,
        ),
    ];
    type OfPod = fn(&PodUsage) -> f64;
    let pods: [(&str, &str, &str, OfPod); 3] = [
        (
            "pod_cpu_usage_seconds_total",
            "counter",
            "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
            |p| seconds(p.stats.cpu_usage_ns),
        ),
        (
            "pod_memory_working_set_bytes",
            "gauge",
            "[STABLE] Current working set of the pod in bytes",
            |p| p.stats.memory_working_set as f64,
        ),
        (
            "pod_swap_usage_bytes",
            "gauge",
            "[ALPHA] Current amount of the pod swap usage in bytes. Reported only on non-windows systems",
            |p| p.stats.swap_usage as f64,
        ),
    ];
    for (name, kind, help, value) in containers {
        text.family(name, kind, help);
        for pod in &snapshot.pods {
            for container in &pod.containers {
                let labels = [
                    ("container", container.name.as_str()),
                    ("namespace", pod.namespace.as_str()),
                    ("pod", pod.name.as_str()),
                ];
                // When it began does not change with the time of reading.
                let at = (name != "container_start_time_seconds").then_some(container.stats.at);
                text.sample(name, &labels, value(container), at);
            }
        }
    }
    for (name, kind, help, value) in node {
        text.family(name, kind, help);
        text.sample(name, &[], value, Some(snapshot.at));
    }
    for (name, kind, help, value) in pods {
        text.family(name, kind, help);
        for pod in &snapshot.pods {
            let labels = [("namespace", pod.namespace.as_str()), ("pod", pod.name.as_str())];
            text.sample(name, &labels, value(pod), Some(pod.stats.at));
        }
    }
    let name = "resource_scrape_error";
    text.family(
        name,
        "gauge",
        "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
    );
    text.sample(name, &[], 0.0, None);
    text.0
}

/// A row of `/metrics/cadvisor`: a container, a pod as a whole, or the machine.
struct Row<'a> {
    labels: Labels<'a>,
    at: Timestamp,
    started_at: Timestamp,
    cpu_ns: u64,
    memory: u64,
    working_set: u64,
    rss: u64,
    swap: u64,
    faults: [(&'static str, u64); 2],
    limit: u64,
    pids: Option<u64>,
    disk: Option<(u64, u64)>,
    cpu: [Option<f64>; 3],
}

fn rows<'a>(snapshot: &'a Snapshot, ids: &'a [(String, Vec<String>)]) -> Vec<Row<'a>> {
    let machine = &snapshot.machine;
    let mut rows = vec![Row {
        labels: labels("", "/", "", "", "", ""),
        at: snapshot.at,
        started_at: Timestamp::from_second(machine.booted_at).unwrap_or(snapshot.at),
        cpu_ns: machine.cpu_ns,
        memory: machine.memory,
        working_set: machine.working_set,
        rss: machine.rss,
        swap: machine.swap,
        faults: [
            ("pgfault", machine.page_faults),
            ("pgmajfault", machine.major_page_faults),
        ],
        limit: 0,
        pids: Some(snapshot.pids.1),
        disk: snapshot
            .disks
            .as_ref()
            .map(|d| (d.node.total.saturating_sub(d.node.available), d.node.total)),
        cpu: [None; 3],
    }];
    for (pod, (id, containers)) in snapshot.pods.iter().zip(ids) {
        let row = |labels, stats: &coracle_runtime::Stats, started_at| Row {
            labels,
            at: stats.at,
            started_at,
            cpu_ns: stats.cpu_usage_ns,
            memory: stats.memory_usage,
            working_set: stats.memory_working_set,
            rss: stats.memory_rss,
            swap: stats.swap_usage,
            faults: [("pgfault", stats.page_faults), ("pgmajfault", stats.major_page_faults)],
            limit: stats.memory_limit.unwrap_or(0),
            pids: Some(stats.pids),
            disk: None,
            cpu: [None; 3],
        };
        rows.push(row(
            labels("", id, "", "", &pod.namespace, &pod.name),
            &pod.stats,
            pod.started_at,
        ));
        for (container, id) in pod.containers.iter().zip(containers) {
            let labels = labels(
                &container.name,
                id,
                &container.image,
                &container.id,
                &pod.namespace,
                &pod.name,
            );
            rows.push(Row {
                disk: container
                    .rootfs
                    .map(|used| (used.bytes, snapshot.disks.as_ref().map_or(0, |d| d.image.total))),
                cpu: [
                    container.cpu_shares.map(|n| n as f64),
                    container.cpu_quota.map(|n| n as f64),
                    container.cpu_period.map(|n| n as f64),
                ],
                ..row(labels, &container.stats, container.started_at)
            });
        }
    }
    rows
}

fn labels<'a>(
    container: &'a str,
    id: &'a str,
    image: &'a str,
    name: &'a str,
    namespace: &'a str,
    pod: &'a str,
) -> Labels<'a> {
    vec![
        ("container", container),
        ("id", id),
        ("image", image),
        ("name", name),
        ("namespace", namespace),
        ("pod", pod),
    ]
}

/// `/metrics/cadvisor`
pub(super) fn cadvisor(snapshot: &Snapshot) -> String {
    let ids: Vec<(String, Vec<String>)> = snapshot
        .pods
        .iter()
        .map(|pod| {
            let own = format!("/kubepods/pod{}", pod.uid);
            let below = pod.containers.iter().map(|c| format!("{own}/{}", c.id)).collect();
            (own, below)
        })
        .collect();
    let rows = rows(snapshot, &ids);
    let mut text = Text::default();
    text.family(
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed in seconds.",
    );
    for row in &rows {
        // `cpu` has its place in the alphabet.
        let mut all = row.labels.clone();
        all.insert(1, ("cpu", "total"));
        text.sample(
            "container_cpu_usage_seconds_total",
            &all,
            seconds(row.cpu_ns),
            Some(row.at),
        );
    }
    type Value = fn(&Row<'_>) -> Option<f64>;
    let plain: [(&str, &str, &str, Value); 13] = [
        (
            "container_fs_limit_bytes",
            "gauge",
            "Number of bytes that can be consumed by the container on this filesystem.",
            |r| r.disk.map(|d| d.1 as f64),
        ),
        (
            "container_fs_usage_bytes",
            "gauge",
            "Number of bytes that are consumed by the container on this filesystem.",
            |r| r.disk.map(|d| d.0 as f64),
        ),
        (
            "container_last_seen",
            "gauge",
            "Last time a container was seen by the exporter",
            |r| Some(since_epoch(r.at).floor()),
        ),
        ("container_memory_rss", "gauge", "Size of RSS in bytes.", |r| {
            Some(r.rss as f64)
        }),
        (
            "container_memory_swap",
            "gauge",
            "Container swap usage in bytes.",
            |r| Some(r.swap as f64),
        ),
        (
            "container_memory_usage_bytes",
            "gauge",
            "Current memory usage in bytes, including all memory regardless of when it was accessed",
            |r| Some(r.memory as f64),
        ),
        (
            "container_memory_working_set_bytes",
            "gauge",
            "Current working set in bytes.",
            |r| Some(r.working_set as f64),
        ),
        (
            "container_processes",
            "gauge",
            "Number of processes running inside the container.",
            |r| r.pids.map(|n| n as f64),
        ),
        (
            "container_spec_cpu_period",
            "gauge",
            "CPU period of the container.",
            |r| r.cpu[2],
        ),
        (
            "container_spec_cpu_quota",
            "gauge",
            "CPU quota of the container.",
            |r| r.cpu[1],
        ),
        (
            "container_spec_cpu_shares",
            "gauge",
            "CPU share of the container.",
            |r| r.cpu[0],
        ),
        (
            "container_spec_memory_limit_bytes",
            "gauge",
            "Memory limit for the container.",
            |r| Some(r.limit as f64),
        ),
        (
            "container_start_time_seconds",
            "gauge",
            "Start time of the container since unix epoch in seconds.",
            |r| Some(since_epoch(r.started_at).floor()),
        ),
    ];
    for (name, kind, help, value) in plain {
        text.family(name, kind, help);
        for row in &rows {
            if let Some(value) = value(row) {
                text.sample(name, &row.labels, value, Some(row.at));
            }
        }
    }
    let name = "container_memory_failures_total";
    text.family(name, "counter", "Cumulative count of memory allocation failures.");
    for row in &rows {
        for (kind, count) in row.faults {
            let mut all = row.labels.clone();
            all.insert(1, ("failure_type", kind));
            all.push(("scope", "hierarchy"));
            text.sample(name, &all, count as f64, Some(row.at));
        }
    }
    network(&mut text, snapshot, &ids);
    for (name, help, value) in [
        (
            "machine_cpu_cores",
            "Number of logical CPU cores.",
            snapshot.cpus as f64,
        ),
        (
            "machine_memory_bytes",
            "Amount of memory installed on the machine.",
            snapshot.machine_memory as f64,
        ),
        (
            "container_scrape_error",
            "1 if there was an error while getting container metrics, 0 otherwise",
            0.0,
        ),
    ] {
        text.family(name, "gauge", help);
        text.sample(name, &[], value, None);
    }
    text.0
}

fn network(text: &mut Text, snapshot: &Snapshot, ids: &[(String, Vec<String>)]) {
    type Value = fn(&Interface) -> u64;
    let families: [(&str, &str, Value); 8] = [
        (
            "container_network_receive_bytes_total",
            "Cumulative count of bytes received",
            |i| i.received.bytes,
        ),
        (
            "container_network_receive_errors_total",
            "Cumulative count of errors encountered while receiving",
            |i| i.received.errors,
        ),
        (
            "container_network_receive_packets_dropped_total",
            "Cumulative count of packets dropped while receiving",
            |i| i.received.dropped,
        ),
        (
            "container_network_receive_packets_total",
            "Cumulative count of packets received",
            |i| i.received.packets,
        ),
        (
            "container_network_transmit_bytes_total",
            "Cumulative count of bytes transmitted",
            |i| i.sent.bytes,
        ),
        (
            "container_network_transmit_errors_total",
            "Cumulative count of errors encountered while transmitting",
            |i| i.sent.errors,
        ),
        (
            "container_network_transmit_packets_dropped_total",
            "Cumulative count of packets dropped while transmitting",
            |i| i.sent.dropped,
        ),
        (
            "container_network_transmit_packets_total",
            "Cumulative count of packets transmitted",
            |i| i.sent.packets,
        ),
    ];
    for (name, help, value) in families {
        text.family(name, "counter", help);
        let machine = snapshot
            .machine_interfaces
            .iter()
            .map(|i| (labels("", "/", "", "", "", ""), i, snapshot.at));
        let pods = snapshot.pods.iter().zip(ids).flat_map(|(pod, (id, _))| {
            let all = labels("", id, "", "", &pod.namespace, &pod.name);
            pod.interfaces.iter().map(move |i| (all.clone(), i, pod.stats.at))
        });
        for (mut all, interface, at) in machine.chain(pods) {
            all.insert(3, ("interface", &interface.name));
            text.sample(name, &all, value(interface) as f64, Some(at));
        }
    }
}

/// What the agent tells of itself.
pub(super) struct AgentFacts {
    pub(super) node: String,
    pub(super) pods: usize,
    pub(super) sandboxes: Vec<SandboxStatus>,
    pub(super) containers: Vec<ContainerStatus>,
    pub(super) process: Process,
}

/// `/metrics`
pub(super) fn agent(facts: &AgentFacts) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::machine::{MachineUsage, Traffic};
    use crate::stats::summary::summary;
    use coracle_runtime::{DiskUsage, Stats};

    fn snapshot() -> Snapshot {
        let at: Timestamp = "2026-01-01T00:00:10.5Z".parse().unwrap();
        let stats = Stats {
            at,
            cpu_usage_ns: 2_500_000_000,
            memory_usage: 3000,
            memory_working_set: 2000,
            memory_limit: Some(8000),
            pids: 4,
            ..Stats::default()
        };
        let container = ContainerUsage {
            id: "abc".into(),
            name: "c".into(),
            image: "i:\"1\"".into(),
            started_at: "2026-01-01T00:00:00Z".parse().unwrap(),
            stats: stats.clone(),
            cpu_rate: Some(250_000_000),
            cpu_shares: Some(512),
            cpu_quota: None,
            cpu_period: Some(100_000),
            rootfs: Some(DiskUsage { bytes: 10, inodes: 1 }),
            logs: Some(DiskUsage { bytes: 20, inodes: 2 }),
        };
        let pod = PodUsage {
            name: "p".into(),
            namespace: "n".into(),
            uid: "u".into(),
            started_at: container.started_at,
            stats,
            cpu_rate: Some(260_000_000),
            interfaces: vec![Interface {
                name: "eth0".into(),
                received: Traffic {
                    bytes: 7,
                    ..Traffic::default()
                },
                ..Interface::default()
            }],
            containers: vec![container],
            volumes: Vec::new(),
        };
        Snapshot {
            at,
            node: "n1".into(),
            cpus: 2,
            machine_memory: 1 << 30,
            machine: MachineUsage::default(),
            machine_cpu_rate: Some(5),
            machine_interfaces: Vec::new(),
            agent: Process::default(),
            agent_cpu_rate: None,
            pids: (100, 10),
            pods: vec![pod],
            disks: Some(super::super::sample::Disks {
                node: Default::default(),
                image: Default::default(),
                image_bytes: 5,
            }),
        }
    }

    #[test]
    fn resources_are_written_with_their_labels_and_times() {
        let text = resource(&snapshot());
        for line in [
            "container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"} 2.5 1767225610500",
            "container_start_time_seconds{container=\"c\",namespace=\"n\",pod=\"p\"} 1767225600",
            "pod_memory_working_set_bytes{namespace=\"n\",pod=\"p\"} 2000 1767225610500",
            "# TYPE node_cpu_usage_seconds_total counter",
            "resource_scrape_error 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn cadvisor_s_metrics_name_container_pod_and_interface() {
        let text = cadvisor(&snapshot());
        for line in [
            "container_cpu_usage_seconds_total{container=\"c\",cpu=\"total\",id=\"/kubepods/podu/abc\",\
             image=\"i:\\\"1\\\"\",name=\"abc\",namespace=\"n\",pod=\"p\"} 2.5 1767225610500",
            "container_network_receive_bytes_total{container=\"\",id=\"/kubepods/podu\",image=\"\",interface=\"eth0\",\
             name=\"\",namespace=\"n\",pod=\"p\"} 7 1767225610500",
            "machine_cpu_cores 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("container_spec_cpu_quota{"), "there is no quota");
    }

    #[test]
    fn the_summary_has_what_consumers_look_for() {
        let summary = summary(&snapshot());
        let pod = &summary["pods"][0];
        assert_eq!(pod["podRef"]["uid"], "u");
        assert_eq!(pod["containers"][0]["cpu"]["usageNanoCores"], 250_000_000);
        assert_eq!(pod["memory"]["availableBytes"], 6000);
        assert_eq!(pod["ephemeral-storage"]["usedBytes"], 30);
        assert_eq!(pod["network"]["rxBytes"], 7);
        assert_eq!(pod["startTime"], "2026-01-01T00:00:00Z");
        assert_eq!(summary["node"]["cpu"]["usageNanoCores"], 5);
    }
}
