//! A scripted API server for tests of what clients do when servers fail: it keeps objects and their history, and fails as
//! it is told. It knows no kind, and checks nothing but resource versions: it is no stand-in for the server.
//!
//! Must not grow: what a server does is tested with the server.
#![allow(dead_code)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use coracle_api::object::{Object, StoredObject};
use coracle_api::resource::Registry;
use coracle_api::service::{
    Answer, ListOptions, ObjectList, Operation, PatchKind, Request, Response, Service, Target, UserInfo, WatchEvent,
};
use coracle_api::status::{Of, Status};
use coracle_client::Client;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;

pub type Key = (String, String, String);

#[derive(Default)]
struct State {
    revision: u64,
    uids: u64,
    objects: BTreeMap<Key, Arc<StoredObject>>,
    history: Vec<(u64, String, WatchEvent)>,
    /// History up to here is gone.
    compacted: u64,
    /// Watches opened before this count are cut.
    cut: (u64, bool),
    opened: u64,
    bookmarked: u64,
    failures: VecDeque<Status>,
    pub calls: Vec<String>,
}

/// Objects in memory, and faults to come. A clone is the same server.
#[derive(Clone)]
pub struct Memory {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<()>,
}

impl Memory {
    pub fn new() -> Self {
        Self {
            state: Arc::default(),
            changed: watch::Sender::new(()),
        }
    }

    pub fn client(&self) -> Client {
        let registry = Arc::new(Registry::from_rows([]));
        Client::in_process(Arc::new(self.clone()), registry, UserInfo::default())
    }

    /// The next requests fail with this.
    pub fn fail(&self, times: usize, status: &Status) {
        let mut state = self.state.lock();
        state.failures.extend(std::iter::repeat_n(status.clone(), times));
    }

    /// Every open watch ends: with an error, or as one whose time is up.
    pub fn cut(&self, error: bool) {
        let mut state = self.state.lock();
        state.cut = (state.opened, error);
        drop(state);
        self.changed.send_replace(());
    }

    /// History is forgotten: whoever is behind gets 410.
    pub fn compact(&self) {
        let mut state = self.state.lock();
        state.compacted = state.revision;
        state.history.clear();
        drop(state);
        self.changed.send_replace(());
    }

    /// Every watch that asked for bookmarks gets one.
    pub fn bookmark(&self) {
        let mut state = self.state.lock();
        // Revisions are shared by all resources.
        state.revision += 1;
        state.bookmarked = state.revision;
        drop(state);
        self.changed.send_replace(());
    }

    pub fn objects(&self, resource: &str) -> BTreeMap<(String, String), Arc<StoredObject>> {
        let state = self.state.lock();
        let of = state.objects.iter().filter(|(key, _)| key.0 == resource);
        of.map(|(key, object)| ((key.1.clone(), key.2.clone()), object.clone()))
            .collect()
    }

    /// What was asked, as `verb resource/name`.
    pub fn calls(&self) -> Vec<String> {
        self.state.lock().calls.clone()
    }

    fn answer(&self, request: Request) -> Result<Response, Status> {
        let mut state = self.state.lock();
        let target = request.target;
        let verb = match &request.operation {
            Operation::Get { .. } => "get",
            Operation::List(_) => "list",
            Operation::Watch(_) => "watch",
            Operation::Create { .. } => "create",
            Operation::Update { .. } => "update",
            Operation::Patch { .. } => "patch",
            Operation::Delete(_) => "delete",
            Operation::DeleteCollection { .. } => "deletecollection",
        };
        state.calls.push(format!("{verb} {}/{}", target.resource, target.name));
        if let Some(status) = state.failures.pop_front() {
            return Err(status);
        }
        let of = Of {
            group: &target.group,
            plural: &target.resource,
        };
        let key = (target.resource.clone(), target.namespace.clone(), target.name.clone());
        let current = state.objects.get(&key).cloned();
        let found = || current.clone().ok_or_else(|| Status::not_found(of, &target.name));
        let object = match request.operation {
            Operation::Get { .. } => found()?,
            Operation::List(options) => {
                return Ok(answer(Answer::List(state.list(&target, &options)?)));
            }
            Operation::Watch(options) => {
                drop(state);
                return Ok(answer(Answer::Watch(Box::pin(self.watch(&target, &options)))));
            }
            Operation::Create { mut object, .. } => {
                let name = if target.name.is_empty() {
                    object.name().to_owned()
                } else {
                    target.name
                };
                let key = (target.resource.clone(), target.namespace.clone(), name.clone());
                if state.objects.contains_key(&key) {
                    return Err(Status::already_exists(of, &name));
                }
                state.uids += 1;
                object.set(&["metadata", "uid"], format!("uid-{}", state.uids));
                object.set(&["metadata", "namespace"], target.namespace);
                state.write(key, object)
            }
            Operation::Update { object, .. } => {
                let old = found()?;
                if !object.resource_version().is_empty() && object.resource_version() != old.revision().to_string() {
                    return Err(Status::modified(of, &target.name));
                }
                state.write(key, object)
            }
            Operation::Patch {
                kind: PatchKind::Merge,
                patch,
                ..
            } => {
                let mut object = found()?.to_object().into_value();
                merge(&mut object, &patch);
                state.write(key, Object::from_value(object).unwrap())
            }
            Operation::Delete(_) => {
                found()?;
                state.remove(&key)
            }
            Operation::Patch { .. } | Operation::DeleteCollection { .. } => {
                return Err(Status::method_not_allowed("not in this script"));
            }
        };
        drop(state);
        self.changed.send_replace(());
        Ok(answer(Answer::Object {
            object,
            created: verb == "create",
        }))
    }

    fn watch(
        &self,
        target: &Target,
        options: &ListOptions,
    ) -> impl futures::Stream<Item = Result<WatchEvent, Status>> + Send + use<> {
        let mut state = self.state.lock();
        let streams = options.send_initial_events == Some(true);
        let mut position = options.resource_version.parse().unwrap_or(state.revision);
        let mut first = VecDeque::new();
        if streams {
            position = state.revision;
            let items = state.select(target).map(|o| Ok(WatchEvent::Added(o)));
            first.extend(items);
            first.push_back(Ok(WatchEvent::Bookmark {
                revision: position,
                initial_events_end: true,
            }));
        }
        state.opened += 1;
        let me = state.opened;
        drop(state);
        let memory = self.clone();
        let changed = self.changed.subscribe();
        let target = target.clone();
        let bookmarks = options.allow_watch_bookmarks;
        futures::stream::unfold(Some((position, first, changed)), move |open| {
            let (memory, target) = (memory.clone(), target.clone());
            async move {
                let (mut position, mut first, mut changed) = open?;
                if let Some(event) = first.pop_front() {
                    return Some((event, Some((position, first, changed))));
                }
                loop {
                    changed.mark_unchanged();
                    {
                        let state = memory.state.lock();
                        if me <= state.cut.0 {
                            let lost = Err(Status::unavailable("connection lost"));
                            return state.cut.1.then_some((lost, None));
                        }
                        if position < state.compacted {
                            return Some((Err(Status::expired("too old resource version")), None));
                        }
                        let next = state.history.iter().find(|(revision, resource, event)| {
                            *revision > position && *resource == target.resource && in_namespace(event, &target)
                        });
                        if let Some((revision, _, event)) = next {
                            return Some((Ok(event.clone()), Some((*revision, first, changed))));
                        }
                        if bookmarks && state.bookmarked > position {
                            position = state.bookmarked;
                            let event = WatchEvent::Bookmark {
                                revision: position,
                                initial_events_end: false,
                            };
                            return Some((Ok(event), Some((position, first, changed))));
                        }
                    }
                    changed.changed().await.ok()?;
                }
            }
        })
    }
}

fn in_namespace(event: &WatchEvent, target: &Target) -> bool {
    match event {
        WatchEvent::Added(o) | WatchEvent::Modified(o) | WatchEvent::Deleted(o) => {
            target.namespace.is_empty() || *o.head().namespace == *target.namespace
        }
        WatchEvent::Bookmark { .. } => true,
    }
}

fn answer(answer: Answer) -> Response {
    Response {
        answer,
        warnings: Vec::new(),
    }
}

impl State {
    fn select(&self, target: &Target) -> impl Iterator<Item = Arc<StoredObject>> {
        let of = self.objects.iter().filter(move |(key, _)| {
            key.0 == target.resource && (target.namespace.is_empty() || key.1 == target.namespace)
        });
        of.map(|(_, object)| object.clone())
    }

    fn list(&self, target: &Target, options: &ListOptions) -> Result<ObjectList, Status> {
        let all: Vec<_> = self.select(target).collect();
        // A token is the revision and how many came before: enough for a script.
        let (revision, skip) = match options.continue_token.split_once('/') {
            None => (self.revision, 0),
            Some((revision, skip)) => (revision.parse().unwrap(), skip.parse().unwrap()),
        };
        if revision != self.revision {
            return Err(Status::expired("the continue token is too old"));
        }
        let limit = if options.limit == 0 {
            usize::MAX
        } else {
            options.limit as usize
        };
        let items: Vec<_> = all.iter().skip(skip).take(limit).cloned().collect();
        let seen = skip + items.len();
        let continue_token = if seen < all.len() {
            format!("{revision}/{seen}")
        } else {
            String::new()
        };
        Ok(ObjectList {
            items,
            revision,
            continue_token,
            remaining: None,
        })
    }

    fn write(&mut self, key: Key, mut object: Object) -> Arc<StoredObject> {
        self.revision += 1;
        object.set(&["metadata", "resourceVersion"], self.revision.to_string());
        let stored = Arc::new(StoredObject::from_object(object).unwrap());
        let old = self.objects.insert(key.clone(), stored.clone());
        let event = if old.is_some() {
            WatchEvent::Modified(stored.clone())
        } else {
            WatchEvent::Added(stored.clone())
        };
        self.history.push((self.revision, key.0, event));
        stored
    }

    fn remove(&mut self, key: &Key) -> Arc<StoredObject> {
        self.revision += 1;
        let mut last = self.objects.remove(key).unwrap().to_object();
        last.set(&["metadata", "resourceVersion"], self.revision.to_string());
        let last = Arc::new(StoredObject::from_object(last).unwrap());
        let event = WatchEvent::Deleted(last.clone());
        self.history.push((self.revision, key.0.clone(), event));
        last
    }
}

fn merge(target: &mut serde_json::Value, patch: &serde_json::Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = serde_json::json!({});
    }
    let map = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key).or_insert(serde_json::Value::Null), value);
        }
    }
}

impl Service for Memory {
    fn call<'a>(&'a self, _user: &'a UserInfo, request: Request) -> BoxFuture<'a, Result<Response, Status>> {
        Box::pin(async move { self.answer(request) })
    }
}
