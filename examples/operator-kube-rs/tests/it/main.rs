//! kube-rs against a whole cluster, over HTTPS: the example operator, and what other programs do with it.

// Clippy's exception for tests does not reach what tests share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;
mod discovery;
mod operator;

use std::time::Duration;

use coracle_testkit::TestCluster;
use futures::{Stream, StreamExt};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, Config};

/// A client of the cluster, as its kubeconfig says.
async fn client(cluster: &TestCluster) -> Client {
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    Client::try_from(config).unwrap()
}

/// What comes of a future, which it does in time.
async fn in_time<F: Future>(cluster: &TestCluster, future: F) -> F::Output {
    let limit = Duration::from_secs(30);
    cluster.clock.timeout(limit, future).await.expect("it took too long")
}

/// The first item that is as it should be.
async fn first<T, E: std::fmt::Debug>(
    stream: &mut (impl Stream<Item = Result<T, E>> + Unpin),
    wanted: impl Fn(&T) -> bool,
) -> T {
    while let Some(item) = stream.next().await {
        let item = item.unwrap();
        if wanted(&item) {
            return item;
        }
    }
    panic!("the stream ended");
}

/// Defines the operators' kind and waits until it is served.
async fn define_websites(cluster: &TestCluster, client: &Client) {
    let definition: CustomResourceDefinition = serde_saphyr::from_str(include_str!("../../../website.yaml")).unwrap();
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    definitions.create(&PostParams::default(), &definition).await.unwrap();
    let established = await_condition(
        definitions,
        "websites.example.coracle.dev",
        conditions::is_crd_established(),
    );
    in_time(cluster, established).await.unwrap();
}
