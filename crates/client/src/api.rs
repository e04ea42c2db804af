//! The objects of one kind, in one namespace or in all. It turns types into requests and answers into types; how a
//! request reaches the server is [`Client::request`]'s.

use std::marker::PhantomData;
use std::sync::Arc;

use coracle_api::object::StoredObject;
use coracle_api::service::{
    Answer, DeleteOptions, ListOptions, Operation, PatchKind, Request, Response, Target, WriteOptions,
};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use k8s_openapi::api::autoscaling::v1::Scale;
use serde_json::Value;

use crate::kind::{ApiResource, Kind, Whole};
use crate::{Client, Error};

/// The objects of kind `K` (or one of their subresources). Cheap to make: by [`Client::all`],
/// [`Client::namespaced`] or [`Client::dynamic`].
pub struct Api<K> {
    pub(crate) client: Client,
    resource: ApiResource,
    /// Empty: cluster-scoped, or all namespaces.
    namespace: String,
    subresource: &'static str,
    write: WriteOptions,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Api<K> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            resource: self.resource.clone(),
            namespace: self.namespace.clone(),
            subresource: self.subresource,
            write: self.write.clone(),
            kind: PhantomData,
        }
    }
}

/// Objects at one revision.
#[derive(Debug)]
pub struct List<K> {
    pub items: Vec<Arc<K>>,
    /// What to watch from to see every later change.
    pub revision: u64,
    /// Empty at the end; else the next page's [`ListOptions::continue_token`].
    pub continue_token: String,
    pub remaining: Option<u64>,
}

/// A change. An error ends the stream: watch again from the last revision seen, or list again when it
/// [is expired](Error::is_expired).
#[derive(Debug)]
pub enum WatchEvent<K> {
    Added(Arc<K>),
    Modified(Arc<K>),
    /// The object as it was last, at the revision of its deletion.
    Deleted(Arc<K>),
    Bookmark {
        revision: u64,
        initial_events_end: bool,
    },
}

/// What to change of an object.
#[derive(Clone, Debug)]
pub enum Patch {
    /// RFC 6902: a list of operations.
    Json(Value),
    /// RFC 7386: maps are merged, lists replaced, null removes.
    Merge(Value),
    /// Maps are merged, and lists by their keys. Not for custom resources.
    Strategic(Value),
    /// Server-side apply: what this manager wants of the object (with apiVersion and kind), and no more. `force` takes
    /// fields from other managers.
    Apply { object: Value, force: bool },
}

impl Patch {
    /// Server-side apply of an object.
    pub fn apply(object: &impl Whole, force: bool) -> Result<Self, Error> {
        let object = object.encode().map_err(|e| Error::encode("the patch", e))?.into_value();
        Ok(Self::Apply { object, force })
    }
}

impl<K: Kind> Api<K> {
    pub(crate) fn new(client: Client, resource: ApiResource, namespace: &str) -> Self {
        Self {
            client,
            resource,
            namespace: namespace.to_owned(),
            subresource: "",
            write: WriteOptions::default(),
            kind: PhantomData,
        }
    }

    /// The same in one namespace (empty: in all).
    pub fn within(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// The same, with other options for writes: dry run, field manager, strictness.
    pub fn with(mut self, options: WriteOptions) -> Self {
        self.write = options;
        self
    }

    /// The objects' `status` subresource.
    pub fn status(&self) -> Self {
        Self {
            subresource: "status",
            ..self.clone()
        }
    }

    /// A subresource, read and written as `S`.
    pub fn subresource<S: Kind>(&self, name: &'static str) -> Api<S> {
        Api {
            client: self.client.clone(),
            resource: self.resource.clone(),
            namespace: self.namespace.clone(),
            subresource: name,
            write: self.write.clone(),
            kind: PhantomData,
        }
    }

    /// The objects' `scale` subresource.
    pub fn scale(&self) -> Api<Scale> {
        self.subresource("scale")
    }

    pub fn resource(&self) -> &ApiResource {
        &self.resource
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub async fn get(&self, name: &str) -> Result<Arc<K>, Error> {
        let operation = Operation::Get {
            resource_version: String::new(),
        };
        let response = self.call(self.target("", name), operation).await?;
        self.object(response)
    }

    /// The object, or `None` if there is none.
    pub async fn find(&self, name: &str) -> Result<Option<Arc<K>>, Error> {
        match self.get(name).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One page: all objects unless the options set a limit.
    pub async fn list(&self, options: &ListOptions) -> Result<List<K>, Error> {
        let list = self.list_stored(options).await?;
        let items = list.items.iter().map(|o| self.decode(o)).collect::<Result<_, _>>()?;
        Ok(List {
            items,
            revision: list.revision,
            continue_token: list.continue_token,
            remaining: list.remaining,
        })
    }

    /// One page, undecoded: for callers that must go on when one object cannot be decoded (informers).
    pub async fn list_stored(&self, options: &ListOptions) -> Result<coracle_api::service::ObjectList, Error> {
        let response = self.call(self.target("", ""), Operation::List(options.clone())).await?;
        match response.answer {
            Answer::List(list) => Ok(list),
            _ => Err(self.unexpected("a list")),
        }
    }

    /// Changes as they happen, until the server ends the stream (it does after a while) or the connection is lost.
    pub async fn watch(
        &self,
        options: &ListOptions,
    ) -> Result<BoxStream<'static, Result<WatchEvent<K>, Error>>, Error> {
        use coracle_api::service::WatchEvent as Stored;
        let stream = self.watch_stored(options).await?;
        let what = self.resource.to_string();
        let decode = move |stored: Arc<StoredObject>| decode::<K>(&what, &stored);
        Ok(stream
            .map(move |event| {
                Ok(match event? {
                    Stored::Added(object) => WatchEvent::Added(decode(object)?),
                    Stored::Modified(object) => WatchEvent::Modified(decode(object)?),
                    Stored::Deleted(object) => WatchEvent::Deleted(decode(object)?),
                    Stored::Bookmark {
                        revision,
                        initial_events_end,
                    } => WatchEvent::Bookmark {
                        revision,
                        initial_events_end,
                    },
                })
            })
            .boxed())
    }

    /// Changes, undecoded.
    pub async fn watch_stored(
        &self,
        options: &ListOptions,
    ) -> Result<
        impl Stream<Item = Result<coracle_api::service::WatchEvent, coracle_api::status::Status>> + Send + use<K>,
        Error,
    > {
        let response = self
            .call(self.target("", ""), Operation::Watch(options.clone()))
            .await?;
        match response.answer {
            Answer::Watch(stream) => Ok(stream),
            _ => Err(self.unexpected("a watch")),
        }
    }

    /// Changes what the patch says and nothing else.
    pub async fn patch(&self, name: &str, patch: Patch) -> Result<Arc<K>, Error> {
        let mut options = self.write_options();
        let (kind, patch) = match patch {
            Patch::Json(patch) => (PatchKind::Json, patch),
            Patch::Merge(patch) => (PatchKind::Merge, patch),
            Patch::Strategic(patch) => (PatchKind::Strategic, patch),
            Patch::Apply { object, force } => {
                options.force = force;
                (PatchKind::Apply, object)
            }
        };
        let operation = Operation::Patch { kind, patch, options };
        let response = self.call(self.target("", name), operation).await?;
        self.object(response)
    }

    /// Asks for the object's deletion. The answer is the object as the server showed it, when it did: one that has
    /// finalizers or a grace period is then still there, marked with a deletionTimestamp.
    pub async fn delete(&self, name: &str, options: &DeleteOptions) -> Result<Option<Arc<K>>, Error> {
        let operation = Operation::Delete(options.clone());
        let response = self.call(self.target("", name), operation).await?;
        match response.answer {
            Answer::Object { object, .. } => self.decode(&object).map(Some),
            _ => Ok(None),
        }
    }

    /// Asks for the deletion of every object that the list options select.
    pub async fn delete_collection(&self, list: &ListOptions, delete: &DeleteOptions) -> Result<(), Error> {
        let operation = Operation::DeleteCollection {
            list: list.clone(),
            delete: delete.clone(),
        };
        self.call(self.target("", ""), operation).await.map(drop)
    }

    fn target(&self, namespace: &str, name: &str) -> Target {
        let namespace = if !self.resource.namespaced {
            ""
        } else if self.namespace.is_empty() {
            namespace
        } else {
            &self.namespace
        };
        Target {
            group: self.resource.group.to_string(),
            version: self.resource.version.to_string(),
            resource: self.resource.plural.to_string(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: self.subresource.to_owned(),
        }
    }

    fn write_options(&self) -> WriteOptions {
        let mut options = self.write.clone();
        if options.field_manager.is_empty() {
            self.client.component().clone_into(&mut options.field_manager);
        }
        options
    }

    async fn call(&self, target: Target, operation: Operation) -> Result<Response, Error> {
        let request = Request { target, operation };
        let response = self.client.request_in_form(request, K::METADATA_ONLY).await?;
        for warning in &response.warnings {
            tracing::warn!(warning, resource = %self.resource, "the server warns");
        }
        Ok(response)
    }

    fn decode(&self, stored: &Arc<StoredObject>) -> Result<Arc<K>, Error> {
        K::decode(stored).map_err(|e| undecodable(&self.resource.to_string(), stored, e))
    }

    fn object(&self, response: Response) -> Result<Arc<K>, Error> {
        match response.answer {
            Answer::Object { object, .. } => self.decode(&object),
            _ => Err(self.unexpected("an object")),
        }
    }

    fn unexpected(&self, wanted: &str) -> Error {
        let what = format!("the answer on {}", self.resource);
        Error::decode(what, format!("the server did not send {wanted}"))
    }
}

fn decode<K: Kind>(what: &str, stored: &Arc<StoredObject>) -> Result<Arc<K>, Error> {
    K::decode(stored).map_err(|e| undecodable(what, stored, e))
}

fn undecodable(what: &str, stored: &StoredObject, error: serde_json::Error) -> Error {
    let head = stored.head();
    Error::decode(format!("{what} {}/{}", head.namespace, head.name), error)
}

impl<K: Whole> Api<K> {
    /// Creates the object, in this namespace or else in the one its metadata names.
    pub async fn create(&self, object: &K) -> Result<Arc<K>, Error> {
        let namespace = object.meta().namespace.as_deref().unwrap_or_default();
        let operation = Operation::Create {
            object: self.encode(object)?,
            options: self.write_options(),
        };
        let response = self.call(self.target(namespace, ""), operation).await?;
        self.object(response)
    }

    /// Creates at an object's subresource (`binding`, `eviction`, `token`); `None` when the server only says success.
    pub async fn create_at(&self, name: &str, object: &K) -> Result<Option<Arc<K>>, Error> {
        let namespace = object.meta().namespace.as_deref().unwrap_or_default();
        let operation = Operation::Create {
            object: self.encode(object)?,
            options: self.write_options(),
        };
        let response = self.call(self.target(namespace, name), operation).await?;
        match response.answer {
            Answer::Object { object, .. } => self.decode(&object).map(Some),
            _ => Ok(None),
        }
    }

    /// Replaces the object; a conflict if it has changed since its resourceVersion was read.
    pub async fn update(&self, object: &K) -> Result<Arc<K>, Error> {
        let meta = object.meta();
        let target = self.target(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        );
        let operation = Operation::Update {
            object: self.encode(object)?,
            options: self.write_options(),
        };
        let response = self.call(target, operation).await?;
        self.object(response)
    }

    /// Replaces the object's status alone.
    pub async fn update_status(&self, object: &K) -> Result<Arc<K>, Error> {
        self.status().update(object).await
    }

    fn encode(&self, object: &K) -> Result<coracle_api::object::Object, Error> {
        object.encode().map_err(|e| Error::encode(self.resource.to_string(), e))
    }
}
