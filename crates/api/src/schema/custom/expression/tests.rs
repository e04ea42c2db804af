//! Rules by tables: what they say, when they run, what they let pass.

use super::*;
use serde_json::json;

fn check(schema: &Json, new: Json, old: Option<Json>) -> Vec<String> {
    let mut errors = ErrorList::new();
    if let Some(rules) = Expressions::new(schema, true) {
        rules.validate(&new, old.as_ref(), &mut errors);
    }
    errors.as_slice().iter().map(ToString::to_string).collect()
}

fn spec(spec: Json) -> Json {
    json!({"type": "object", "properties": {"spec": spec}})
}

#[test]
fn a_failed_rule_says_what_it_was_told_to_say() {
    let schema = |rule: Json| {
        spec(
            json!({"type": "object", "x-kubernetes-validations": [rule], "properties": {
            "min": {"type": "integer"}, "max": {"type": "integer"}, "namespace": {"type": "string"}}}),
        )
    };
    let object = json!({"spec": {"min": 3, "max": 2}});
    for (rule, expected) in [
        (
            json!({"rule": "self.min <= self.max"}),
            "spec: Invalid value: \"object\": failed rule: self.min <= self.max",
        ),
        (
            json!({"rule": "self.min <= self.max", "message": "min is too large"}),
            "spec: Invalid value: \"object\": min is too large",
        ),
        (
            json!({"rule": "self.min <= self.max", "messageExpression": "'%d > %d'.format([self.min, self.max])"}),
            "spec: Invalid value: \"object\": 3 > 2",
        ),
        (
            json!({"rule": "self.min <= self.max", "reason": "FieldValueForbidden", "fieldPath": ".max", "message": "no"}),
            "spec.max: Forbidden: no",
        ),
        (
            json!({"rule": "has(self.__namespace__)", "reason": "FieldValueRequired", "fieldPath": ".namespace"}),
            "spec.namespace: Required value: failed rule: has(self.__namespace__)",
        ),
        (
            json!({"rule": "self.__namespace__ == 'x'", "message": "told"}),
            "spec: Invalid value: \"object\": no such key: __namespace__ evaluating rule: told",
        ),
    ] {
        assert_eq!(check(&schema(rule), object.clone(), None), [expected]);
    }
    let fine = json!({"spec": {"min": 1, "max": 2}});
    assert!(check(&schema(json!({"rule": "self.min <= self.max"})), fine, None).is_empty());
}

#[test]
fn rules_about_changes_run_where_there_is_something_to_compare() {
    let schema = spec(json!({"type": "object", "properties": {
        "size": {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= oldSelf", "message": "cannot shrink"}]},
        "named": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {
            "type": "object", "x-kubernetes-validations": [{"rule": "self.v == oldSelf.v", "message": "v is fixed"}],
            "properties": {"name": {"type": "string"}, "v": {"type": "integer"}}}},
        "once": {"type": "string", "x-kubernetes-validations": [
            {"rule": "!oldSelf.hasValue() || oldSelf.value() == self", "optionalOldSelf": true, "message": "set once"}]}}}));
    let of = |size: i64, v: i64, once: &str| json!({"spec": {"size": size, "named": [{"name": "new", "v": 7}, {"name": "a", "v": v}], "once": once}});
    assert!(check(&schema, of(1, 1, "x"), None).is_empty());
    let old = json!({"spec": {"size": 2, "named": [{"name": "a", "v": 1}], "once": "x"}});
    assert_eq!(
        check(&schema, of(1, 2, "y"), Some(old)),
        [
            "spec.named[1]: Invalid value: \"object\": v is fixed",
            "spec.once: Invalid value: \"string\": set once",
            "spec.size: Invalid value: \"integer\": cannot shrink",
        ]
    );
}

#[test]
fn what_did_not_change_is_let_pass() {
    let rule = |text: &str| json!([{"rule": text}]);
    let schema = spec(json!({"type": "object", "properties": {
        "a": {"type": "string", "x-kubernetes-validations": rule("self.size() > 3")},
        "b": {"type": "string", "x-kubernetes-validations": rule("self.size() > 3")}}}));
    let old = json!({"spec": {"a": "x", "b": "x"}});
    let new = json!({"spec": {"a": "x", "b": "y"}});
    assert_eq!(
        check(&schema, new, Some(old)),
        ["spec.b: Invalid value: \"string\": failed rule: self.size() > 3"]
    );
}

#[test]
fn a_rule_that_costs_too_much_ends_the_evaluation() {
    let list = json!({"type": "array", "items": {"type": "integer"}, "x-kubernetes-validations": [
        {"rule": "self.all(a, self.all(b, self.all(c, a + b + c >= 0)))"}, {"rule": "false"}]});
    let items: Vec<i64> = (0..300).collect();
    let errors = check(&spec(list), json!({"spec": items}), None);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains("call cost exceeds limit"), "{errors:?}");
}

#[test]
fn the_path_of_a_field_is_one_of_the_schema() {
    let schema = json!({"properties": {"a": {"properties": {"b.c": {}}}, "m": {"additionalProperties": {}}}});
    for (path, expected) in [
        (".a", Ok("a")),
        (".a['b.c']", Ok("a.b.c")),
        (".m['k']", Ok("m[k]")),
        (".zzz", Err("does not refer to a valid field")),
        ("a", Err("expected [ or . but got: a")),
        (".a[", Err("expected single quoted string but got ")),
    ] {
        assert_eq!(
            field_path(path, &schema),
            expected.map(str::to_owned).map_err(str::to_owned),
            "{path}"
        );
    }
}
