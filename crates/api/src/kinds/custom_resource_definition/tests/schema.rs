//! Schemas and their rules.

use serde_json::{Value, json};

use super::{CustomResourceDefinition, defaulted, errors, with};
use crate::field::{Cursor, ErrorList};
use crate::strategy::Strategy as _;

#[test]
fn a_schema_that_is_not_structural_is_refused() {
    let field = |schema: Value| {
        with(
            "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/size",
            schema,
        )
    };
    let at = "spec.validation.openAPIV3Schema.properties[spec].properties[size]";
    for (schema, expected) in [
        (
            json!({}),
            "type: Required value: must not be empty for specified object fields",
        ),
        (json!({"type": "thing"}), "type: Unsupported value: \"thing\""),
        (json!({"type": "array"}), "items: Required value: must be specified"),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
            "additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
        ),
        (
            json!({"type": "integer", "anyOf": [{"type": "integer"}]}),
            "anyOf[0].type: Forbidden: must be empty to be structural",
        ),
        (
            json!({"type": "object", "anyOf": [{"properties": {"a": {"minimum": 1}}}]}),
            "properties[a]: Required value: because it is defined in",
        ),
        (
            json!({"type": "string", "pattern": "("}),
            "pattern: Invalid value: \"(\": must be a valid regular expression",
        ),
        (
            json!({"type": "integer", "default": "a"}),
            "default: Invalid value: \"string\": spec.validation.openAPIV3Schema.properties[spec].properties[size].default in body must be of type integer",
        ),
        (
            json!({"type": "integer", "minimum": 1, "default": 0}),
            "default: Invalid value: 0",
        ),
        (
            json!({"type": "object", "default": {"b": 1}}),
            "default: Invalid value: {\"b\":1}: must not have unknown fields",
        ),
        (
            json!({"type": "integer", "x-kubernetes-list-type": "set"}),
            "type: Invalid value: \"integer\": must be array if x-kubernetes-list-type is specified",
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}}),
            "x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
        ),
        (
            json!({"type": "string", "x-kubernetes-preserve-unknown-fields": false}),
            "x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined",
        ),
        (
            json!({"type": "string", "nullable": true, "uniqueItems": true}),
            "uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ),
        (
            json!({"type": "object", "additionalProperties": false, "properties": {"a": {"type": "string"}}}),
            "additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "bag", "items": {"type": "string"}}),
            "x-kubernetes-list-type: Unsupported value: \"bag\": supported values: \"atomic\", \"set\", \"map\"",
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}}),
            "items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with \
             x-kubernetes-list-type=set",
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"], "items": {
                "type": "object", "nullable": true, "required": ["a"], "properties": {"a": {"type": "string"}}}}),
            "items.nullable: Forbidden: cannot be nullable when x-kubernetes-list-type is map",
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"], "items": {
                "type": "object", "required": ["a"], "properties": {"a": {"type": "string", "nullable": true}}}}),
            "items.properties[a].nullable: Forbidden: this property is in x-kubernetes-list-map-keys, so it cannot be \
             nullable",
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"], "items": {
                "type": "object", "required": ["a"], "properties": {"a": {"type": "object"}}}}),
            "items.properties[a].type: Invalid value: \"object\": must be a scalar type if parent array's \
             x-kubernetes-list-type is map",
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["b"], "items": {
                "type": "object", "properties": {"a": {"type": "string"}}}}),
            "x-kubernetes-list-map-keys: Invalid value: [\"b\"]: entries must all be names of item properties",
        ),
        (json!({"type": "string", "$schema": "x"}), ""),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true}),
            "properties: Required value: must not be empty if x-kubernetes-embedded-resource is true",
        ),
    ] {
        let found = errors(field(schema.clone()));
        assert_eq!(found.len(), 1, "{schema}: {found:?}");
        if expected.is_empty() {
            let root = "spec.validation.openAPIV3Schema";
            let told = format!("{root}: Invalid value: \"\": OpenAPIV3Schema 'schema' is not supported");
            assert_eq!(found[0], told);
            continue;
        }
        assert!(
            found[0].starts_with(at) && found[0].contains(expected),
            "{schema}: {found:?}"
        );
    }
    for fine in [
        json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}], "default": "a"}),
        json!({"x-kubernetes-preserve-unknown-fields": true}),
        json!({"type": "object", "additionalProperties": false}),
        json!({"type": "string", "x-kubernetes-int-or-string": true}),
        json!({"type": "object", "additionalProperties": {"type": "string"}, "default": {"a": "b"}}),
        json!({"type": "string", "nullable": true, "enum": ["a"], "default": "a"}),
    ] {
        assert_eq!(errors(field(fine.clone())), Vec::<String>::new(), "{fine}");
    }
}

#[test]
fn rules_have_to_compile() {
    let rule = |rule: Value| {
        with(
            "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-validations",
            json!([rule]),
        )
    };
    let at = "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0]";
    for (given, expected) in [
        (json!({"rule": " "}), "rule: Required value: rule is not specified"),
        (
            json!({"rule": "self.nope == 1"}),
            "rule: Invalid value: {\"rule\":\"self.nope == 1\"}: compilation failed: ERROR: <input>:1:5: undefined field 'nope'\n | self.nope == 1\n | ....^",
        ),
        (json!({"rule": "self.size"}), "cel expression must evaluate to a bool"),
        (
            json!({"rule": "self.size > 0", "messageExpression": "self.size"}),
            "messageExpression must evaluate to a string",
        ),
        (
            json!({"rule": "self.size > 0", "optionalOldSelf": true}),
            "optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule",
        ),
        (
            json!({"rule": "true", "fieldPath": ".nope"}),
            "fieldPath: Invalid value: \".nope\": fieldPath must be a valid path",
        ),
        (
            json!({"rule": "true", "reason": "Because"}),
            "reason: Unsupported value: \"Because\"",
        ),
        (
            json!({"rule": "true", "message": " "}),
            "message: Invalid value: \" \": message must be non-empty if specified",
        ),
        (
            json!({"rule": "true", "message": "a\rb"}),
            "message: Invalid value: \"a\\rb\": message must not contain line breaks",
        ),
        (
            json!({"rule": "true", "messageExpression": " "}),
            "messageExpression: Required value: messageExpression must be non-empty if specified",
        ),
        (
            json!({"rule": "true &&\ntrue", "messageExpression": "'a'"}),
            "message: Required value: message must be specified if rule contains line breaks",
        ),
        (json!({"rule": "true", "message": "m".repeat(4096)}), ""),
        (json!({"rule": "true\n"}), ""),
        (
            json!({"rule": "true &&\ntrue"}),
            "message: Required value: message must be specified if rule contains line breaks",
        ),
    ] {
        let found = errors(rule(given.clone()));
        if expected.is_empty() {
            assert!(found.is_empty(), "{given}: {found:?}");
            continue;
        }
        assert_eq!(found.len(), 1, "{given}: {found:?}");
        assert!(
            found[0].starts_with(at) && found[0].contains(expected),
            "{given}: {found:?}"
        );
    }
    let untyped = json!({"x-kubernetes-preserve-unknown-fields": true, "x-kubernetes-validations": [{"rule": "true"}]});
    assert_eq!(
        errors(with(
            "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/name",
            untyped,
        )),
        [
            "spec.validation.openAPIV3Schema.properties[spec].properties[name].x-kubernetes-validations: Internal error: \
             internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert \
             structural schema to CEL declarations"
        ]
    );
    let list = json!({"type": "array", "maxItems": 9, "items": {
        "type": "string", "maxLength": 9, "x-kubernetes-validations": [{"rule": "self == oldSelf"}],
    }});
    let found = errors(with(
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/name",
        list,
    ));
    assert!(
        found[0].contains("oldSelf cannot be used on the uncorrelatable portion"),
        "{found:?}"
    );
}

#[test]
fn rules_may_cost_so_much_and_no_more() {
    let spec = |spec: Value| with("/spec/versions/0/schema/openAPIV3Schema/properties/spec", spec);
    let at = "spec.validation.openAPIV3Schema";
    let each = json!([{"rule": "self.all(x, x.contains('gpu'))"}]);
    let unbounded = json!({"type": "object", "properties": {"tags": {
        "type": "array", "items": {"type": "string"}, "x-kubernetes-validations": each,
    }}});
    let advice = "exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, \
                  and maxLength where arrays, maps, and strings are declared)";
    let rule = format!("{at}.properties[spec].properties[tags].x-kubernetes-validations[0].rule: Forbidden");
    assert_eq!(
        errors(spec(unbounded.clone())),
        [
            format!("{rule}: estimated rule cost {advice}"),
            format!(
                "{rule}: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
            ),
            format!(
                "{at}: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema {advice}"
            ),
        ]
    );
    let mut bounded = unbounded.clone();
    bounded["properties"]["tags"]["items"]["maxLength"] = 63.into();
    bounded["properties"]["tags"]["maxItems"] = 333_333.into();
    assert_eq!(errors(spec(bounded.clone())), Vec::<String>::new());
    bounded["properties"]["tags"]["maxItems"] = 500_000.into();
    let found = errors(spec(bounded));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("exceeds budget by factor of 1.5x"), "{found:?}");
    // A rule is run for every element of the lists above it.
    let nested = |most: i64| {
        json!({"type": "array", "maxItems": most, "items": {
            "type": "object",
            "properties": {"a": {"type": "integer"}},
            "x-kubernetes-validations": [{"rule": "self.a > 0"}],
        }})
    };
    assert_eq!(errors(spec(nested(3_000_000))), Vec::<String>::new());
    assert!(errors(spec(nested(4_000_000)))[0].contains("by factor of 1.200000x"));
    // A message may not be built of what has no bound.
    let message = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "x-kubernetes-validations": [
        {"rule": "self.a > 0", "messageExpression": "'got ' + string(self.a)"},
    ]});
    assert!(
        errors(spec(message))[0].contains("messageExpression: Forbidden: estimated messageExpression cost exceeds")
    );
    // What is stored stays, whatever it costs.
    let stored = spec(unbounded);
    let mut changed = stored.clone();
    changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["description"] = "x".into();
    let (changed, stored) = (defaulted(changed), defaulted(stored));
    let mut errors = ErrorList::new();
    CustomResourceDefinition.validate_update(&Cursor::root(&changed, None), &Cursor::root(&stored, None), &mut errors);
    assert!(
        !errors.as_slice().iter().any(|e| e.to_string().contains("cost")),
        "{:?}",
        errors.as_slice()
    );
}

#[test]
fn what_the_root_of_a_schema_may_say() {
    let root = |pointer: &str, value: Value, status: bool| {
        let mut whole = with(&format!("/spec/versions/0/schema/openAPIV3Schema{pointer}"), value);
        if status {
            whole["spec"]["versions"][0]["subresources"] = json!({"status": {}});
        }
        errors(whole)
    };
    let at = "spec.validation.openAPIV3Schema";
    for (pointer, value, status, expected) in [
        (
            "/nullable",
            json!(true),
            false,
            vec![format!("{at}.nullable: Forbidden: nullable cannot be true at the root")],
        ),
        ("/nullable", json!(false), true, Vec::new()),
        ("/default", json!({"spec": {}}), false, Vec::new()),
        (
            "/type",
            json!("string"),
            true,
            vec![
                format!(
                    "{at}.type: Invalid value: \"string\": only \"object\" is allowed as the type at the root of the schema \
                     if the status subresource is enabled"
                ),
                format!("{at}.type: Invalid value: \"string\": must be object at the root"),
            ],
        ),
        (
            "/properties/metadata",
            json!({"type": "object", "default": {}}),
            false,
            vec![format!(
                "{at}.properties[metadata].default: Forbidden: must not be set in top-level metadata"
            )],
        ),
        (
            "/properties/metadata",
            json!({"type": "object", "description": "x"}),
            false,
            vec![format!(
                "{at}.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but \
                 metadata is implicitly specified"
            )],
        ),
    ] {
        assert_eq!(root(pointer, value.clone(), status), expected, "{pointer}: {value}");
    }
}
