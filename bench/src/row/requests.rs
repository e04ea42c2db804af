//! Creates, gets, lists, patches, updates and deletes, from many workers.

use coracle_client::{Client, DeleteOptions, ListOptions, Patch};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, PodSpec};
use serde_json::json;

use crate::measure::{Latencies, Scratch, spread};
use crate::process::usage;
use crate::report::Report;

fn config_map(n: usize) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(format!("map-{n}"));
    map.metadata.labels = Some([("bench".to_owned(), "yes".to_owned())].into());
    map.data = Some([("key".to_owned(), "value ".repeat(100))].into());
    map
}

/// A pod that no scheduler takes.
fn pod(n: usize) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.name = Some(format!("pod-{n}"));
    pod.metadata.labels = Some([("bench".to_owned(), "yes".to_owned())].into());
    let container = Container {
        name: "c".into(),
        image: Some("none".into()),
        ..Container::default()
    };
    pod.spec = Some(PodSpec {
        scheduler_name: Some("nobody".into()),
        containers: vec![container],
        ..PodSpec::default()
    });
    pod
}

pub async fn run(client: &Client, workers: usize, objects: usize, pids: &[u32]) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let scratch = Scratch::make(client).await?;
    let maps = client.namespaced::<ConfigMap>(&scratch.name);
    let pods = client.namespaced::<Pod>(&scratch.name);
    let before = usage(pids)?;

    let api = maps.clone();
    let (took, latencies) = spread(workers, objects, move |n| {
        let api = api.clone();
        async move { api.create(&config_map(n)).await.map(drop).map_err(Into::into) }
    })
    .await?;
    report.rate("create ConfigMaps", took, &latencies);
    let api = pods.clone();
    let (took, latencies) = spread(workers, objects, move |n| {
        let api = api.clone();
        async move { api.create(&pod(n)).await.map(drop).map_err(Into::into) }
    })
    .await?;
    report.rate("create Pods", took, &latencies);

    let api = maps.clone();
    let (took, latencies) = spread(workers, objects, move |n| {
        let api = api.clone();
        async move { api.get(&format!("map-{n}")).await.map(drop).map_err(Into::into) }
    })
    .await?;
    report.rate("get ConfigMaps", took, &latencies);
    let api = pods.clone();
    let (took, latencies) = spread(workers, objects, move |n| {
        let api = api.clone();
        async move { api.get(&format!("pod-{n}")).await.map(drop).map_err(Into::into) }
    })
    .await?;
    report.rate("get Pods", took, &latencies);

    for (what, limit) in [("list all Pods", 0), ("list all Pods in pages of 500", 500)] {
        let api = pods.clone();
        let (_, latencies) = spread(1, 10, move |_| {
            let api = api.clone();
            async move {
                let mut options = ListOptions {
                    limit,
                    ..ListOptions::default()
                };
                loop {
                    // Undecoded: it is the server that is measured.
                    let page = api.list_stored(&options).await?;
                    if page.continue_token.is_empty() {
                        return Ok(());
                    }
                    options.continue_token = page.continue_token;
                }
            }
        })
        .await?;
        report.add(what, latencies.percentile(50.0), "ms");
    }

    let api = maps.clone();
    let (took, latencies) = spread(workers, objects, move |n| {
        let api = api.clone();
        async move {
            let patch = Patch::Merge(json!({"data": {"patched": n.to_string()}}));
            api.patch(&format!("map-{n}"), patch)
                .await
                .map(drop)
                .map_err(Into::into)
        }
    })
    .await?;
    report.rate("patch ConfigMaps", took, &latencies);
    let api = maps.clone();
    let (took, latencies) = spread(workers, objects, move |n| {
        let api = api.clone();
        async move {
            let mut map = config_map(n);
            map.data = Some([("put".to_owned(), n.to_string())].into());
            api.update(&map).await.map(drop).map_err(Into::into)
        }
    })
    .await?;
    report.rate("put ConfigMaps", took, &latencies);

    let delete = |latencies: (std::time::Duration, Latencies), what: &str, report: &mut Report| {
        report.rate(what, latencies.0, &latencies.1);
    };
    let now = DeleteOptions {
        grace_period_seconds: Some(0),
        ..DeleteOptions::default()
    };
    let (api, options) = (maps.clone(), now.clone());
    let all = spread(workers, objects, move |n| {
        let (api, options) = (api.clone(), options.clone());
        async move {
            api.delete(&format!("map-{n}"), &options)
                .await
                .map(drop)
                .map_err(Into::into)
        }
    });
    delete(all.await?, "delete ConfigMaps", &mut report);
    let all = spread(workers, objects, move |n| {
        let (api, options) = (pods.clone(), now.clone());
        async move {
            api.delete(&format!("pod-{n}"), &options)
                .await
                .map(drop)
                .map_err(Into::into)
        }
    });
    delete(all.await?, "delete Pods", &mut report);
    scratch.drop_namespace().await?;

    if !pids.is_empty() {
        let after = usage(pids)?;
        report.add("server CPU", after.cpu_seconds - before.cpu_seconds, "s");
        report.add(
            "server memory at the end",
            after.resident_bytes as f64 / 1048576.0,
            "MiB",
        );
    }
    Ok(report)
}
