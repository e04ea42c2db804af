//! Metrics in Prometheus' text format, by upstream's names. Pure.

mod agent;
mod cadvisor;
mod resource;

use std::fmt::Write;

use coracle_clock::Timestamp;

pub(super) use agent::{AgentFacts, agent};
pub(super) use cadvisor::cadvisor;
pub(super) use resource::resource;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::machine::{Interface, MachineUsage, Process, Traffic};
    use crate::stats::sample::{ContainerUsage, Disks, PodUsage, Snapshot};
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
            disks: Some(Disks {
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

    /// concepts/workloads/pods/user-namespaces: metrics and observability.
    #[test]
    fn the_kubelet_exports_two_metrics_specific_to_user_namespaces() {
        let text = agent(&AgentFacts {
            node: "n1".into(),
            pods: 1,
            sandboxes: Vec::new(),
            containers: Vec::new(),
            process: Process::default(),
            own_users: (3, 1),
        });
        for line in [
            "kubelet_started_user_namespaced_pods_total 3",
            "kubelet_started_user_namespaced_pods_errors_total 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
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
