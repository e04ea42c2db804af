//! Checks that many validators make: enumerations, numbers, quantities, equality as the API means it.

use serde_json::{Map, Value};

use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::quantity::Quantity;

pub(super) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
pub(super) const POSITIVE: &str = "must be greater than zero";
pub(super) const IMMUTABLE: &str = "field is immutable";

/// The value must be there and one of `supported`.
pub(super) fn one_of(at: &Cursor<'_>, supported: &[&str], errors: &mut ErrorList) {
    if at.is_empty() {
        errors.required(at, "");
    } else if !supported.contains(&at.str()) {
        errors.not_supported(at, supported);
    }
}

/// If the value is there, it must be one of `supported`.
pub(super) fn one_of_if_set(at: &Cursor<'_>, supported: &[&str], errors: &mut ErrorList) {
    if at.is_set() && !supported.contains(&at.str()) {
        errors.not_supported(at, supported);
    }
}

pub(super) fn not_empty(at: &Cursor<'_>, errors: &mut ErrorList) {
    if at.is_empty() {
        errors.required(at, "");
    }
}

pub(super) fn not_negative(at: &Cursor<'_>, errors: &mut ErrorList) {
    if at.int() < 0 {
        errors.invalid(at, NOT_NEGATIVE);
    }
}

/// A well-formed name of any of the rules in [`names`], if the value is there.
pub(super) fn named_if_set(at: &Cursor<'_>, rule: fn(&str) -> Vec<String>, errors: &mut ErrorList) {
    if !at.is_empty() {
        errors.faults(at, rule(at.str()));
    }
}

/// A qualified name (what a label's key is).
pub(super) fn qualified(at: &Cursor<'_>, errors: &mut ErrorList) {
    for fault in names::qualified_name(at.str()) {
        errors.invalid_value(at, &at.str().into(), fault);
    }
}

/// A number or a name of a port.
pub(super) fn port(at: &Cursor<'_>, errors: &mut ErrorList) {
    match at.value() {
        Some(Value::String(name)) => errors.faults(at, names::port_name(name)),
        Some(number) => errors.faults(at, names::port_number(number.as_i64().unwrap_or_default())),
        None => {
            for fault in names::port_number(0) {
                errors.invalid_value(at, &0.into(), fault);
            }
        }
    }
}

/// A quantity that is not negative, and whole where the resource comes in pieces.
pub(super) fn quantity_of(resource: &str, at: &Cursor<'_>, errors: &mut ErrorList) {
    quantity_at(at, resource, at, errors);
}

/// [`quantity_of`] that is told of at another place.
pub(super) fn quantity_at(place: &Cursor<'_>, resource: &str, at: &Cursor<'_>, errors: &mut ErrorList) {
    let Some(quantity) = at.quantity() else {
        return;
    };
    let shown = at.value().unwrap_or(&Value::Null);
    if quantity.is_negative() {
        errors.invalid_value(place, shown, NOT_NEGATIVE);
    }
    if is_integer_resource(resource) && quantity.milli_value() % 1000 != 0 {
        errors.invalid_value(place, shown, "must be an integer");
    }
}

pub(super) fn positive_quantity(at: &Cursor<'_>, errors: &mut ErrorList) -> bool {
    let positive = at.quantity().is_some_and(|q| q > Quantity::ZERO);
    if !positive {
        errors.invalid(at, POSITIVE);
    }
    positive
}

/// Counted in pieces: pods, services, extended resources...
pub(super) fn is_integer_resource(name: &str) -> bool {
    matches!(
        name,
        "pods"
            | "services"
            | "replicationcontrollers"
            | "resourcequotas"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "services.nodeports"
            | "services.loadbalancers"
    ) || is_extended_resource(name)
}

/// Of the system's own: without a domain, or below kubernetes.io.
pub(super) fn is_native_resource(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Named by whoever provides it: `example.com/gpu`.
pub(super) fn is_extended_resource(name: &str) -> bool {
    !is_native_resource(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

pub(super) fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Requests may be lower than limits.
pub(super) fn may_overcommit(name: &str) -> bool {
    is_native_resource(name) && !is_huge_page(name)
}

/// The name of a resource: qualified, and a known one when it has no domain.
pub(super) fn resource_name(at: &Cursor<'_>, name: &str, errors: &mut ErrorList) -> bool {
    let faults = names::qualified_name(name);
    let well_formed = faults.is_empty();
    for fault in faults {
        errors.invalid_value(at, &name.into(), fault);
    }
    if well_formed && !name.contains('/') && !is_standard_resource(name) {
        errors.invalid_value(at, &name.into(), "must be a standard resource type or fully qualified");
        return false;
    }
    well_formed
}

fn is_standard_resource(name: &str) -> bool {
    matches!(
        name,
        "cpu"
            | "memory"
            | "ephemeral-storage"
            | "requests.cpu"
            | "requests.memory"
            | "requests.ephemeral-storage"
            | "limits.cpu"
            | "limits.memory"
            | "limits.ephemeral-storage"
            | "pods"
            | "resourcequotas"
            | "services"
            | "replicationcontrollers"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "storage"
            | "requests.storage"
            | "services.nodeports"
            | "services.loadbalancers"
    ) || is_huge_page(name)
        || name.starts_with("requests.hugepages-")
}

/// The name of a resource that a container may ask for.
pub(super) fn container_resource_name(at: &Cursor<'_>, name: &str, errors: &mut ErrorList) {
    resource_name(at, name, errors);
    if !name.contains('/') {
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !is_huge_page(name) {
            errors.invalid_value(at, &name.into(), "must be a standard resource for containers");
        }
    } else if !is_native_resource(name) && !is_extended_resource(name) {
        errors.invalid_value(at, &name.into(), "doesn't follow extended resource name standard");
    }
}

/// Fields whose zero is the same as their absence, because the API's types have no pointer there.
const ZERO_IS_ABSENT: [&str; 16] = [
    "fsType",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostPort",
    "initialDelaySeconds",
    "lun",
    "minReadySeconds",
    "paused",
    "partition",
    "readOnly",
    "stdin",
    "stdinOnce",
    "subPath",
    "tty",
    "value",
];

/// Fields that hold quantities (or maps of them), where `1` and `1000m` are the same.
const QUANTITIES: [&str; 8] = [
    "capacity",
    "default",
    "divisor",
    "hard",
    "limits",
    "overhead",
    "requests",
    "sizeLimit",
];

/// Whether two values mean the same: what is absent equals what is empty, and quantities are compared as such.
pub(super) fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    same_in("", a, b)
}

fn same_in(field: &str, a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => same_maps(field, a, b),
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_in(field, Some(a), Some(b)))
        }
        (None, None) => true,
        (Some(one), None) | (None, Some(one)) => is_zero(field, one),
        (Some(a), Some(b)) if a == b => true,
        (Some(a), Some(b)) if QUANTITIES.contains(&field) => match (Quantity::from_json(a), Quantity::from_json(b)) {
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        },
        (Some(a), Some(b)) => is_zero(field, a) && is_zero(field, b),
    }
}

fn same_maps(field: &str, a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    // The values of a map of quantities are told by the map's own name.
    let name = |key: &'_ String| -> String {
        if QUANTITIES.contains(&field) {
            field.to_owned()
        } else {
            key.clone()
        }
    };
    a.keys()
        .chain(b.keys().filter(|k| !a.contains_key(*k)))
        .all(|key| same_in(&name(key), a.get(key), b.get(key)))
}

fn is_zero(field: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(s) => s.is_empty(),
        Value::Bool(b) => !b && ZERO_IS_ABSENT.contains(&field),
        Value::Number(n) => n.as_i64() == Some(0) && ZERO_IS_ABSENT.contains(&field),
    }
}

/// A quantity that is not negative, as upstream says it of storage.
pub(super) fn basic_quantity(at: &Cursor<'_>, errors: &mut ErrorList) {
    if let Some(amount) = at.quantity().filter(Quantity::is_negative) {
        errors.invalid_value(at, &amount.value().into(), "must be a valid resource quantity");
    }
}

/// [`immutable`] of what upstream tells of at another place.
pub(super) fn immutable_at(place: &Cursor<'_>, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
    if !same(new.value(), old.value()) {
        errors.invalid_value(place, new.value().unwrap_or(&Value::Null), IMMUTABLE);
    }
}

/// Refuses a change, in the sense of [`same`].
pub(super) fn immutable(new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
    if !same(new.value(), old.value()) {
        errors.invalid(new, IMMUTABLE);
    }
}

/// The name of a signer: `example.com/client`, a domain and what it signs.
pub(super) fn signer_name(at: &Cursor<'_>, errors: &mut ErrorList) {
    const LONGEST: usize = 253;
    let name = at.str();
    if name.is_empty() {
        return errors.required(at, "");
    }
    let [domain, path] = name.split('/').collect::<Vec<_>>()[..] else {
        return errors.invalid(
            at,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        );
    };
    if domain.len() > LONGEST {
        errors.too_long(at, LONGEST);
    }
    let mut first_wrong = |part: &str, rule: fn(&str) -> Vec<String>| {
        let wrong = part.split('.').find(|label| !rule(label).is_empty());
        for (label, fault) in wrong.into_iter().flat_map(|l| rule(l).into_iter().map(move |f| (l, f))) {
            errors.invalid_value(at, &part.into(), format!("validating label {label:?}: {fault}"));
        }
    };
    first_wrong(domain, names::dns1123_label);
    first_wrong(path, names::dns1123_subdomain);
    if !domain.contains('.') {
        errors.invalid_value(
            at,
            &domain.into(),
            "should be a domain with at least two segments separated by dots",
        );
    }
    if name.len() > 2 * LONGEST + 1 {
        errors.too_long(at, 2 * LONGEST + 1);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::resource::Resource;
    use serde_json::json;

    /// What a row's rules say of a new object, after its defaults.
    pub fn created(row: &Resource, object: Value) -> Vec<String> {
        let object = prepared(row, object);
        let mut errors = ErrorList::new();
        row.strategy
            .validate(&Cursor::root(&object, Some(row.schema())), &mut errors);
        texts(&errors)
    }

    /// An object as the server would validate it: with defaults and prepared.
    pub fn prepared(row: &Resource, object: Value) -> Value {
        let mut object = crate::object::Object::from_value(object).unwrap();
        row.strategy.set_defaults(&mut object);
        row.strategy.prepare_for_create(&mut object);
        object.into_value()
    }

    pub fn defaulted(row: &Resource, object: Value) -> Value {
        let mut object = crate::object::Object::from_value(object).unwrap();
        row.strategy.set_defaults(&mut object);
        let once = object.clone();
        row.strategy.set_defaults(&mut object);
        assert_eq!(once, object, "defaults are idempotent");
        object.into_value()
    }

    /// What a row's rules say of an update, after defaults and preparation.
    pub fn updated(row: &Resource, old: Value, new: Value) -> Vec<String> {
        let old = crate::object::Object::from_value(prepared(row, old)).unwrap();
        let mut new = crate::object::Object::from_value(new).unwrap();
        row.strategy.set_defaults(&mut new);
        row.strategy.prepare_for_update(&mut new, &old);
        checked(row, &old.into_value(), &new.into_value())
    }

    /// What an update says of an object that comes to it as it is.
    pub fn checked(row: &Resource, old: &Value, new: &Value) -> Vec<String> {
        let mut errors = ErrorList::new();
        row.strategy.validate_update(
            &Cursor::root(new, Some(row.schema())),
            &Cursor::root(old, Some(row.schema())),
            &mut errors,
        );
        texts(&errors)
    }

    pub fn texts(errors: &ErrorList) -> Vec<String> {
        errors.as_slice().iter().map(ToString::to_string).collect()
    }

    /// `object` with the value at a JSON pointer replaced (or added; null takes it away).
    pub fn with(object: &Value, pointer: &str, value: Value) -> Value {
        let mut object = object.clone();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        match object.pointer_mut(parent) {
            Some(Value::Object(map)) if value.is_null() => {
                map.remove(field);
            }
            Some(Value::Object(map)) => {
                map.insert(field.to_owned(), value);
            }
            Some(Value::Array(items)) => match field.parse::<usize>() {
                Ok(i) if i < items.len() => items[i] = value,
                _ => items.push(value),
            },
            _ => panic!("no {parent} in {object}"),
        }
        object
    }

    /// A table: a change to a valid object, and the one complaint it brings.
    pub fn refuses(row: &Resource, valid: &Value, table: &[(&str, Value, &str)]) {
        assert_eq!(created(row, valid.clone()), [""; 0]);
        for (pointer, value, expected) in table {
            let errors = created(row, with(valid, pointer, value.clone()));
            assert_eq!(errors, [*expected], "{pointer} = {value}");
        }
    }

    /// The same for updates.
    pub fn refuses_update(row: &Resource, valid: &Value, table: &[(&str, Value, &str)]) {
        assert_eq!(updated(row, valid.clone(), valid.clone()), [""; 0]);
        for (pointer, value, expected) in table {
            let errors = updated(row, valid.clone(), with(valid, pointer, value.clone()));
            assert_eq!(errors, [*expected], "{pointer} = {value}");
        }
    }

    /// The same for updates of the status.
    pub fn refuses_status(row: &Resource, valid: &Value, table: &[(&str, Value, &str)]) {
        let checked = |new: &Value| {
            let mut errors = ErrorList::new();
            row.strategy.validate_status_update(
                &Cursor::root(new, Some(row.schema())),
                &Cursor::root(valid, Some(row.schema())),
                &mut errors,
            );
            texts(&errors)
        };
        assert_eq!(checked(valid), [""; 0]);
        for (pointer, value, expected) in table {
            assert_eq!(
                checked(&with(valid, pointer, value.clone())),
                [*expected],
                "{pointer} = {value}"
            );
        }
    }

    #[test]
    fn absent_empty_and_zero_mean_the_same() {
        for (a, b, equal) in [
            (json!({"hostNetwork": false}), json!({}), true),
            (json!({"hostUsers": false}), json!({}), false),
            (json!({"a": {}, "b": [], "c": null}), json!({}), true),
            (
                json!({"requests": {"cpu": "1"}}),
                json!({"requests": {"cpu": "1000m"}}),
                true,
            ),
            (
                json!({"requests": {"cpu": "1"}}),
                json!({"requests": {"cpu": "2"}}),
                false,
            ),
            (json!({"name": "1"}), json!({"name": "1000m"}), false),
            (json!([1, 2]), json!([1]), false),
        ] {
            assert_eq!(same(Some(&a), Some(&b)), equal, "{a} {b}");
        }
    }
}
