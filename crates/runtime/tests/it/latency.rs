//! How long the parts of starting a pod take, and what a shim weighs: `cargo test -- --ignored latency --nocapture`.

use std::fs;
use std::time::Duration;

use coracle_runtime::PodRuntime;
use tokio::time::Instant;

use crate::node::{Node, sleeper};

#[tokio::test]
#[ignore = "a measurement, not a test"]
async fn latency_of_a_pods_start() {
    let node = Node::new().await;
    let clock = coracle_clock::Clock::system();
    let mut parts: [Vec<Duration>; 6] = Default::default();
    for number in 0..30 {
        let mut took = |part: usize, since: Instant| parts[part].push(clock.instant() - since);
        let whole = clock.instant();
        let pod = node
            .engine
            .run_sandbox(node.sandbox_config(&format!("pod{number}")))
            .await
            .unwrap();
        took(0, whole);
        let since = clock.instant();
        let id = node.create(&pod.id, sleeper()).await;
        took(1, since);
        let since = clock.instant();
        node.engine.start_container(&id).await.unwrap();
        took(2, since);
        took(3, whole);
        let since = clock.instant();
        node.engine.exec_sync(&id, &["true".into()], None).await.unwrap();
        took(4, since);
        if number == 0 {
            let status = fs::read_to_string(format!("/proc/{}/status", pod.pid)).unwrap();
            println!(
                "shim: {:?}",
                status
                    .lines()
                    .filter(|l| l.starts_with("Rss") || l.starts_with("VmRSS"))
                    .collect::<Vec<_>>()
            );
            let smaps = fs::read_to_string(format!("/proc/{}/smaps_rollup", pod.pid)).unwrap();
            println!(
                "shim: {:?}",
                smaps
                    .lines()
                    .filter(|l| l.contains("Private") || l.starts_with("Pss:"))
                    .collect::<Vec<_>>()
            );
        }
        let since = clock.instant();
        node.engine.remove_sandbox(&pod.id).await.unwrap();
        took(5, since);
    }
    for (name, part) in ["sandbox", "create", "start", "all three", "exec", "remove"]
        .iter()
        .zip(&mut parts)
    {
        part.sort();
        println!(
            "{name:>10}: p50 {:?}, p90 {:?}",
            part[part.len() / 2],
            part[part.len() * 9 / 10]
        );
    }
    node.finish().await;
}
