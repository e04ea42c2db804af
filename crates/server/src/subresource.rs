//! What is below an object's path and is not streamed: each subresource is a narrow way to read or change its object.

mod binding;
mod eviction;
pub(crate) mod review;
mod scale;
mod token;

use coracle_api::service::Operation;
use coracle_api::status::Status;

use crate::registry::{Call, Output, patch, read, update};

/// Serves a subresource that the row has and whose verb it serves.
pub(crate) async fn serve(call: &mut Call<'_>, operation: Operation) -> Result<Output, Status> {
    let row = call.row.clone();
    let Some(sub) = row.subresource(&call.target.subresource) else {
        return Err(Status::no_such_resource());
    };
    if sub.connect {
        return Err(Status::bad_request(
            "this subresource is a stream: it is served over HTTP only",
        ));
    }
    if let Some(paths) = &sub.scale {
        return scale::serve(call, paths, operation).await;
    }
    match (row.group.as_ref(), row.plural.as_ref(), sub.name.as_ref(), operation) {
        ("", "pods", "binding", Operation::Create { object, options }) => binding::create(call, object, &options).await,
        ("", "pods", "eviction", Operation::Create { object, options }) => {
            eviction::create(call, object, &options).await
        }
        ("", "serviceaccounts", "token", Operation::Create { object, options }) => {
            token::create(call, object, &options).await
        }
        (_, _, _, Operation::Get { resource_version }) => read::get(call, &resource_version).await,
        (_, _, _, Operation::Update { object, options }) => update::update(call, object, &options).await,
        (_, _, _, Operation::Patch { kind, patch, options }) => patch::patch(call, kind, patch, &options).await,
        _ => Err(crate::registry::method_not_allowed()),
    }
}
