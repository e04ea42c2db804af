//! The object road behind authorization: one entry for every verb on every resource, built-in or custom. What differs
//! between kinds is in their rows and strategies; what is here is the same for all.

pub(crate) mod body;
pub(crate) mod check;
pub(crate) mod codec;
pub(crate) mod collection;
pub(crate) mod companion;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod list;
pub(crate) mod meta;
pub(crate) mod ownership;
pub(crate) mod patch;
pub(crate) mod read;
pub(crate) mod token;
pub(crate) mod update;
pub(crate) mod watch;

use std::sync::Arc;

use coracle_api::object::{Object, StoredObject};
use coracle_api::resource::{Resource, Verbs};
use coracle_api::service::{ObjectList, Operation, Request, Target, UserInfo};
use coracle_api::status::{Of, Status};

use crate::cache::Watcher;
use crate::core::Core;
use crate::{subresource, usage};

/// A request on its way: who asks, for what, and the row of the resource.
pub(crate) struct Call<'a> {
    pub core: &'a Arc<Core>,
    pub user: &'a UserInfo,
    pub target: Target,
    pub row: Arc<Resource>,
    pub warnings: Vec<String>,
}

impl<'a> Call<'a> {
    /// Finds the row; authorization has been given.
    pub fn new(core: &'a Arc<Core>, user: &'a UserInfo, target: Target) -> Result<Self, Status> {
        let table = core.registry.table();
        let row = table
            .get(&target.group, &target.version, &target.resource)
            .cloned()
            .ok_or_else(Status::no_such_resource)?;
        Ok(Self {
            core,
            user,
            target,
            row,
            warnings: Vec::new(),
        })
    }

    /// How errors name the resource.
    pub fn of(&self) -> Of<'_> {
        Of {
            group: &self.row.group,
            plural: &self.row.plural,
        }
    }

    pub fn key(&self, name: &str) -> String {
        self.row.key(&self.target.namespace, name)
    }

    pub fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    pub fn is_core(&self, plural: &str) -> bool {
        self.row.group.is_empty() && self.row.plural == plural
    }
}

/// What a call answers with.
pub(crate) enum Output {
    Object { object: Arc<StoredObject>, created: bool },
    List(ObjectList),
    Watch(Box<Watcher>),
    Status(Status),
}

impl Output {
    pub fn object(object: Arc<StoredObject>) -> Self {
        Self::Object { object, created: false }
    }

    pub fn made(object: Object, created: bool) -> Result<Self, Status> {
        let object = StoredObject::from_object(object).map_err(|e| Status::internal(e.to_string()))?;
        Ok(Self::Object {
            object: Arc::new(object),
            created,
        })
    }
}

/// What the answer of a call is made of.
pub(crate) struct Reply {
    pub output: Output,
    pub warnings: Vec<String>,
    /// The row of what was asked for.
    pub row: Arc<Resource>,
}

impl Core {
    /// Does what an authorized request asks.
    pub(crate) async fn serve(self: &Arc<Self>, user: &UserInfo, request: Request) -> Result<Reply, Status> {
        let Request { target, operation } = request;
        let mut call = Call::new(self, user, target)?;
        check_verb(&call, &operation)?;
        check_scope(&call, &operation)?;
        let output = if call.target.subresource.is_empty() {
            main(&mut call, operation).await?
        } else {
            subresource::serve(&mut call, operation).await?
        };
        Ok(Reply {
            output,
            warnings: call.warnings,
            row: call.row,
        })
    }
}

async fn main(call: &mut Call<'_>, operation: Operation) -> Result<Output, Status> {
    match operation {
        Operation::Get { .. } if usage::serves(&call.row) => usage::get(call).await,
        Operation::List(options) if usage::serves(&call.row) => usage::list(call, &options).await.map(Output::List),
        Operation::Get { resource_version } => read::get(call, &resource_version).await,
        Operation::List(options) => list::list(call, &options).await.map(Output::List),
        Operation::Watch(options) => watch::watch(call, &options).await.map(|w| Output::Watch(Box::new(w))),
        Operation::Create { object, options } if is_virtual(&call.row) => {
            subresource::review::create(call, object, &options).await
        }
        Operation::Create { object, options } => create::create(call, object, &options).await,
        Operation::Update { object, options } => update::update(call, object, &options).await,
        Operation::Patch { kind, patch, options } => patch::patch(call, kind, patch, &options).await,
        Operation::Delete(options) => delete::delete(call, &options).await,
        Operation::DeleteCollection { list, delete } => collection::delete(call, &list, &delete).await,
    }
}

/// Reviews and bindings are created and never kept.
pub(crate) fn is_virtual(row: &Resource) -> bool {
    row.verbs == Verbs::CREATE_ONLY
}

/// The verb's name, as authorization and errors say it.
pub(crate) fn verb(operation: &Operation) -> &'static str {
    match operation {
        Operation::Get { .. } => "get",
        Operation::List(_) => "list",
        Operation::Watch(_) => "watch",
        Operation::Create { .. } => "create",
        Operation::Update { .. } => "update",
        Operation::Patch { .. } => "patch",
        Operation::Delete(_) => "delete",
        Operation::DeleteCollection { .. } => "deletecollection",
    }
}

fn check_verb(call: &Call<'_>, operation: &Operation) -> Result<(), Status> {
    let wanted = match operation {
        Operation::Get { .. } => Verbs::GET,
        Operation::List(_) => Verbs::LIST,
        Operation::Watch(_) => Verbs::WATCH,
        Operation::Create { .. } => Verbs::CREATE,
        Operation::Update { .. } => Verbs::UPDATE,
        Operation::Patch { .. } => Verbs::PATCH,
        Operation::Delete(_) => Verbs::DELETE,
        Operation::DeleteCollection { .. } => Verbs::DELETE_COLLECTION,
    };
    let served = if call.target.subresource.is_empty() {
        call.row.verbs
    } else {
        let found = call.row.subresource(&call.target.subresource);
        found.ok_or_else(Status::no_such_resource)?.verbs
    };
    if served.contains(wanted) {
        return Ok(());
    }
    Err(method_not_allowed())
}

pub(crate) fn method_not_allowed() -> Status {
    Status::method_not_allowed("the server does not allow this method on the requested resource")
}

/// A namespaced object has a namespace and a cluster-scoped one has none; names stand where they must.
fn check_scope(call: &Call<'_>, operation: &Operation) -> Result<(), Status> {
    let collection = matches!(
        operation,
        Operation::List(_) | Operation::Watch(_) | Operation::DeleteCollection { .. } | Operation::Create { .. }
    );
    let target = &call.target;
    if !call.row.is_namespaced() && !target.namespace.is_empty() {
        return Err(Status::no_such_resource());
    }
    if call.row.is_namespaced() && target.namespace.is_empty() {
        match operation {
            Operation::List(_) | Operation::Watch(_) => {}
            // Across namespaces there are lists and nothing else.
            _ if target.name.is_empty() => return Err(method_not_allowed()),
            _ => return Err(Status::no_such_resource()),
        }
    }
    // A collection is not put or patched, and nothing is posted to an object itself.
    let posted = matches!(operation, Operation::Create { .. });
    if target.name.is_empty() != collection
        && target.subresource.is_empty()
        && !matches!(operation, Operation::Watch(_))
    {
        return Err(method_not_allowed());
    }
    if target.name.is_empty() && (!target.subresource.is_empty() || !collection && !posted) {
        return Err(Status::bad_request("name is required"));
    }
    Ok(())
}
