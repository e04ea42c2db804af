//! Kinds that are found out at run time.

use coracle_testkit::TestCluster;
use kube::api::{Api, DynamicObject, GroupVersionKind, PostParams};
use kube::discovery::{self, Discovery, Scope, verbs};
use serde_json::json;

use crate::{client, define_websites};

#[tokio::test]
async fn a_kind_is_discovered_and_its_objects_are_used_without_a_type() {
    let cluster = TestCluster::start().await.unwrap();
    let client = client(&cluster).await;
    define_websites(&cluster, &client).await;

    let found = Discovery::new(client.clone()).run().await.unwrap();
    let group = found.get("example.coracle.dev").unwrap();
    let (resource, capabilities) = group.recommended_kind("Website").unwrap();
    assert_eq!(resource.plural, "websites");
    assert_eq!(capabilities.scope, Scope::Namespaced);
    assert!(capabilities.supports_operation(verbs::WATCH));
    let (deployment, _) = found
        .resolve_gvk(&GroupVersionKind::gvk("apps", "v1", "Deployment"))
        .unwrap();
    assert_eq!(deployment.plural, "deployments");

    let gvk = GroupVersionKind::gvk("example.coracle.dev", "v1", "Website");
    let (resource, _) = discovery::pinned_kind(&client, &gvk).await.unwrap();
    let sites = Api::<DynamicObject>::default_namespaced_with(client, &resource);
    let site = DynamicObject::new("home", &resource).data(json!({"spec": {"html": "<p/>"}}));
    let made = sites.create(&PostParams::default(), &site).await.unwrap();
    assert_eq!(
        made.data["spec"],
        json!({"html": "<p/>", "image": "nginx", "replicas": 1})
    );
    let scale = sites.get_scale("home").await.unwrap();
    assert_eq!(scale.spec.and_then(|s| s.replicas), Some(1));
    cluster.stop().await;
}
