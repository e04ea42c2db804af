//! The metrics APIs as an adapter would serve them, in front of the cluster's own API: what every pod uses, and what the
//! custom metrics of pods and objects are.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_api::object::{Object, StoredObject};
use coracle_api::resource::Registry;
use coracle_api::service::{Answer, ObjectList, Operation, Request, Response, Service, Target, UserInfo};
use coracle_api::status::Status;
use coracle_client::{Client, Error, ListOptions};
use coracle_clock::Clock;
use coracle_controllers::Context;
use coracle_informer::CancellationToken;
use coracle_testkit::{Options, TestCluster};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::world::{World, name};

/// What the APIs say. A metric that is not here is not found.
#[derive(Clone, Default)]
pub struct Told(Arc<Mutex<Tables>>);

#[derive(Default)]
struct Tables {
    /// Of every pod of the app, container by container.
    usage: Value,
    /// By metric: of every pod.
    of_pods: BTreeMap<String, String>,
    /// By `resource/name/metric`.
    of_objects: BTreeMap<String, String>,
}

impl Told {
    /// `{"container": {"cpu": "100m"}}`
    pub fn usage(&self, containers: Value) {
        self.0.lock().usage = containers;
    }

    pub fn of_pods(&self, metric: &str, value: &str) {
        self.0.lock().of_pods.insert(metric.into(), value.into());
    }

    pub fn of_object(&self, path: &str, value: &str) {
        self.0.lock().of_objects.insert(path.into(), value.into());
    }
}

#[derive(Clone)]
struct Adapter {
    admin: Client,
    clock: Clock,
    told: Told,
}

fn stored(value: Value) -> Arc<StoredObject> {
    Arc::new(StoredObject::from_object(Object::from_value(value).unwrap()).unwrap())
}

impl Adapter {
    async fn answer(&self, user: &UserInfo, request: Request) -> Result<Response, Status> {
        let items = match (request.target.group.as_str(), &request.operation) {
            ("metrics.k8s.io", Operation::List(options)) => self.resource(options).await,
            ("custom.metrics.k8s.io", Operation::List(options)) => self.custom(&request.target, options).await?,
            _ => {
                let client = self.admin.impersonating(user.clone()).unwrap();
                return client.request(request).await.map_err(|error| match error {
                    Error::Api(status) => status,
                    other => Status::internal(other.to_string()),
                });
            }
        };
        Ok(Response {
            answer: Answer::List(ObjectList {
                items,
                revision: 0,
                continue_token: String::new(),
                remaining: None,
            }),
            warnings: Vec::new(),
        })
    }

    async fn pods(&self, options: &ListOptions) -> Vec<Arc<Pod>> {
        let options = ListOptions {
            label_selector: options.label_selector.clone(),
            ..ListOptions::default()
        };
        let pods = self.admin.namespaced::<Pod>("default");
        pods.list(&options).await.unwrap().items
    }

    async fn resource(&self, options: &ListOptions) -> Vec<Arc<StoredObject>> {
        let usage = self.told.0.lock().usage.clone();
        let containers: Vec<Value> = usage
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, usage)| json!({"name": name, "usage": usage}))
            .collect();
        let pods = self.pods(options).await;
        let of = |pod: &Arc<Pod>| {
            stored(json!({"apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics",
                "metadata": {"name": name(&**pod), "namespace": "default"},
                "timestamp": self.clock.now(), "window": "30s", "containers": containers}))
        };
        pods.iter().filter(|_| !containers.is_empty()).map(of).collect()
    }

    async fn custom(&self, target: &Target, options: &ListOptions) -> Result<Vec<Arc<StoredObject>>, Status> {
        let metric = target.subresource.clone();
        let value = |of: &str, value: &str| {
            stored(
                json!({"apiVersion": "custom.metrics.k8s.io/v1beta2", "kind": "MetricValue", "metadata": {},
                "describedObject": {"name": of}, "metric": {"name": metric}, "timestamp": self.clock.now(), "value": value}),
            )
        };
        let missing = || Status::internal(format!("the metric {metric} is not there"));
        if target.name == "*" {
            let found = self.told.0.lock().of_pods.get(&metric).cloned().ok_or_else(missing)?;
            let pods = self.pods(options).await;
            return Ok(pods.iter().map(|p| value(&name(&**p), &found)).collect());
        }
        let path = format!("{}/{}/{metric}", target.resource, target.name);
        let found = self.told.0.lock().of_objects.get(&path).cloned().ok_or_else(missing)?;
        Ok(vec![value(&target.name, &found)])
    }
}

impl Service for Adapter {
    fn call<'a>(&'a self, user: &'a UserInfo, request: Request) -> BoxFuture<'a, Result<Response, Status>> {
        self.answer(user, request).boxed()
    }
}

/// A cluster whose controllers see the metrics APIs.
pub async fn cluster() -> (World, Told) {
    let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    let options = Options {
        clock,
        controllers: false,
        scheduler: false,
        ..Options::default()
    };
    let cluster = TestCluster::with(options).await.unwrap();
    let told = Told::default();
    let adapter = Adapter {
        admin: cluster.client.clone(),
        clock,
        told: told.clone(),
    };
    let user = UserInfo {
        name: "system:kube-controller-manager".into(),
        ..UserInfo::default()
    };
    let client = Client::in_process(Arc::new(adapter), Arc::new(Registry::built_in()), user);
    let cx = Context::new(client, clock, CancellationToken::new(), "an authority");
    tokio::spawn(coracle_controllers::run(cx, |_| true));
    (World::of(cluster).await, told)
}
