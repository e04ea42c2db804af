//! `DELETE` of a collection: every object that the list options select, each as if it were deleted by name.

use std::sync::Arc;

use coracle_api::object::StoredObject;
use coracle_api::service::{DeleteOptions, ListOptions};
use coracle_api::status::Status;
use futures::StreamExt;

use super::{Call, Output, delete, list};

/// How many objects are deleted at a time, so that their commits share a sync.
const AT_ONCE: usize = 64;

/// Answers with the objects that were there.
pub(crate) async fn delete(call: &mut Call<'_>, options: &ListOptions, how: &DeleteOptions) -> Result<Output, Status> {
    let found = list::list(call, options).await?;
    let call = &*call;
    let deletions = found
        .items
        .clone()
        .into_iter()
        .map(|object| delete_one(call, object, how));
    let mut results = futures::stream::iter(deletions).buffer_unordered(AT_ONCE);
    let mut failed = None;
    while let Some(result) = results.next().await {
        match result {
            Ok(_) => {}
            Err(status) if status.is_not_found() => {}
            Err(status) if status.is_conflict() && how.uid.is_none() => {}
            Err(status) => failed = failed.or(Some(status)),
        }
    }
    match failed {
        Some(status) => Err(status),
        None => Ok(Output::List(found)),
    }
}

/// Deletes one of the objects that were listed.
async fn delete_one(call: &Call<'_>, object: Arc<StoredObject>, how: &DeleteOptions) -> Result<Output, Status> {
    let head = object.head();
    let mut how = how.clone();
    // What was listed is what goes: not a namesake that came after it.
    how.uid.get_or_insert_with(|| head.uid.to_string());
    let mut target = call.target.clone();
    target.namespace = head.namespace.to_string();
    let one = Call {
        core: call.core,
        user: call.user,
        target,
        row: call.row.clone(),
        warnings: Vec::new(),
    };
    delete::delete_named(&one, &head.name, &how).await
}
