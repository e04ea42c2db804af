//! Controllers whose view is late: what they believe was true once, and must not be acted upon if it is true no longer.

use std::sync::Arc;
use std::time::Duration;

use coracle_api::resource::Registry;
use coracle_api::service::{Answer, Operation, Request, Response, Service, UserInfo};
use coracle_api::status::Status;
use coracle_client::{Client, DeleteOptions, Error, Patch, Propagation};
use coracle_clock::Clock;
use coracle_controllers::Context;
use coracle_informer::CancellationToken;
use coracle_testkit::{Options, TestCluster};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use serde_json::json;
use tokio::sync::watch;

use crate::world::from;

/// What of one resource does not come through. Meanwhile the answers to creations of such are lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Nothing,
    /// Of watches.
    Events,
    /// That they are asked for.
    Lists,
}

/// Passes on all requests and what comes of them, but for what is held.
struct Late {
    client: Client,
    resource: &'static str,
    held: watch::Receiver<Held>,
}

impl Service for Late {
    fn call<'a>(&'a self, _: &'a UserInfo, request: Request) -> BoxFuture<'a, Result<Response, Status>> {
        async move {
            let about = request.target.resource == self.resource;
            let creates = matches!(request.operation, Operation::Create { .. });
            let lists = matches!(request.operation, Operation::List(_));
            let answer = self.client.request(request).await;
            let mut response = answer.map_err(|e| match e {
                Error::Api(status) => status,
                other => Status::internal(other.to_string()),
            })?;
            if about && creates && *self.held.borrow() != Held::Nothing {
                return Err(Status::timeout("the answer was lost"));
            }
            if about && lists {
                let mut held = self.held.clone();
                held.wait_for(|held| *held != Held::Lists).await.unwrap();
            }
            if let Answer::Watch(stream) = response.answer {
                let held = self.held.clone();
                let late = stream.then(move |event| {
                    let mut held = held.clone();
                    async move {
                        if about {
                            held.wait_for(|held| *held != Held::Events).await.unwrap();
                        }
                        event
                    }
                });
                response.answer = Answer::Watch(late.boxed());
            }
            Ok(response)
        }
        .boxed()
    }
}

/// A cluster where one controller runs, late in what it hears of a resource whenever it is held.
async fn cluster(resource: &'static str, controllers: &'static [&str]) -> (TestCluster, watch::Sender<Held>) {
    let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    let options = Options {
        clock,
        controllers: false,
        scheduler: false,
        ..Options::default()
    };
    let cluster = TestCluster::with(options).await.unwrap();
    let (hold, held) = watch::channel(Held::Nothing);
    let late = Late {
        client: cluster.client.clone(),
        resource,
        held,
    };
    let client = Client::in_process(Arc::new(late), Arc::new(Registry::built_in()), UserInfo::default());
    let cx = Context::new(client, clock, CancellationToken::new(), "");
    tokio::spawn(coracle_controllers::run(cx, |name| controllers.contains(&name)));
    clock.sleep(Duration::from_secs(1)).await;
    (cluster, hold)
}

/// Three pods.
fn replica_set() -> serde_json::Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]},
        }},
    })
}

#[tokio::test(start_paused = true)]
async fn what_was_let_go_of_is_not_collected_however_late_the_collector_hears_of_it() {
    let (cluster, hold) = cluster("secrets", &["garbage-collector-controller"]).await;
    let maps = cluster.client.namespaced::<ConfigMap>("default");
    let secrets = cluster.client.namespaced::<Secret>("default");
    let owner = maps
        .create(&from(json!({"metadata": {"name": "owner"}})))
        .await
        .unwrap();
    let owned = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid}]);
    for name in ["kept", "held"] {
        let secret = json!({"metadata": {"name": name, "ownerReferences": owned}});
        secrets.create(&from(secret)).await.unwrap();
    }
    cluster.clock.sleep(Duration::from_secs(1)).await;
    hold.send_replace(Held::Events);
    let free = Patch::Merge(json!({"metadata": {"ownerReferences": null}}));
    secrets.patch("kept", free).await.unwrap();
    maps.delete("owner", &DeleteOptions::default()).await.unwrap();
    cluster.clock.sleep(Duration::from_secs(5)).await;
    assert!(secrets.find("held").await.unwrap().is_none(), "nobody holds it");
    assert!(
        secrets.find("kept").await.unwrap().is_some(),
        "it has no owner to outlive"
    );
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_wants_fewer_pods_counts_the_one_that_has_succeeded_meanwhile() {
    let (cluster, hold) = cluster("pods", &["job-controller"]).await;
    let accounts = cluster.client.namespaced::<ServiceAccount>("default");
    accounts
        .create(&from(json!({"metadata": {"name": "default"}})))
        .await
        .unwrap();
    let job = json!({"metadata": {"name": "work"}, "spec": {"completions": 2, "parallelism": 1, "template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}],
    }}}});
    let jobs = cluster.client.namespaced::<Job>("default");
    jobs.create(&from(job)).await.unwrap();
    cluster.clock.sleep(Duration::from_secs(5)).await;
    let pods = cluster.client.namespaced::<Pod>("default");
    let pod = pods.list(&Default::default()).await.unwrap().items.remove(0);
    hold.send_replace(Held::Events);
    let succeeded = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
    let name = pod.metadata.name.as_deref().unwrap();
    pods.status().patch(name, succeeded).await.unwrap();
    let fewer = Patch::Merge(json!({"spec": {"parallelism": 0}}));
    jobs.patch("work", fewer).await.unwrap();
    cluster.clock.sleep(Duration::from_secs(5)).await;
    hold.send_replace(Held::Nothing);
    cluster.clock.sleep(Duration::from_secs(30)).await;
    let status = jobs.get("work").await.unwrap().status.clone().unwrap();
    assert_eq!((status.succeeded, status.failed, status.active), (Some(1), None, None));
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_creation_was_done_but_not_answered_is_not_made_again() {
    let (cluster, hold) = cluster("pods", &["replicaset-controller"]).await;
    let accounts = cluster.client.namespaced::<ServiceAccount>("default");
    accounts
        .create(&from(json!({"metadata": {"name": "default"}})))
        .await
        .unwrap();
    hold.send_replace(Held::Events);
    let sets = cluster.client.namespaced::<ReplicaSet>("default");
    sets.create(&from(replica_set())).await.unwrap();
    cluster.clock.sleep(Duration::from_secs(30)).await;
    let pods = cluster.client.namespaced::<Pod>("default");
    assert_eq!(
        pods.list(&Default::default()).await.unwrap().items.len(),
        1,
        "its answer is awaited"
    );
    hold.send_replace(Held::Nothing);
    cluster.clock.sleep(Duration::from_secs(30)).await;
    assert_eq!(pods.list(&Default::default()).await.unwrap().items.len(), 3);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_set_that_goes_while_its_pods_are_asked_for_makes_no_more_and_the_next_of_its_name_makes_its_own() {
    let (cluster, hold) = cluster("pods", &["replicaset-controller"]).await;
    let accounts = cluster.client.namespaced::<ServiceAccount>("default");
    accounts
        .create(&from(json!({"metadata": {"name": "default"}})))
        .await
        .unwrap();
    // The answer to the first creation is lost, and what there is asked for.
    hold.send_replace(Held::Lists);
    let sets = cluster.client.namespaced::<ReplicaSet>("default");
    let set: ReplicaSet = from(replica_set());
    sets.create(&set).await.unwrap();
    cluster.clock.sleep(Duration::from_secs(30)).await;
    sets.delete("web", &DeleteOptions::default()).await.unwrap();
    cluster.clock.sleep(Duration::from_secs(1)).await;
    hold.send_replace(Held::Nothing);
    cluster.clock.sleep(Duration::from_secs(30)).await;
    let pods = cluster.client.namespaced::<Pod>("default");
    let there = async || pods.list(&Default::default()).await.unwrap().items.len();
    assert_eq!(there().await, 1, "it has nothing to make pods for");
    sets.create(&set).await.unwrap();
    cluster.clock.sleep(Duration::from_secs(30)).await;
    assert_eq!(there().await, 1 + 3);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_changes_before_its_set_is_seen_tells_its_sets_to_have_no_more_than_is_allowed() {
    let (cluster, hold) = cluster("replicasets", &["deployment-controller"]).await;
    hold.send_replace(Held::Events);
    let deployment = json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}},
        },
    });
    let deployments = cluster.client.namespaced::<Deployment>("default");
    deployments.create(&from(deployment)).await.unwrap();
    cluster.clock.sleep(Duration::from_secs(5)).await;
    for image in ["two", "three"] {
        let change = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
        deployments.patch("web", Patch::Strategic(change)).await.unwrap();
        cluster.clock.sleep(Duration::from_secs(30)).await;
    }
    let sets = cluster.client.namespaced::<ReplicaSet>("default");
    let told = sets.list(&Default::default()).await.unwrap().items;
    let told: i32 = told.iter().map(|set| set.spec.replicas.unwrap()).sum();
    assert_eq!(told, 3, "two and one more");
    hold.send_replace(Held::Nothing);
    cluster.clock.sleep(Duration::from_secs(30)).await;
    assert_eq!(sets.list(&Default::default()).await.unwrap().items.len(), 3);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_time_of_a_cron_job_is_not_started_again_because_its_job_went_before_the_status_was_seen() {
    let (cluster, hold) = cluster("cronjobs", &["cronjob-controller"]).await;
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    let cron = json!({"metadata": {"name": "tick"},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}}});
    let crons = cluster.client.namespaced::<CronJob>("default");
    crons.create(&from(cron)).await.unwrap();
    cluster.clock.sleep(Duration::from_secs(1)).await;
    hold.send_replace(Held::Events);
    cluster.clock.sleep(Duration::from_secs(60)).await;
    let jobs = cluster.client.namespaced::<Job>("default");
    let first = jobs.list(&Default::default()).await.unwrap().items.remove(0);
    let name = first.metadata.name.as_deref().unwrap();
    let at_once = DeleteOptions {
        propagation: Some(Propagation::Background),
        ..DeleteOptions::default()
    };
    jobs.delete(name, &at_once).await.unwrap();
    cluster.clock.sleep(Duration::from_secs(10)).await;
    assert!(jobs.list(&Default::default()).await.unwrap().items.is_empty());
    hold.send_replace(Held::Nothing);
    cluster.clock.sleep(Duration::from_secs(60)).await;
    let next = jobs.list(&Default::default()).await.unwrap().items;
    assert_eq!(next.len(), 1);
    assert_ne!(next[0].metadata.name.as_deref(), Some(name));
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stateful_set_that_changes_before_its_pod_is_seen_to_go_takes_no_second_one() {
    let (cluster, hold) = cluster("pods", &["statefulset-controller"]).await;
    let accounts = cluster.client.namespaced::<ServiceAccount>("default");
    accounts
        .create(&from(json!({"metadata": {"name": "default"}})))
        .await
        .unwrap();
    let image = |image: &str| json!([{"name": "c", "image": image}]);
    let set = json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 3, "serviceName": "web", "podManagementPolicy": "Parallel",
            "updateStrategy": {"rollingUpdate": {"partition": 2}},
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": image("v1")}},
        },
    });
    let sets = cluster.client.namespaced::<StatefulSet>("default");
    sets.create(&from(set)).await.unwrap();
    let pods = cluster.client.namespaced::<Pod>("default");
    let all_serve = async || {
        cluster.clock.sleep(Duration::from_secs(30)).await;
        let all = pods.list(&Default::default()).await.unwrap().items;
        assert_eq!(all.len(), 3);
        for pod in all.iter().filter(|p| p.spec.as_ref().unwrap().node_name.is_none()) {
            let name = pod.metadata.name.as_deref().unwrap();
            pods.bind(name, None, "somewhere").await.unwrap();
            let serves = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
            pods.status().patch(name, Patch::Merge(serves)).await.unwrap();
        }
        cluster.clock.sleep(Duration::from_secs(30)).await;
    };
    let change = async |spec: serde_json::Value| {
        sets.patch("web", Patch::Merge(json!({"spec": spec}))).await.unwrap();
        cluster.clock.sleep(Duration::from_secs(30)).await;
    };
    let end = async |name: &str| {
        let at_once = DeleteOptions {
            grace_period_seconds: Some(0),
            ..DeleteOptions::default()
        };
        pods.delete(name, &at_once).await.unwrap();
    };
    all_serve().await;
    change(json!({"template": {"spec": {"containers": image("v2")}}})).await;
    end("web-2").await;
    all_serve().await;
    hold.send_replace(Held::Events);
    change(json!({"updateStrategy": {"rollingUpdate": {"partition": 0}}})).await;
    // The last is of the old template now, and the one before it goes.
    change(json!({"template": {"spec": {"containers": image("v1")}}})).await;
    let all = pods.list(&Default::default()).await.unwrap().items;
    let going = all.iter().filter(|p| p.metadata.deletion_timestamp.is_some());
    let going: Vec<_> = going.map(|p| p.metadata.name.as_deref().unwrap()).collect();
    assert_eq!(going, ["web-1"]);
    hold.send_replace(Held::Nothing);
    end("web-1").await;
    all_serve().await;
    let going = pods.get("web-2").await.unwrap();
    assert!(going.metadata.deletion_timestamp.is_some());
    cluster.stop().await;
}
