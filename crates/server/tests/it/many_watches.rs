//! As many watches as a hostile client can open: what they cost, that each is served, and that all is given back.
//! `CORACLE_WATCHES` sets how many (by default a few, for every day).

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use coracle_api::service::{ListOptions, WatchEvent};
use coracle_clock::Clock;

use crate::harness::{Cluster, at, config_map};

/// As many as the server takes on one connection.
const STREAMS: usize = 1000;
const MAPS: &str = "https://localhost/api/v1/namespaces/default/configmaps";

fn count() -> usize {
    std::env::var("CORACLE_WATCHES").map_or(2 * STREAMS, |text| text.parse().unwrap())
}

/// Runs a test of this file in a process of its own, whose memory nobody else's test takes part in.
fn alone(test: &str) {
    let mut itself = std::process::Command::new(std::env::current_exe().unwrap());
    let output = itself
        .args(["--exact", &format!("many_watches::{test}"), "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    println!("{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success() && told.contains("1 passed"),
        "{}",
        output.status
    );
}

#[test]
fn watches_over_connections_are_all_served_cheap_and_given_back() {
    alone("over_connections");
}

#[test]
fn watches_in_process_cost_a_parked_task_each() {
    alone("in_process");
}

/// What this process has in memory.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

async fn long_running(cluster: &Cluster) -> usize {
    let text = cluster.http(true).await.get("/metrics").await.text().to_owned();
    let lines = text
        .lines()
        .filter(|l| l.starts_with("apiserver_longrunning_requests{"));
    lines
        .map(|l| l.rsplit(' ').next().unwrap().parse::<usize>().unwrap())
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures its process: `alone` runs it"]
async fn over_connections() {
    let cluster = Cluster::start().await;
    let (count, began, before) = (count(), Clock::system().instant(), resident());
    let mut connections = Vec::new();
    let mut bodies = Vec::new();
    while bodies.len() < count {
        let stream = TokioIo::new(cluster.tls(true).await);
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
            .await
            .unwrap();
        connections.push(tokio::spawn(connection));
        let opening = (0..STREAMS.min(count - bodies.len())).map(|_| {
            let mut sender = sender.clone();
            let request = http::Request::get(format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Da"));
            async move {
                sender.ready().await.unwrap();
                let request = request.body(Full::<Bytes>::default()).unwrap();
                let answer = sender.send_request(request).await.unwrap();
                assert_eq!(answer.status(), 200);
                answer.into_body()
            }
        });
        bodies.extend(futures::future::join_all(opening).await);
    }
    let each = resident().saturating_sub(before) / count;
    let took = Clock::system().instant() - began;
    println!("{count} watches opened in {took:?}, {each} bytes each for client and server");
    // Both ends of it.
    assert!(each < 64 << 10, "{each} bytes for a watch");
    assert_eq!(long_running(&cluster).await, count);

    let told = Clock::system().instant();
    cluster.create(at("configmaps"), config_map("b")).await.unwrap();
    cluster.create(at("configmaps"), config_map("a")).await.unwrap();
    for body in &mut bodies {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(frame.starts_with(b"{\"type\":\"ADDED\""), "{frame:?}");
    }
    println!("all told in {:?}", Clock::system().instant() - told);

    drop(bodies);
    for connection in connections {
        connection.abort();
    }
    while long_running(&cluster).await > 0 {
        Clock::system().sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures its process: `alone` runs it"]
async fn in_process() {
    let cluster = Cluster::start().await;
    let (count, began, before) = (count(), Clock::system().instant(), resident());
    let (seen, mut all) = tokio::sync::mpsc::channel(16);
    for _ in 0..count {
        let mut watch = cluster.watch(at("configmaps"), ListOptions::default()).await.unwrap();
        let seen = seen.clone();
        tokio::spawn(async move {
            while let Some(event) = watch.next().await {
                if matches!(event.unwrap(), WatchEvent::Added(_)) {
                    seen.send(()).await.unwrap();
                }
            }
        });
    }
    let each = resident().saturating_sub(before) / count;
    let took = Clock::system().instant() - began;
    println!("{count} watches opened in {took:?}, {each} bytes each");
    assert!(each < 16 << 10, "{each} bytes for a watch");
    let told = Clock::system().instant();
    cluster.create(at("configmaps"), config_map("a")).await.unwrap();
    for _ in 0..count {
        all.recv().await.unwrap();
    }
    println!("all told in {:?}", Clock::system().instant() - told);
}
