//! Pod: containers that run together on one node. Its table is in [`table`].

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, name, text};
use super::row::{PROXY, READ_WRITE, STREAM, namespaced};
use crate::object::Object;
use crate::resource::{Resource, Verbs};
use crate::strategy::Strategy;

mod table;

pub(super) fn row() -> Resource {
    namespaced("", "v1", "Pod", "pods")
        .short(&["po"])
        .in_all()
        .connect("attach", STREAM, "PodAttachOptions")
        .subresource_of("binding", Verbs::CREATE, ("", "v1", "Binding"))
        .subresource("ephemeralcontainers", READ_WRITE)
        .subresource_of("eviction", Verbs::CREATE, ("policy", "v1", "Eviction"))
        .connect("exec", STREAM, "PodExecOptions")
        .connect("log", Verbs::GET, "Pod")
        .connect("portforward", STREAM, "PodPortForwardOptions")
        .connect("proxy", PROXY, "PodProxyOptions")
        .subresource("resize", READ_WRITE)
        .status()
        .generation()
        .fields(&[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ])
        .columns([
            name(),
            text(
                "Ready",
                "The aggregate readiness state of this pod for accepting traffic.",
            ),
            text("Status", "The aggregate status of the containers in this pod."),
            text(
                "Restarts",
                "The number of times the containers in this pod have been restarted and when the last container in \
                 this pod has restarted.",
            ),
            age(),
            text("IP", "The pod's address.").wide(),
            text("Node", "The node that the pod runs on.").wide(),
            text("Nominated Node", "The node where pods are being evicted for this one.").wide(),
            text("Readiness Gates", "How many of the pod's readiness gates are true.").wide(),
        ])
        .strategy(Pod)
        .build()
}

struct Pod;

impl Strategy for Pod {
    fn selectable_field(&self, object: &Object, path: &str) -> String {
        match path {
            "spec.hostNetwork" => object.bool(&["spec", "hostNetwork"]).unwrap_or_default().to_string(),
            "status.podIP" => table::first_ip(object).to_owned(),
            _ => {
                let steps: Vec<&str> = path.split('.').collect();
                object.str(&steps).unwrap_or_default().to_owned()
            }
        }
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        table::cells(object, now)
    }
}
