//! What `/metrics` tells of the controllers in the process. Over HTTP, so in real time.

use std::path::Path;

use coracle_client::{Client, Config};
use coracle_clock::Clock;
use coracle_testkit::TestCluster;
use k8s_openapi::api::core::v1::ServiceAccount;

#[tokio::test]
async fn the_queues_and_reconciles_of_controllers_are_told_by_upstreams_names() {
    let cluster = TestCluster::start().await.unwrap();
    let config = Config::from_kubeconfig(Path::new(&cluster.kubeconfig()), None).unwrap();
    let client = Client::connect(config, Clock::system()).unwrap();
    // Once the default service account is there, a controller has worked.
    let accounts = client.namespaced::<ServiceAccount>("default");
    let mut changes = accounts.watch(&Default::default()).await.unwrap();
    while let Some(event) = futures::StreamExt::next(&mut changes).await {
        if matches!(event.unwrap(), coracle_client::WatchEvent::Added(account) if account.metadata.name.as_deref() == Some("default"))
        {
            break;
        }
    }
    let text = client.raw("/metrics", "text/plain").await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    for name in [
        "workqueue_depth{name=\"daemonset-controller\"}",
        "workqueue_adds_total{name=\"serviceaccount-controller\"}",
        "workqueue_retries_total{name=\"statefulset-controller\"}",
        "workqueue_queue_duration_seconds_bucket{le=\"",
        "workqueue_work_duration_seconds_count{name=\"serviceaccount-controller\"}",
        "workqueue_unfinished_work_seconds{name=\"job-controller\"}",
        "workqueue_longest_running_processor_seconds{name=\"job-controller\"}",
        "controller_runtime_reconcile_total{controller=\"serviceaccount-controller\",result=\"success\"}",
    ] {
        assert!(text.contains(name), "{name} is not in\n{text}");
    }
    cluster.stop().await;
}
