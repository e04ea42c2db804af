//! `PATCH` in its four kinds. A patch is applied to the newest state; when somebody else writes meanwhile it is applied
//! again to what they wrote.

use coracle_api::object::Object;
use coracle_api::schema::decode::Mode;
use coracle_api::service::{PatchKind, WriteOptions};
use coracle_api::status::Status;
use serde_json::Value;

use super::read::load;
use super::update::{Commit, Tracking, revise};
use super::{Call, Output, body, check, codec, create, ownership};

/// How often a patch is applied anew before the client gets the conflict.
const TRIES: usize = 5;

/// See the module.
pub(crate) async fn patch(
    call: &mut Call<'_>,
    kind: PatchKind,
    patch: Value,
    options: &WriteOptions,
) -> Result<Output, Status> {
    let fault = check::patch_options(kind, &options.field_manager, options.force);
    check::refuse("PatchOptions", fault.as_slice())?;
    let key = call.key(&call.target.name);
    let mut tries = 1;
    loop {
        let current = load(call.core, &call.row, &key).await?;
        let Some(mut current) = current else {
            if kind == PatchKind::Apply && call.target.subresource.is_empty() {
                return create_by_apply(call, patch, options).await;
            }
            return Err(Status::not_found(call.of(), &call.target.name));
        };
        let (mut new, tracking) = match kind {
            PatchKind::Apply => (
                ownership::apply(call, Some(&current.object), &patch, options)?,
                Tracking::Applied,
            ),
            _ => (patched(call, kind, &current.object, &patch)?, Tracking::Update),
        };
        body::check_kind(call, &mut new)?;
        check_place(&new, &current.object)?;
        let before = call.warnings.len();
        let mut new = codec::decode_patched(call, new, kind, &patch, options.field_validation)?;
        call.row.strategy.set_defaults(&mut new);
        let conditional = new.resource_version() != current.object.resource_version();
        match revise(call, &key, &mut current, new, options, tracking).await? {
            Commit::Done(object) => return Ok(Output::object(object)),
            Commit::Conflict if !conditional && tries < TRIES => {
                call.warnings.truncate(before);
                tries += 1;
            }
            Commit::Conflict => return Err(Status::modified(call.of(), &call.target.name)),
        }
    }
}

async fn create_by_apply(call: &mut Call<'_>, patch: Value, options: &WriteOptions) -> Result<Output, Status> {
    let mut object = ownership::apply(call, None, &patch, options)?;
    body::check_kind(call, &mut object)?;
    body::check_place(call, &mut object)?;
    if !object.uid().is_empty() {
        let why = "uid mismatch: the provided object specified uid ".to_owned()
            + object.uid()
            + ", and no existing object was found";
        return Err(Status::conflict(call.of(), &call.target.name, &why));
    }
    let object = codec::decode(call, object, Mode::Whole, options.field_validation)?;
    create::check_version(&object)?;
    create::insert(call, object, options, true).await
}

/// A patch may not move an object.
fn check_place(new: &Object, old: &Object) -> Result<(), Status> {
    if !new.0.get("metadata").is_some_and(Value::is_object) {
        return Err(Status::bad_request("the patch leaves the object without metadata"));
    }
    if new.name() != old.name() {
        return Err(Status::bad_request(
            "the name of the object does not match the name on the URL",
        ));
    }
    if new.namespace() != old.namespace() {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// The object that a JSON, merge or strategic merge patch makes of `current`.
pub(crate) fn patched(call: &Call<'_>, kind: PatchKind, current: &Object, patch: &Value) -> Result<Object, Status> {
    codec::patched(&call.row, kind, current, patch)
}
