//! Tests of who owns what: ordinary writes and applies, one after the other, on built-in and custom kinds. One file,
//! though long, because all of them speak through one small world.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::apply::{ApplyError, apply};
use super::fields::FieldSet;
use super::managed::{Form, Manager, ignore_times, manager_name, update};
use super::testing::{POD, arbitrary, pod_schemas};
use crate::object::Object;
use crate::schema::{self, SchemaSet};

/// A kind, and a clock that goes on by a second with every write.
struct World {
    schemas: &'static SchemaSet,
    node: schema::NodeId,
    api_version: &'static str,
    kind: &'static str,
    reset: FieldSet,
    second: std::cell::Cell<i64>,
}

impl World {
    fn built_in(type_name: &str, api_version: &'static str, kind: &'static str) -> Self {
        Self {
            schemas: schema::built_in(),
            node: schema::type_node(type_name).unwrap(),
            api_version,
            kind,
            reset: FieldSet::new(),
            second: 0.into(),
        }
    }

    fn deployments() -> Self {
        Self::built_in("io.k8s.api.apps.v1.Deployment", "apps/v1", "Deployment")
    }

    fn config_maps() -> Self {
        Self::built_in("io.k8s.api.core.v1.ConfigMap", "v1", "ConfigMap")
    }

    fn custom() -> Self {
        Self {
            schemas: Box::leak(Box::new(pod_schemas())),
            node: POD,
            api_version: "example.com/v1",
            kind: "Thing",
            reset: FieldSet::new(),
            second: 0.into(),
        }
    }

    fn form(&self) -> Form<'_> {
        Form {
            api_version: self.api_version,
            kind: self.kind,
            schema: self.schemas.at(self.node),
            reset: &self.reset,
        }
    }

    fn manager<'a>(&self, name: &'a str, subresource: &'a str) -> Manager<'a> {
        self.second.set(self.second.get() + 1);
        Manager {
            name,
            subresource,
            time: jiff::Timestamp::from_second(self.second.get()).unwrap(),
        }
    }

    /// The object with what every object of this kind has.
    fn object(&self, mut value: Value) -> Object {
        value["apiVersion"] = self.api_version.into();
        value["kind"] = self.kind.into();
        value["metadata"]["name"] = "web".into();
        value["metadata"]["namespace"] = "default".into();
        Object::from_value(value).unwrap()
    }

    fn create(&self, by: &str, value: Value) -> Object {
        let mut object = self.object(value);
        object.set(&["metadata", "uid"], "1");
        update(None, &mut object, &self.form(), &self.manager(by, ""));
        object
    }

    fn update(&self, by: &str, live: &Object, change: impl FnOnce(&mut Value)) -> Object {
        self.update_subresource(by, "", live, change)
    }

    fn update_subresource(&self, by: &str, sub: &str, live: &Object, change: impl FnOnce(&mut Value)) -> Object {
        let mut value = live.clone().into_value();
        change(&mut value);
        let mut object = Object::from_value(value).unwrap();
        update(Some(live), &mut object, &self.form(), &self.manager(by, sub));
        object
    }

    fn apply_or(&self, by: &str, live: Option<&Object>, value: Value, force: bool) -> Result<Object, ApplyError> {
        let mut object = apply(live, &self.object(value), &self.form(), &self.manager(by, ""), force)?;
        object.set(&["metadata", "uid"], "1");
        Ok(object)
    }

    fn apply(&self, by: &str, live: Option<&Object>, value: Value) -> Object {
        self.apply_or(by, live, value, false).unwrap()
    }
}

/// `manager operation`, and the paths it owns.
fn owners(object: &Object) -> Vec<(String, Vec<String>)> {
    object
        .array(&["metadata", "managedFields"])
        .iter()
        .map(|entry| {
            let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or("-").to_owned();
            let mut name = format!("{} {}", text("manager"), text("operation"));
            if entry.get("subresource").is_some() {
                name.push_str(&format!(" {}", text("subresource")));
            }
            let set = FieldSet::from_json(entry["fieldsV1"].as_object().unwrap()).unwrap();
            (name, set.paths())
        })
        .collect()
}

fn owned(object: &Object, by: &str) -> Vec<String> {
    let found = owners(object).into_iter().find(|(name, _)| name == by);
    found.map(|(_, paths)| paths).unwrap_or_default()
}

fn conflicts(result: Result<Object, ApplyError>) -> String {
    match result {
        Err(error @ ApplyError::Conflicts(_)) => error.to_string(),
        other => panic!("expected conflicts, got {other:?}"),
    }
}

fn deployment(replicas: i64, image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "nginx"}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "nginx"}},
            "template": {
                "metadata": {"labels": {"app": "nginx"}},
                "spec": {"containers": [{"name": "nginx", "image": image, "ports": [{"containerPort": 80}]}]},
            },
        },
    })
}

#[test]
fn a_create_owns_all_that_it_sets_in_upstreams_form() {
    let world = World::deployments();
    let object = world.create("kubectl-create", deployment(3, "nginx:1"));
    assert_eq!(
        object.array(&["metadata", "managedFields"]),
        [json!({
            "apiVersion": "apps/v1",
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {
                    "f:replicas": {},
                    "f:selector": {},
                    "f:template": {
                        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                        "f:spec": {
                            "f:containers": {
                                "k:{\"name\":\"nginx\"}": {
                                    ".": {},
                                    "f:image": {},
                                    "f:name": {},
                                    "f:ports": {
                                        ".": {},
                                        "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}},
                                    },
                                    "f:resources": {},
                                },
                            },
                        },
                    },
                },
            },
            "manager": "kubectl-create",
            "operation": "Update",
            "time": "1970-01-01T00:00:01Z",
        })]
    );
}

#[test]
fn a_custom_objects_structs_are_owned_as_they_appear() {
    let world = World::custom();
    let object = world.create("a", json!({"spec": {"replicas": 1}, "metadata": {"finalizers": ["x"]}}));
    assert_eq!(
        owned(&object, "a Update"),
        [
            ".spec",
            ".metadata.finalizers",
            ".metadata.finalizers[=\"x\"]",
            ".spec.replicas"
        ]
    );
}

#[test]
fn an_update_takes_what_it_changes_and_leaves_the_rest() {
    let world = World::deployments();
    let created = world.create("kubectl-create", deployment(3, "nginx:1"));
    let scaled = world.update("kubectl-scale", &created, |d| d["spec"]["replicas"] = 5.into());
    assert_eq!(owned(&scaled, "kubectl-scale Update"), [".spec.replicas"]);
    assert!(!owned(&scaled, "kubectl-create Update").contains(&".spec.replicas".into()));
    let with_status = world.update_subresource("kube-controller-manager", "status", &scaled, |d| {
        d["status"] = json!({"replicas": 5, "conditions": [{"type": "Available", "status": "True"}]});
    });
    assert_eq!(
        owned(&with_status, "kube-controller-manager Update status"),
        [
            ".status.conditions",
            ".status.replicas",
            ".status.conditions[type=\"Available\"]",
            ".status.conditions[type=\"Available\"].status",
            ".status.conditions[type=\"Available\"].type",
        ]
    );
}

#[test]
fn an_update_that_changes_nothing_changes_no_entry() {
    let world = World::deployments();
    let created = world.create("a", deployment(3, "nginx:1"));
    let again = world.update("b", &created, |d| d["metadata"]["resourceVersion"] = "7".into());
    assert_eq!(
        again.get(&["metadata", "managedFields"]),
        created.get(&["metadata", "managedFields"])
    );
    // Nor does one that leaves the entries out.
    let without = world.update("b", &created, |d| {
        d["metadata"].as_object_mut().unwrap().remove("managedFields");
    });
    assert_eq!(without, created);
}

#[test]
fn what_is_removed_is_owned_by_nobody() {
    let world = World::config_maps();
    let created = world.create("a", json!({"data": {"x": "1", "y": "2"}}));
    let removed = world.update("b", &created, |c| {
        c["data"].as_object_mut().unwrap().remove("x");
    });
    assert_eq!(
        owners(&removed),
        [("a Update".into(), vec![".data".into(), ".data.y".into()])]
    );
}

#[test]
fn clients_may_reset_or_edit_entries_but_not_spoil_them() {
    let world = World::config_maps();
    let created = world.create("a", json!({"data": {"x": "1"}}));
    for reset in [json!([]), json!([{}])] {
        let object = world.update("b", &created, |c| c["metadata"]["managedFields"] = reset);
        assert!(object.get(&["metadata", "managedFields"]).is_none());
    }
    for spoilt in [
        json!([{"manager": "x"}]),
        json!([{"manager": "x", "operation": "Update", "apiVersion": "v1"}]),
        json!([{"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"spec": {}}}]),
        json!("x"),
    ] {
        let object = world.update("b", &created, |c| c["metadata"]["managedFields"] = spoilt);
        assert_eq!(object, created);
    }
    let edited = world.update("b", &created, |c| {
        c["metadata"]["managedFields"][0]["manager"] = "renamed".into()
    });
    assert_eq!(owners(&edited)[0].0, "renamed Update");
    // Through a subresource, entries cannot be edited.
    let sub = world.update_subresource("b", "status", &created, |c| c["metadata"]["managedFields"] = json!([]));
    assert_eq!(sub, created);
}

#[test]
fn an_object_without_entries_stays_so_until_it_is_applied_to() {
    let world = World::config_maps();
    let created = world.create("a", json!({"data": {"x": "1"}}));
    let forgotten = world.update("a", &created, |c| c["metadata"]["managedFields"] = json!([]));
    let updated = world.update("b", &forgotten, |c| c["data"]["x"] = "2".into());
    assert!(updated.get(&["metadata", "managedFields"]).is_none());
    let applied = world.apply("c", Some(&updated), json!({"data": {"y": "3"}}));
    assert_eq!(
        owners(&applied),
        [
            ("c Apply".into(), vec![".data.y".into()]),
            (
                "before-first-apply Update".into(),
                vec![".data".into(), ".data.x".into()]
            ),
        ]
    );
}

#[test]
fn the_oldest_updates_are_merged_when_there_are_too_many() {
    let world = World::config_maps();
    let mut object = world.create("m0", json!({"data": {"k0": "v"}}));
    for i in 1..14 {
        object = world.update(&format!("m{i}"), &object, |c| c["data"][format!("k{i}")] = "v".into());
    }
    let owners = owners(&object);
    assert_eq!(owners.len(), 10);
    assert_eq!(owners[0].0, "ancient-changes Update");
    assert_eq!(
        owners[0].1,
        [".data", ".data.k0", ".data.k1", ".data.k2", ".data.k3", ".data.k4"]
    );
    assert_eq!(owners[9].0, "m13 Update");
}

#[test]
fn an_apply_creates_merges_and_owns_leaves() {
    let world = World::deployments();
    let applied = world.apply("me", None, deployment(3, "nginx:1"));
    let at = ".spec.template.spec.containers[name=\"nginx\"]";
    let port = format!("{at}.ports[containerPort=80,protocol=\"TCP\"]");
    assert_eq!(
        owned(&applied, "me Apply"),
        [
            ".metadata.labels.app".to_owned(),
            ".spec.replicas".into(),
            ".spec.selector".into(),
            ".spec.template.metadata.labels.app".into(),
            at.into(),
            format!("{at}.image"),
            format!("{at}.name"),
            port.clone(),
            format!("{port}.containerPort"),
        ]
    );
    assert_eq!(applied.i64(&["spec", "replicas"]), Some(3));
    let again = world.apply("me", Some(&applied), deployment(3, "nginx:1"));
    assert_eq!(again, applied, "applying the same again changes nothing");
}

#[test]
fn conflicts_are_told_as_upstream_tells_them() {
    let world = World::deployments();
    let created = world.create("kubectl-client-side-apply", deployment(3, "nginx:1"));
    let result = world.apply_or("me", Some(&created), json!({"spec": {"replicas": 5}}), false);
    let Err(ApplyError::Conflicts(found)) = &result else {
        panic!("{result:?}")
    };
    let causes = found.causes();
    assert_eq!(causes[0].reason, "FieldManagerConflict");
    assert_eq!(
        causes[0].message,
        "conflict with \"kubectl-client-side-apply\" using apps/v1"
    );
    assert_eq!(causes[0].field, ".spec.replicas");
    assert_eq!(
        conflicts(result),
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas"
    );

    let world = World::config_maps();
    let one = world.apply("a", None, json!({"data": {"x": "1", "y": "1"}}));
    let two = world.update("b", &one, |c| c["data"]["z"] = "1".into());
    let two = world.update_subresource("c", "status", &two, |c| c["data"]["s"] = "1".into());
    assert_eq!(
        conflicts(world.apply_or(
            "d",
            Some(&two),
            json!({"data": {"x": "2", "y": "2", "z": "2", "s": "2"}}),
            false
        )),
        "Apply failed with 4 conflicts: conflicts with \"a\":\n- .data.x\n- .data.y\nconflicts with \"b\" using v1:\n- \
         .data.z\nconflicts with \"c\" with subresource \"status\" using v1:\n- .data.s"
    );
    // The same value is no conflict: it is shared.
    let shared = world.apply("d", Some(&two), json!({"data": {"x": "1", "z": "1"}}));
    assert_eq!(owned(&shared, "d Apply"), [".data.x", ".data.z"]);
    assert_eq!(owned(&shared, "a Apply"), [".data.x", ".data.y"]);
    // Force takes it.
    let forced = world
        .apply_or("d", Some(&shared), json!({"data": {"x": "2", "z": "2"}}), true)
        .unwrap();
    assert_eq!(owned(&forced, "d Apply"), [".data.x", ".data.z"]);
    assert_eq!(owned(&forced, "a Apply"), [".data.y"]);
    assert_eq!(forced.str(&["data", "x"]), Some("2"));
}

#[test]
fn what_is_no_longer_applied_goes_unless_another_applies_it() {
    let world = World::deployments();
    let two = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "1"}]},
        {"name": "b", "image": "1"},
    ]}}}});
    let applied = world.apply("me", None, two);
    let shared = json!({"spec": {"template": {"spec": {"containers": [{"name": "b", "image": "1"}]}}}});
    let applied = world.apply("you", Some(&applied), shared);
    let less = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "a", "image": "1", "env": [{"name": "Y", "value": "1"}]},
    ]}}}});
    let applied = world.apply("me", Some(&applied), less);
    assert_eq!(
        applied.get(&["spec"]),
        Some(&json!({"template": {"spec": {"containers": [
            {"name": "a", "image": "1", "env": [{"name": "Y", "value": "1"}]},
            {"name": "b", "image": "1"},
        ]}}}))
    );
    // Nobody applies any of it any more.
    let applied = world.apply("you", Some(&applied), json!({}));
    let applied = world.apply("me", Some(&applied), json!({}));
    assert!(applied.get(&["spec"]).is_none());
    assert!(applied.get(&["metadata", "managedFields"]).is_none());
}

#[test]
fn defaults_that_were_never_applied_stay_beside_what_is_dropped() {
    let world = World::deployments();
    let applied = world.apply("me", None, deployment(3, "nginx:1"));
    // The server's defaults, which nobody owns.
    let mut defaulted = applied.clone();
    defaulted.set(&["spec", "revisionHistoryLimit"], 10);
    let mut without = deployment(3, "nginx:1");
    without["spec"].as_object_mut().unwrap().remove("replicas");
    let dropped = world.apply("me", Some(&defaulted), without);
    assert_eq!(dropped.get(&["spec", "replicas"]), None);
    assert_eq!(dropped.i64(&["spec", "revisionHistoryLimit"]), Some(10));
    // A struct that is dropped takes with it what was defaulted inside.
    let emptied = world.apply("me", Some(&dropped), json!({"metadata": {"labels": {"app": "nginx"}}}));
    assert!(emptied.get(&["spec"]).is_none());
}

#[test]
fn an_applier_gives_a_field_over_by_leaving_it_out() {
    // From the documentation: the HorizontalPodAutoscaler takes over replicas.
    let world = World::deployments();
    let applied = world.apply("me", None, deployment(3, "nginx:1"));
    let scaled = world.update_subresource("hpa", "scale", &applied, |d| d["spec"]["replicas"] = 5.into());
    assert_eq!(owned(&scaled, "hpa Update scale"), [".spec.replicas"]);
    assert!(conflicts(world.apply_or("me", Some(&scaled), deployment(3, "nginx:1"), false)).contains(".spec.replicas"));
    let mut without = deployment(3, "nginx:2");
    without["spec"].as_object_mut().unwrap().remove("replicas");
    let given = world.apply("me", Some(&scaled), without);
    assert_eq!(given.i64(&["spec", "replicas"]), Some(5));
    assert_eq!(owned(&given, "hpa Update scale"), [".spec.replicas"]);
}

#[test]
fn kubectl_takes_over_from_client_side_apply_without_conflict() {
    let world = World::config_maps();
    let last = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web", "namespace": "default"}, "data": {"x": "1", "y": "1"}});
    let annotated = |last: &Value| json!({"kubectl.kubernetes.io/last-applied-configuration": last.to_string()});
    let created = world.create(
        "kubectl-client-side-apply",
        json!({"metadata": {"annotations": annotated(&last)}, "data": {"x": "1", "y": "1"}}),
    );
    let wanted = json!({"data": {"x": "2"}});
    assert!(world.apply_or("other", Some(&created), wanted.clone(), false).is_err());
    let applied = world.apply("kubectl", Some(&created), wanted.clone());
    assert_eq!(applied.str(&["data", "x"]), Some("2"));
    assert_eq!(
        applied.annotation("kubectl.kubernetes.io/last-applied-configuration"),
        Some(concat!(
            r#"{"apiVersion":"v1","data":{"x":"2"},"kind":"ConfigMap","metadata":{"name":"web","namespace":"default"}}"#,
            "\n"
        ))
    );
    // What somebody else has changed since is a conflict, and the only one told.
    let changed = world.update("somebody", &created, |c| c["data"]["x"] = "9".into());
    let told = conflicts(world.apply_or("kubectl", Some(&changed), json!({"data": {"x": "2", "y": "2"}}), false));
    assert_eq!(
        told,
        "Apply failed with 1 conflict: conflict with \"somebody\" using v1: .data.x"
    );
}

#[test]
fn a_configuration_that_is_not_of_the_kind_is_refused() {
    let world = World::deployments();
    let refused = |change: fn(&mut Object)| {
        let mut config = world.object(deployment(3, "nginx:1"));
        change(&mut config);
        apply(None, &config, &world.form(), &world.manager("me", ""), false).unwrap_err()
    };
    assert_eq!(
        refused(|c| c.set(&["kind"], "Pod")),
        ApplyError::BadRequest("invalid object type: apps/v1, Kind=Pod".into())
    );
    assert_eq!(
        refused(|c| c.set(&["apiVersion"], "apps/v1beta1")),
        ApplyError::BadRequest(
            "Incorrect version specified in apply patch. Specified patch version: apps/v1beta1, expected: apps/v1"
                .into()
        )
    );
    assert_eq!(
        refused(|c| c.set(&["metadata", "managedFields"], json!([]))),
        ApplyError::BadRequest("metadata.managedFields must be nil".into())
    );
    assert_eq!(
        refused(|c| c.set(&["spec", "bogus"], 1)),
        ApplyError::Nonconforming(
            "failed to create typed patch object (default/web; apps/v1, Kind=Deployment): .spec.bogus: field not declared \
             in schema"
                .into()
        )
    );
}

#[test]
fn fields_that_a_write_resets_are_not_owned_by_it() {
    let mut world = World::deployments();
    world.reset = FieldSet::of_fields(&[&["status"]]);
    let mut with_status = deployment(3, "nginx:1");
    with_status["status"] = json!({"replicas": 3});
    let created = world.create("a", with_status.clone());
    assert!(!owned(&created, "a Update").iter().any(|p| p.starts_with(".status")));
    let applied = world.apply("b", None, with_status);
    assert!(!owned(&applied, "b Apply").iter().any(|p| p.starts_with(".status")));
}

#[test]
fn entries_are_ordered_by_operation_time_and_name() {
    let world = World::config_maps();
    let object = world.create("z", json!({"data": {"a": "1"}}));
    let object = world.update("y", &object, |c| c["data"]["b"] = "1".into());
    let object = world.apply("x", Some(&object), json!({"data": {"c": "1"}}));
    let object = world.update("z", &object, |c| c["data"]["d"] = "1".into());
    let names: Vec<String> = owners(&object).into_iter().map(|o| o.0).collect();
    assert_eq!(names, ["x Apply", "y Update", "z Update"]);
    let times = object.array(&["metadata", "managedFields"]).iter();
    let times: Vec<&str> = times.map(|e| e["time"].as_str().unwrap()).collect();
    assert_eq!(
        times,
        ["1970-01-01T00:00:03Z", "1970-01-01T00:00:02Z", "1970-01-01T00:00:04Z"]
    );
}

#[test]
fn times_alone_are_no_change() {
    let world = World::config_maps();
    let live = world.create("a", json!({"data": {"x": "1"}}));
    let mut later = live.clone();
    later.get_mut(&["metadata", "managedFields"]).unwrap()[0]["time"] = "2000-01-01T00:00:00Z".into();
    let mut restored = later.clone();
    ignore_times(&live, &mut restored);
    assert_eq!(restored, live);
    later.set(&["data", "x"], "2");
    let mut kept = later.clone();
    ignore_times(&live, &mut kept);
    assert_eq!(kept, later);
}

#[test]
fn a_write_is_booked_under_the_manager_or_the_user_agent() {
    assert_eq!(manager_name("me", "kubectl/v1.37"), "me");
    assert_eq!(manager_name("", "kubectl/v1.37 (linux/amd64)"), "kubectl");
    assert_eq!(manager_name("", &"x".repeat(300)).len(), 128);
    let object = World::config_maps().create("", json!({"data": {"a": "b"}}));
    assert_eq!(owners(&object)[0].0, "unknown Update");
}

/// Only what can be in an applied configuration, and only under `spec` and `data`.
fn config(schemas: &SchemaSet, seed: u64) -> Value {
    let all = arbitrary(schemas.at(POD), seed);
    let mut value = json!({});
    for key in ["spec", "data"] {
        if let Some(part) = all.get(key) {
            value[key] = part.clone();
        }
    }
    value
}

/// Nobody owns what is not there.
fn assert_all_there(world: &World, object: &Object) {
    let there = super::Comparison::of(None, &object.0, world.schemas.at(POD)).added;
    let there: std::collections::HashSet<String> = there.paths().into_iter().collect();
    for (name, paths) in owners(object) {
        for path in paths {
            assert!(there.contains(&path), "{name} owns {path}, which is not there");
        }
    }
}

proptest! {
    #[test]
    fn applying_twice_is_as_applying_once(live in any::<u64>(), a in any::<u64>()) {
        let world = World::custom();
        let live = world.create("someone", config(world.schemas, live));
        let config = config(world.schemas, a);
        let once = world.apply_or("me", Some(&live), config.clone(), true).unwrap();
        let twice = world.apply_or("me", Some(&once), config, false).unwrap();
        prop_assert_eq!(twice, once);
    }

    #[test]
    fn what_is_applied_is_there_and_owned(live in any::<u64>(), a in any::<u64>(), b in any::<u64>()) {
        let world = World::custom();
        let live = world.create("someone", config(world.schemas, live));
        let first = world.apply_or("me", Some(&live), config(world.schemas, a), true).unwrap();
        let wanted = config(world.schemas, b);
        let second = world.apply_or("me", Some(&first), wanted.clone(), true).unwrap();
        let schema = world.schemas.at(POD);
        let wanted_set = super::fields_of(&wanted, schema);
        let there = super::fields_of(&second.clone().into_value(), schema);
        // (An empty map is there as soon as anything is in it.)
        let there_paths = there.paths();
        for leaf in wanted_set.leaves().paths() {
            prop_assert!(there_paths.iter().any(|t| t.starts_with(&leaf)), "{} is missing", leaf);
        }
        let mut all = wanted_set.paths();
        let mut mine = owned(&second, "me Apply");
        all.sort();
        mine.sort();
        prop_assert_eq!(mine, all);
        assert_all_there(&world, &second);
    }

    #[test]
    fn two_appliers_of_different_fields_may_come_in_any_order(a in any::<u64>(), b in any::<u64>()) {
        let world = World::custom();
        let mut mine = config(world.schemas, a);
        let yours = config(world.schemas, b);
        mine.as_object_mut().unwrap().remove("data");
        let yours = json!({"data": yours.get("data").cloned().unwrap_or_else(|| json!({"k": "v"}))});
        let base = world.create("someone", json!({"metadata": {"labels": {"a": "b"}}}));
        let one = world.apply("me", Some(&base), mine.clone());
        let one = world.apply("you", Some(&one), yours.clone());
        let two = world.apply("you", Some(&base), yours);
        let two = world.apply("me", Some(&two), mine);
        prop_assert_eq!(one.get(&["spec"]), two.get(&["spec"]));
        prop_assert_eq!(one.get(&["data"]), two.get(&["data"]));
        let mut owners = (owners(&one), owners(&two));
        owners.0.sort();
        owners.1.sort();
        prop_assert_eq!(owners.0, owners.1);
    }

    #[test]
    fn nobody_owns_what_an_update_took_away(a in any::<u64>(), b in any::<u64>(), c in any::<u64>()) {
        let world = World::custom();
        let object = world.create("one", config(world.schemas, a));
        let object = world.apply_or("two", Some(&object), config(world.schemas, b), true).unwrap();
        let next = config(world.schemas, c);
        let object = world.update("three", &object, |o| {
            for key in ["spec", "data"] {
                o.as_object_mut().unwrap().remove(key);
                if let Some(part) = next.get(key) {
                    o[key] = part.clone();
                }
            }
        });
        assert_all_there(&world, &object);
        // And everything that changed has an owner: the same update again finds nothing to book.
        let again = world.update("four", &object, |_| {});
        prop_assert_eq!(again, object);
    }
}
