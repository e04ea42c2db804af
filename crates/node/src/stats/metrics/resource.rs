//! `/metrics/resource`: CPU, memory and swap of containers, pods and the node.

use super::{Text, seconds, since_epoch};
use crate::stats::sample::{ContainerUsage, PodUsage, Snapshot};

/// `/metrics/resource`
pub(in crate::stats) fn resource(snapshot: &Snapshot) -> String {
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
