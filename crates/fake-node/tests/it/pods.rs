//! The life of pods, as controllers and users see it.

use std::collections::HashSet;
use std::time::Duration;

use coracle_client::{DeleteOptions, ListOptions, Patch, WatchEvent};
use coracle_testkit::TestCluster;
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use serde_json::json;

use crate::harness::{cluster, is_ready, object, phase, pod, until};

fn deployment(replicas: i32) -> Deployment {
    object(json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "web:v1"}]},
            },
        },
    }))
}

async fn available(cluster: &TestCluster, replicas: i32) {
    let deployments = cluster.client.namespaced::<Deployment>("default");
    until(cluster.clock, &deployments, |all| {
        all.iter().all(|d| {
            let Some(status) = &d.status else { return false };
            status.observed_generation == d.metadata.generation
                && status.available_replicas == Some(replicas)
                && status.updated_replicas == Some(replicas)
                && status.replicas == Some(replicas)
        })
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_of_100_becomes_available_rolls_over_and_then_costs_no_write() {
    let cluster = cluster(5, "seed: 1\nrules:\n- ready: 1s..20s\n").await;
    let deployments = cluster.client.namespaced::<Deployment>("default");
    let pods = cluster.client.namespaced::<Pod>("default");
    deployments.create(&deployment(100)).await.unwrap();
    available(&cluster, 100).await;
    let listed = pods.list(&ListOptions::default()).await.unwrap().items;
    let addresses: HashSet<_> = listed
        .iter()
        .map(|p| p.status.as_ref().unwrap().pod_ip.clone().unwrap())
        .collect();
    assert_eq!(addresses.len(), 100, "every pod has its own address");
    let nodes: HashSet<_> = listed
        .iter()
        .map(|p| p.spec.as_ref().unwrap().node_name.clone())
        .collect();
    assert_eq!(nodes.len(), 5, "and they are on all nodes");

    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "web:v2"}]}}}});
    deployments.patch("web", Patch::Strategic(image)).await.unwrap();
    available(&cluster, 100).await;
    let listed = until(cluster.clock, &pods, |all| all.len() == 100).await;
    assert!(
        listed
            .iter()
            .all(|p| p.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].image == "web:v2")
    );

    // At rest: half an hour later each pod is at the revision it was at.
    let revisions = |all: &[std::sync::Arc<Pod>]| -> HashSet<_> {
        all.iter()
            .map(|p| (p.metadata.uid.clone(), p.metadata.resource_version.clone()))
            .collect()
    };
    cluster.clock.sleep(Duration::from_secs(60)).await;
    let before = revisions(&pods.list(&ListOptions::default()).await.unwrap().items);
    cluster.clock.sleep(Duration::from_secs(1800)).await;
    let after = revisions(&pods.list(&ListOptions::default()).await.unwrap().items);
    assert_eq!(before, after);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_completes_and_one_whose_pods_fail_is_retried() {
    let cluster = cluster(2, "").await;
    let jobs = cluster.client.namespaced::<Job>("default");
    let job = |name: &str, annotations: serde_json::Value| -> Job {
        object(json!({
            "metadata": {"name": name},
            "spec": {
                "completions": 5, "parallelism": 2, "backoffLimit": 1,
                "template": {
                    "metadata": {"annotations": annotations},
                    "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "work:v1"}]},
                },
            },
        }))
    };
    jobs.create(&job("good", json!({}))).await.unwrap();
    jobs.create(&job("bad", json!({"fake.coracle.io/exitCode": "3"})))
        .await
        .unwrap();
    let ended = until(cluster.clock, &jobs, |all| {
        let ended = |j: &Job| {
            let conditions = j
                .status
                .as_ref()
                .and_then(|s| s.conditions.as_deref())
                .unwrap_or_default();
            conditions
                .iter()
                .any(|c| (c.type_ == "Complete" || c.type_ == "Failed") && c.status == "True")
        };
        all.len() == 2 && all.iter().all(|j| ended(j))
    })
    .await;
    for job in ended {
        let status = job.status.as_ref().unwrap();
        match job.metadata.name.as_deref() {
            Some("good") => assert_eq!(status.succeeded, Some(5)),
            _ => assert!(
                status.failed >= Some(2) && status.succeeded.unwrap_or(0) == 0,
                "{status:?}"
            ),
        }
    }
    cluster.stop().await;
}

/// How long the pod outlives the request to delete it.
async fn outlives(cluster: &TestCluster, name: &str, grace: Option<i64>) -> Duration {
    let pods = cluster.client.namespaced::<Pod>("default");
    until(cluster.clock, &pods, |all| {
        all.iter()
            .any(|p| p.metadata.name.as_deref() == Some(name) && is_ready(p))
    })
    .await;
    let revision = pods.list(&ListOptions::default()).await.unwrap().revision;
    let options = ListOptions {
        resource_version: revision.to_string(),
        field_selector: format!("metadata.name={name}"),
        ..ListOptions::default()
    };
    let mut events = pods.watch(&options).await.unwrap();
    let delete = DeleteOptions {
        grace_period_seconds: grace,
        ..DeleteOptions::default()
    };
    let asked = cluster.clock.instant();
    pods.delete(name, &delete).await.unwrap();
    loop {
        if let WatchEvent::Deleted(_) = events.next().await.unwrap().unwrap() {
            return asked.elapsed();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn deletion_honours_grace() {
    let cluster = cluster(
        1,
        "rules:\n- match: {labels: {stops: never}}\n  terminate: forever\n- terminate: 2s\n",
    )
    .await;
    let pods = cluster.client.namespaced::<Pod>("default");
    let stubborn = json!({"metadata": {"labels": {"stops": "never"}}});
    for (name, more) in [
        ("quick", json!({})),
        ("stubborn", stubborn.clone()),
        ("hurried", stubborn.clone()),
        ("killed", stubborn),
    ] {
        pods.create(&pod(name, None, more)).await.unwrap();
    }
    let about = |seconds: u64, took: Duration| {
        let wanted = Duration::from_secs(seconds);
        assert!(
            took >= wanted && took < wanted + Duration::from_secs(1),
            "{took:?} is not about {seconds} s"
        );
    };
    about(2, outlives(&cluster, "quick", None).await);
    about(30, outlives(&cluster, "stubborn", None).await);
    about(5, outlives(&cluster, "hurried", Some(5)).await);
    about(0, outlives(&cluster, "killed", Some(0)).await);
    cluster.stop().await;
}

/// How long each pod's first run lasted, and how it ended, of 30 pods alike.
async fn fates(seed: u32) -> Vec<(i64, i32)> {
    let config = format!("seed: {seed}\nrules:\n- run: 100s..1000s\n  crashes: 0.3\n  crashAfter: 1s..90s\n");
    let cluster = cluster(3, &config).await;
    let pods = cluster.client.namespaced::<Pod>("default");
    for _ in 0..30 {
        let mut pod = pod("x", None, json!({"spec": {"restartPolicy": "Never"}}));
        pod.metadata.name = None;
        pod.metadata.generate_name = Some("alike-".into());
        pods.create(&pod).await.unwrap();
    }
    let over = |p: &Pod| matches!(phase(p), "Succeeded" | "Failed");
    let all = until(cluster.clock, &pods, |all| {
        all.len() == 30 && all.iter().all(|p| over(p))
    })
    .await;
    cluster.stop().await;
    let fate = |pod: &Pod| {
        let container = pod.status.as_ref()?.container_statuses.as_ref()?.first()?.clone();
        let end = container.state?.terminated?;
        let lasted = end.finished_at?.0.as_second() - end.started_at?.0.as_second();
        // Starts and ends are told in whole seconds.
        Some(((lasted + 1) / 4, end.exit_code))
    };
    let mut fates: Vec<_> = all.iter().filter_map(|p| fate(p)).collect();
    fates.sort_unstable();
    fates
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_outcomes_and_another_gives_others() {
    let (first, again, other) = (fates(1).await, fates(1).await, fates(2).await);
    assert_eq!(first.len(), 30);
    let codes = |fates: &[(i64, i32)]| fates.iter().filter(|(_, code)| *code != 0).count();
    assert!((1..30).contains(&codes(&first)));
    assert_eq!(codes(&first), codes(&again));
    let near = first.iter().zip(&again).all(|(a, b)| (a.0 - b.0).abs() <= 1);
    assert!(near, "{first:?}\n{again:?}");
    assert_ne!(first, other);
}

#[tokio::test(start_paused = true)]
async fn pods_of_other_nodes_are_left_alone() {
    let cluster = cluster(1, "").await;
    let pods = cluster.client.namespaced::<Pod>("default");
    let made = pods.create(&pod("elsewhere", Some("fake-7"), json!({}))).await.unwrap();
    pods.create(&pod("here", Some("fake-0"), json!({}))).await.unwrap();
    until(cluster.clock, &pods, |all| all.iter().any(|p| phase(p) == "Running")).await;
    let seen = pods.get("elsewhere").await.unwrap();
    assert_eq!(seen.status.as_ref().unwrap().start_time, None);
    assert_eq!(seen.metadata.resource_version, made.metadata.resource_version);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn init_containers_and_sidecars_are_told_in_the_status() {
    let cluster = cluster(1, "rules:\n- {init: 30s, run: 60s}\n").await;
    let pods = cluster.client.namespaced::<Pod>("default");
    let more = json!({"spec": {
        "restartPolicy": "Never",
        "initContainers": [{"name": "s", "image": "x", "restartPolicy": "Always"}, {"name": "i", "image": "x"}],
    }});
    pods.create(&pod("p", None, more)).await.unwrap();
    let state = |p: &Pod, of: &str| {
        let status = p.status.as_ref()?;
        let all = status
            .init_container_statuses
            .iter()
            .chain(&status.container_statuses)
            .flatten();
        let state = all.clone().find(|c| c.name == of)?.state.clone()?;
        Some(match (state.waiting, state.running, state.terminated) {
            (Some(w), ..) => w.reason.unwrap_or_default(),
            (_, Some(_), _) => "Running".into(),
            (.., Some(t)) => format!("{}", t.exit_code),
            _ => String::new(),
        })
    };
    let is = |p: &Pod, states: [&str; 3]| {
        ["s", "i", "c"]
            .iter()
            .zip(states)
            .all(|(c, s)| state(p, c).as_deref() == Some(s))
    };
    for (states, wanted) in [
        (["Running", "Running", "PodInitializing"], "Pending"),
        (["Running", "0", "Running"], "Running"),
        (["0", "0", "0"], "Succeeded"),
    ] {
        let seen = until(cluster.clock, &pods, |all| all.iter().any(|p| is(p, states))).await;
        assert_eq!(phase(&seen[0]), wanted, "{states:?}");
    }
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_life_of_a_pod_is_told_by_events_as_a_kubelet_tells_it() {
    let cluster = cluster(1, "nodes:\n  podCIDR6: fd00:10::/64\n").await;
    let pods = cluster.client.namespaced::<Pod>("default");
    pods.create(&pod("p", Some("fake-0"), json!({}))).await.unwrap();
    let made = until(cluster.clock, &pods, |all| all.iter().any(|p| is_ready(p))).await;
    let addresses = made[0].status.as_ref().unwrap().pod_ips.as_ref().unwrap();
    assert_eq!(addresses.len(), 2, "one of each family");
    assert!(addresses[1].ip.starts_with("fd00:10::"), "{addresses:?}");
    pods.delete("p", &DeleteOptions::default()).await.unwrap();
    let events = cluster.client.namespaced::<Event>("default");
    let of_kubelet = |e: &Event| e.source.as_ref().and_then(|s| s.component.as_deref()) == Some("kubelet");
    let all = until(cluster.clock, &events, |all| {
        all.iter().filter(|e| of_kubelet(e)).count() == 4
    })
    .await;
    let mut told: Vec<_> = all.iter().filter(|e| of_kubelet(e)).collect();
    told.sort_by_key(|e| e.metadata.name.clone());
    let reasons: Vec<_> = told.iter().map(|e| e.reason.as_deref().unwrap()).collect();
    assert_eq!(reasons, ["Pulled", "Created", "Started", "Killing"]);
    for event in told {
        assert_eq!(event.source.as_ref().unwrap().host.as_deref(), Some("fake-0"));
        assert_eq!(event.involved_object.field_path.as_deref(), Some("spec.containers{c}"));
    }
}
