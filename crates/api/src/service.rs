//! What an API server does for a caller, without HTTP: the one request path that both the HTTP front and the in-process
//! client enter. Pure types; the server implements [`Service`].

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use futures::future::BoxFuture;
use serde_json::Value;

use crate::object::{Object, StoredObject};
use crate::status::Status;

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What is asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    pub group: String,
    pub version: String,
    /// The plural: `pods`.
    pub resource: String,
    /// Empty: cluster-scoped, or all namespaces.
    pub namespace: String,
    /// Empty for collections.
    pub name: String,
    /// Empty for the object itself.
    pub subresource: String,
}

/// How strictly unknown and duplicate fields are taken (`fieldValidation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    pub dry_run: bool,
    pub field_manager: String,
    pub field_validation: FieldValidation,
    /// Apply only: take fields from other managers.
    pub force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionMatch {
    Exact,
    NotOlderThan,
}

/// `ListOptions` of meta/v1, for list, watch and deletecollection.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub label_selector: String,
    pub field_selector: String,
    /// 0 is no limit.
    pub limit: u64,
    pub continue_token: String,
    /// As the client sent it: empty, `0`, or a revision.
    pub resource_version: String,
    pub resource_version_match: Option<VersionMatch>,
    pub timeout_seconds: Option<u64>,
    pub allow_watch_bookmarks: bool,
    pub send_initial_events: Option<bool>,
    /// Of the metrics APIs alone: which series of a metric.
    pub metric_label_selector: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub propagation: Option<Propagation>,
    pub dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

/// The verb and what goes with it.
#[derive(Clone, Debug)]
pub enum Operation {
    Get {
        resource_version: String,
    },
    List(ListOptions),
    Watch(ListOptions),
    Create {
        object: Object,
        options: WriteOptions,
    },
    Update {
        object: Object,
        options: WriteOptions,
    },
    /// The patch body as decoded JSON (YAML for apply was decoded by the caller).
    Patch {
        kind: PatchKind,
        patch: Value,
        options: WriteOptions,
    },
    Delete(DeleteOptions),
    DeleteCollection {
        list: ListOptions,
        delete: DeleteOptions,
    },
}

#[derive(Clone, Debug)]
pub struct Request {
    pub target: Target,
    pub operation: Operation,
}

/// A list at one revision.
#[derive(Clone, Debug)]
pub struct ObjectList {
    pub items: Vec<Arc<StoredObject>>,
    pub revision: u64,
    /// Empty at the end.
    pub continue_token: String,
    pub remaining: Option<u64>,
}

#[derive(Clone, Debug)]
pub enum WatchEvent {
    Added(Arc<StoredObject>),
    Modified(Arc<StoredObject>),
    Deleted(Arc<StoredObject>),
    /// All events up to this revision have been sent; `initial_events_end` closes a streaming list.
    Bookmark {
        revision: u64,
        initial_events_end: bool,
    },
}

/// Events in order of revision; an `Err` is the last item (410 asks for a new list).
pub type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchEvent, Status>> + Send>>;

pub enum Answer {
    /// With `created` the HTTP code is 201.
    Object {
        object: Arc<StoredObject>,
        created: bool,
    },
    List(ObjectList),
    Watch(WatchStream),
    /// A success without an object (a delete that is done).
    Status(Status),
}

/// An answer with the warnings that go with it.
pub struct Response {
    pub answer: Answer,
    pub warnings: Vec<String>,
}

/// An API server's request path: authorization, decoding against the schema, admission, defaulting, validation, store.
/// The caller has been authenticated.
pub trait Service: Send + Sync + 'static {
    fn call<'a>(&'a self, user: &'a UserInfo, request: Request) -> BoxFuture<'a, Result<Response, Status>>;
}
