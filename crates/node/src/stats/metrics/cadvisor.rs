//! `/metrics/cadvisor`: containers, pods and the machine in more detail, network and disk too.

use coracle_clock::Timestamp;

use super::{Text, seconds, since_epoch};
use crate::stats::machine::Interface;
use crate::stats::sample::Snapshot;

type Labels<'a> = Vec<(&'static str, &'a str)>;

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
pub(in crate::stats) fn cadvisor(snapshot: &Snapshot) -> String {
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
