//! `POST` of an object, and the making of an object by the verbs that create what they do not find.

use coracle_api::object::Object;
use coracle_api::schema::decode::Mode;
use coracle_api::service::WriteOptions;
use coracle_api::status::Status;

use super::update::{Commit, commit};
use super::{Call, Output, body, check, codec, meta, ownership};
use crate::admission::{Attributes, Operation};
use crate::authz::escalation;

/// How many names are tried for a `generateName` before the client is told to try again.
const NAMES_TRIED: usize = 8;

/// See the module.
pub(crate) async fn create(call: &mut Call<'_>, mut object: Object, options: &WriteOptions) -> Result<Output, Status> {
    body::check_kind(call, &mut object)?;
    body::check_place(call, &mut object)?;
    check_version(&object)?;
    object.remove(&["metadata", "resourceVersion"]);
    let object = codec::decode(call, object, Mode::Whole, options.field_validation)?;
    let prefix = object.str(&["metadata", "generateName"]).unwrap_or_default().to_owned();
    if !object.name().is_empty() || prefix.is_empty() {
        return insert(call, object, options, false).await;
    }
    let mut tried = 1;
    loop {
        let mut named = object.clone();
        named.set(&["metadata", "name"], meta::generate_name(&prefix, &call.core.random));
        match insert(call, named, options, false).await {
            Err(status) if status.is_already_exists() && tried < NAMES_TRIED => tried += 1,
            Err(status) if status.is_already_exists() => {
                let message = "the server was not able to generate a unique name for the object";
                return Err(Status {
                    message: message.into(),
                    ..status
                });
            }
            other => return other,
        }
    }
}

/// What is new has no version yet. (One that is no number is none, and the code is upstream's.)
pub(crate) fn check_version(object: &Object) -> Result<(), Status> {
    match object.resource_version().parse::<u64>() {
        Err(_) | Ok(0) => Ok(()),
        Ok(_) => Err(Status::failure(
            500,
            "",
            "resourceVersion should not be set on objects to be created",
        )),
    }
}

/// Takes a decoded object with a name to the store. With `applied` its managedFields are set already.
pub(crate) async fn insert(
    call: &mut Call<'_>,
    mut object: Object,
    options: &WriteOptions,
    applied: bool,
) -> Result<Output, Status> {
    let row = call.row.clone();
    row.strategy.set_defaults(&mut object);
    let attributes = Attributes::new(call, Operation::Create, object.name(), None).dry_run(options.dry_run);
    if call.core.admission.mutate(&attributes, &mut object).await? {
        row.strategy.set_defaults(&mut object);
    }
    let warnings = attributes.into_warnings();
    call.warnings.extend(warnings);
    escalation::check(call, &object, None).await?;
    object.remove(&["metadata", "resourceVersion"]);
    meta::prepare_for_create(call.core, &row, &mut object);
    if !applied {
        ownership::track(call, None, &mut object, options);
    }
    let name = object.name().to_owned();
    check::create(&row, &mut object)?;
    for warning in row.strategy.warnings(&object, None) {
        call.warn(warning);
    }
    let attributes = Attributes::new(call, Operation::Create, &name, None).dry_run(options.dry_run);
    call.core.admission.validate(&attributes, Some(&object)).await?;
    let warnings = attributes.into_warnings();
    call.warnings.extend(warnings);
    let key = call.key(&name);
    match commit(call, &key, object, None, options.dry_run).await? {
        Commit::Done(object) => Ok(Output::Object { object, created: true }),
        Commit::Conflict => Err(Status::already_exists(call.of(), &name)),
    }
}
