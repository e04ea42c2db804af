//! Creating, changing and deleting.

use std::sync::Arc;

use coracle_api::service::{Answer, DeleteOptions, ListOptions, Operation, PatchKind, Propagation, WriteOptions};
use coracle_store::{Embedded, Op, Store, Txn};
use serde_json::json;

use crate::harness::{Cluster, at, config_map, named, names, object, options, sub};

#[tokio::test]
async fn identity_is_the_servers_to_give_and_nobodys_to_change() {
    let cluster = Cluster::start().await;
    let mut forged = config_map("a");
    forged["metadata"]["uid"] = "mine".into();
    forged["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00Z".into();
    let made = cluster.create(at("configmaps"), forged).await.unwrap();
    assert_ne!(made.uid(), "mine");
    let mut changed = made.clone();
    changed.set(&["metadata", "creationTimestamp"], "2001-01-01T00:00:00Z");
    changed.set(&["metadata", "uid"], "");
    changed.set(&["data", "k"], "w");
    let updated = cluster.update(named("configmaps", "a"), changed).await.unwrap();
    assert_eq!(updated.uid(), made.uid());
    assert_eq!(
        updated.get(&["metadata", "creationTimestamp"]),
        made.get(&["metadata", "creationTimestamp"])
    );
    let mut other = updated.clone();
    other.set(&["metadata", "uid"], "somebody-else");
    let refused = cluster.update(named("configmaps", "a"), other).await.unwrap_err();
    assert_eq!(refused.code, 409);
    assert!(
        refused
            .message
            .contains("Precondition failed: UID in precondition: somebody-else"),
        "{}",
        refused.message
    );
}

#[tokio::test]
async fn an_update_from_an_old_version_is_a_conflict_and_one_that_changes_nothing_writes_nothing() {
    let cluster = Cluster::start().await;
    let first = cluster.create(at("configmaps"), config_map("a")).await.unwrap();
    let mut next = first.clone();
    next.set(&["data", "k"], "w");
    let second = cluster.update(named("configmaps", "a"), next.clone()).await.unwrap();
    assert_ne!(first.resource_version(), second.resource_version());
    let refused = cluster.update(named("configmaps", "a"), next).await.unwrap_err();
    assert_eq!(
        refused.message,
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to \
         the latest version and try again"
    );
    let same = cluster.update(named("configmaps", "a"), second.clone()).await.unwrap();
    assert_eq!(same.resource_version(), second.resource_version());
    let absent = cluster
        .update(named("configmaps", "b"), object(config_map("b")))
        .await
        .unwrap_err();
    assert!(absent.is_not_found());
}

#[tokio::test]
async fn names_are_generated_and_never_taken_twice() {
    let cluster = Cluster::start().await;
    let made = cluster
        .create(at("configmaps"), json!({"metadata": {"generateName": "a-"}}))
        .await
        .unwrap();
    assert!(made.name().starts_with("a-") && made.name().len() == 7);
    let taken = cluster
        .create(at("configmaps"), config_map(made.name()))
        .await
        .unwrap_err();
    assert_eq!((taken.code, taken.reason.as_str()), (409, "AlreadyExists"));
    let nameless = cluster
        .create(at("configmaps"), json!({"metadata": {}}))
        .await
        .unwrap_err();
    assert_eq!(nameless.code, 422);
    assert!(
        nameless.message.contains("name or generateName is required"),
        "{}",
        nameless.message
    );
}

#[tokio::test]
async fn nothing_is_made_in_a_namespace_that_is_absent_or_going() {
    let cluster = Cluster::start().await;
    let mut target = at("configmaps");
    target.namespace = "nowhere".into();
    let refused = cluster.create(target.clone(), config_map("a")).await.unwrap_err();
    assert_eq!(refused.message, "namespaces \"nowhere\" not found");
    let namespace = json!({"metadata": {"name": "going", "finalizers": ["example.com/hold"]}});
    cluster.create(at("/namespaces"), namespace).await.unwrap();
    cluster
        .delete(named("/namespaces", "going"), DeleteOptions::default())
        .await
        .unwrap();
    target.namespace = "going".into();
    let refused = cluster.create(target, config_map("a")).await.unwrap_err();
    assert_eq!(refused.code, 403);
    assert!(
        refused.message.contains("because it is being terminated"),
        "{}",
        refused.message
    );
    let kept = cluster
        .delete(named("/namespaces", "default"), DeleteOptions::default())
        .await
        .unwrap_err();
    assert!(
        kept.message.contains("this namespace may not be deleted"),
        "{}",
        kept.message
    );
}

#[tokio::test]
async fn a_finalizer_holds_an_object_until_it_is_taken_away() {
    let cluster = Cluster::start().await;
    let mut held = config_map("a");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    cluster.create(at("configmaps"), held).await.unwrap();
    let marked = cluster
        .delete(named("configmaps", "a"), DeleteOptions::default())
        .await
        .unwrap();
    assert!(marked.is_terminating());
    let mut revived = marked.clone();
    revived.remove(&["metadata", "deletionTimestamp"]);
    let still = cluster.update(named("configmaps", "a"), revived).await.unwrap();
    assert!(still.is_terminating());
    let mut released = still.clone();
    released.remove(&["metadata", "finalizers"]);
    cluster.update(named("configmaps", "a"), released).await.unwrap();
    assert!(cluster.get(named("configmaps", "a")).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn propagation_becomes_finalizers_and_preconditions_are_heeded() {
    let cluster = Cluster::start().await;
    let made = cluster.create(at("configmaps"), config_map("a")).await.unwrap();
    for (uid, version) in [(Some("other".to_owned()), None), (None, Some("1".to_owned()))] {
        let how = DeleteOptions {
            uid,
            resource_version: version,
            ..DeleteOptions::default()
        };
        assert_eq!(
            cluster.delete(named("configmaps", "a"), how).await.unwrap_err().code,
            409
        );
    }
    let how = DeleteOptions {
        propagation: Some(Propagation::Foreground),
        uid: Some(made.uid().to_owned()),
        ..DeleteOptions::default()
    };
    let marked = cluster.delete(named("configmaps", "a"), how).await.unwrap();
    assert_eq!(marked.finalizers().collect::<Vec<_>>(), ["foregroundDeletion"]);
    let how = DeleteOptions {
        propagation: Some(Propagation::Background),
        ..DeleteOptions::default()
    };
    cluster.delete(named("configmaps", "a"), how).await.unwrap();
    assert!(cluster.get(named("configmaps", "a")).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector_and_answered_with_what_was_there() {
    let cluster = Cluster::start().await;
    for i in 0..200 {
        let mut map = config_map(&format!("m{i}"));
        map["metadata"]["labels"] = json!({"parity": (i % 2).to_string()});
        cluster.create(at("configmaps"), map).await.unwrap();
    }
    let list = ListOptions {
        label_selector: "parity=1".into(),
        ..ListOptions::default()
    };
    let operation = Operation::DeleteCollection {
        list,
        delete: DeleteOptions::default(),
    };
    let Answer::List(deleted) = cluster.call(at("configmaps"), operation).await.unwrap() else {
        panic!("no list")
    };
    assert_eq!(deleted.items.len(), 100);
    let left = cluster.list(at("configmaps"), ListOptions::default()).await.unwrap();
    assert_eq!(left.items.len(), 100);
    assert!(names(&left).iter().all(|n| n[1..].parse::<u32>().unwrap() % 2 == 0));
}

#[tokio::test]
async fn a_dry_run_answers_as_if_and_writes_nothing() {
    let cluster = Cluster::start().await;
    let dry = WriteOptions {
        dry_run: true,
        ..options()
    };
    let operation = Operation::Create {
        object: object(config_map("a")),
        options: dry,
    };
    let Answer::Object { object: made, created } = cluster.call(at("configmaps"), operation).await.unwrap() else {
        panic!("no object")
    };
    assert!(created && !made.head().uid.is_empty());
    assert!(cluster.get(named("configmaps", "a")).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn patches_apply_to_the_newest_state_and_keep_identity() {
    let cluster = Cluster::start().await;
    let made = cluster.create(at("configmaps"), config_map("a")).await.unwrap();
    let merged = cluster
        .patch(named("configmaps", "a"), PatchKind::Merge, json!({"data": {"x": "1"}}))
        .await
        .unwrap();
    assert_eq!(merged.get(&["data"]), Some(&json!({"k": "v", "x": "1"})));
    let json_patch = json!([{"op": "remove", "path": "/data/x"}]);
    let patched = cluster
        .patch(named("configmaps", "a"), PatchKind::Json, json_patch)
        .await
        .unwrap();
    assert_eq!(patched.get(&["data"]), Some(&json!({"k": "v"})));
    assert_eq!(patched.uid(), made.uid());
    let stale = json!({"metadata": {"resourceVersion": made.resource_version()}, "data": {"y": "1"}});
    assert_eq!(
        cluster
            .patch(named("configmaps", "a"), PatchKind::Merge, stale)
            .await
            .unwrap_err()
            .code,
        409
    );
    let renamed = json!({"metadata": {"name": "b"}});
    assert_eq!(
        cluster
            .patch(named("configmaps", "a"), PatchKind::Merge, renamed)
            .await
            .unwrap_err()
            .code,
        400
    );
    let misfit = json!([{"op": "test", "path": "/data/k", "value": "other"}]);
    assert_eq!(
        cluster
            .patch(named("configmaps", "a"), PatchKind::Json, misfit)
            .await
            .unwrap_err()
            .code,
        422
    );
}

#[tokio::test]
async fn a_patch_without_a_version_survives_writers_at_the_same_time() {
    let cluster = Cluster::start().await;
    cluster.create(at("configmaps"), config_map("a")).await.unwrap();
    let patches = (0..4).map(|i| {
        let patch = json!({"data": {format!("w{i}"): "1"}});
        cluster.patch(named("configmaps", "a"), PatchKind::Merge, patch)
    });
    for result in futures::future::join_all(patches).await {
        result.unwrap();
    }
    let map = cluster.get(named("configmaps", "a")).await.unwrap();
    assert_eq!(map.get(&["data"]).unwrap().as_object().unwrap().len(), 5);
}

#[tokio::test]
async fn status_is_changed_by_its_subresource_only() {
    let cluster = Cluster::start().await;
    let deployment = json!({
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
        "status": {"replicas": 7},
    });
    let made = cluster.create(at("apps/v1/deployments"), deployment).await.unwrap();
    assert_eq!(made.i64(&["status", "replicas"]).unwrap_or(0), 0);
    assert_eq!(made.generation(), 1);
    let mut changed = made.clone();
    changed.set(&["status", "replicas"], 3);
    changed.set(&["spec", "replicas"], 5);
    let status = cluster
        .update(sub("apps/v1/deployments", "web", "status"), changed.clone())
        .await
        .unwrap();
    assert_eq!(status.i64(&["status", "replicas"]), Some(3));
    assert_eq!(status.i64(&["spec", "replicas"]), made.i64(&["spec", "replicas"]));
    assert_eq!(status.generation(), 1);
    changed.set(&["metadata", "resourceVersion"], status.resource_version());
    changed.set(&["status", "replicas"], 9);
    let spec = cluster
        .update(named("apps/v1/deployments", "web"), changed)
        .await
        .unwrap();
    assert_eq!(spec.i64(&["status", "replicas"]), Some(3));
    assert_eq!((spec.i64(&["spec", "replicas"]), spec.generation()), (Some(5), 2));
}

#[tokio::test]
async fn apply_creates_owns_fields_and_refuses_those_of_others() {
    let cluster = Cluster::start().await;
    let config =
        |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": value}});
    let apply = |manager: &str, force: bool, value: &str| {
        let options = WriteOptions {
            field_manager: manager.into(),
            force,
            ..WriteOptions::default()
        };
        Operation::Patch {
            kind: PatchKind::Apply,
            patch: config(value),
            options,
        }
    };
    let Answer::Object { object: made, created } = cluster
        .call(named("configmaps", "a"), apply("one", false, "1"))
        .await
        .unwrap()
    else {
        panic!("no object")
    };
    assert!(created);
    assert!(made.to_object().get(&["metadata", "managedFields"]).is_some());
    let conflict = cluster
        .call(named("configmaps", "a"), apply("two", false, "2"))
        .await
        .err()
        .unwrap();
    assert_eq!(conflict.code, 409);
    assert!(
        conflict.message.contains("conflict with \"one\""),
        "{}",
        conflict.message
    );
    assert_eq!(conflict.details.unwrap().causes[0].reason, "FieldManagerConflict");
    cluster
        .call(named("configmaps", "a"), apply("two", true, "2"))
        .await
        .unwrap();
    let again = cluster.get(named("configmaps", "a")).await.unwrap();
    cluster
        .call(named("configmaps", "a"), apply("two", false, "2"))
        .await
        .unwrap();
    let same = cluster.get(named("configmaps", "a")).await.unwrap();
    assert_eq!(again.resource_version(), same.resource_version());
    let nobody = cluster
        .call(named("configmaps", "a"), apply("", false, "3"))
        .await
        .err()
        .unwrap();
    assert!(
        nobody.message.contains("is required for apply patch"),
        "{}",
        nobody.message
    );
}

#[tokio::test]
async fn a_new_object_has_the_status_that_upstreams_type_prints_when_nobody_wrote_one() {
    let cluster = Cluster::start().await;
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let selector = json!({"matchLabels": {"a": "b"}});
    for (path, spec, status) in [
        (
            "apps/v1/deployments",
            json!({"selector": selector, "template": template}),
            json!({}),
        ),
        (
            "apps/v1/replicasets",
            json!({"selector": selector, "template": template}),
            json!({"replicas": 0}),
        ),
        (
            "apps/v1/daemonsets",
            json!({"selector": selector, "template": template}),
            json!({"currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0}),
        ),
        (
            "services",
            json!({"ports": [{"port": 80}]}),
            json!({"loadBalancer": {}}),
        ),
        (
            "batch/v1/cronjobs",
            json!({"schedule": "@daily", "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never",
                "containers": [{"name": "c", "image": "i"}]}}}}}),
            json!({}),
        ),
        (
            "/storage.k8s.io/v1/volumeattachments",
            json!({"attacher": "a", "nodeName": "n",
            "source": {"persistentVolumeName": "v"}}),
            json!({"attached": false}),
        ),
    ] {
        let forged = json!({"metadata": {"name": "new"}, "spec": spec, "status": {"observedGeneration": 7}});
        let made = cluster.create(at(path), forged).await.unwrap();
        assert_eq!(made.get(&["status"]), Some(&status), "{path}");
        // It stays when the object is written again, and is nobody's.
        let again = cluster.update(named(path, "new"), made.clone()).await.unwrap();
        assert_eq!(again.resource_version(), made.resource_version(), "{path}");
        let owned = made.get(&["metadata", "managedFields"]).unwrap().to_string();
        assert!(!owned.contains("f:status"), "{owned}");
    }
    let applied = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "applied"},
        "spec": {"selector": selector, "template": template}});
    let applied = cluster
        .patch(named("apps/v1/deployments", "applied"), PatchKind::Apply, applied)
        .await
        .unwrap();
    assert_eq!(applied.get(&["status"]), Some(&json!({})));
    assert_eq!(
        applied.get(&["spec", "template", "spec", "containers"]).unwrap()[0]["resources"],
        json!({})
    );
}

#[tokio::test]
async fn an_object_of_an_older_server_gets_its_status_with_its_next_change() {
    let store: Arc<dyn Store> = Arc::new(Embedded::in_memory());
    let cluster = Cluster::with(store.clone()).await;
    let made = cluster.create(
        at("services"),
        json!({"metadata": {"name": "old"}, "spec": {"ports": [{"port": 80}]}}),
    );
    let mut old = made.await.unwrap();
    old.remove(&["status"]);
    old.remove(&["metadata", "resourceVersion"]);
    let key = "/registry/services/specs/default/old".to_owned();
    let value = serde_json::to_vec(&old).unwrap().into();
    let put = Txn {
        compare: Vec::new(),
        ops: vec![Op::Put { key, value }],
    };
    store.txn(put).await.unwrap();
    assert_eq!(
        cluster.get(named("services", "old")).await.unwrap().get(&["status"]),
        None
    );
    let labelled = json!({"metadata": {"labels": {"a": "b"}}});
    let labelled = cluster
        .patch(named("services", "old"), PatchKind::Merge, labelled)
        .await
        .unwrap();
    assert_eq!(labelled.get(&["status"]), Some(&json!({"loadBalancer": {}})));
}
