//! What the server keeps in an object's metadata, whatever its kind: identity, times, generation.

use coracle_api::object::Object;
use coracle_api::resource::Resource;
use coracle_clock::{Random, Timestamp};

use crate::core::Core;

/// Fields of metadata that only the server writes.
const DELETION_TIMESTAMP: [&str; 2] = ["metadata", "deletionTimestamp"];
const DELETION_GRACE: [&str; 2] = ["metadata", "deletionGracePeriodSeconds"];
const GENERATION: [&str; 2] = ["metadata", "generation"];

/// `2006-01-02T15:04:05Z`.
pub(crate) fn time_text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A new uid, or the id of a request.
pub(crate) fn uuid(random: &Random) -> uuid::Uuid {
    uuid::Builder::from_random_bytes(random.bytes()).into_uuid()
}

/// Prepares a new object: what a client may not choose is wiped, what the server chooses is set.
pub(crate) fn prepare_for_create(core: &Core, row: &Resource, object: &mut Object) {
    object.remove(&DELETION_TIMESTAMP);
    object.remove(&DELETION_GRACE);
    object.remove(&["metadata", "selfLink"]);
    object.set(&["metadata", "uid"], uuid(&core.random).to_string());
    object.set(&["metadata", "creationTimestamp"], time_text(core.clock.now()));
    if row.has_generation {
        object.set(&GENERATION, 1);
    } else {
        object.remove(&GENERATION);
    }
    if row.has_status() && !row.strategy.keeps_status_on_create() {
        row.reset_status(object);
    }
    row.strategy.prepare_for_create(object);
    row.strategy.stamp(object, None, core.clock.now());
}

/// A name from a prefix, as upstream makes them: five characters that cannot form words.
pub(crate) fn generate_name(prefix: &str, random: &Random) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    const LONGEST_PREFIX: usize = 63 - 5;
    let end = prefix
        .char_indices()
        .map(|(i, c)| i + c.len_utf8())
        .take_while(|e| *e <= LONGEST_PREFIX)
        .last();
    let mut name = prefix[..end.unwrap_or(0)].to_owned();
    for byte in random.bytes().chunks_exact(2).take(5) {
        let at = byte.iter().fold(0, |sum, b| sum * 256 + usize::from(*b)) % ALPHABET.len();
        name.push(char::from(ALPHABET.get(at).copied().unwrap_or(b'x')));
    }
    name
}

/// Carries over what no update changes.
pub(crate) fn carry_over(new: &mut Object, old: &Object) {
    if new.uid().is_empty() {
        copy(new, old, &["metadata", "uid"]);
    }
    copy(new, old, &["metadata", "creationTimestamp"]);
    copy(new, old, &GENERATION);
    new.remove(&["metadata", "selfLink"]);
    if old.is_terminating() {
        copy(new, old, &DELETION_TIMESTAMP);
    } else {
        new.remove(&DELETION_TIMESTAMP);
    }
    copy(new, old, &DELETION_GRACE);
}

/// Makes `path` in `new` what it is in `old`, absence included.
pub(crate) fn copy(new: &mut Object, old: &Object, path: &[&str]) {
    match old.get(path) {
        Some(value) => {
            if new.get(path) != Some(value) {
                new.set(path, value.clone());
            }
        }
        None => {
            new.remove(path);
        }
    }
}

/// What an update of the main resource may not change: status, where it is a subresource.
pub(crate) fn prepare_for_update(row: &Resource, new: &mut Object, old: &Object) {
    carry_over(new, old);
    if row.has_status() {
        copy(new, old, &["status"]);
        // What an older version of this server stored may lack one.
        if new.get(&["status"]).is_none() {
            row.reset_status(new);
        }
    }
    row.strategy.prepare_for_update(new, old);
    if row.has_generation && row.strategy.changes_generation(new, old) {
        new.set(&GENERATION, old.generation() + 1);
    }
}

/// What an update of `status` may not change: all but status and metadata. Of a custom resource, metadata neither.
pub(crate) fn prepare_for_status_update(row: &Resource, new: &mut Object, old: &Object) {
    carry_over(new, old);
    let status = new.remove(&["status"]);
    let metadata = new.remove(&["metadata"]);
    let managed = metadata.as_ref().and_then(|m| m.get("managedFields")).cloned();
    let version = metadata.as_ref().and_then(|m| m.get("resourceVersion")).cloned();
    new.0.clone_from(&old.0);
    match metadata {
        Some(metadata) if !row.custom => new.set(&["metadata"], metadata),
        _ => {
            if let Some(managed) = managed {
                new.set(&["metadata", "managedFields"], managed);
            }
            if let Some(version) = version {
                new.set(&["metadata", "resourceVersion"], version);
            }
        }
    }
    match status {
        Some(status) => new.set(&["status"], status),
        None => {
            new.remove(&["status"]);
        }
    }
    row.strategy.prepare_for_status_update(new, old);
}

/// An update by a subresource that speaks the parent's kind and changes one part of it: which, the kind says.
pub(crate) fn prepare_for_part_update(row: &Resource, subresource: &str, new: &mut Object, old: &Object) {
    carry_over(new, old);
    row.strategy.prepare_for_subresource_update(subresource, new, old);
    let parts: &[&[&str]] = match (row.group.as_ref(), row.plural.as_ref(), subresource) {
        ("", "namespaces", "finalize") => &[&["spec", "finalizers"]],
        ("certificates.k8s.io", "certificatesigningrequests", "approval") => &[&["status", "conditions"]],
        _ => &[],
    };
    if !parts.is_empty() {
        let mut next = old.clone();
        for path in parts {
            copy(&mut next, new, path);
        }
        copy(&mut next, new, &["metadata", "resourceVersion"]);
        *new = next;
    }
    if row.has_generation && row.strategy.changes_generation(new, old) {
        new.set(&GENERATION, old.generation() + 1);
    }
}

/// Sets the marks of deletion.
pub(crate) fn mark_deleted(object: &mut Object, now: Timestamp, grace: i64) {
    let when = now.checked_add(jiff::SignedDuration::from_secs(grace)).unwrap_or(now);
    object.set(&DELETION_TIMESTAMP, time_text(when));
    object.set(&DELETION_GRACE, grace);
    let generation = object.generation();
    if generation > 0 {
        object.set(&GENERATION, generation + 1);
    }
}

/// A shorter grace for an object that is being deleted: its time of deletion moves forward by the difference.
pub(crate) fn shorten_grace(object: &mut Object, from: i64, to: i64) {
    let when = object
        .str(&DELETION_TIMESTAMP)
        .and_then(|t| t.parse::<Timestamp>().ok());
    if let Some(when) = when.and_then(|w| w.checked_sub(jiff::SignedDuration::from_secs(from - to)).ok()) {
        object.set(&DELETION_TIMESTAMP, time_text(when));
    }
    object.set(&DELETION_GRACE, to);
}

pub(crate) fn deletion_grace(object: &Object) -> Option<i64> {
    object.i64(&DELETION_GRACE)
}

/// Whether nothing holds a terminating object any more.
pub(crate) fn deletion_is_complete(row: &Resource, object: &Object) -> bool {
    object.is_terminating() && deletion_grace(object).unwrap_or(0) == 0 && !has_finalizers(row, object)
}

/// Finalizers in metadata, or a namespace's own.
pub(crate) fn has_finalizers(row: &Resource, object: &Object) -> bool {
    object.finalizers().next().is_some() || (is_namespace(row) && !object.array(&["spec", "finalizers"]).is_empty())
}

pub(crate) fn is_namespace(row: &Resource) -> bool {
    row.group.is_empty() && row.plural == "namespaces"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_fit_in_a_label_and_end_in_five_characters() {
        let random = Random::system();
        let name = generate_name("web-", &random);
        assert_eq!(name.len(), 9);
        assert!(name.starts_with("web-"));
        assert_eq!(generate_name(&"a".repeat(80), &random).len(), 63);
    }
}
