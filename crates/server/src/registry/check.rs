//! Validation of an object on its way to the store: metadata, then the kind's own rules. Answers with all mistakes.

use coracle_api::field::{Cursor, ErrorList, FieldError, FieldErrorKind};
use coracle_api::meta;
use coracle_api::object::Object;
use coracle_api::resource::Resource;
use coracle_api::service::{ListOptions, PatchKind, VersionMatch};
use coracle_api::status::Status;
use serde_json::Value;

use super::Call;

/// A new object.
pub(crate) fn create(row: &Resource, object: &mut Object) -> Result<(), Status> {
    with_cursor(row, object, |at, errors| {
        meta::validate(at, row.is_namespaced(), row.strategy.name_rule(), errors);
        row.strategy.validate(at, errors);
    })
}

/// An update of the main resource.
pub(crate) fn update(row: &Resource, new: &mut Object, old: &mut Object) -> Result<(), Status> {
    two(row, new, old, |new, old, errors| {
        meta::validate_update(new, old, errors);
        row.strategy.validate_update(new, old, errors);
    })
}

/// An update by a subresource that changes one part: what is immutable otherwise may change by it.
pub(crate) fn update_part(row: &Resource, part: &str, new: &mut Object, old: &mut Object) -> Result<(), Status> {
    two(row, new, old, |new, old, errors| {
        meta::validate_update(new, old, errors);
        row.strategy.validate_subresource_update(part, new, old, errors);
    })
}

/// An update of `status`.
pub(crate) fn update_status(row: &Resource, new: &mut Object, old: &mut Object) -> Result<(), Status> {
    two(row, new, old, |new, old, errors| {
        meta::validate_update(new, old, errors);
        row.strategy.validate_status_update(new, old, errors);
    })
}

fn two(
    row: &Resource,
    new: &mut Object,
    old: &mut Object,
    rules: impl Fn(&Cursor<'_>, &Cursor<'_>, &mut ErrorList),
) -> Result<(), Status> {
    lend(old, |old| {
        let old = Cursor::root(old, Some(row.schema()));
        with_cursor(row, new, |at, errors| rules(at, &old, errors))
    })
}

fn with_cursor(row: &Resource, object: &mut Object, rules: impl Fn(&Cursor<'_>, &mut ErrorList)) -> Result<(), Status> {
    let mut errors = ErrorList::new();
    lend(object, |value| {
        rules(&Cursor::root(value, Some(row.schema())), &mut errors)
    });
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&row.group, &row.kind, object.name(), errors.as_slice()))
}

/// Lends the object as the value that rules walk over, which it is but for its type: a copy would cost as much as the
/// rules.
fn lend<T>(object: &mut Object, to: impl FnOnce(&Value) -> T) -> T {
    let value = Value::Object(std::mem::take(&mut object.0));
    let result = to(&value);
    if let Value::Object(map) = value {
        object.0 = map;
    }
    result
}

/// One mistake found outside of the kind's rules.
pub(crate) fn invalid(call: &Call<'_>, path: &str, value: &str, detail: &str) -> Status {
    let error = FieldError {
        kind: FieldErrorKind::Invalid,
        path: path.into(),
        value: value.into(),
        detail: detail.into(),
    };
    Status::invalid(&call.row.group, &call.row.kind, &call.target.name, &[error])
}

/// One fault of options, which have no object to point into.
pub(crate) fn fault(kind: FieldErrorKind, path: &str, value: String, detail: String) -> FieldError {
    FieldError {
        kind,
        path: path.into(),
        value,
        detail,
    }
}

fn required(path: &str, detail: &str) -> FieldError {
    fault(FieldErrorKind::Required, path, String::new(), detail.to_owned())
}

fn forbidden(path: &str, detail: &str) -> FieldError {
    fault(FieldErrorKind::Forbidden, path, String::new(), detail.to_owned())
}

pub(crate) fn not_supported(path: &str, value: &Value, supported: &[&str]) -> FieldError {
    let supported: Vec<String> = supported.iter().map(|s| coracle_api::field::quoted(s)).collect();
    let detail = format!("supported values: {}", supported.join(", "));
    fault(
        FieldErrorKind::NotSupported,
        path,
        coracle_api::field::show(value),
        detail,
    )
}

/// What the options of a patch must and must not say, before there is a name for who says nothing.
pub(crate) fn patch_options(kind: PatchKind, manager: &str, says_force: bool) -> Option<FieldError> {
    match kind {
        PatchKind::Apply if manager.is_empty() => Some(required("fieldManager", "is required for apply patch")),
        PatchKind::Json | PatchKind::Merge | PatchKind::Strategic if says_force => {
            Some(forbidden("force", "may not be specified for non-apply patch"))
        }
        _ => None,
    }
}

/// Refuses options of this kind, if anything is wrong with them.
pub(crate) fn refuse(kind: &str, faults: &[FieldError]) -> Result<(), Status> {
    if faults.is_empty() {
        return Ok(());
    }
    Err(Status::invalid("meta.k8s.io", kind, "", faults))
}

/// Refuses options of a list or a watch that contradict each other. `matching` is the `resourceVersionMatch` as it was
/// written.
pub(crate) fn list_options(options: &ListOptions, matching: &str, watch: bool) -> Result<(), Status> {
    const MATCH: &str = "resourceVersionMatch";
    let mut faults = Vec::new();
    let mut forbid = |path: &str, detail: &str| faults.push(forbidden(path, detail));
    let mut supported: &[&str] = &["Exact", "NotOlderThan", ""];
    if watch {
        supported = &["NotOlderThan"];
        let initial = options.send_initial_events.is_some();
        if initial && matching != "NotOlderThan" {
            forbid(
                MATCH,
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            );
        }
        if !initial && !matching.is_empty() {
            forbid(
                MATCH,
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        }
    } else if !matching.is_empty() && options.resource_version.is_empty() {
        forbid(
            MATCH,
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        );
    }
    if !matching.is_empty() && !options.continue_token.is_empty() {
        forbid(MATCH, "resourceVersionMatch is forbidden when continue is provided");
    }
    if !watch && matching == "Exact" && options.resource_version == "0" {
        forbid(
            MATCH,
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        );
    }
    if !watch && options.send_initial_events.is_some() {
        forbid("sendInitialEvents", "sendInitialEvents is forbidden for list");
    }
    if !matching.is_empty() && !supported.contains(&matching) {
        faults.push(not_supported(MATCH, &matching.into(), supported));
    }
    refuse("ListOptions", &faults)
}

/// [`list_options`] that came by another way than a query.
pub(crate) fn typed_list_options(options: &ListOptions, watch: bool) -> Result<(), Status> {
    let matching = match options.resource_version_match {
        None => "",
        Some(VersionMatch::Exact) => "Exact",
        Some(VersionMatch::NotOlderThan) => "NotOlderThan",
    };
    list_options(options, matching, watch)
}
