//! Pods behind services, as clients see them.

use coracle_client::{DeleteOptions, ListOptions};
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;

use crate::world::World;

fn addresses(slice: &EndpointSlice) -> Vec<String> {
    let all = slice.endpoints.iter().flatten().flat_map(|e| e.addresses.clone());
    let mut all: Vec<String> = all.collect();
    all.sort();
    all
}

#[tokio::test(start_paused = true)]
async fn slices_and_endpoints_follow_the_pods_that_a_service_selects() {
    let world = World::start().await;
    world.node("n", "z1").await;
    world
        .create::<Service>(json!({
            "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}], "trafficDistribution": "PreferSameZone"},
        }))
        .await;
    let slices = world.api::<EndpointSlice>();
    let of_web = "kubernetes.io/service-name=web";
    let empty = |all: &[std::sync::Arc<EndpointSlice>]| all.len() == 1 && addresses(&all[0]).is_empty();
    world.wait_all(&slices, of_web, empty).await;

    world.pod("a", "n", "10.1.0.1", json!({"app": "web"}), json!({})).await;
    world.pod("b", "n", "10.1.0.2", json!({"app": "web"}), json!({})).await;
    world
        .pod("other", "n", "10.1.0.3", json!({"app": "db"}), json!({}))
        .await;
    let both = world
        .wait_all(&slices, of_web, |all| {
            all.len() == 1 && addresses(&all[0]) == ["10.1.0.1", "10.1.0.2"]
        })
        .await;
    let ready = |slice: &EndpointSlice| {
        let endpoints = slice.endpoints.iter().flatten();
        endpoints
            .filter(|e| e.conditions.as_ref().is_some_and(|c| c.ready == Some(true)))
            .count()
    };
    world
        .wait_all(&slices, of_web, |all| all.len() == 1 && ready(&all[0]) == 2)
        .await;
    let zones = both[0].endpoints.iter().flatten().filter_map(|e| e.zone.as_deref());
    assert_eq!(zones.collect::<Vec<_>>(), ["z1", "z1"]);
    let endpoints = world.api::<Endpoints>();
    let listed = |e: &Endpoints| {
        let subsets = e.subsets.iter().flatten();
        subsets.map(|s| s.addresses.as_ref().map_or(0, Vec::len)).sum::<usize>()
    };
    world.wait(&endpoints, "web", |e| listed(e) == 2).await;

    world.run("a", "10.1.0.1", false).await;
    world
        .wait_all(&slices, of_web, |all| all.len() == 1 && ready(&all[0]) == 1)
        .await;
    world.wait(&endpoints, "web", |e| listed(e) == 1).await;

    let now = DeleteOptions {
        grace_period_seconds: Some(0),
        ..DeleteOptions::default()
    };
    world.api::<Pod>().delete("b", &now).await.unwrap();
    world
        .wait_all(&slices, of_web, |all| {
            all.len() == 1 && addresses(&all[0]) == ["10.1.0.1"]
        })
        .await;

    world
        .api::<Service>()
        .delete("web", &DeleteOptions::default())
        .await
        .unwrap();
    world.wait_all(&slices, of_web, |all| all.is_empty()).await;
    world.wait_gone(&endpoints, "web").await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn three_hundred_pods_fill_slices_of_a_hundred_each_once() {
    let world = World::start().await;
    world.node("n", "z1").await;
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    world.create::<Service>(service).await;
    for n in 0..210 {
        let ip = format!("10.1.{}.{}", n / 200, n % 200 + 1);
        world
            .pod(&format!("p{n}"), "n", &ip, json!({"app": "web"}), json!({}))
            .await;
    }
    let slices = world.api::<EndpointSlice>();
    let all = world
        .wait_all(&slices, "kubernetes.io/service-name=web", |all| {
            all.iter().map(|s| addresses(s).len()).sum::<usize>() == 210
        })
        .await;
    let mut every: Vec<String> = all.iter().flat_map(|s| addresses(s)).collect();
    every.sort();
    every.dedup();
    assert_eq!(every.len(), 210);
    assert!(all.iter().all(|s| addresses(s).len() <= 100));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_people_write_are_mirrored_and_the_api_servers_are_left_alone() {
    let world = World::start().await;
    world
        .create::<Service>(json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 5432}]}}))
        .await;
    let subset = json!({"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 5432}]});
    world
        .create::<Endpoints>(json!({"metadata": {"name": "db"}, "subsets": [subset]}))
        .await;
    let slices = world.api::<EndpointSlice>();
    let of_db = "kubernetes.io/service-name=db";
    let made = world.wait_all(&slices, of_db, |all| all.len() == 1).await;
    assert_eq!(addresses(&made[0]), ["192.0.2.1"]);
    let labels = made[0].metadata.labels.as_ref().unwrap();
    assert_eq!(
        labels["endpointslice.kubernetes.io/managed-by"],
        "endpointslicemirroring-controller.k8s.io"
    );
    world
        .api::<Endpoints>()
        .delete("db", &DeleteOptions::default())
        .await
        .unwrap();
    world.wait_all(&slices, of_db, |all| all.is_empty()).await;

    let options = ListOptions {
        label_selector: "kubernetes.io/service-name=kubernetes".into(),
        ..ListOptions::default()
    };
    assert_eq!(slices.list(&options).await.unwrap().items.len(), 1);
    assert!(world.api::<Endpoints>().find("kubernetes").await.unwrap().is_some());
    world.stop().await;
}
