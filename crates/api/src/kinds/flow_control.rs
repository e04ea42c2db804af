//! The objects of flow control that every cluster has: the mandatory ones, whose specs are fixed, and those that upstream
//! suggests.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::check::same;
use crate::field::{Cursor, ErrorList};

/// The annotation of an object whose spec the server keeps as it has it here.
pub const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

const GROUP_VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";
const LEVEL: &str = "PriorityLevelConfiguration";
const SCHEMA: &str = "FlowSchema";

/// All of them, with all fields that defaults would fill in.
pub fn objects() -> &'static [Value] {
    static OBJECTS: LazyLock<Vec<Value>> = LazyLock::new(|| {
        let mut objects = mandatory();
        objects.extend(suggested_levels());
        objects.extend(suggested_schemas());
        objects
    });
    &OBJECTS
}

/// How many of the objects are mandatory: they come first.
const MANDATORY: usize = 4;

/// The mandatory objects keep their specs.
pub(super) fn is_fixed(object: &Cursor<'_>, kind: &str, errors: &mut ErrorList) {
    let (metadata, spec) = (object.at("metadata"), object.at("spec"));
    let name = metadata.at("name");
    let fixed = objects()
        .iter()
        .take(MANDATORY)
        .find(|o| o["kind"] == kind && o["metadata"]["name"] == name.str());
    let Some(fixed) = fixed else { return };
    let mut wanted = fixed["spec"].clone();
    let mut found = spec.value().cloned().unwrap_or_default();
    let except = if kind == LEVEL && name.str() == "exempt" {
        // How much the exempt level lends is the administrator's choice.
        for spec in [&mut wanted, &mut found].into_iter().filter_map(Value::as_object_mut) {
            spec.remove("exempt");
        }
        " except the 'spec.exempt' field"
    } else {
        ""
    };
    if !same(Some(&wanted), Some(&found)) {
        errors.invalid(
            &spec,
            format!("spec of '{}'{except} must equal the fixed value", name.str()),
        );
    }
}

fn mandatory() -> Vec<Value> {
    vec![
        object(
            LEVEL,
            "exempt",
            json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}),
        ),
        object(
            LEVEL,
            "catch-all",
            json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 5, "lendablePercent": 0,
                "limitResponse": {"type": "Reject"}}}),
        ),
        schema("exempt", "exempt", 1, "", &all(groups(&["system:masters"]))),
        schema(
            "catch-all",
            "catch-all",
            10_000,
            "ByUser",
            &all(groups(&["system:unauthenticated", "system:authenticated"])),
        ),
    ]
}

fn suggested_levels() -> Vec<Value> {
    let level = |(name, shares, lendable, queues, hand): (&str, u32, u32, u32, u32)| {
        object(
            LEVEL,
            name,
            json!({"type": "Limited", "limited": {"nominalConcurrencyShares": shares, "lendablePercent": lendable,
                "limitResponse": {"type": "Queue", "queuing": {
                    "queues": queues, "handSize": hand, "queueLengthLimit": 50}}}}),
        )
    };
    [
        ("system", 30, 33, 64, 6),
        ("node-high", 40, 25, 64, 6),
        ("leader-election", 10, 0, 16, 4),
        ("workload-high", 40, 50, 128, 6),
        ("workload-low", 100, 90, 128, 6),
        ("global-default", 20, 50, 128, 6),
    ]
    .map(level)
    .into()
}

fn suggested_schemas() -> Vec<Value> {
    const WRITE: [&str; 3] = ["get", "create", "update"];
    let nodes = || groups(&["system:nodes"]);
    let everybody = || groups(&["system:unauthenticated", "system:authenticated"]);
    let manager = "system:kube-controller-manager";
    let scheduler = "system:kube-scheduler";
    let leases = |verbs: &[&str]| resources(verbs, "coordination.k8s.io", &["leases"], false);
    vec![
        schema("system-nodes", "system", 500, "ByUser", &all(nodes())),
        schema(
            "system-node-high",
            "node-high",
            400,
            "ByUser",
            &json!({"subjects": nodes(), "resourceRules": [
                resources(&["*"], "", &["nodes", "nodes/status"], true), leases(&["*"])]}),
        ),
        schema(
            "probes",
            "exempt",
            2,
            "",
            &json!({"subjects": everybody(), "nonResourceRules": [
                {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]}),
        ),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            "ByUser",
            &json!({"subjects": both(users(&[manager, scheduler]), accounts(&["*"])),
                "resourceRules": [leases(&WRITE)]}),
        ),
        schema(
            "endpoint-controller",
            "workload-high",
            150,
            "ByUser",
            &json!({
                "subjects": both(
                    users(&[manager]),
                    accounts(&["endpoint-controller", "endpointslicemirroring-controller"]),
                ),
                "resourceRules": [resources(&WRITE, "", &["endpoints"], false)],
            }),
        ),
        schema(
            "workload-leader-election",
            "leader-election",
            200,
            "ByUser",
            &json!({"subjects": accounts(&["*"]), "resourceRules": [leases(&WRITE)]}),
        ),
        schema(
            manager_schema(manager),
            "workload-high",
            800,
            "ByNamespace",
            &all(users(&[manager])),
        ),
        schema(
            manager_schema(scheduler),
            "workload-high",
            800,
            "ByNamespace",
            &all(users(&[scheduler])),
        ),
        schema(
            "kube-system-service-accounts",
            "workload-high",
            900,
            "ByNamespace",
            &all(accounts(&["*"])),
        ),
        schema(
            "service-accounts",
            "workload-low",
            9000,
            "ByUser",
            &all(groups(&["system:serviceaccounts"])),
        ),
        schema("global-default", "global-default", 9900, "ByUser", &all(everybody())),
    ]
}

/// A component's schema has its name.
fn manager_schema(user: &str) -> &str {
    user.trim_start_matches("system:")
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": GROUP_VERSION,
        "kind": kind,
        "metadata": {"name": name, "annotations": {AUTOUPDATE: "true"}},
        "spec": spec,
    })
}

fn schema(name: &str, level: &str, precedence: u32, method: &str, rule: &Value) -> Value {
    let mut spec = json!({
        "priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence,
        "rules": [rule],
    });
    if !method.is_empty() {
        spec["distinguisherMethod"] = json!({"type": method});
    }
    object(SCHEMA, name, spec)
}

/// All that these subjects ask.
fn all(subjects: Vec<Value>) -> Value {
    json!({
        "subjects": subjects,
        "resourceRules": [resources(&["*"], "*", &["*"], true)],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    })
}

fn resources(verbs: &[&str], group: &str, resources: &[&str], cluster: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]});
    if cluster {
        rule["clusterScope"] = json!(true);
    }
    rule
}

fn groups(names: &[&str]) -> Vec<Value> {
    let group = |name: &&str| json!({"kind": "Group", "group": {"name": name}});
    names.iter().map(group).collect()
}

fn users(names: &[&str]) -> Vec<Value> {
    let user = |name: &&str| json!({"kind": "User", "user": {"name": name}});
    names.iter().map(user).collect()
}

fn both(mut some: Vec<Value>, others: Vec<Value>) -> Vec<Value> {
    some.extend(others);
    some
}

/// Service accounts of the system's own namespace.
fn accounts(names: &[&str]) -> Vec<Value> {
    let account =
        |name: &&str| json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}});
    names.iter().map(account).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::tests::{created, defaulted, with};
    use crate::kinds::{flow_schema, priority_level_configuration};
    use crate::resource::Resource;

    fn row_of(object: &Value) -> Resource {
        if object["kind"] == LEVEL {
            priority_level_configuration::row()
        } else {
            flow_schema::row()
        }
    }

    #[test]
    fn each_is_valid_as_it_is_and_its_level_is_there() {
        let names = |kind: &str| -> Vec<&'static str> {
            let of_kind = objects().iter().filter(|o| o["kind"] == kind);
            of_kind.filter_map(|o| o["metadata"]["name"].as_str()).collect()
        };
        for object in objects() {
            let row = row_of(object);
            assert_eq!(created(&row, object.clone()), [""; 0], "{object}");
            assert_eq!(defaulted(&row, object.clone()), *object);
            if let Some(level) = object["spec"]["priorityLevelConfiguration"]["name"].as_str() {
                assert!(names(LEVEL).contains(&level), "{object}");
            }
        }
        assert_eq!((names(LEVEL).len(), names(SCHEMA).len()), (8, 13));
    }

    #[test]
    fn the_mandatory_ones_keep_their_specs() {
        let find = |kind: &str, name: &str| -> &'static Value {
            let mut objects = objects().iter();
            objects
                .find(|o| o["kind"] == kind && o["metadata"]["name"] == name)
                .unwrap()
        };
        for (kind, name, pointer, value, told) in [
            (
                SCHEMA,
                "exempt",
                "/spec/priorityLevelConfiguration/name",
                json!("system"),
                "'exempt' must",
            ),
            (
                SCHEMA,
                "catch-all",
                "/spec/matchingPrecedence",
                json!(9999),
                "'catch-all' must",
            ),
            (
                LEVEL,
                "catch-all",
                "/spec/limited/nominalConcurrencyShares",
                json!(6),
                "'catch-all' must",
            ),
        ] {
            let changed = with(find(kind, name), pointer, value);
            let errors = created(&row_of(&changed), changed.clone());
            let expected = format!(
                "spec: Invalid value: {}: spec of {told} equal the fixed value",
                changed["spec"]
            );
            assert_eq!(errors, [expected]);
        }
        // What the exempt level lends may be chosen, and what is suggested may be changed.
        for (name, pointer) in [
            ("exempt", "/spec/exempt/lendablePercent"),
            ("system", "/spec/limited/lendablePercent"),
        ] {
            let changed = with(find(LEVEL, name), pointer, json!(10));
            assert_eq!(created(&row_of(&changed), changed), [""; 0], "{name}");
        }
    }
}
