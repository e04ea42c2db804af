//! The event recorder, in virtual time.

use std::time::Duration;

use coracle_api::status::Status;
use coracle_client::ListOptions;
use coracle_client::event::{EventRecorder, EventType};
use coracle_clock::Clock;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Event;
use tokio_util::sync::CancellationToken;

use crate::in_process::config_map;
use crate::memory::Memory;

fn recorder(memory: &Memory) -> (EventRecorder, CancellationToken) {
    let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    let shutdown = CancellationToken::new();
    let recorder = EventRecorder::start(&memory.client(), "tester", Some("n1"), clock, shutdown.clone());
    (recorder, shutdown)
}

/// The next `n` writes of events.
async fn next(memory: &Memory, n: usize) -> impl Future<Output = Vec<Event>> {
    let events = memory
        .client()
        .all::<Event>()
        .watch(&ListOptions::default())
        .await
        .unwrap();
    events
        .take(n)
        .map(|event| match event.unwrap() {
            coracle_client::WatchEvent::Added(e) | coracle_client::WatchEvent::Modified(e) => (*e).clone(),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn an_event_says_what_happened_to_what_and_a_repeat_counts() {
    let memory = Memory::new();
    let (recorder, _shutdown) = recorder(&memory);
    let written = next(&memory, 3).await;
    let mut map = config_map("a");
    map.metadata.uid = Some("u".into());
    for _ in 0..3 {
        recorder.event(&map, EventType::Warning, "Failed", "it did not work");
    }
    let written = written.await;
    let event = &written[2];
    assert_eq!(event.count, Some(3));
    assert_eq!(memory.objects("events").len(), 1);
    assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
    let about = &event.involved_object;
    assert_eq!(
        (
            about.kind.as_deref(),
            about.api_version.as_deref(),
            about.name.as_deref(),
            about.uid.as_deref()
        ),
        (Some("ConfigMap"), Some("v1"), Some("a"), Some("u"))
    );
    assert_eq!(
        (event.type_.as_deref(), event.reason.as_deref()),
        (Some("Warning"), Some("Failed"))
    );
    assert_eq!(event.source.as_ref().unwrap().component.as_deref(), Some("tester"));
    assert_eq!(event.reporting_instance.as_deref(), Some("n1"));
}

#[tokio::test(start_paused = true)]
async fn a_refused_event_is_dropped_and_the_next_is_written() {
    let memory = Memory::new();
    let (recorder, _shutdown) = recorder(&memory);
    let written = next(&memory, 1).await;
    memory.fail(
        1,
        &Status::forbidden(
            coracle_api::status::Of {
                group: "",
                plural: "events",
            },
            "",
            "no",
        ),
    );
    recorder.event(&config_map("a"), EventType::Normal, "One", "first");
    recorder.event(&config_map("a"), EventType::Normal, "Two", "second");
    assert_eq!(written.await[0].reason.as_deref(), Some("Two"));
}

#[tokio::test(start_paused = true)]
async fn a_flood_never_makes_the_caller_wait() {
    let memory = Memory::new();
    let (recorder, _shutdown) = recorder(&memory);
    for n in 0..5000 {
        recorder.event(&config_map(&n.to_string()), EventType::Normal, "Made", "x".repeat(5000));
    }
    assert_eq!(recorder.dropped(), 4000);
    Clock::system().sleep(Duration::from_secs(1)).await;
    let events = memory.objects("events");
    assert_eq!(events.len(), 1000);
    let message = events.values().next().unwrap().to_object();
    assert_eq!(message.str(&["message"]).unwrap().len(), 1024);
}

#[tokio::test(start_paused = true)]
async fn what_waits_at_shutdown_is_still_written() {
    let memory = Memory::new();
    let (recorder, shutdown) = recorder(&memory);
    let written = next(&memory, 2).await;
    recorder.event(&config_map("a"), EventType::Normal, "One", "first");
    recorder.event(&config_map("b"), EventType::Normal, "Two", "second");
    shutdown.cancel();
    assert_eq!(written.await.len(), 2);
    recorder.event(&config_map("c"), EventType::Normal, "Three", "too late");
    Clock::system().sleep(Duration::from_secs(1)).await;
    assert_eq!(memory.objects("events").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_several_recorders_say_in_one_instant_is_all_written() {
    let memory = Memory::new();
    let (one, _shutdown) = recorder(&memory);
    let (other, _other_shutdown) = recorder(&memory);
    let written = next(&memory, 6).await;
    for n in 0..3 {
        one.event(&config_map("a"), EventType::Normal, "One", format!("it was {n}"));
        other
            .on_host("n2")
            .event(&config_map("a"), EventType::Normal, "One", format!("it was {n}"));
    }
    let mut said: Vec<_> = written
        .await
        .into_iter()
        .map(|e| (e.reporting_instance, e.message))
        .collect();
    said.sort();
    said.dedup();
    assert_eq!(said.len(), 6);
    assert_eq!(memory.objects("events").len(), 6);
}

#[tokio::test(start_paused = true)]
async fn one_event_that_two_recorders_of_a_component_tell_is_written_once() {
    let memory = Memory::new();
    let (one, _shutdown) = recorder(&memory);
    let (other, _other_shutdown) = recorder(&memory);
    one.event(&config_map("a"), EventType::Normal, "One", "first");
    other.event(&config_map("a"), EventType::Normal, "One", "first");
    Clock::system().sleep(Duration::from_secs(1)).await;
    assert_eq!(memory.objects("events").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_event_about_an_object_whose_name_events_may_not_have_is_named_by_its_uid() {
    let memory = Memory::new();
    let (recorder, _shutdown) = recorder(&memory);
    let written = next(&memory, 4).await;
    let long = "a".repeat(253);
    for (name, uid) in [("plain", "u"), ("system:node", "u"), (&long, "u"), ("UPPER", "")] {
        let mut map = config_map(name);
        map.metadata.uid = Some(uid.to_owned()).filter(|u| !u.is_empty());
        recorder.event(&map, EventType::Normal, "Made", "it was made");
    }
    let starts: Vec<String> = written
        .await
        .iter()
        .map(|e| {
            e.metadata
                .name
                .as_deref()
                .unwrap()
                .split('.')
                .next()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(starts, ["plain", "u", "u", "event"]);
}
