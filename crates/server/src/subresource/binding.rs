//! `pods/binding`: puts a pod on a node, once.

use coracle_api::object::Object;
use coracle_api::service::WriteOptions;
use coracle_api::status::Status;
use serde_json::{Value, json};

use crate::admission::{self, Attributes};
use crate::registry::update::{Commit, commit};
use crate::registry::{Call, Output, check, meta, read};

/// How often it is tried again when somebody else changes the pod meanwhile.
const TRIES: usize = 16;

/// See the module.
pub(super) async fn create(call: &mut Call<'_>, binding: Object, options: &WriteOptions) -> Result<Output, Status> {
    let pod = call.target.name.clone();
    if !matches!(binding.name(), "") && binding.name() != pod {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    bind(call, &pod, &binding, options.dry_run).await?;
    Ok(Output::Status(success(201)))
}

/// Binds `pod` of the call's namespace (whose row is that of pods) to the binding's target.
pub(crate) async fn bind(call: &mut Call<'_>, pod: &str, binding: &Object, dry_run: bool) -> Result<(), Status> {
    let node = binding.str(&["target", "name"]).unwrap_or_default().to_owned();
    if node.is_empty() {
        return Err(check::invalid(
            call,
            "target.name",
            "\"\"",
            "is required: name the node",
        ));
    }
    if !matches!(binding.str(&["target", "kind"]).unwrap_or_default(), "" | "Node") {
        return Err(check::invalid(
            call,
            "target.kind",
            "\"\"",
            "supported values: \"Node\", \"<empty>\"",
        ));
    }
    let mut binding = binding.clone();
    {
        let attributes = Attributes::new(call, admission::Operation::Create, pod, None).dry_run(dry_run);
        call.core.admission.mutate(&attributes, &mut binding).await?;
        call.core.admission.validate(&attributes, Some(&binding)).await?;
    }
    let key = call.key(pod);
    for _ in 0..TRIES {
        let row = call.row.clone();
        let Some(current) = read::load(call.core, &row, &key).await? else {
            return Err(Status::not_found(call.of(), pod));
        };
        let bound = bound(call, &current.object, &binding, &node)?;
        if let Commit::Done(_) = commit(call, &key, bound, Some(&current), dry_run).await? {
            return Ok(());
        }
    }
    Err(Status::modified(call.of(), pod))
}

fn bound(call: &Call<'_>, pod: &Object, binding: &Object, node: &str) -> Result<Object, Status> {
    let conflict = |why: String| Err(Status::conflict(call.of(), pod.name(), &why));
    if !binding.uid().is_empty() && binding.uid() != pod.uid() {
        return conflict(format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {}",
            binding.uid(),
            pod.uid()
        ));
    }
    let version = binding.resource_version();
    if !version.is_empty() && version != pod.resource_version() {
        return Err(Status::modified(call.of(), pod.name()));
    }
    if pod.is_terminating() {
        return conflict(format!(
            "pod {} is being deleted, cannot be assigned to a host",
            pod.name()
        ));
    }
    if let Some(at) = pod.str(&["spec", "nodeName"]).filter(|n| !n.is_empty()) {
        return conflict(format!("pod {} is already assigned to node {at:?}", pod.name()));
    }
    if !pod.array(&["spec", "schedulingGates"]).is_empty() {
        return conflict(format!("pod {} has non-empty .spec.schedulingGates", pod.name()));
    }
    let mut bound = pod.clone();
    bound.set(&["spec", "nodeName"], node);
    for map in ["annotations", "labels"] {
        if let Some(Value::Object(more)) = binding.get(&["metadata", map]) {
            for (key, value) in more {
                bound.set(&["metadata", map, key], value.clone());
            }
        }
    }
    let now = meta::time_text(call.core.clock.now());
    let scheduled = json!({
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": now,
        "observedGeneration": pod.generation(),
    });
    let mut conditions = pod.array(&["status", "conditions"]).to_vec();
    conditions.retain(|c| c.get("type").and_then(Value::as_str) != Some("PodScheduled"));
    conditions.push(scheduled);
    bound.set(&["status", "conditions"], conditions);
    // Where it was going to be, now that it is somewhere.
    bound.remove(&["status", "nominatedNodeName"]);
    Ok(bound)
}

/// A success that says no more.
pub(crate) fn success(code: u16) -> Status {
    Status {
        status: "Success".into(),
        ..Status::failure(code, "", "")
    }
}
