//! `PUT`, and the part of the road that every change of an existing object takes: preparation against the old state,
//! admission, validation, commit.

use std::sync::Arc;

use coracle_api::object::{Object, StoredObject};
use coracle_api::patch::managed;
use coracle_api::schema::decode::Mode;
use coracle_api::service::WriteOptions;
use coracle_api::status::Status;
use coracle_store::{Compare, Op, Txn, TxnResult};

use super::read::{Current, load};
use super::{Call, Output, body, check, codec, companion, create, meta, ownership, read};
use crate::admission::{Attributes, Operation};
use crate::authz::escalation;
use crate::cache::store_failed;

/// How often an update that named no version is tried again when somebody else was faster.
const UNCONDITIONAL_TRIES: usize = 16;

/// `PUT` of the object or of its status.
pub(crate) async fn update(call: &mut Call<'_>, mut object: Object, options: &WriteOptions) -> Result<Output, Status> {
    body::check_kind(call, &mut object)?;
    body::check_name(call, &object)?;
    body::check_place(call, &mut object)?;
    let mut object = codec::decode(call, object, Mode::Whole, options.field_validation)?;
    call.row.clone().strategy.set_defaults(&mut object);
    let key = call.key(&call.target.name);
    let conditional = !object.resource_version().is_empty();
    let mut tries = 0;
    loop {
        let Some(mut current) = load(call.core, &call.row, &key).await? else {
            if call.row.create_on_update && call.target.subresource.is_empty() {
                return create::insert(call, object, options, false).await;
            }
            return Err(Status::not_found(call.of(), &call.target.name));
        };
        if !conditional && !call.row.unconditional_update {
            let path = "metadata.resourceVersion";
            return Err(check::invalid(call, path, "0x0", "must be specified for an update"));
        }
        match revise(call, &key, &mut current, object.clone(), options, Tracking::Update).await? {
            Commit::Done(object) => return Ok(Output::object(object)),
            Commit::Conflict if !conditional && tries < UNCONDITIONAL_TRIES => tries += 1,
            Commit::Conflict => return Err(Status::modified(call.of(), &call.target.name)),
        }
    }
}

/// Who keeps managedFields in a revision.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tracking {
    /// Changed fields belong to the request's manager.
    Update,
    /// The object comes with its managedFields (apply).
    Applied,
}

/// What became of a write.
pub(crate) enum Commit {
    Done(Arc<StoredObject>),
    /// Somebody else wrote first.
    Conflict,
}

/// Makes `new` the state of an object that is `current`. Its resourceVersion and uid, if any, are preconditions.
pub(crate) async fn revise(
    call: &mut Call<'_>,
    key: &str,
    current: &mut Current,
    mut new: Object,
    options: &WriteOptions,
    tracking: Tracking,
) -> Result<Commit, Status> {
    let row = call.row.clone();
    let old = &current.object;
    let name = old.name().to_owned();
    check_identity(call, &new, old)?;
    let subresource = call.target.subresource.clone();

    let attributes = Attributes::new(call, Operation::Update, &name, Some(old)).dry_run(options.dry_run);
    if call.core.admission.mutate(&attributes, &mut new).await? {
        row.strategy.set_defaults(&mut new);
    }
    let warnings = attributes.into_warnings();
    call.warnings.extend(warnings);
    if subresource.is_empty() {
        escalation::check(call, &new, Some(old)).await?;
    }
    match subresource.as_str() {
        "status" => meta::prepare_for_status_update(&row, &mut new, old),
        "" | "scale" => meta::prepare_for_update(&row, &mut new, old),
        part => meta::prepare_for_part_update(&row, part, &mut new, old),
    }
    row.strategy.stamp(&mut new, Some(old), call.core.clock.now());
    new.set(&["metadata", "resourceVersion"], old.resource_version());
    if tracking == Tracking::Update {
        ownership::track(call, Some(old), &mut new, options);
    }
    match subresource.as_str() {
        "status" => check::update_status(&row, &mut new, &mut current.object)?,
        "" | "scale" => check::update(&row, &mut new, &mut current.object)?,
        part => check::update_part(&row, part, &mut new, &mut current.object)?,
    }
    let old = &current.object;
    for warning in row.strategy.warnings(&new, Some(old)) {
        call.warn(warning);
    }
    let attributes = Attributes::new(call, Operation::Update, &name, Some(old)).dry_run(options.dry_run);
    call.core.admission.validate(&attributes, Some(&new)).await?;
    let warnings = attributes.into_warnings();
    call.warnings.extend(warnings);

    if meta::deletion_is_complete(&row, &new) {
        return remove(call, key, current, new, options.dry_run).await;
    }
    // A write that changes nothing but times is none.
    managed::ignore_times(old, &mut new);
    if new == *old {
        return Ok(Commit::Done(read::in_version(&row, &current.stored)?));
    }
    commit(call, key, new, Some(current), options.dry_run).await
}

fn check_identity(call: &Call<'_>, new: &Object, old: &Object) -> Result<(), Status> {
    let name = old.name();
    let asked = new.resource_version();
    if !asked.is_empty() && asked != old.resource_version() {
        if asked.parse::<u64>().is_err() {
            let shown = format!("{asked:?}");
            return Err(check::invalid(
                call,
                "metadata.resourceVersion",
                &shown,
                "must be a number",
            ));
        }
        if asked != "0" || !call.row.unconditional_update {
            return Err(Status::modified(call.of(), name));
        }
    }
    let uid = new.uid();
    if !uid.is_empty() && uid != old.uid() {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            old.uid()
        );
        return Err(Status::conflict(call.of(), name, &why));
    }
    Ok(())
}

/// Writes an object in the row's version: a new one, or the successor of `current`.
pub(crate) async fn commit(
    call: &Call<'_>,
    key: &str,
    mut object: Object,
    current: Option<&Current>,
    dry_run: bool,
) -> Result<Commit, Status> {
    let row = &call.row;
    object.remove(&["metadata", "resourceVersion"]);
    let mut companions = companion::Plan::default();
    companion::plan(
        call,
        current.map(|c| &c.object),
        Some(&mut object),
        dry_run,
        &mut companions,
    )
    .await?;
    let answer = (!read::is_stored_version(row)).then(|| object.clone());
    read::to_stored(row, &mut object);
    let bytes = serde_json::to_vec(&object).map_err(|e| Status::internal(e.to_string()))?;
    let bytes = bytes::Bytes::from(bytes);
    let revision = if dry_run {
        if current.is_none() && call.core.exists(key).await? {
            return Ok(Commit::Conflict);
        }
        current.map_or(0, |c| c.stored.revision())
    } else {
        let first = match current {
            None => Compare::Absent(key.to_owned()),
            Some(current) => Compare::ModRevision(key.to_owned(), current.stored.revision()),
        };
        let put = Op::Put {
            key: key.to_owned(),
            value: bytes.clone(),
        };
        match transact(call, first, put, companions).await? {
            Some(revision) => revision,
            None => return Ok(Commit::Conflict),
        }
    };
    let stored = match answer {
        None => StoredObject::from_bytes(bytes, revision),
        Some(mut answer) => {
            if revision != 0 {
                answer.set(&["metadata", "resourceVersion"], revision.to_string());
            }
            StoredObject::from_object(answer)
        }
    };
    Ok(Commit::Done(Arc::new(
        stored.map_err(|e| Status::internal(e.to_string()))?,
    )))
}

/// Deletes an object for good; the answer is its last state.
pub(crate) async fn remove(
    call: &Call<'_>,
    key: &str,
    current: &Current,
    last: Object,
    dry_run: bool,
) -> Result<Commit, Status> {
    if !dry_run {
        let mut companions = companion::Plan::default();
        companion::plan(call, Some(&current.object), None, dry_run, &mut companions).await?;
        let first = Compare::ModRevision(key.to_owned(), current.stored.revision());
        if transact(call, first, Op::Delete { key: key.to_owned() }, companions)
            .await?
            .is_none()
        {
            return Ok(Commit::Conflict);
        }
    }
    let last = StoredObject::from_object(last).map_err(|e| Status::internal(e.to_string()))?;
    Ok(Commit::Done(Arc::new(last)))
}

/// The revision, or `None` when a comparison failed.
async fn transact(call: &Call<'_>, first: Compare, op: Op, companions: companion::Plan) -> Result<Option<u64>, Status> {
    let mut txn = Txn {
        compare: vec![first],
        ops: vec![op],
    };
    txn.compare.extend(companions.compare);
    txn.ops.extend(companions.ops);
    match call.core.store.txn(txn).await.map_err(|e| store_failed(&e))? {
        TxnResult::Committed { revision, .. } => Ok(Some(revision)),
        TxnResult::Conflict { index: 0, .. } => Ok(None),
        TxnResult::Conflict { .. } => Err(Status::conflict(
            call.of(),
            &call.target.name,
            "an address or port that it asks for was taken meanwhile; please try again",
        )),
    }
}
