//! `/stats/summary` in the form of `stats/v1alpha1`. Pure.

use coracle_clock::Timestamp;
use coracle_runtime::{DiskUsage, Stats};
use serde_json::{Map, Value, json};

use super::machine::Interface;
use super::sample::{ContainerUsage, Disks, PodUsage, Snapshot};
use crate::machine::Disk;

pub(super) fn summary(snapshot: &Snapshot) -> Value {
    let pods: Vec<Value> = snapshot.pods.iter().map(|p| pod(p, snapshot)).collect();
    json!({"node": node(snapshot), "pods": pods})
}

/// Seconds are enough for a time here.
fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn cpu(at: Timestamp, total: u64, rate: Option<u64>) -> Value {
    let mut cpu = json!({"time": time(at), "usageCoreNanoSeconds": total});
    if let Some(rate) = rate {
        cpu["usageNanoCores"] = rate.into();
    }
    cpu
}

fn memory(stats: &Stats) -> Value {
    let mut memory = json!({
        "time": time(stats.at),
        "usageBytes": stats.memory_usage,
        "workingSetBytes": stats.memory_working_set,
        "rssBytes": stats.memory_rss,
        "pageFaults": stats.page_faults,
        "majorPageFaults": stats.major_page_faults,
    });
    if let Some(limit) = stats.memory_limit {
        memory["availableBytes"] = limit.saturating_sub(stats.memory_working_set).into();
    }
    memory
}

fn swap(stats: &Stats) -> Value {
    json!({"time": time(stats.at), "swapUsageBytes": stats.swap_usage})
}

/// A file system, and what of it someone uses.
fn filesystem(at: Timestamp, disk: Disk, used: Option<DiskUsage>) -> Value {
    let used = used.unwrap_or(DiskUsage {
        bytes: disk.total.saturating_sub(disk.available),
        inodes: disk.inodes.saturating_sub(disk.inodes_free),
    });
    json!({
        "time": time(at),
        "availableBytes": disk.available,
        "capacityBytes": disk.total,
        "usedBytes": used.bytes,
        "inodesFree": disk.inodes_free,
        "inodes": disk.inodes,
        "inodesUsed": used.inodes,
    })
}

fn network(at: Timestamp, interfaces: &[Interface]) -> Option<Value> {
    let one = |interface: &Interface| {
        json!({
            "name": interface.name,
            "rxBytes": interface.received.bytes,
            "rxErrors": interface.received.errors,
            "txBytes": interface.sent.bytes,
            "txErrors": interface.sent.errors,
        })
    };
    // The first stands for the whole, as upstream has it: a pod has one, and a node's first goes out.
    let mut network = one(interfaces.iter().find(|i| i.name == "eth0").or(interfaces.first())?);
    network["time"] = time(at).into();
    network["interfaces"] = interfaces.iter().map(one).collect();
    Some(network)
}

fn node(snapshot: &Snapshot) -> Value {
    let (at, machine) = (snapshot.at, &snapshot.machine);
    let booted = Timestamp::from_second(machine.booted_at).unwrap_or(at);
    let agent = &snapshot.agent;
    let begun = Timestamp::from_second(agent.started_at as i64).unwrap_or(at);
    let mut node = json!({
        "nodeName": snapshot.node,
        "systemContainers": [
            {
                "name": "kubelet",
                "startTime": time(begun),
                "cpu": cpu(at, agent.cpu_ns, snapshot.agent_cpu_rate),
                "memory": {
                    "time": time(at),
                    "usageBytes": agent.rss,
                    "workingSetBytes": agent.rss,
                    "rssBytes": agent.rss,
                    "pageFaults": agent.page_faults,
                    "majorPageFaults": agent.major_page_faults,
                },
            },
            pods(snapshot),
        ],
        "startTime": time(booted),
        "cpu": cpu(at, machine.cpu_ns, snapshot.machine_cpu_rate),
        "memory": {
            "time": time(at),
            "availableBytes": machine.available,
            "usageBytes": machine.memory,
            "workingSetBytes": machine.working_set,
            "rssBytes": machine.rss,
            "pageFaults": machine.page_faults,
            "majorPageFaults": machine.major_page_faults,
        },
        "swap": {
            "time": time(at),
            "swapAvailableBytes": machine.swap_available,
            "swapUsageBytes": machine.swap,
        },
        "rlimit": {"time": time(at), "maxpid": snapshot.pids.0, "curproc": snapshot.pids.1},
    });
    if let Some(network) = network(at, &snapshot.machine_interfaces) {
        node["network"] = network;
    }
    if let Some(disks) = &snapshot.disks {
        node["fs"] = filesystem(at, disks.node, None);
        let images = DiskUsage {
            bytes: disks.image_bytes,
            inodes: disks.image.inodes.saturating_sub(disks.image.inodes_free),
        };
        let image = filesystem(at, disks.image, Some(images));
        node["runtime"] = json!({"imageFs": image, "containerFs": image});
    }
    node
}

/// All pods together.
fn pods(snapshot: &Snapshot) -> Value {
    let sum = |of: fn(&PodUsage) -> u64| snapshot.pods.iter().map(of).sum::<u64>();
    let begun = snapshot.pods.iter().map(|p| p.started_at).min();
    json!({
        "name": "pods",
        "startTime": time(begun.unwrap_or(snapshot.at)),
        "cpu": cpu(snapshot.at, sum(|p| p.stats.cpu_usage_ns), Some(sum(|p| p.cpu_rate.unwrap_or(0)))),
        "memory": {
            "time": time(snapshot.at),
            "usageBytes": sum(|p| p.stats.memory_usage),
            "workingSetBytes": sum(|p| p.stats.memory_working_set),
            "rssBytes": sum(|p| p.stats.memory_rss),
            "pageFaults": sum(|p| p.stats.page_faults),
            "majorPageFaults": sum(|p| p.stats.major_page_faults),
        },
    })
}

fn pod(pod: &PodUsage, snapshot: &Snapshot) -> Value {
    let containers: Vec<Value> = pod
        .containers
        .iter()
        .map(|c| container(c, snapshot.disks.as_ref()))
        .collect();
    let mut out = json!({
        "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "startTime": time(pod.started_at),
        "containers": containers,
        "cpu": cpu(pod.stats.at, pod.stats.cpu_usage_ns, pod.cpu_rate),
        "memory": memory(&pod.stats),
        "swap": swap(&pod.stats),
        "process_stats": {"process_count": pod.stats.pids},
    });
    if let Some(network) = network(pod.stats.at, &pod.interfaces) {
        out["network"] = network;
    }
    if let Some(disks) = &snapshot.disks {
        let volumes: Vec<Value> = pod
            .volumes
            .iter()
            .map(|volume| {
                let mut entry = filesystem(snapshot.at, disks.node, Some(volume.usage));
                entry["name"] = volume.name.clone().into();
                entry
            })
            .collect();
        let of_containers = pod.containers.iter().flat_map(|c| [c.rootfs, c.logs]).flatten();
        let all = of_containers.chain(pod.volumes.iter().map(|v| v.usage));
        let used = all.fold(DiskUsage::default(), |sum, one| DiskUsage {
            bytes: sum.bytes + one.bytes,
            inodes: sum.inodes + one.inodes,
        });
        out["ephemeral-storage"] = filesystem(snapshot.at, disks.node, Some(used));
        if !volumes.is_empty() {
            out["volume"] = volumes.into();
        }
    }
    out
}

fn container(container: &ContainerUsage, disks: Option<&Disks>) -> Value {
    let stats = &container.stats;
    let mut out = Map::new();
    out.insert("name".into(), container.name.clone().into());
    out.insert("startTime".into(), time(container.started_at).into());
    out.insert("cpu".into(), cpu(stats.at, stats.cpu_usage_ns, container.cpu_rate));
    out.insert("memory".into(), memory(stats));
    out.insert("swap".into(), swap(stats));
    if let Some(disks) = disks {
        out.insert("rootfs".into(), filesystem(stats.at, disks.image, container.rootfs));
        out.insert("logs".into(), filesystem(stats.at, disks.node, container.logs));
    }
    out.into()
}
