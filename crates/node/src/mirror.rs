//! Mirror pods: how the API shows a static pod. What a mirror is, and what must be done for the API to have the right
//! ones, is pure; [`keep`] does it. Static pods themselves are in [`static_pods`](crate::static_pods).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use tokio::sync::watch;

use crate::objects::ApiError;
use crate::pods::Pods;

pub(crate) const HASH: &str = "kubernetes.io/config.hash";
pub(crate) const SOURCE: &str = "kubernetes.io/config.source";
const MIRROR: &str = "kubernetes.io/config.mirror";

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Namespace and name.
pub(crate) type FullName = (String, String);

pub(crate) fn full_name(pod: &Pod) -> FullName {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    (text(&pod.metadata.namespace), text(&pod.metadata.name))
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The pod comes from a file of this node.
pub(crate) fn is_static(pod: &Pod) -> bool {
    !is_mirror(pod) && annotation(pod, SOURCE) == Some("file")
}

/// The pod is the API's picture of a static one.
pub(crate) fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, MIRROR).is_some()
}

/// The uid by which the runtime knows the pod: a mirror tells that of its static pod.
pub(crate) fn runtime_uid(pod: &Pod) -> &str {
    annotation(pod, MIRROR)
        .or(pod.metadata.uid.as_deref())
        .unwrap_or_default()
}

/// What the API is told of a static pod.
fn of(pod: &Pod, node: &str, node_uid: &str) -> Pod {
    let meta = &pod.metadata;
    let mut annotations = meta.annotations.clone().unwrap_or_default();
    let hash = annotations.get(HASH).cloned().unwrap_or_default();
    annotations.insert(MIRROR.to_owned(), hash);
    Pod {
        metadata: ObjectMeta {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            labels: meta.labels.clone(),
            annotations: Some(annotations),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".into(),
                kind: "Node".into(),
                name: node.to_owned(),
                uid: node_uid.to_owned(),
                controller: Some(true),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        spec: pod.spec.clone(),
        status: None::<PodStatus>,
    }
}

/// Whether this is the picture of that pod as it is now.
pub(crate) fn shows(mirror: &Pod, pod: &Pod) -> bool {
    mirror.metadata.deletion_timestamp.is_none() && annotation(mirror, MIRROR) == pod.metadata.uid.as_deref()
}

/// What is to be done for the API to have a mirror of each static pod and no other.
#[derive(Debug, Default)]
struct Plan {
    delete: Vec<Arc<Pod>>,
    create: Vec<Arc<Pod>>,
}

fn plan(wanted: &[Arc<Pod>], mirrors: &BTreeMap<FullName, Arc<Pod>>) -> Plan {
    let mut plan = Plan::default();
    for pod in wanted {
        match mirrors.get(&full_name(pod)) {
            None => plan.create.push(pod.clone()),
            Some(mirror) if !shows(mirror, pod) => plan.delete.push(mirror.clone()),
            Some(_) => {}
        }
    }
    let is_wanted = |name: &FullName| wanted.iter().any(|pod| full_name(pod) == *name);
    let stale = mirrors.iter().filter(|(name, _)| !is_wanted(name));
    plan.delete.extend(stale.map(|(_, mirror)| mirror.clone()));
    plan
}

/// Keeps the API's mirrors right, for ever. `node_uid` is that of this node's object, once there is one.
pub(crate) async fn keep(pods: Pods, mut node_uid: watch::Receiver<String>) {
    let cx = pods.context();
    let mut changes = pods.mirror_changes();
    let mut retry = FIRST_RETRY;
    loop {
        let owner = node_uid.borrow_and_update().clone();
        changes.mark_unchanged();
        let mut failed = None;
        if !owner.is_empty() {
            let (wanted, mirrors) = pods.mirrors();
            let Plan { delete, create } = plan(&wanted, &mirrors);
            for mirror in delete {
                match cx.objects.remove(&mirror).await {
                    Ok(()) | Err(ApiError::Gone(_)) => {}
                    Err(error) => failed = Some((full_name(&mirror), error)),
                }
            }
            for pod in create {
                let mirror = of(&pod, &cx.node().name, &owner);
                if let Err(error) = cx.objects.create(&mirror).await {
                    failed = Some((full_name(&pod), error));
                }
            }
        }
        let pause = failed.map(|((namespace, name), error)| {
            tracing::warn!(namespace, name, %error, "the API does not show a static pod as it is; it is tried again");
            let pause = retry;
            retry = (retry * 2).min(LONGEST_RETRY);
            pause
        });
        if pause.is_none() {
            retry = FIRST_RETRY;
        }
        let wait = async {
            match pause {
                Some(pause) => cx.clock.sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            changed = node_uid.changed() => if changed.is_err() { return },
            () = wait => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, uid: &str) -> Arc<Pod> {
        let pod = json!({"metadata": {"name": name, "namespace": "default", "uid": uid,
            "annotations": {SOURCE: "file", HASH: uid}}, "spec": {"containers": []}});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn mirror(name: &str, of_uid: &str) -> Arc<Pod> {
        let mut mirror = of(&pod(name, of_uid), "n1", "node-uid");
        mirror.metadata.uid = Some(format!("api-{of_uid}"));
        Arc::new(mirror)
    }

    fn names(list: &[Arc<Pod>]) -> Vec<&str> {
        list.iter().map(|p| p.metadata.name.as_deref().unwrap()).collect()
    }

    #[test]
    fn a_mirror_belongs_to_the_node_and_tells_its_static_pod_s_uid() {
        let mirror = mirror("web-n1", "abc");
        assert!(is_mirror(&mirror) && !is_static(&mirror) && is_static(&pod("web-n1", "abc")));
        assert_eq!(runtime_uid(&mirror), "abc");
        assert_eq!(runtime_uid(&pod("p", "x")), "x");
        let owner = &mirror.metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!(
            (owner.kind.as_str(), owner.uid.as_str(), owner.controller),
            ("Node", "node-uid", Some(true))
        );
    }

    #[test]
    fn mirrors_are_made_replaced_and_removed() {
        let mut deleted = mirror("deleted-n1", "3").as_ref().clone();
        deleted.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        let mirrors = [
            mirror("same-n1", "1"),
            mirror("changed-n1", "old"),
            Arc::new(deleted),
            mirror("left-n1", "4"),
        ];
        let mirrors = mirrors.into_iter().map(|m| (full_name(&m), m)).collect();
        let wanted = [
            pod("same-n1", "1"),
            pod("changed-n1", "2"),
            pod("deleted-n1", "3"),
            pod("new-n1", "5"),
        ];
        let plan = plan(&wanted, &mirrors);
        assert_eq!(names(&plan.create), ["new-n1"]);
        assert_eq!(names(&plan.delete), ["changed-n1", "deleted-n1", "left-n1"]);
    }
}
