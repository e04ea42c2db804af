//! Server-side apply: a configuration is merged into the live object, its fields become the applier's, and what the
//! applier no longer sets goes away unless somebody else owns it. A field that another manager owns with another
//! value is a conflict.

use std::fmt;

use serde_json::Value;

use super::atom::{Type, empty, same};
use super::combine::{merged, removed};
use super::compare::set_fields;
use super::conform::{faults, with_atomic_leaves, with_named_parents};
use super::entry::{Entry, Operation, read_entries, show_time, take_managed_fields, write_entries};
use super::fields::{FieldSet, Step};
use super::managed::{Form, Manager, compared, never_owned};
use super::step::show_path;
use crate::names::MAX_ANNOTATIONS_BYTES;
use crate::object::Object;
use crate::resource::split_api_version;
use crate::status::Cause;

/// The owner of what was there before anybody was tracked.
pub(crate) const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The manager that takes over from client-side apply.
const KUBECTL: &str = "kubectl";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// One field that somebody else owns with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// As messages show it: `"kubectl-client-side-apply" using apps/v1`.
    pub manager: String,
    /// `.spec.replicas`.
    pub path: String,
}

/// At least one conflict, by manager. Shown as upstream's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflicts(pub Vec<Conflict>);

impl Conflicts {
    /// The causes of the Status, whose reason is `Conflict`.
    pub fn causes(&self) -> Vec<Cause> {
        let causes = self.0.iter().map(|conflict| Cause {
            reason: "FieldManagerConflict".into(),
            message: format!("conflict with {}", conflict.manager),
            field: conflict.path.clone(),
        });
        causes.collect()
    }
}

impl fmt::Display for Conflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.0.as_slice() {
            return write!(
                f,
                "Apply failed with 1 conflict: conflict with {}: {}",
                only.manager, only.path
            );
        }
        write!(f, "Apply failed with {} conflicts: ", self.0.len())?;
        for (i, of_one) in self.0.chunk_by(|a, b| a.manager == b.manager).enumerate() {
            let line = if i > 0 { "\n" } else { "" };
            write!(f, "{line}conflicts with {}:", of_one[0].manager)?;
            for conflict in of_one {
                write!(f, "\n- {}", conflict.path)?;
            }
        }
        Ok(())
    }
}

/// Why a configuration was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The configuration is not one of this kind and version. Upstream answers 400.
    #[error("{0}")]
    BadRequest(String),
    /// It does not conform to the schema. Upstream answers 500 with this message and no reason.
    #[error("{0}")]
    Nonconforming(String),
    /// Upstream answers 409 with these as causes.
    #[error("{0}")]
    Conflicts(Conflicts),
}

/// `apps/v1, Kind=Deployment`; `/v1, Kind=Pod` in the core group.
fn show_kind(api_version: &str, kind: &str) -> String {
    let (group, version) = split_api_version(api_version);
    format!("{group}/{version}, Kind={kind}")
}

/// Merges `config` into `live` (`None` creates the object). The result has its managed fields; defaulting, admission and
/// validation come after. `force` takes fields from other managers.
pub fn apply(
    live: Option<&Object>,
    config: &Object,
    form: &Form<'_>,
    by: &Manager<'_>,
    force: bool,
) -> Result<Object, ApplyError> {
    check_config(config, form)?;
    let root = Type::root(form.schema);
    let mut live_object = live.cloned().unwrap_or_default();
    let mut entries = read_entries(take_managed_fields(&mut live_object))
        .and_then(|mut entries| {
            for entry in &mut entries {
                let set = entry.set()?;
                if !root.is_built_in() {
                    *set = with_atomic_leaves(root, std::mem::take(set));
                }
            }
            Ok(entries)
        })
        .map_err(|e| ApplyError::Nonconforming(format!("failed to decode managed fields: {e}")))?;
    if entries.is_empty() && live.is_some() {
        let before = Manager {
            name: BEFORE_FIRST_APPLY,
            ..*by
        };
        let there = compared(None, &live_object.0, form);
        let fields = there.added.union(there.modified);
        entries.push(Entry::new(&before, Operation::Update, form.api_version, fields));
    }

    let live_value = live_object.into_value();
    let config_value = Value::Object(config.0.clone());
    let set = set_fields(root, &config_value).recursive_difference(form.reset);
    let mut own = Entry::new(by, Operation::Apply, form.api_version, FieldSet::new());
    let last = take_entry(&mut entries, &own);
    let (last_set, last_time) = match last {
        Some(mut last) => (
            last.set().map(std::mem::take).unwrap_or_default(),
            Some(std::mem::take(&mut last.time)),
        ),
        None => (FieldSet::new(), None),
    };

    let all = merged(root, Some(&live_value), Some(&config_value)).unwrap_or_else(|| empty().clone());
    let mut result = if last_set.clone().difference(&set).is_empty() {
        all
    } else {
        let pruned = prune(root, all, &mut entries, &set, &last_set);
        // An empty map that is applied stays, although pruning has emptied it.
        merged(root, Some(&pruned), Some(&config_value)).unwrap_or(pruned)
    };
    if root.is_built_in() && has_null(&config_value) {
        // A typed object has no nulls: the field is as if it were not set.
        drop_nulls(&mut result);
    }
    let result = Object::from_value(result).unwrap_or_default();
    let changes = compared(live_value.as_object(), &result.0, form);
    let set_now = changes.added.union(changes.modified);
    let mut found = conflicts(&mut entries, &set_now);
    if !force && !found.is_empty() && by.name == KUBECTL {
        let allowed = allowed_by_last_applied(&live_value, root, form);
        found.retain(|(_, path)| !allowed.contains(path));
    }
    if !force && !found.is_empty() {
        let found = found.into_iter().map(|(manager, path)| Conflict {
            manager,
            path: show_path(&path),
        });
        return Err(ApplyError::Conflicts(Conflicts(found.collect())));
    }
    let lost = set_now.union(changes.removed);
    for entry in &mut entries {
        if let Ok(set) = entry.set() {
            *set = std::mem::take(set).difference(&lost);
        }
    }

    let result = result.into_value();
    let is_changed = !same(&live_value, &result);
    own.time = match last_time {
        Some(time) if !is_changed => time,
        _ => show_time(by.time),
    };
    if let Ok(own_set) = own.set() {
        *own_set = set.difference(never_owned());
    }
    entries.push(own);
    let kept = if is_changed { result } else { live_value };
    let mut object = Object::from_value(kept).unwrap_or_default();
    if by.name == KUBECTL && object.annotation(LAST_APPLIED).is_some_and(|a| !a.is_empty()) {
        sync_last_applied(&mut object, config);
    }
    write_entries(&mut object, entries);
    Ok(object)
}

fn check_config(config: &Object, form: &Form<'_>) -> Result<(), ApplyError> {
    let (api_version, kind) = (config.api_version(), config.kind());
    if kind != form.kind || split_api_version(api_version).0 != split_api_version(form.api_version).0 {
        let shown = show_kind(api_version, kind);
        return Err(ApplyError::BadRequest(format!("invalid object type: {shown}")));
    }
    if api_version != form.api_version {
        return Err(ApplyError::BadRequest(format!(
            "Incorrect version specified in apply patch. Specified patch version: {api_version}, expected: {}",
            form.api_version
        )));
    }
    if config.get(&["metadata", "managedFields"]).is_some() {
        return Err(ApplyError::BadRequest("metadata.managedFields must be nil".into()));
    }
    let faults = faults(Type::root(form.schema), &Value::Object(config.0.clone()));
    let text = match faults.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    };
    Err(ApplyError::Nonconforming(format!(
        "failed to create typed patch object ({}/{}; {}): {text}",
        config.namespace(),
        config.name(),
        show_kind(api_version, kind)
    )))
}

fn take_entry(entries: &mut Vec<Entry>, own: &Entry) -> Option<Entry> {
    let at = entries.iter().position(|e| e.identity() == own.identity())?;
    Some(entries.remove(at))
}

/// `all` without what the applier set last time and does not set now, unless somebody else owns it. Fields that were
/// never the applier's stay, except inside of something that goes.
fn prune(root: Type<'_>, all: Value, entries: &mut [Entry], set: &FieldSet, last: &FieldSet) -> Value {
    let or_empty = |value: Option<Value>| value.unwrap_or_else(|| empty().clone());
    let last = with_named_parents(root, last);
    let without_last = or_empty(removed(root, all.clone(), &last));

    // Put back what anybody owns.
    let mut owned = set.clone();
    for entry in entries.iter_mut() {
        if let Ok(theirs) = entry.set() {
            owned = owned.union(theirs.clone());
        }
    }
    let named = |value: &Value| with_named_parents(root, &set_fields(root, value));
    let all_set = named(&all);
    let kept = named(&without_last).union(with_named_parents(root, &owned));
    let with_owned = or_empty(removed(root, all.clone(), &all_set.clone().difference(&kept)));

    // Put back what was not the applier's.
    let gone = all_set.difference(&named(&with_owned)).intersection(&last);
    or_empty(removed(root, all, &gone))
}

/// The fields among `changed` that others own, by manager.
fn conflicts(entries: &mut [Entry], changed: &FieldSet) -> Vec<(String, Vec<Step>)> {
    let mut by_manager: Vec<&mut Entry> = entries.iter_mut().collect();
    by_manager.sort_by(|a, b| a.identity().cmp(&b.identity()));
    let mut found = Vec::new();
    for entry in by_manager {
        let Ok(set) = entry.set() else { continue };
        let mine = set.clone().intersection(changed);
        if mine.is_empty() {
            continue;
        }
        let manager = show_manager(entry);
        mine.for_each(|path| found.push((manager.clone(), path.to_vec())));
    }
    found
}

fn show_manager(entry: &Entry) -> String {
    let mut shown = format!("{:?}", entry.manager);
    if !entry.subresource.is_empty() {
        shown.push_str(&format!(" with subresource {:?}", entry.subresource));
    }
    if entry.operation == Operation::Update {
        shown.push_str(&format!(" using {}", entry.api_version));
    }
    shown
}

/// The fields that client-side apply set last and that still have that value: `kubectl` may take them.
fn allowed_by_last_applied(live: &Value, root: Type<'_>, form: &Form<'_>) -> FieldSet {
    let annotation = live
        .pointer("/metadata/annotations")
        .and_then(|a| a.get(LAST_APPLIED))
        .and_then(Value::as_str);
    let Some(applied) = annotation.and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return FieldSet::new();
    };
    let is_of_version = applied.get("apiVersion").and_then(Value::as_str) == Some(form.api_version);
    if !is_of_version || !faults(root, &applied).is_empty() {
        return FieldSet::new();
    }
    let difference = super::compare::compare(root, Some(&applied), Some(live));
    set_fields(root, &applied)
        .difference(&difference.modified)
        .difference(&difference.added)
        .difference(&difference.removed)
}

/// Keeps client-side apply's annotation in step, so that it can take over again.
fn sync_last_applied(object: &mut Object, config: &Object) {
    let mut applied = config.clone();
    applied.remove(&["metadata", "annotations", LAST_APPLIED]);
    let text = format!("{}\n", Value::Object(applied.0));
    object.set(&["metadata", "annotations", LAST_APPLIED], text);
    let all = object.get(&["metadata", "annotations"]).and_then(Value::as_object);
    let bytes = all.into_iter().flatten();
    let bytes: usize = bytes.map(|(k, v)| k.len() + v.as_str().map_or(0, str::len)).sum();
    if bytes > MAX_ANNOTATIONS_BYTES {
        object.remove(&["metadata", "annotations", LAST_APPLIED]);
    }
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.iter().any(has_null),
        Value::Object(map) => map.values().any(has_null),
        _ => false,
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        _ => {}
    }
}
