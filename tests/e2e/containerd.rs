//! A cluster whose pods are run by containerd (`--cri-socket`): kubectl notices no difference.

use super::containerd_process::Containerd;
use super::harness::{Cluster, image_archive};
use super::streaming::{command, copy, log, port_forward};

/// A cluster and its runtime; the cluster goes first.
struct Machine {
    cluster: Cluster,
    containerd: Containerd,
}

impl Machine {
    fn start() -> Self {
        let containerd = Containerd::start();
        containerd.import(&image_archive("v1"));
        let socket = containerd.socket();
        Self {
            cluster: Cluster::start(&["--cri-socket", socket.to_str().unwrap()]),
            containerd,
        }
    }
}

#[test]
fn commands_terminals_and_attached_streams_are_as_everywhere() {
    let machine = Machine::start();
    command::exec_carries(&machine.cluster);
    machine.cluster.k(&["delete", "pod", "p"]);
    command::has_a_terminal(&machine.cluster);
    command::attaches(&machine.cluster);
}

#[test]
fn logs_port_forwards_and_copies_are_as_everywhere() {
    let machine = Machine::start();
    port_forward::joins_many(&machine.cluster);
    log::logs_are_cut(&machine.cluster);
    machine.cluster.k(&["delete", "pod", "p"]);
    copy::copies(&machine.cluster);
}

#[test]
fn the_node_says_who_runs_its_pods_and_nothing_is_left_of_them() {
    let machine = Machine::start();
    let Machine { cluster, containerd } = &machine;
    let runtime = cluster.field("nodes", ".items[0].status.nodeInfo.containerRuntimeVersion");
    assert!(runtime.starts_with("containerd://"), "{runtime}");
    cluster.k(&["run", "p", "--image=demo/web:v1", "--", "sleep", "1000"]);
    cluster.k(&["wait", "pod/p", "--for=condition=Ready", "--timeout=60s"]);
    let id = cluster.field("pod/p", ".status.containerStatuses[0].containerID");
    assert!(id.starts_with("containerd://"), "{id}");
    assert!(cluster.field("pod/p", ".status.podIP").starts_with("10.206."));
    assert!(cluster.coracle(&["image", "ls"]).expect_ok().contains("demo/web:v1"));
    let error = cluster
        .coracle(&["image", "import", image_archive("v1").to_str().unwrap()])
        .expect_error();
    assert!(error.contains("ctr -n k8s.io images import"), "{error}");
    // A server that is killed and started again finds the pod as it was; without the runtime's socket it does not start.
    cluster.kill();
    let error = cluster.up(&[]).expect_error();
    assert!(error.contains("--cri-socket"), "{error}");
    let socket = containerd.socket();
    cluster.up(&["--cri-socket", socket.to_str().unwrap()]).expect_ok();
    assert_eq!(cluster.field("pod/p", ".status.containerStatuses[0].restartCount"), "0");
    assert_eq!(cluster.k(&["exec", "p", "--", "cat", "/etc/version"]).trim(), "v1");
    cluster.coracle(&["down"]).expect_ok();
    assert_eq!(containerd.containers(), [""; 0]);
}
