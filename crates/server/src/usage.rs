//! The metrics API (`metrics.k8s.io`): what nodes and pods use, from the nodes' own counters. Nothing is read until someone
//! asks; then the counters of the nodes that the answer needs are read, and what they grew by since the last time, or for
//! want of one within a second, is the usage.
//!
//! `rows` declares the two kinds, `scrape` reads a node's metrics, `points` makes rates of two readings; here they become
//! objects.

mod points;
mod rows;
mod scrape;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use coracle_api::duration;
use coracle_api::object::{Object, StoredObject};
use coracle_api::resource::{Registry, Resource};
use coracle_api::service::{ListOptions, ObjectList};
use coracle_api::status::Status;
use coracle_clock::{Instant, Timestamp};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::cache::Selection;
use crate::core::Core;
use crate::registry::{Call, Output};
use points::{Points, Usage};
use rows::GROUP;

/// Younger readings are taken as they are.
const FRESH: Duration = Duration::from_secs(10);
/// Between the two readings of a node that was not read lately.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Nodes that are read at the same time.
const AT_ONCE: usize = 32;

/// What was read of the nodes.
pub(crate) struct Usages {
    nodes: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Known>>>>,
    turns: Semaphore,
}

impl Default for Usages {
    fn default() -> Self {
        Self {
            nodes: Mutex::default(),
            turns: Semaphore::new(AT_ONCE),
        }
    }
}

/// What was read of one node; whoever reads it anew holds it.
#[derive(Default)]
struct Known {
    points: Points,
    /// When it was read, or could not be.
    tried: Option<Instant>,
}

/// The metrics API is served from now on.
pub(crate) fn register(registry: &Registry) {
    for row in rows::rows() {
        let plural = row.plural.to_string();
        registry.set_custom(GROUP, &plural, vec![row]);
    }
}

/// Whether a row's objects are made here.
pub(crate) fn serves(row: &Resource) -> bool {
    row.group == GROUP && row.storage.prefix == rows::NOWHERE
}

/// `GET` of one.
pub(crate) fn get<'a>(call: &'a Call<'_>) -> BoxFuture<'a, Result<Output, Status>> {
    let asked = Asked::of(
        call,
        &ListOptions {
            field_selector: format!("metadata.name={}", call.target.name),
            ..ListOptions::default()
        },
    );
    async move {
        let made = objects(asked).await?.pop();
        Output::made(
            made.ok_or_else(|| Status::not_found(call.of(), &call.target.name))?,
            false,
        )
    }
    .boxed()
}

/// `GET` of all that is selected, by the labels of the nodes or pods themselves.
pub(crate) fn list(call: &Call<'_>, options: &ListOptions) -> BoxFuture<'static, Result<ObjectList, Status>> {
    let asked = Asked::of(call, options);
    async move {
        let made = objects(asked).await?.into_iter();
        let items = made.map(StoredObject::from_object);
        let items: Result<Vec<_>, _> = items.map(|i| i.map(Arc::new)).collect();
        Ok(ObjectList {
            items: items.map_err(|e| Status::internal(e.to_string()))?,
            revision: 0,
            continue_token: String::new(),
            remaining: None,
        })
    }
    .boxed()
}

/// What a call asks for, without the call.
struct Asked {
    core: Arc<Core>,
    row: Arc<Resource>,
    namespace: String,
    options: ListOptions,
}

impl Asked {
    fn of(call: &Call<'_>, options: &ListOptions) -> Self {
        Self {
            core: call.core.clone(),
            row: call.row.clone(),
            namespace: call.target.namespace.clone(),
            options: options.clone(),
        }
    }
}

async fn objects(asked: Asked) -> Result<Vec<Object>, Status> {
    let core = &asked.core;
    let of_pods = asked.row.is_namespaced();
    let selected = select(core, &asked.row.plural, &asked.namespace, &asked.options).await?;
    let names: BTreeSet<String> = selected.iter().filter_map(|o| node_of(o, of_pods)).collect();
    let read = read_all(core.clone(), names).await;
    let made = selected.iter().filter_map(|object| {
        let points = read.get(&node_of(object, of_pods)?)?;
        if of_pods {
            pod_metrics(object, points)
        } else {
            node_metrics(object, points)
        }
    });
    Ok(made.collect())
}

/// The node that an object's metrics come from; none for a pod that does not run.
fn node_of(object: &Object, is_pod: bool) -> Option<String> {
    if !is_pod {
        return Some(object.name().to_owned());
    }
    let running = object.str(&["status", "phase"]) == Some("Running");
    object.str(&["spec", "nodeName"]).filter(|_| running).map(str::to_owned)
}

/// The readings of these nodes.
fn read_all(core: Arc<Core>, names: BTreeSet<String>) -> BoxFuture<'static, HashMap<String, Points>> {
    async move {
        let reading: FuturesUnordered<_> = names
            .into_iter()
            .map(|name| async {
                let points = points_of(&core, &name).await;
                (name, points)
            })
            .collect();
        let read = reading.collect().await;
        forget(&core).await;
        read
    }
    .boxed()
}

/// The nodes or pods that are asked about.
async fn select(core: &Arc<Core>, plural: &str, namespace: &str, options: &ListOptions) -> Result<Vec<Object>, Status> {
    let table = core.registry.table();
    let row = table.get("", "v1", plural).ok_or_else(Status::no_such_resource)?;
    let shard = core.cache.shard(row).await?;
    let selection = Selection::parse(row, &shard, namespace, &options.label_selector, &options.field_selector)?;
    let found = shard
        .snapshot(&selection, None, 0, 0)
        .ok_or_else(|| Status::unavailable("the watch cache is starting afresh: try again"))?;
    Ok(found.items.iter().map(|i| i.object.to_object()).collect())
}

/// The node's readings: those that are known if they are fresh, else new ones.
async fn points_of(core: &Arc<Core>, node: &str) -> Points {
    let known = core.usages.nodes.lock().entry(node.to_owned()).or_default().clone();
    let mut known = known.lock().await;
    let now = core.clock.instant();
    if known.tried.is_some_and(|tried| now.duration_since(tried) < FRESH) {
        return known.points.clone();
    }
    loop {
        let turn = core.usages.turns.acquire().await;
        let reading = scrape::node(core, node).await;
        drop(turn);
        match reading {
            Ok(reading) => known.points.add(reading),
            Err(error) => {
                tracing::debug!(node, error, "a node's metrics were not read");
                known.points = Points::default();
                break;
            }
        }
        if known.points.is_complete() {
            break;
        }
        core.clock.sleep(FIRST_PAUSE).await;
    }
    known.tried = Some(core.clock.instant());
    known.points.clone()
}

/// Lets go of nodes that are no more.
async fn forget(core: &Arc<Core>) {
    if let Ok(nodes) = select(core, "nodes", "", &ListOptions::default()).await {
        let names: BTreeSet<&str> = nodes.iter().map(Object::name).collect();
        core.usages.nodes.lock().retain(|name, _| names.contains(name.as_str()));
    }
}

fn usage(of: &Usage) -> Value {
    json!({
        "cpu": format!("{}n", of.cpu_nanocores),
        "memory": format!("{}Ki", of.memory_bytes / 1024),
    })
}

fn metrics(kind: &str, of: &Object, at: Timestamp, window: Duration, rest: (&str, Value)) -> Option<Object> {
    let mut metadata = json!({"name": of.name(), "creationTimestamp": at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()});
    if !of.namespace().is_empty() {
        metadata["namespace"] = of.namespace().into();
    }
    if let Some(labels) = of.get(&["metadata", "labels"]) {
        metadata["labels"] = labels.clone();
    }
    let mut value = json!({
        "apiVersion": format!("{GROUP}/{}", rows::VERSION),
        "kind": kind,
        "metadata": metadata,
        "timestamp": at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "window": duration::format(i64::try_from(window.as_nanos()).unwrap_or(i64::MAX)),
    });
    value[rest.0] = rest.1;
    Object::from_value(value)
}

fn node_metrics(node: &Object, points: &Points) -> Option<Object> {
    let used = points.node()?;
    metrics("NodeMetrics", node, used.at, used.window, ("usage", usage(&used)))
}

/// A pod of which a container that runs has not been read yet is not shown: half a pod would mislead.
fn pod_metrics(pod: &Object, points: &Points) -> Option<Object> {
    let statuses = [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ];
    let running = statuses
        .iter()
        .flat_map(|list| pod.array(&["status", list]))
        .filter(|s| {
            let state = s.get("state").and_then(|s| s.get("running"));
            state.is_some()
        });
    let mut containers = Vec::new();
    let mut shown: Option<(Timestamp, Duration)> = None;
    for status in running {
        let name = status.get("name").and_then(Value::as_str)?;
        let used = points.container(pod.namespace(), pod.name(), name)?;
        containers.push(json!({"name": name, "usage": usage(&used)}));
        shown = Some(shown.map_or((used.at, used.window), |(at, window)| {
            (at.min(used.at), window.max(used.window))
        }));
    }
    let (at, window) = shown?;
    metrics("PodMetrics", pod, at, window, ("containers", containers.into()))
}
