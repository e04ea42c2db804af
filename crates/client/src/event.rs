//! Telling people what happened to an object: `Event` objects, as `kubectl describe` shows them.
//!
//! [`EventRecorder`] never makes its caller wait: what is recorded goes into a bounded queue, and one task
//! [correlates](correlator) it (repeats become a count, floods are cut) and writes it. Events are a courtesy: what cannot
//! be written in the end is dropped and logged.

mod correlator;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coracle_api::names;
use coracle_clock::Clock;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::kind::{Kind, TypedKind};
use crate::{Client, Error, Patch};
use correlator::{Correlator, Verdict};

/// How many events wait to be written before new ones are dropped.
const QUEUE: usize = 1000;
/// How often, and how long apart, an event is tried when the server cannot be reached.
const TRIES: u32 = 12;
const PAUSE: Duration = Duration::from_secs(10);

/// Whether all is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    Normal,
    Warning,
}

/// Records events for one component. Cheap to clone.
#[derive(Clone)]
pub struct EventRecorder {
    queue: mpsc::Sender<Event>,
    source: Arc<EventSource>,
    clock: Clock,
    /// Keeps what was said in one instant in its order.
    sequence: Arc<AtomicU64>,
    dropped: Arc<AtomicU64>,
}

/// What an event is about.
pub fn reference<K: TypedKind>(object: &K) -> ObjectReference {
    let resource = K::resource();
    ObjectReference {
        api_version: Some(resource.api_version()),
        kind: Some(resource.kind.into_owned()),
        ..reference_of(object)
    }
}

fn reference_of<K: Kind>(object: &K) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        ..ObjectReference::default()
    }
}

impl EventRecorder {
    /// Starts the task that writes; it ends at `shutdown`, after one try for each event that still waits. `host` is the
    /// node's name, for components of a node.
    pub fn start(
        client: &Client,
        component: &str,
        host: Option<&str>,
        clock: Clock,
        shutdown: CancellationToken,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let writer = Writer {
            client: client.named(component),
            clock,
            correlator: Correlator::new(clock),
            shutdown,
        };
        tokio::spawn(writer.run(waiting));
        Self {
            queue,
            source: Arc::new(EventSource {
                component: Some(component.to_owned()),
                host: host.map(str::to_owned),
            }),
            clock,
            sequence: Arc::default(),
            dropped: Arc::default(),
        }
    }

    /// The same recorder for another node's component.
    pub fn on_host(&self, host: &str) -> Self {
        let source = EventSource {
            component: self.source.component.clone(),
            host: Some(host.to_owned()),
        };
        Self {
            source: Arc::new(source),
            ..self.clone()
        }
    }

    /// Records that something happened to `object`: `reason` is a short word in CamelCase, `message` a sentence.
    pub fn event<K: TypedKind>(&self, object: &K, kind: EventType, reason: &str, message: impl Into<String>) {
        self.event_on(reference(object), kind, reason, message);
    }

    /// The same about an object that is only known by reference; a `field_path` names a part of it, as
    /// `spec.containers{web}`.
    pub fn event_on(&self, about: ObjectReference, kind: EventType, reason: &str, message: impl Into<String>) {
        let now = self.clock.now();
        let namespace = about.namespace.clone().filter(|n| !n.is_empty());
        let mut event = Event {
            metadata: ObjectMeta {
                namespace: Some(namespace.unwrap_or_else(|| "default".into())),
                ..ObjectMeta::default()
            },
            involved_object: about,
            type_: Some(
                match kind {
                    EventType::Normal => "Normal",
                    EventType::Warning => "Warning",
                }
                .into(),
            ),
            reason: Some(reason.to_owned()),
            message: Some(limit(message.into())),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            reporting_component: self.source.component.clone(),
            reporting_instance: self.source.host.clone(),
            source: Some((*self.source).clone()),
            ..Event::default()
        };
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let stamp = now.as_nanosecond().saturating_add(sequence.into());
        event.metadata.name = Some(name_of(&event, stamp));
        if let Err(error) = self.queue.try_send(event) {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            // The first of many says it all.
            if dropped.is_power_of_two() {
                tracing::warn!(%error, dropped, "an event was not recorded");
            }
        }
    }

    /// How many events found the queue full (or the task ended).
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// The object's name, the stamp (hexadecimal nanoseconds, as upstream has it) and a digest of who says what about which
/// object: two recorders, of one process or of several, give one name only to what is one event.
fn name_of(event: &Event, stamp: i128) -> String {
    let about = &event.involved_object;
    let mut said = DefaultHasher::new();
    (&about.api_version, &about.kind, &about.namespace, &about.name).hash(&mut said);
    (&about.uid, &about.field_path).hash(&mut said);
    (&event.type_, &event.reason, &event.message).hash(&mut said);
    (&event.reporting_component, &event.reporting_instance).hash(&mut said);
    let suffix = format!("{stamp:x}{:016x}", said.finish());
    let name = format!("{}.{suffix}", about.name.as_deref().unwrap_or_default());
    if names::dns1123_subdomain(&name).is_empty() {
        return name;
    }
    // Not every object's name is one that an event may have (`system:node`), and some are too long.
    format!("{}.{suffix}", about.uid.as_deref().unwrap_or("event"))
}

/// The API allows messages of up to 1024 bytes.
fn limit(mut message: String) -> String {
    if message.len() > 1024 {
        let end = (0..=1021).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        message.truncate(end);
        message.push_str("...");
    }
    message
}

struct Writer {
    client: Client,
    clock: Clock,
    correlator: Correlator,
    shutdown: CancellationToken,
}

impl Writer {
    async fn run(mut self, mut waiting: mpsc::Receiver<Event>) {
        while let Some(event) = self.next(&mut waiting).await {
            match self.correlator.correlate(event) {
                Verdict::Drop => {}
                Verdict::Write(event) => self.write(*event).await,
            }
        }
    }

    async fn next(&self, waiting: &mut mpsc::Receiver<Event>) -> Option<Event> {
        tokio::select! {
            biased;
            next = waiting.recv() => next,
            () = self.shutdown.cancelled() => {
                waiting.close();
                waiting.try_recv().ok()
            }
        }
    }

    async fn write(&mut self, event: Event) {
        for attempt in 1..=TRIES {
            match self.write_once(&event).await {
                Ok(()) => return,
                Err(error @ (Error::Transport { .. } | Error::Timeout { .. }))
                    if attempt < TRIES && !self.shutdown.is_cancelled() =>
                {
                    tracing::debug!(%error, "an event will be written later");
                    let pause = self.clock.sleep(PAUSE);
                    let _ = self.shutdown.run_until_cancelled(pause).await;
                }
                Err(error) => {
                    self.correlator.forget(&event);
                    let reason = event.reason.as_deref();
                    tracing::warn!(%error, object = event.involved_object.name, reason, "an event was not written");
                    return;
                }
            }
        }
    }

    async fn write_once(&self, event: &Event) -> Result<(), Error> {
        let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
        let name = event.metadata.name.as_deref().unwrap_or_default();
        let events = self.client.namespaced::<Event>(namespace);
        if event.count > Some(1) {
            let patch = Patch::Merge(json!({
                "count": event.count,
                "lastTimestamp": event.last_timestamp,
                "message": event.message,
            }));
            match events.patch(name, patch).await {
                // It has been cleaned up since: write it anew.
                Err(error) if error.is_not_found() => {}
                other => return other.map(drop),
            }
        }
        match events.create(event).await {
            // A first try that was thought lost.
            Err(error) if error.is_already_exists() => Ok(()),
            other => other.map(drop),
        }
    }
}
