//! `metadata.managedFields`: who owns which field of an object, kept up to date by every ordinary write.
//!
//! Call [`update`] on the object that a create, an update or a patch leads to, once it has been decoded and defaulted
//! and before admission; server-side apply does the same for itself ([`apply`](super::apply)). The old object must be in
//! the version of the request.

use std::cmp::Ordering;
use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::atom::Type;
use super::compare::Comparison;
use super::conform::with_atomic_leaves;
use super::entry::{BadEntry, Entry, MANAGED_FIELDS, Operation, read_entries, take_managed_fields, write_entries};
use super::fields::FieldSet;
use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::schema::Schema;

/// How many entries of updates an object keeps before the oldest are merged.
const MAX_UPDATE_MANAGERS: usize = 10;
const ANCIENT: &str = "ancient-changes";
/// More entries than this are not taken from a client.
const MAX_CLIENT_ENTRIES: usize = 200;
/// The longest name of a manager.
pub const MAX_MANAGER_BYTES: usize = 128;

/// Who writes, through which subresource (empty for the object itself), and when.
#[derive(Clone, Copy, Debug)]
pub struct Manager<'a> {
    pub name: &'a str,
    pub subresource: &'a str,
    pub time: Timestamp,
}

/// What is written: objects of this kind, in the version of the request.
#[derive(Clone, Copy)]
pub struct Form<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    pub schema: Schema<'a>,
    /// What this write cannot change, and so nobody comes to own by it: `status` for the main resource, all but `status`
    /// for the status subresource.
    pub reset: &'a FieldSet,
}

/// The name that a write is booked under: the client's choice, or what its `User-Agent` starts with.
pub fn manager_name(field_manager: &str, user_agent: &str) -> String {
    if !field_manager.is_empty() {
        return field_manager.to_owned();
    }
    let mut name = String::new();
    let product = user_agent.split('/').next().unwrap_or_default();
    for c in product.chars().filter(|c| !c.is_control()) {
        if name.len() + c.len_utf8() > MAX_MANAGER_BYTES {
            break;
        }
        name.push(c);
    }
    name
}

/// Fields that are never owned by anybody.
pub(super) fn never_owned() -> &'static FieldSet {
    static SET: LazyLock<FieldSet> = LazyLock::new(|| {
        FieldSet::of_fields(&[
            &["apiVersion"],
            &["kind"],
            &["metadata"],
            &["metadata", "name"],
            &["metadata", "namespace"],
            &["metadata", "creationTimestamp"],
            &["metadata", "selfLink"],
            &["metadata", "uid"],
            &["metadata", "clusterName"],
            &["metadata", "generation"],
            &["metadata", "managedFields"],
            &["metadata", "resourceVersion"],
        ])
    });
    &SET
}

/// What a write changed of that which can be owned.
pub(crate) fn compared(live: Option<&Map<String, Value>>, new: &Map<String, Value>, form: &Form<'_>) -> Comparison {
    let all = Comparison::of(live, new, form.schema).without(form.reset);
    Comparison {
        added: all.added.difference(never_owned()),
        modified: all.modified.difference(never_owned()),
        removed: all.removed.difference(never_owned()),
    }
}

/// The client asks to forget all owners: an empty list, or one empty entry.
fn is_reset(managed: Option<&Value>) -> bool {
    match managed {
        Some(Value::Array(list)) => match list.as_slice() {
            [] => true,
            [Value::Object(entry)] => entry.values().all(|v| v.is_null() || v.as_str() == Some("")),
            _ => false,
        },
        _ => false,
    }
}

/// Books what differs between `live` and `new` under the manager, and puts the entries into `new`. `live` is `None` for
/// a create.
pub fn update(live: Option<&Object>, new: &mut Object, form: &Form<'_>, by: &Manager<'_>) {
    let live_managed = live.and_then(|l| l.get(MANAGED_FIELDS));
    let sent = take_managed_fields(new);
    let is_untouched = sent.as_ref() == live_managed;
    // What a client sends counts when it can be read, and only for the object itself.
    let from_client = if is_untouched || !by.subresource.is_empty() {
        None
    } else if is_reset(sent.as_ref()) {
        Some(Vec::new())
    } else {
        let read = |sent| -> Result<Vec<Entry>, BadEntry> {
            let mut entries = read_entries(sent)?;
            for entry in &mut entries {
                entry.set()?;
            }
            Ok(entries)
        };
        let is_bounded = sent
            .as_ref()
            .and_then(Value::as_array)
            .is_none_or(|l| l.len() <= MAX_CLIENT_ENTRIES);
        if is_bounded {
            read(sent.clone()).ok().filter(|e| !e.is_empty())
        } else {
            None
        }
    };
    let is_from_client = from_client.is_some();
    let stored = if is_untouched { sent } else { live_managed.cloned() };
    let is_tracked = match &from_client {
        Some(entries) => !entries.is_empty(),
        None => stored.as_ref().and_then(Value::as_array).is_some_and(|l| !l.is_empty()),
    };
    if !is_tracked && live.is_some_and(|l| !l.uid().is_empty()) {
        // Nobody is tracked: the first apply will begin with what is there.
        return;
    }

    let changes = compared(live.map(|l| &l.0), &new.0, form);
    if changes.is_same() && !is_from_client {
        if let Some(stored) = stored {
            new.set(MANAGED_FIELDS, stored);
        }
        return;
    }
    let mut entries = from_client.unwrap_or_else(|| read_entries(stored).unwrap_or_default());
    let set = changes.added.union(changes.modified);
    if !entries.is_empty() {
        let lost = set.clone().union(changes.removed);
        disown(&mut entries, &lost, form);
    }
    if !set.is_empty() {
        let own = Entry::new(by, Operation::Update, form.api_version, set);
        book(&mut entries, own);
    }
    cap(&mut entries);
    write_entries(new, entries);
}

/// Takes these fields from every entry. Entries that have none of them are not even read.
fn disown(entries: &mut Vec<Entry>, lost: &FieldSet, form: &Form<'_>) {
    let root = Type::root(form.schema);
    let mut key = String::new();
    entries.retain_mut(|entry| {
        if root.is_built_in()
            && let Some(fields) = entry.stored()
            && !lost.touches(fields, &mut key)
        {
            return !fields.is_empty();
        }
        let Ok(set) = entry.set() else {
            return false;
        };
        let mut kept = std::mem::take(set);
        if !root.is_built_in() {
            kept = with_atomic_leaves(root, kept);
        }
        *set = kept.difference(lost);
        !set.is_empty()
    });
}

/// Adds an entry, or its fields to the one of the same manager.
fn book(entries: &mut Vec<Entry>, mut own: Entry) {
    let Some(entry) = entries.iter_mut().find(|e| e.identity() == own.identity()) else {
        entries.push(own);
        return;
    };
    if let (Ok(new), Ok(set)) = (own.set(), entry.set()) {
        *set = std::mem::take(set).union(std::mem::take(new));
    }
    entry.time = own.time;
}

/// Merges the oldest updates, so that not more than [`MAX_UPDATE_MANAGERS`] stay.
fn cap(entries: &mut Vec<Entry>) {
    let is_update = |e: &Entry| e.operation == Operation::Update;
    let mut count = entries.iter().filter(|e| is_update(e)).count();
    if count <= MAX_UPDATE_MANAGERS {
        return;
    }
    let (mut updates, mut rest): (Vec<Entry>, Vec<Entry>) = std::mem::take(entries).into_iter().partition(is_update);
    updates.sort_by(|a, b| match a.seconds().cmp(&b.seconds()) {
        Ordering::Equal => a.identity().cmp(&b.identity()),
        other => other,
    });
    // Per version the oldest entry waits for a second one; then both go into the bucket of that version.
    let mut updates: Vec<Option<Entry>> = updates.into_iter().map(Some).collect();
    let mut oldest: Vec<(Box<str>, usize)> = Vec::new();
    for at in 0..updates.len() {
        let Some(version) = updates[at].as_ref().map(|e| e.api_version.clone()) else {
            continue;
        };
        if count <= MAX_UPDATE_MANAGERS {
            break;
        }
        let Some(first) = oldest.iter_mut().find(|(v, _)| *v == version) else {
            oldest.push((version, at));
            continue;
        };
        let is_bucket = |e: &Entry| *e.manager == *ANCIENT && e.api_version == version && e.subresource.is_empty();
        let bucket = updates.iter().position(|e| e.as_ref().is_some_and(is_bucket));
        let bucket = bucket.unwrap_or(first.1);
        // The bucket itself may be the second one: then the first goes into it.
        let merged = if bucket == at { first.1 } else { at };
        first.1 = if bucket == at { at } else { first.1 };
        let Some(mut entry) = updates[merged].take() else {
            continue;
        };
        if let Some(bucket) = updates.get_mut(bucket).and_then(Option::as_mut) {
            let set = entry.set().map(std::mem::take).unwrap_or_default();
            if let Ok(into) = bucket.set() {
                *into = std::mem::take(into).union(set);
            }
            bucket.manager = ANCIENT.into();
            bucket.subresource = "".into();
            if merged == at {
                bucket.time = entry.time;
            }
        }
        count -= 1;
    }
    rest.extend(updates.into_iter().flatten());
    *entries = rest;
}

/// When `new` differs from `live` in nothing but the times of its managers, gives it the old times, so that nothing need
/// be written. For the end of a write, after admission.
pub fn ignore_times(live: &Object, new: &mut Object) {
    let (Some(old), Some(now)) = (live.get(MANAGED_FIELDS), new.get(MANAGED_FIELDS)) else {
        return;
    };
    if old == now {
        return;
    }
    let without_times = |list: &Value| -> Option<Vec<Map<String, Value>>> {
        let entries = list.as_array()?.iter().map(|e| {
            let mut entry = e.as_object()?.clone();
            entry.remove("time");
            Some(entry)
        });
        entries.collect()
    };
    let (Some(mut a), Some(mut b)) = (without_times(old), without_times(now)) else {
        return;
    };
    let by_name = |e: &Map<String, Value>| -> String {
        ["manager", "operation", "apiVersion", "subresource"]
            .iter()
            .map(|f| e.get(*f).and_then(Value::as_str).unwrap_or_default())
            .collect::<Vec<_>>()
            .join("\n")
    };
    a.sort_by_cached_key(by_name);
    b.sort_by_cached_key(by_name);
    let is_same_otherwise = |own: &Object| {
        own.0.len() == live.0.len()
            && own.0.iter().all(|(key, value)| match (key.as_str(), live.0.get(key)) {
                ("metadata", Some(Value::Object(old))) => value.as_object().is_some_and(|new| {
                    let rest = |m: &Map<String, Value>| m.keys().filter(|k| *k != "managedFields").count();
                    rest(old) == rest(new) && new.iter().all(|(k, v)| k == "managedFields" || old.get(k) == Some(v))
                }),
                (_, old) => old == Some(value),
            })
    };
    if a == b && is_same_otherwise(new) {
        let old = old.clone();
        new.set(MANAGED_FIELDS, old);
    }
}

/// The rules for entries that a client or a webhook has put into an object.
pub fn validate_managed_fields(at: &Cursor<'_>, errors: &mut ErrorList) {
    for entry in at.items() {
        let operation = entry.at("operation");
        if !matches!(operation.str(), "Apply" | "Update") {
            errors.invalid_value(&operation, &Value::from(operation.str()), "must be `Apply` or `Update`");
        }
        let kind = entry.at("fieldsType");
        if !matches!(kind.str(), "" | "FieldsV1") {
            errors.invalid(&kind, "must be `FieldsV1`");
        }
        validate_manager(&entry.at("manager"), errors);
        let subresource = entry.at("subresource");
        if subresource.str().len() > 256 {
            errors.too_long(&subresource, 256);
        }
    }
}

/// The rules for the name of a manager, also as the `fieldManager` of a request.
pub fn validate_manager(at: &Cursor<'_>, errors: &mut ErrorList) {
    let name = at.str();
    if name.len() > MAX_MANAGER_BYTES {
        errors.too_long(at, MAX_MANAGER_BYTES);
    }
    for (i, c) in name.char_indices().filter(|(_, c)| c.is_control()) {
        errors.invalid(
            at,
            format!("invalid character U+{:04X} (at position {i})", u32::from(c)),
        );
    }
}
