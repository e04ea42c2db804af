//! Ownership by server-side apply: merging, conflicts, giving over, what is dropped.

use serde_json::json;

use super::*;

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
fn what_somebody_wrote_stays_when_it_is_no_longer_applied() {
    let world = World::config_maps();
    let created = world.create("kubectl-create", json!({"data": {"x": "1"}}));
    let applied = world.apply("me", Some(&created), json!({"data": {"x": "1", "y": "1"}}));
    assert_eq!(owned(&applied, "kubectl-create Update"), [".data", ".data.x"]);
    let less = world.apply("me", Some(&applied), json!({}));
    assert_eq!(less.get(&["data"]), Some(&json!({"x": "1"})));
    assert_eq!(owned(&less, "me Apply"), [""; 0]);
}

#[test]
fn who_applies_nothing_is_not_tracked_and_the_next_apply_is_the_first() {
    let world = World::config_maps();
    let created = world.apply("me", None, json!({}));
    assert!(created.get(&["metadata", "managedFields"]).is_none());
    // What others (a controller, admission) put into an object without owners was there before any apply.
    let mut filled = created.clone();
    filled.set(&["data", "x"], "1");
    let second = world.apply("me", Some(&filled), json!({}));
    assert_eq!(
        owners(&second),
        [(
            "before-first-apply Update".to_owned(),
            vec![".data".to_owned(), ".data.x".to_owned()]
        )]
    );
    assert_eq!(world.apply("me", Some(&second), json!({})), second);
    // An entry that owns nothing is an owner no less, until the apply has dropped it.
    let mut empty = filled.clone();
    empty.set(
        &["metadata", "managedFields"],
        json!([{"manager": "me", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1"}]),
    );
    let dropped = world.apply("me", Some(&empty), json!({}));
    assert_eq!(dropped, filled);
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
