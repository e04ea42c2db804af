//! The operator against a whole cluster with fake nodes, in virtual time.

// Clippy's exception for tests does not reach what tests share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use coracle_client::{Client, DeleteOptions, ListOptions};
use coracle_informer::CancellationToken;
use coracle_testkit::{Clock, FakeNodes, Options, TestCluster};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use operator_sequence::sequence::Sequence;

fn documents() -> (CustomResourceDefinition, Sequence) {
    let text = include_str!("../../sequence.yaml");
    let (definition, sequence) = text.split_once("\n---\n").unwrap();
    (
        serde_saphyr::from_str(definition).unwrap(),
        serde_saphyr::from_str(sequence).unwrap(),
    )
}

/// A cluster on which every pod runs for ten seconds and ends with this code, and the operator at work.
async fn cluster(code: i32) -> (TestCluster, Client) {
    let config = format!("rules:\n- match: {{ownerKind: Job}}\n  run: 10s\n  exitCode: {code}\n");
    let options = Options {
        clock: Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap()),
        fake_nodes: FakeNodes::configured(1, &config).unwrap(),
        ..Options::default()
    };
    let cluster = TestCluster::with(options).await.unwrap();
    let client = cluster.client.clone();
    let (definition, sequence) = documents();
    client.all().create(&definition).await.unwrap();
    cluster.clock.sleep(Duration::from_secs(5)).await;
    tokio::spawn(operator_sequence::run(
        client.clone(),
        cluster.clock,
        CancellationToken::new(),
    ));
    client.namespaced("default").create(&sequence).await.unwrap();
    (cluster, client)
}

async fn names(client: &Client) -> Vec<String> {
    let jobs = client.namespaced::<Job>("default");
    let jobs = jobs.list(&ListOptions::default()).await.unwrap().items;
    jobs.iter().map(|j| j.metadata.name.clone().unwrap()).collect()
}

async fn told(client: &Client) -> (String, String, i32) {
    let sequences = client.namespaced::<Sequence>("default");
    let status = sequences.get("report").await.unwrap().status.clone().unwrap();
    (status.phase, status.step, status.done)
}

fn is(phase: &str, step: &str, done: i32) -> (String, String, i32) {
    (phase.to_owned(), step.to_owned(), done)
}

#[tokio::test(start_paused = true)]
async fn each_step_begins_when_the_one_before_it_is_complete_and_all_go_with_their_owner() {
    let (cluster, client) = cluster(0).await;
    cluster.clock.sleep(Duration::from_secs(8)).await;
    assert_eq!(names(&client).await, ["report-fetch"]);
    assert_eq!(told(&client).await, is("Running", "fetch", 0));
    cluster.clock.sleep(Duration::from_secs(12)).await;
    assert_eq!(names(&client).await, ["report-count", "report-fetch"]);
    assert_eq!(told(&client).await, is("Running", "count", 1));
    cluster.clock.sleep(Duration::from_secs(60)).await;
    assert_eq!(told(&client).await, is("Complete", "", 3));
    let jobs = client.namespaced::<Job>("default");
    let mut times = Vec::new();
    for step in ["fetch", "count", "publish"] {
        let status = jobs
            .get(&format!("report-{step}"))
            .await
            .unwrap()
            .status
            .clone()
            .unwrap();
        times.push(status.start_time.unwrap().0);
        times.push(status.completion_time.unwrap().0);
    }
    assert!(times.is_sorted(), "{times:?}");
    let sequences = client.namespaced::<Sequence>("default");
    sequences.delete("report", &DeleteOptions::default()).await.unwrap();
    cluster.clock.sleep(Duration::from_secs(60)).await;
    assert!(names(&client).await.is_empty());
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_step_that_fails_none_begins() {
    let (cluster, client) = cluster(1).await;
    // Its Job tries for as long as its back-off limit lets it.
    cluster.clock.sleep(Duration::from_secs(3600)).await;
    assert_eq!(names(&client).await, ["report-fetch"]);
    assert_eq!(told(&client).await, is("Failed", "fetch", 0));
    cluster.stop().await;
}
