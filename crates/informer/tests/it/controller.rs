//! The controller's harness: what is called again, when, and when not.

use std::sync::Arc;
use std::time::Duration;

use coracle_clock::{Clock, Instant};
use coracle_informer::{
    Action, CancellationToken, Controller, Error, InformerFactory, Metrics, ObjectKey, QueueOptions,
};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::create;
use crate::memory::Memory;

/// When which key was reconciled.
type Calls = mpsc::Receiver<(String, Duration)>;

struct Context {
    started: Instant,
    calls: mpsc::Sender<(String, Duration)>,
    /// What to answer, in turn; then `Done`.
    answers: Mutex<Vec<Result<Action, Error>>>,
}

/// A controller of ConfigMaps that answers as told.
fn start(memory: &Memory, answers: Vec<Result<Action, Error>>) -> (Calls, CancellationToken) {
    let (calls, called) = mpsc::channel(100);
    let clock = Clock::system();
    let shutdown = CancellationToken::new();
    let informer = InformerFactory::new(memory.client(), clock, shutdown.clone()).informer::<ConfigMap>();
    let context = Context {
        started: clock.instant(),
        calls,
        answers: Mutex::new(answers),
    };
    let controller = Controller::new("test", 2, clock).watches(&informer, |map| [ObjectKey::of(map)]);
    tokio::spawn(controller.run(context, reconcile, shutdown.clone()));
    (called, shutdown)
}

async fn reconcile(cx: Arc<Context>, key: ObjectKey<ConfigMap>) -> Result<Action, Error> {
    cx.calls.try_send((key.to_string(), cx.started.elapsed())).unwrap();
    let mut answers = cx.answers.lock();
    if answers.is_empty() {
        Ok(Action::Done)
    } else {
        answers.remove(0)
    }
}

async fn milliseconds(calls: &mut Calls) -> u128 {
    calls.recv().await.unwrap().1.as_millis()
}

#[tokio::test(start_paused = true)]
async fn every_object_is_reconciled_and_again_when_it_changes() {
    let memory = Memory::new();
    create(&memory.client(), "a", "").await;
    let (mut calls, _shutdown) = start(&memory, Vec::new());
    assert_eq!(calls.recv().await.unwrap().0, "default/a");
    create(&memory.client(), "b", "").await;
    assert_eq!(calls.recv().await.unwrap().0, "default/b");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_tried_again_after_a_growing_wait_and_success_forgets_it() {
    let memory = Memory::new();
    create(&memory.client(), "a", "").await;
    let fail = || Err(Error::message("not yet"));
    let after = Ok(Action::After(Duration::from_secs(60)));
    let (mut calls, _shutdown) = start(&memory, vec![fail(), fail(), fail(), after, fail()]);
    let first = milliseconds(&mut calls).await;
    let mut last = first;
    for wait in [5, 10, 20, 60_000, 5] {
        let now = milliseconds(&mut calls).await;
        assert_eq!(now - last, wait);
        last = now;
    }
}

#[tokio::test(start_paused = true)]
async fn a_terminal_error_is_not_tried_again() {
    let memory = Memory::new();
    create(&memory.client(), "a", "").await;
    let (mut calls, _shutdown) = start(&memory, vec![Err(Error::terminal("the spec makes no sense"))]);
    calls.recv().await.unwrap();
    let more = Clock::system().timeout(Duration::from_secs(3600), calls.recv()).await;
    assert!(more.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_caught_counted_and_tried_again() {
    let memory = Memory::new();
    create(&memory.client(), "a", "").await;
    let clock = Clock::system();
    let shutdown = CancellationToken::new();
    let informer = InformerFactory::new(memory.client(), clock, shutdown.clone()).informer::<ConfigMap>();
    let (called, mut calls) = mpsc::channel(9);
    let metrics = Metrics::default();
    let options = QueueOptions {
        metrics: metrics.clone(),
        ..QueueOptions::default()
    };
    let controller = Controller::with("panics", 1, clock, options).watches(&informer, |map| [ObjectKey::of(map)]);
    let run = controller.run(
        Mutex::new(0),
        move |cx: Arc<Mutex<u32>>, _key| {
            let called = called.clone();
            async move {
                let count = {
                    let mut count = cx.lock();
                    *count += 1;
                    *count
                };
                called.try_send(count).unwrap();
                assert!(count > 2, "on purpose");
                Ok(Action::Done)
            }
        },
        shutdown,
    );
    tokio::spawn(run);
    for expected in 1..=3 {
        assert_eq!(calls.recv().await, Some(expected));
    }
    let mut registry = prometheus_client::registry::Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "controller_runtime_reconcile_panics_total{controller=\"panics\"} 2",
        "workqueue_adds_total{name=\"panics\"} 3",
        "workqueue_retries_total{name=\"panics\"} 2",
        "workqueue_unfinished_work_seconds{name=\"panics\"} 0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_lets_what_runs_end_and_starts_nothing_more() {
    let memory = Memory::new();
    for name in ["a", "b", "c"] {
        create(&memory.client(), name, "").await;
    }
    let clock = Clock::system();
    let shutdown = CancellationToken::new();
    let informers = CancellationToken::new();
    let informer = InformerFactory::new(memory.client(), clock, informers).informer::<ConfigMap>();
    let done = Arc::new(Mutex::new((0, 0)));
    let counts = done.clone();
    let controller = Controller::new("slow", 1, clock).watches(&informer, |map| [ObjectKey::of(map)]);
    let stop = shutdown.clone();
    let run = controller.run(
        (),
        move |_cx, _key: ObjectKey<ConfigMap>| {
            let (counts, stop) = (counts.clone(), stop.clone());
            async move {
                counts.lock().0 += 1;
                stop.cancel();
                clock.sleep(Duration::from_secs(5)).await;
                counts.lock().1 += 1;
                Ok(Action::Done)
            }
        },
        shutdown,
    );
    let start = clock.instant();
    run.await;
    assert_eq!(*done.lock(), (1, 1));
    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_what_is_owned_reconciles_its_owner() {
    let memory = Memory::new();
    let client = memory.client();
    let clock = Clock::system();
    let shutdown = CancellationToken::new();
    let factory = InformerFactory::new(client.clone(), clock, shutdown.clone());
    let pods = factory.informer::<Pod>();
    let (called, mut calls) = mpsc::channel(9);
    let controller = Controller::<ObjectKey<ReplicaSet>>::new("owners", 1, clock).watches_owned(&pods);
    let reconcile = move |_cx, key: ObjectKey<ReplicaSet>| {
        called.try_send(key.to_string()).unwrap();
        std::future::ready(Ok(Action::Done))
    };
    tokio::spawn(controller.run((), reconcile, shutdown));
    let pod = |name: &str, owner: serde_json::Value| {
        let value = serde_json::json!({"metadata": {"namespace": "x", "name": name, "ownerReferences": [owner]}});
        serde_json::from_value::<Pod>(value).unwrap()
    };
    let mut owner =
        serde_json::json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true});
    client.all().create(&pod("mine", owner.clone())).await.unwrap();
    assert_eq!(calls.recv().await.as_deref(), Some("x/r"));
    assert_eq!(pods.lister().controlled_by("u").len(), 1);

    owner["apiVersion"] = "example.org/v1".into();
    client.all().create(&pod("a-strangers", owner.clone())).await.unwrap();
    owner["apiVersion"] = "apps/v1".into();
    owner["controller"] = false.into();
    client.all().create(&pod("not-managed", owner)).await.unwrap();
    let more = clock.timeout(Duration::from_secs(3600), calls.recv()).await;
    assert!(more.is_err());
}
