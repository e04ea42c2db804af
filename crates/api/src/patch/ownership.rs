//! Tests of who owns what: ordinary writes and applies, one after the other, on built-in and custom kinds, in one
//! small world.

mod applied;
mod property;

use serde_json::{Value, json};

use super::apply::{ApplyError, apply};
use super::fields::FieldSet;
use super::managed::{Form, Manager, ignore_times, manager_name, update};
use super::testing::{POD, pod_schemas};
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
