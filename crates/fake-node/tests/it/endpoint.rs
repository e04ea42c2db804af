//! Logs, over the whole road: client, API server, the fake nodes' endpoint. In real time: there are real connections.

use std::time::Duration;

use coracle_client::pod::LogOptions;
use coracle_client::{ApiResource, Client, Config, DeleteOptions, DynamicObject};
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_pods_use_by_their_configuration_is_told_by_the_metrics_api() {
    let config = "rules:\n- create: 0\n  cpu: 250m\n  memory: 64Mi\n";
    let options = Options {
        fake_nodes: FakeNodes::configured(2, config).unwrap(),
        ..Options::default()
    };
    let cluster = TestCluster::with(options).await.unwrap();
    settled(&cluster).await;
    let pods = cluster.client.namespaced::<Pod>("default");
    for name in ["p", "q"] {
        pods.create(&pod(name, Some("fake-0"), json!({}))).await.unwrap();
    }
    until(cluster.clock, &pods, |all| {
        all.iter().filter(|p| is_ready(p)).count() == 2
    })
    .await;
    let api = |kind: &'static str, plural: &'static str, namespaced: bool| {
        let resource = ApiResource {
            group: "metrics.k8s.io".into(),
            version: "v1beta1".into(),
            kind: kind.into(),
            plural: plural.into(),
            namespaced,
        };
        cluster.client.dynamic::<DynamicObject>(&resource)
    };
    let used = |usage: &serde_json::Value| {
        let nanocores: f64 = usage["cpu"].as_str().unwrap().trim_end_matches('n').parse().unwrap();
        ((nanocores / 1e6).round(), usage["memory"].as_str().unwrap().to_owned())
    };
    let of_pod = api("PodMetrics", "pods", true)
        .within("default")
        .get("p")
        .await
        .unwrap();
    let container = &of_pod.data["containers"][0];
    assert_eq!(used(&container["usage"]), (250.0, "65536Ki".to_owned()));
    let nodes = api("NodeMetrics", "nodes", false);
    let of_node = |name: &'static str| nodes.get(name);
    assert_eq!(
        used(&of_node("fake-0").await.unwrap().data["usage"]),
        (500.0, "131072Ki".to_owned())
    );
    assert_eq!(
        used(&of_node("fake-1").await.unwrap().data["usage"]),
        (0.0, "0Ki".to_owned())
    );
    cluster.stop().await;
}
