//! Logs, over the whole road: client, API server, the fake nodes' endpoint. In real time: there are real connections.

use std::time::Duration;

use coracle_client::pod::LogOptions;
use coracle_client::{Client, Config, DeleteOptions};
use coracle_testkit::{Clock, FakeNodes, Options, TestCluster};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::harness::{is_ready, pod, settled, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_read_through_the_api_server_says_that_the_node_is_fake() {
    let options = Options {
        fake_nodes: FakeNodes::configured(1, "rules:\n- create: 0\n").unwrap(),
        ..Options::default()
    };
    let cluster = TestCluster::with(options).await.unwrap();
    settled(&cluster).await;
    let pods = cluster.client.namespaced::<Pod>("default");
    pods.create(&pod("p", Some("fake-0"), json!({}))).await.unwrap();
    until(cluster.clock, &pods, |all| all.iter().any(|p| is_ready(p))).await;

    let config = Config::from_kubeconfig(&cluster.kubeconfig(), None).unwrap();
    let remote = Client::connect(config, Clock::system())
        .unwrap()
        .namespaced::<Pod>("default");
    let chunks: Vec<_> = remote.logs("p", &Default::default()).await.unwrap().collect().await;
    let bytes: Vec<u8> = chunks.into_iter().flat_map(Result::unwrap).collect();
    let log = String::from_utf8(bytes).unwrap();
    assert!(
        log.starts_with("this is the fake node fake-0: nothing runs here"),
        "{log}"
    );

    // One that is followed stays open until the container ends.
    let follow = LogOptions {
        follow: true,
        ..LogOptions::default()
    };
    let mut log = remote.logs("p", &follow).await.unwrap();
    let first = log.next().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("has been running since"));
    let more = cluster.clock.timeout(Duration::from_millis(300), log.next()).await;
    assert!(more.is_err(), "it is open, and silent");
    pods.delete("p", &DeleteOptions::default()).await.unwrap();
    let rest = cluster.clock.timeout(Duration::from_secs(60), log.count()).await;
    assert!(rest.is_ok(), "it ends with the container");
    cluster.stop().await;
}
