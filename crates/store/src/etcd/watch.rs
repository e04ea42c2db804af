//! Following changes on etcd: events of a prefix, whole revisions at a time, over the loss of any member.
//!
//! A feed watches every key and keeps those of its prefix. Thus each revision shows itself, and how far a feed has come
//! needs no progress notification: etcd before 3.4.25 and 3.5.8 may send one ahead of the events that it covers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{EventType, WatchOptions, WatchResponse, WatchStream};

use super::convert::{signed, stored, unsigned};
use super::members::Members;
use crate::{Error, Event, EventKind, Feed, KeyValue, Revision, WatchBatch};

/// The pause after a watch broke, doubled up to the second while no member takes it.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const OPEN_WITHIN: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct EtcdFeed {
    members: Arc<Members>,
    prefix: String,
    /// Every event up to this revision has been delivered.
    seen: Revision,
    open: Option<Open>,
    pause: Duration,
    progress: Progress,
    /// How many feeds there are.
    watches: Arc<AtomicU64>,
}

/// What somebody wants to know.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    NotAsked,
    Asked,
    /// To be told once this revision has been seen.
    Until(Revision),
}

impl EtcdFeed {
    pub fn new(members: Arc<Members>, prefix: &str, from: Revision, watches: Arc<AtomicU64>) -> Self {
        watches.fetch_add(1, Ordering::Relaxed);
        Self {
            members,
            prefix: prefix.to_owned(),
            seen: from,
            open: None,
            pause: PAUSE,
            progress: Progress::NotAsked,
            watches,
        }
    }

    /// The next message of the open stream, which is opened if there is none.
    async fn message(&mut self) -> Result<WatchResponse, String> {
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(Open::at(&self.members, self.seen).await?),
        };
        match open.stream.message().await {
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err("the stream ended".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Closes the stream; the next one is opened elsewhere.
    async fn give_up(&mut self, why: &str) {
        tracing::warn!(
            why,
            seen = self.seen,
            "a watch on etcd broke; it goes on from where it was"
        );
        if let Some(open) = self.open.take() {
            self.members.pass_on(open.turn);
        }
        self.members.clock.sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// The events of the prefix in a message, if there are any; `seen` moves past all of them.
    fn take(&mut self, message: &WatchResponse) -> Result<Option<WatchBatch>, Error> {
        let mut events = Vec::new();
        let mut seen = self.seen;
        for event in message.events() {
            let Some(kv) = event.kv() else { continue };
            let revision = unsigned(kv.mod_revision());
            // A stream begins with the last revision that was seen, so that etcd can say whether it is compacted.
            if revision <= self.seen {
                continue;
            }
            seen = seen.max(revision);
            if kv.key().starts_with(self.prefix.as_bytes()) {
                events.push(convert_event(event)?);
            }
        }
        self.seen = seen;
        Ok((!events.is_empty()).then_some(WatchBatch { events, revision: seen }))
    }
}

impl Drop for EtcdFeed {
    fn drop(&mut self) {
        self.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Feed for EtcdFeed {
    async fn next(&mut self) -> Result<WatchBatch, Error> {
        loop {
            if self.progress == Progress::Asked {
                match self.members.revision().await {
                    Ok(revision) => self.progress = Progress::Until(revision),
                    Err(error) => self.give_up(&error.to_string()).await,
                }
            }
            if matches!(self.progress, Progress::Until(revision) if revision <= self.seen) {
                self.progress = Progress::NotAsked;
                return Ok(WatchBatch {
                    events: Vec::new(),
                    revision: self.seen,
                });
            }
            let message = match self.message().await {
                Ok(message) => message,
                Err(error) => {
                    self.give_up(&error).await;
                    continue;
                }
            };
            if message.compact_revision() > 0 {
                // The next call finds the same.
                self.open = None;
                return Err(Error::Compacted {
                    compacted: unsigned(message.compact_revision()),
                    requested: self.seen,
                });
            }
            if message.canceled() {
                self.give_up(message.cancel_reason()).await;
                continue;
            }
            self.pause = PAUSE;
            if let Some(batch) = self.take(&message)? {
                return Ok(batch);
            }
        }
    }

    fn request_progress(&mut self) {
        self.progress = Progress::Asked;
    }
}

/// A stream of changes from a revision on, and the turn of the member that sends it.
struct Open {
    stream: WatchStream,
    turn: usize,
}

impl Open {
    async fn at(members: &Members, from: Revision) -> Result<Self, String> {
        let (turn, mut client) = members.watching();
        let options = WatchOptions::new()
            .with_all_keys()
            .with_start_revision(signed(from.max(1)))
            .with_prev_key();
        let opening = client.watch("", Some(options));
        let opened = members.clock.timeout(OPEN_WITHIN, opening).await;
        let failed = match opened {
            Ok(Ok(stream)) => return Ok(Self { stream, turn }),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", OPEN_WITHIN.as_secs()),
        };
        members.pass_on(turn);
        Err(failed)
    }
}

/// The oldest revision that can be read, when `requested` cannot.
pub(super) async fn oldest(members: &Members, requested: Revision) -> Result<Revision, String> {
    let mut open = Open::at(members, requested).await?;
    loop {
        match open.stream.message().await {
            Ok(Some(message)) if message.compact_revision() > 0 => return Ok(unsigned(message.compact_revision())),
            Ok(Some(message)) if message.created() && !message.canceled() => {}
            Ok(_) => return Err("it is not compacted".into()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// After a deletion etcd tells the key alone; what it held stands in `prev_kv`, unless that is compacted by now.
fn convert_event(event: &etcd_client::Event) -> Result<Event, Error> {
    let kv = event.kv().cloned().map(stored).transpose()?;
    let Some(kv) = kv else {
        return Err(Error::corrupt("event without a key", "etcd"));
    };
    let previous = event.prev_kv().cloned().map(stored).transpose()?.map(Arc::new);
    if event.event_type() == EventType::Put {
        return Ok(Event {
            kind: EventKind::Put,
            kv: Arc::new(kv),
            previous,
        });
    }
    let last = previous.as_deref();
    let gone = KeyValue {
        value: last.map(|kv| kv.value.clone()).unwrap_or_default(),
        create_revision: last.map_or(0, |kv| kv.create_revision),
        version: 0,
        ..kv
    };
    Ok(Event {
        kind: EventKind::Delete,
        kv: Arc::new(gone),
        previous,
    })
}
