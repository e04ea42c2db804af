//! `DELETE` of one object: at once, or by marking it when finalizers or a grace period hold it.

use coracle_api::object::Object;
use coracle_api::resource::Resource;
use coracle_api::service::{DeleteOptions, Propagation};
use coracle_api::status::{Details, Status};
use serde_json::Value;

use super::read::{Current, load};
use super::update::{Commit, commit, remove};
use super::{Call, Output, meta};
use crate::admission::{Attributes, Operation};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// How often a deletion is tried again when somebody else changes the object meanwhile.
const TRIES: usize = 32;

/// See the module.
pub(crate) async fn delete(call: &mut Call<'_>, options: &DeleteOptions) -> Result<Output, Status> {
    let name = call.target.name.clone();
    delete_named(call, &name, options).await
}

/// Deletes `name` in the call's namespace.
pub(crate) async fn delete_named(call: &Call<'_>, name: &str, options: &DeleteOptions) -> Result<Output, Status> {
    let key = call.key(name);
    for _ in 0..TRIES {
        let Some(current) = load(call.core, &call.row, &key).await? else {
            return Err(Status::not_found(call.of(), name));
        };
        check_preconditions(call, &current, options)?;
        let attributes = Attributes::new(call, Operation::Delete, name, Some(&current.object)).dry_run(options.dry_run);
        call.core.admission.validate(&attributes, None).await?;
        match step(&call.row, &current.object, options, call.core.clock.now()) {
            Step::Pending => {
                return Ok(Output::object(super::read::in_version(&call.row, &current.stored)?));
            }
            Step::Mark(marked) => {
                if let Commit::Done(object) = commit(call, &key, marked, Some(&current), options.dry_run).await? {
                    return Ok(Output::object(object));
                }
            }
            Step::Remove => {
                let last = current.object.clone();
                if let Commit::Done(object) = remove(call, &key, &current, last, options.dry_run).await? {
                    if returns_object(&call.row) {
                        return Ok(Output::object(object));
                    }
                    return Ok(Output::Status(deleted(&call.row, name, current.object.uid())));
                }
            }
        }
        if options.resource_version.is_some() {
            return Err(Status::modified(call.of(), name));
        }
    }
    Err(Status::modified(call.of(), name))
}

/// Refuses an object that is not the one, or not the version, that the client means.
pub(crate) fn check_preconditions(call: &Call<'_>, current: &Current, options: &DeleteOptions) -> Result<(), Status> {
    let object = &current.object;
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != object.uid()) {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            object.uid()
        );
        return Err(Status::conflict(call.of(), object.name(), &why));
    }
    let found = object.resource_version();
    if let Some(version) = options.resource_version.as_deref().filter(|v| *v != found) {
        let why = format!(
            "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {found}"
        );
        return Err(Status::conflict(call.of(), object.name(), &why));
    }
    Ok(())
}

/// What a delete does to an object as it is.
enum Step {
    /// Nothing: its deletion is under way.
    Pending,
    /// Writes this.
    Mark(Object),
    Remove,
}

fn step(row: &Resource, object: &Object, options: &DeleteOptions, now: coracle_clock::Timestamp) -> Step {
    let mut marked = object.clone();
    let propagation_changed = set_propagation(row, &mut marked, options.propagation);
    // A negative grace is taken as the shortest graceful one, as upstream does.
    let asked = options.grace_period_seconds.map(|g| g.max(if g < 0 { 1 } else { 0 }));
    let held = meta::has_finalizers(row, &marked);

    if object.is_terminating() {
        let left = meta::deletion_grace(object).unwrap_or(0);
        let mut shortened = false;
        let mut grace = left;
        if let Some(asked) = asked.filter(|asked| left > 0 && *asked < left) {
            meta::shorten_grace(&mut marked, left, asked);
            shortened = true;
            grace = asked;
        }
        return if grace == 0 && !held {
            Step::Remove
        } else if shortened || propagation_changed {
            Step::Mark(marked)
        } else {
            Step::Pending
        };
    }
    let grace = row.strategy.deletion_grace(object, asked).unwrap_or(0);
    if grace == 0 && !held {
        return Step::Remove;
    }
    meta::mark_deleted(&mut marked, now, grace);
    if meta::is_namespace(row) {
        marked.remove(&["metadata", "deletionGracePeriodSeconds"]);
        marked.set(&["status", "phase"], "Terminating");
    }
    Step::Mark(marked)
}

/// Sets the finalizers that tell the garbage collector what to do with dependents. Whether they changed.
fn set_propagation(row: &Resource, object: &mut Object, asked: Option<Propagation>) -> bool {
    let old: Vec<String> = object.finalizers().map(str::to_owned).collect();
    let has = |name: &str| old.iter().any(|f| f == name);
    let (orphan, foreground) = match asked {
        Some(Propagation::Orphan) => (true, false),
        Some(Propagation::Foreground) => (false, true),
        Some(Propagation::Background) => (false, false),
        // Without a word from the client, finalizers that are there already decide; then the kind.
        None if has(ORPHAN) || has(FOREGROUND) => (has(ORPHAN), has(FOREGROUND)),
        None => (orphans_by_default(row), false),
    };
    if orphan == has(ORPHAN) && foreground == has(FOREGROUND) {
        return false;
    }
    let mut new: Vec<Value> = old
        .iter()
        .filter(|f| *f != ORPHAN && *f != FOREGROUND)
        .map(|f| Value::from(f.as_str()))
        .collect();
    if orphan {
        new.push(ORPHAN.into());
    }
    if foreground {
        new.push(FOREGROUND.into());
    }
    if new.is_empty() {
        object.remove(&["metadata", "finalizers"]);
    } else {
        object.set(&["metadata", "finalizers"], new);
    }
    true
}

/// Upstream keeps this for the sake of old clients.
fn orphans_by_default(row: &Resource) -> bool {
    matches!(
        (row.group.as_ref(), row.plural.as_ref()),
        ("batch", "jobs") | ("", "replicationcontrollers")
    )
}

/// Kinds whose deletion answers with the object instead of a Status.
fn returns_object(row: &Resource) -> bool {
    row.group.is_empty()
        && matches!(
            row.plural.as_ref(),
            "pods"
                | "services"
                | "serviceaccounts"
                | "persistentvolumes"
                | "persistentvolumeclaims"
                | "podtemplates"
                | "resourcequotas"
                | "namespaces"
        )
}

fn deleted(row: &Resource, name: &str, uid: &str) -> Status {
    Status {
        status: "Success".into(),
        details: Some(Box::new(Details {
            name: name.into(),
            group: row.group.to_string(),
            kind: row.plural.to_string(),
            uid: uid.into(),
            ..Details::default()
        })),
        ..Status::failure(200, "", "")
    }
}
