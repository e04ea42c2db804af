//! One change of one cached object, encoded at most once for all who watch it as it happens.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use coracle_api::object::StoredObject;
use coracle_api::service::WatchEvent;
use parking_lot::RwLock;

use super::{Item, Selection};

/// What a change is to one watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventType {
    Added,
    Modified,
    Deleted,
}

impl EventType {
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// A change as it happened. What it means to a watcher depends on the watcher's selectors.
pub(crate) struct Event {
    pub revision: u64,
    pub key: Arc<str>,
    /// The new state; `None` for a deletion.
    pub current: Option<Arc<Item>>,
    pub previous: Option<Arc<Item>>,
    /// The previous state at this event's revision, for those to whom the object is gone.
    gone: OnceLock<Option<Arc<StoredObject>>>,
    encoded: RwLock<Encoded>,
}

/// An event's lines in a JSON watch.
struct Encoded {
    lines: [Option<Bytes>; 3],
    /// Lines are no longer kept: few read the event that late.
    settled: bool,
}

impl Event {
    pub fn new(revision: u64, key: Arc<str>, current: Option<Arc<Item>>, previous: Option<Arc<Item>>) -> Self {
        Self {
            revision,
            key,
            current,
            previous,
            gone: OnceLock::new(),
            encoded: RwLock::new(Encoded {
                lines: Default::default(),
                settled: false,
            }),
        }
    }

    /// How much memory it keeps, roughly: what it replaced is what nobody else holds.
    pub fn weight(&self) -> usize {
        self.previous.as_ref().map_or(0, |p| p.object.raw().len()) + 256
    }

    /// What this change is to somebody who selects by `selection`; `None` if nothing.
    pub fn seen_by(&self, selection: &Selection) -> Option<EventType> {
        if !selection.covers(&self.key) {
            return None;
        }
        let is = self.current.as_ref().is_some_and(|item| selection.matches(item));
        let was = self.previous.as_ref().is_some_and(|item| selection.matches(item));
        match (was, is) {
            (false, true) => Some(EventType::Added),
            (true, true) => Some(EventType::Modified),
            (true, false) => Some(EventType::Deleted),
            (false, false) => None,
        }
    }

    fn gone(&self) -> Option<Arc<StoredObject>> {
        let make = || {
            let last = self.previous.as_ref()?;
            StoredObject::from_bytes(last.object.raw().clone(), self.revision)
                .ok()
                .map(Arc::new)
        };
        self.gone.get_or_init(make).clone()
    }

    /// The object that goes with the event.
    pub fn object(&self, kind: EventType) -> Option<Arc<StoredObject>> {
        match kind {
            EventType::Deleted => self.gone(),
            _ => self.current.as_ref().map(|c| c.object.clone()),
        }
    }

    /// Lets go of all that is only kept because many read an event soon after it happened.
    pub fn settle(&self) {
        *self.encoded.write() = Encoded {
            lines: Default::default(),
            settled: true,
        };
        let previous = self.previous.as_ref().map(|p| &p.object);
        let gone = self.gone.get().and_then(Option::as_ref);
        for past in [previous, gone].into_iter().flatten() {
            past.forget_typed();
        }
    }

    /// The event as a line of a JSON watch, in the stored version.
    pub fn json(&self, kind: EventType) -> Option<Bytes> {
        let at = match kind {
            EventType::Added => 0,
            EventType::Modified => 1,
            EventType::Deleted => 2,
        };
        let kept = self.encoded.read().lines.get(at).cloned().flatten();
        if kept.is_some() {
            return kept;
        }
        let line = encode(kind.name(), self.object(kind)?.as_ref());
        let mut encoded = self.encoded.write();
        if !encoded.settled
            && let Some(place) = encoded.lines.get_mut(at)
        {
            *place = Some(line.clone());
        }
        Some(line)
    }
}

/// `{"type":...,"object":...}` and a line feed.
pub(crate) fn encode(name: &str, object: &StoredObject) -> Bytes {
    let mut out = Vec::with_capacity(object.raw().len() + 96);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    object.write_json(&mut out);
    out.extend_from_slice(b"}\n");
    out.into()
}

/// What a watcher hands on.
pub(crate) enum Delivery {
    /// An object that was there when the watch began.
    Initial(Arc<StoredObject>),
    Change(EventType, Arc<Event>),
    Bookmark {
        revision: u64,
        initial_events_end: bool,
    },
}

impl Delivery {
    /// In the form that in-process clients read.
    pub fn into_event(self) -> Option<WatchEvent> {
        Some(match self {
            Self::Initial(object) => WatchEvent::Added(object),
            Self::Change(kind, event) => {
                let object = event.object(kind)?;
                match kind {
                    EventType::Added => WatchEvent::Added(object),
                    EventType::Modified => WatchEvent::Modified(object),
                    EventType::Deleted => WatchEvent::Deleted(object),
                }
            }
            Self::Bookmark {
                revision,
                initial_events_end,
            } => WatchEvent::Bookmark {
                revision,
                initial_events_end,
            },
        })
    }
}
