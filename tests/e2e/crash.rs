//! kill -9 of the server, under load: nothing acknowledged is lost, and no container notices.

use std::sync::atomic::{AtomicBool, Ordering};

use super::harness::{Cluster, Kubectl};

#[test]
fn kill_9_loses_no_acknowledged_write_and_disturbs_no_container() {
    let cluster = Cluster::with_node();
    cluster.k(&[
        "run",
        "steady",
        "--image=demo/web:v1",
        "--",
        "sh",
        "-c",
        "echo started; sleep 1000",
    ]);
    cluster.k(&["wait", "pod/steady", "--for=condition=Ready", "--timeout=60s"]);
    assert_eq!(cluster.follow(&["steady"]).line(), "started");
    let container = cluster.field("pod/steady", ".status.containerStatuses[0].containerID");

    let stop = AtomicBool::new(false);
    let acknowledged: Vec<String> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|w| {
                let (cluster, stop) = (&cluster, &stop);
                scope.spawn(move || {
                    let mut done = Vec::new();
                    for n in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let name = format!("w{w}-{n}");
                        if cluster.kubectl(Kubectl::V37, &["create", "configmap", &name]).ok {
                            done.push(name);
                        }
                    }
                    done
                })
            })
            .collect();
        while cluster.k(&["get", "configmaps", "-o", "name"]).lines().count() < 20 {}
        cluster.kill();
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().flat_map(|w| w.join().unwrap()).collect()
    });
    assert!(acknowledged.len() >= 10);

    cluster.up(&[]).expect_ok();
    let there = cluster.k(&["get", "configmaps", "-o", "name"]);
    for name in &acknowledged {
        assert!(
            there.contains(&format!("configmap/{name}\n")),
            "{name} was acknowledged and is lost"
        );
    }
    cluster.k(&["wait", "pod/steady", "--for=condition=Ready", "--timeout=30s"]);
    assert_eq!(
        cluster.field("pod/steady", ".status.containerStatuses[0].containerID"),
        container
    );
    assert_eq!(
        cluster.field("pod/steady", ".status.containerStatuses[0].restartCount"),
        "0"
    );
    assert_eq!(cluster.k(&["logs", "steady"]), "started\n");
}
