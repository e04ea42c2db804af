//! One stored resource in memory: its objects by key, and a bounded window of its latest events.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use coracle_api::object::StoredObject;
use coracle_api::resource::Resource;
use coracle_store::{Error, Event as StoreEvent, EventKind, KeyValue, ListOptions, Revision, Store};
use parking_lot::RwLock;
use tokio::sync::{Notify, OnceCell};

use super::event::Event;
use super::fields::FieldIndex;
use super::{Item, Selection};

/// The window keeps events until one of these is met: a reader further behind is told to list again.
const WINDOW_EVENTS: usize = 16_384;
const WINDOW_BYTES: usize = 16 << 20;
/// How many of them keep what was made of them for those who read as it happens.
const FRESH_EVENTS: usize = 1_024;
/// How many objects are read from the store at a time when a shard is loaded.
const LOAD_PAGE: usize = 2_000;

/// See the module.
pub(crate) struct Shard {
    prefix: String,
    /// How fields are read from the objects as they are stored; cached items keep their values by it.
    fields: OnceLock<Arc<FieldIndex>>,
    state: RwLock<State>,
    /// Told after every change.
    pub changed: Notify,
    loaded: OnceCell<()>,
}

enum State {
    /// Not read yet; the events that arrive meanwhile.
    Loading(Vec<StoreEvent>),
    Loaded(Loaded),
    /// The feed broke: nothing here is current any more.
    Closed,
}

struct Loaded {
    items: BTreeMap<Arc<str>, Arc<Item>>,
    window: Window,
    /// The revision of the last event, or of the load.
    revision: Revision,
}

/// The latest events, numbered without gaps.
struct Window {
    events: VecDeque<Arc<Event>>,
    /// The number of the first event in the window.
    first: u64,
    bytes: usize,
    /// All events after this revision are in the window.
    base: Revision,
}

/// What is there for a reader of the window.
pub(crate) enum Read {
    /// The reader has fallen behind, or the shard is gone.
    Expired,
    Events(Vec<Arc<Event>>),
}

/// Some of the objects, at one revision, and where a watch goes on from there.
pub(crate) struct Snapshot {
    pub items: Vec<Arc<Item>>,
    pub revision: Revision,
    /// The number of the next event.
    pub cursor: u64,
    /// Whether a limit cut it short, and the key of the last item then.
    pub more: Option<Arc<str>>,
    /// How many keys come after the last item (selected or not).
    pub remaining: u64,
}

impl Shard {
    pub fn new(row: &Resource) -> Self {
        Self {
            prefix: row.key_prefix(""),
            fields: OnceLock::new(),
            state: RwLock::new(State::Loading(Vec::new())),
            changed: Notify::new(),
            loaded: OnceCell::new(),
        }
    }

    /// `/registry/pods/`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// How this row's fields are read, and whether the items keep the values.
    pub fn field_index(&self, row: &Arc<Resource>) -> (Arc<FieldIndex>, bool) {
        if row.api_version() == row.storage.api_version {
            let kept = self.fields.get_or_init(|| Arc::new(FieldIndex::new(row)));
            if kept.paths() == row.selectable_fields {
                return (kept.clone(), true);
            }
        }
        (Arc::new(FieldIndex::new(row)), false)
    }

    /// Reads the objects from the store, once.
    pub async fn load(&self, store: &dyn Store) -> Result<(), Error> {
        self.loaded.get_or_try_init(|| self.read_all(store)).await.copied()
    }

    async fn read_all(&self, store: &dyn Store) -> Result<(), Error> {
        let mut items = BTreeMap::new();
        let mut options = ListOptions {
            prefix: self.prefix.clone(),
            limit: LOAD_PAGE,
            ..ListOptions::default()
        };
        let revision = loop {
            let page = store.list(options.clone()).await?;
            for kv in &page.items {
                if let Some(item) = item(kv) {
                    items.insert(kv.key.clone(), Arc::new(item));
                }
            }
            match page.items.last() {
                Some(last) if page.more => {
                    options.revision = Some(page.revision);
                    options.after = Some(last.key.to_string());
                    tokio::task::yield_now().await;
                }
                _ => break page.revision,
            }
        };
        let window = Window {
            events: VecDeque::new(),
            first: 0,
            bytes: 0,
            base: revision,
        };
        let mut loaded = Loaded {
            items,
            window,
            revision,
        };
        let mut state = self.state.write();
        if let State::Loading(waiting) = &mut *state {
            let waiting = std::mem::take(waiting);
            let later: Vec<StoreEvent> = waiting.into_iter().filter(|e| e.revision() > revision).collect();
            loaded.apply(&later);
            *state = State::Loaded(loaded);
        }
        Ok(())
    }

    /// Takes events of this shard, in order.
    pub fn apply(&self, events: &[StoreEvent]) {
        match &mut *self.state.write() {
            State::Loading(waiting) => waiting.extend_from_slice(events),
            State::Loaded(loaded) => loaded.apply(events),
            State::Closed => {}
        }
        self.changed.notify_waiters();
    }

    /// Ends all watchers.
    pub fn close(&self) {
        *self.state.write() = State::Closed;
        self.changed.notify_waiters();
    }

    /// The objects that `selection` selects, from the first key after `after`, at most `limit` (0: all). `fed` is the
    /// revision that the whole cache has reached. `None` if the shard is closed.
    pub fn snapshot(
        &self,
        selection: &Selection,
        after: Option<&str>,
        limit: usize,
        fed: Revision,
    ) -> Option<Snapshot> {
        let state = self.state.read();
        let State::Loaded(loaded) = &*state else { return None };
        let prefix = selection.prefix();
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut items = Vec::new();
        let mut more = None;
        let mut remaining = 0;
        if let Some(name) = selection.single() {
            if after.is_none_or(|after| after < name) {
                items.extend(loaded.items.get(name).filter(|i| selection.matches(i)).cloned());
            }
        } else {
            let mut range = loaded.items.range::<str, _>((start, Bound::Unbounded));
            let mut last: Option<&Arc<str>> = None;
            while let Some((key, item)) = range.next() {
                if !key.starts_with(prefix) {
                    break;
                }
                if limit > 0 && items.len() == limit {
                    more = last.cloned();
                    // This one and all after it.
                    remaining = 1 + range.take_while(|(k, _)| k.starts_with(prefix)).count() as u64;
                    break;
                }
                if selection.matches(item) {
                    items.push(item.clone());
                    last = Some(key);
                }
            }
            if limit > 0 && items.len() < limit {
                more = None;
            }
        }
        Some(Snapshot {
            items,
            revision: loaded.revision.max(fed),
            cursor: loaded.window.end(),
            more,
            remaining,
        })
    }

    /// Where a watch that has seen everything up to `revision` goes on; `None` if events after it have left the
    /// window.
    pub fn cursor_after(&self, revision: Revision) -> Option<u64> {
        match &*self.state.read() {
            State::Loaded(loaded) => loaded.window.cursor_after(revision),
            _ => None,
        }
    }

    /// The revision of the last change (or of the load): lists of this revision or later are lists of now.
    pub fn revision(&self) -> Option<Revision> {
        match &*self.state.read() {
            State::Loaded(loaded) => Some(loaded.revision),
            _ => None,
        }
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        match &*self.state.read() {
            State::Loaded(loaded) => loaded.items.len(),
            _ => 0,
        }
    }

    /// What the key holds.
    pub fn get(&self, key: &str) -> Option<Arc<Item>> {
        match &*self.state.read() {
            State::Loaded(loaded) => loaded.items.get(key).cloned(),
            _ => None,
        }
    }

    /// At most `most` events from `cursor` on.
    pub fn read(&self, cursor: u64, most: usize) -> Read {
        let state = self.state.read();
        let State::Loaded(loaded) = &*state else {
            return Read::Expired;
        };
        let window = &loaded.window;
        let Some(skip) = cursor.checked_sub(window.first) else {
            return Read::Expired;
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        Read::Events(window.events.iter().skip(skip).take(most).cloned().collect())
    }
}

/// What is stored under a key, if it is an object.
pub(crate) fn item(kv: &KeyValue) -> Option<Item> {
    match StoredObject::from_bytes(kv.value.clone(), kv.mod_revision) {
        Ok(object) => Some(Item::new(Arc::new(object))),
        Err(error) => {
            tracing::error!(key = %kv.key, %error, "stored bytes are not an object");
            None
        }
    }
}

impl Loaded {
    fn apply(&mut self, events: &[StoreEvent]) {
        for event in events {
            let key = event.kv.key.clone();
            self.revision = event.revision();
            let current = match event.kind {
                EventKind::Put => item(&event.kv).map(Arc::new),
                EventKind::Delete => None,
            };
            let previous = match &current {
                Some(current) => self.items.insert(key.clone(), current.clone()),
                None => self.items.remove(&key),
            };
            if current.is_some() || previous.is_some() {
                self.window.push(Event::new(event.revision(), key, current, previous));
            }
        }
    }
}

impl Window {
    fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    fn push(&mut self, event: Event) {
        self.bytes += event.weight();
        self.events.push_back(Arc::new(event));
        let settled = self.events.len().checked_sub(FRESH_EVENTS + 1);
        if let Some(event) = settled.and_then(|at| self.events.get(at)) {
            event.settle();
        }
        while self.events.len() > WINDOW_EVENTS || (self.bytes > WINDOW_BYTES && self.events.len() > 1) {
            let Some(gone) = self.events.pop_front() else { break };
            self.bytes -= gone.weight();
            self.base = gone.revision;
            self.first += 1;
        }
    }

    fn cursor_after(&self, revision: Revision) -> Option<u64> {
        if revision < self.base {
            return None;
        }
        let at = self.events.partition_point(|e| e.revision <= revision);
        Some(self.first + at as u64)
    }
}
