//! What a kind does with its objects: defaults, preparation, validation, columns. One implementation per kind, in
//! `kinds/`; the generic rules every kind shares (metadata, status reset, generation) are the server's road, not here.

use jiff::Timestamp;
use serde_json::Value;
use smallvec::SmallVec;

use crate::field::{Cursor, ErrorList};
use crate::object::Object;

/// The rules of one kind. Objects have been decoded against the kind's schema first, so every field present has its
/// type. Every method has a default that does nothing, and all are pure and idempotent.
pub trait Strategy: Send + Sync + 'static {
    /// Fills absent fields with upstream's defaults.
    fn set_defaults(&self, _object: &mut Object) {}

    /// Whether a new object may bring its `status` (nodes register with it); else the server takes it away first.
    fn keeps_status_on_create(&self) -> bool {
        false
    }

    /// Clears or sets what a client may not choose at creation, beyond `status` (which the server resets itself, before
    /// this). The object has its name and uid.
    fn prepare_for_create(&self, _object: &mut Object) {}

    /// Carries over from `old` what an update of the main resource may not change, beyond `status`.
    fn prepare_for_update(&self, _new: &mut Object, _old: &Object) {}

    /// Carries over from `old` what an update of `status` may not change, beyond everything outside `status`.
    fn prepare_for_status_update(&self, _new: &mut Object, _old: &Object) {}

    /// Sets the times that a client may leave to the server, in what is created, or changed by whichever way. `old` is
    /// what is changed. This comes after preparation.
    fn stamp(&self, _new: &mut Object, _old: Option<&Object>, _now: Timestamp) {}

    /// The rules for a new object (metadata's are the server's).
    fn validate(&self, _object: &Cursor<'_>, _errors: &mut ErrorList) {}

    /// The rules for an update: what is immutable, and by default all of [`validate`](Self::validate).
    fn validate_update(&self, new: &Cursor<'_>, _old: &Cursor<'_>, errors: &mut ErrorList) {
        self.validate(new, errors);
    }

    /// The rules for an update of `status`.
    fn validate_status_update(&self, _new: &Cursor<'_>, _old: &Cursor<'_>, _errors: &mut ErrorList) {}

    /// Carries over from `old` what an update of the subresource `name` (`ephemeralcontainers`, `resize`, `finalize`,
    /// `approval`; not `status` or `scale`) may not change: everything but the subresource's own part of the object.
    fn prepare_for_subresource_update(&self, _name: &str, _new: &mut Object, _old: &Object) {}

    /// The rules for an update of the subresource `name`.
    fn validate_subresource_update(&self, _name: &str, _new: &Cursor<'_>, _old: &Cursor<'_>, _errors: &mut ErrorList) {}

    /// Warnings for the client (deprecated fields and the like).
    fn warnings(&self, _new: &Object, _old: Option<&Object>) -> Vec<String> {
        Vec::new()
    }

    /// The rule for `metadata.name`.
    fn name_rule(&self) -> NameRule {
        NameRule::DnsSubdomain
    }

    /// The grace period in seconds that deleting this object takes, when the kind has graceful deletion; `asked` is
    /// the request's. `None` deletes at once.
    fn deletion_grace(&self, _object: &Object, _asked: Option<i64>) -> Option<i64> {
        None
    }

    /// Whether `metadata.generation` counts the changes between these two (by default: of anything but metadata and
    /// status).
    fn changes_generation(&self, new: &Object, old: &Object) -> bool {
        let rest = |o: &Object| -> Vec<(String, Value)> {
            o.0.iter()
                .filter(|(k, _)| !matches!(k.as_str(), "metadata" | "status" | "apiVersion" | "kind"))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect()
        };
        rest(new) != rest(old)
    }

    /// The value that a field selector compares for one of the row's selectable fields: by default the scalar at the
    /// path, or nothing. The object is in the row's version.
    fn selectable_field(&self, object: &Object, path: &str) -> String {
        let steps: SmallVec<[&str; 4]> = path.split('.').collect();
        match object.get(&steps) {
            Some(Value::String(s)) => s.clone(),
            Some(scalar @ (Value::Bool(_) | Value::Number(_))) => scalar.to_string(),
            _ => String::new(),
        }
    }

    /// The cells of the kind's table row, in the order of its columns (the first is the name). `now` is for ages.
    fn cells(&self, object: &Object, _now: Timestamp) -> Vec<Value> {
        vec![Value::from(object.name())]
    }
}

/// Which names a kind allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain.
    DnsSubdomain,
    /// RFC 1123 label.
    DnsLabel,
    /// RFC 1035 label (services).
    Dns1035Label,
    /// Anything that can stand in a path segment (RBAC and the like).
    PathSegment,
}
