//! `pods/eviction`: deletes a pod if the disruption budget that covers it allows one more.

use coracle_api::object::Object;
use coracle_api::selector::LabelSelector;
use coracle_api::service::{DeleteOptions, Propagation, WriteOptions};
use coracle_api::status::{Cause, Details, Status};
use serde_json::{Value, json};

use super::binding::success;
use crate::cache::Selection;
use crate::registry::update::{Commit, commit};
use crate::registry::{Call, Output, delete, meta, read};

const TRIES: usize = 20;

/// See the module.
pub(super) async fn create(call: &mut Call<'_>, eviction: Object, options: &WriteOptions) -> Result<Output, Status> {
    let name = call.target.name.clone();
    if !eviction.name().is_empty() && eviction.name() != name {
        return Err(Status::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let mut how = delete_options(&eviction);
    how.dry_run |= options.dry_run;
    let key = call.key(&name);
    let row = call.row.clone();
    let pod = read::load(call.core, &row, &key)
        .await?
        .ok_or_else(|| Status::not_found(call.of(), &name))?
        .object;
    if !goes_freely(&pod) {
        take_disruption(call, &pod, how.dry_run).await?;
    }
    mark_target(call, &key, how.dry_run).await?;
    if how.uid.is_none() {
        how.uid = Some(pod.uid().to_owned());
    }
    delete::delete_named(call, &name, &how).await?;
    Ok(Output::Status(success(201)))
}

fn delete_options(eviction: &Object) -> DeleteOptions {
    let at = |field: &str| eviction.get(&["deleteOptions", field]);
    let precondition = |field: &str| {
        eviction
            .str(&["deleteOptions", "preconditions", field])
            .map(str::to_owned)
    };
    DeleteOptions {
        grace_period_seconds: at("gracePeriodSeconds").and_then(Value::as_i64),
        uid: precondition("uid"),
        resource_version: precondition("resourceVersion"),
        propagation: match at("propagationPolicy").and_then(Value::as_str) {
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Background") => Some(Propagation::Background),
            _ => None,
        },
        dry_run: at("dryRun").and_then(Value::as_array).is_some_and(|a| !a.is_empty()),
    }
}

/// Pods that do not run, or go already, disturb nobody.
fn goes_freely(pod: &Object) -> bool {
    pod.is_terminating() || matches!(pod.str(&["status", "phase"]), Some("Succeeded" | "Failed" | "Pending"))
}

fn is_ready(pod: &Object) -> bool {
    let text = |c: &Value, f: &str| c.get(f).and_then(Value::as_str).unwrap_or_default().to_owned();
    pod.array(&["status", "conditions"])
        .iter()
        .any(|c| text(c, "type") == "Ready" && text(c, "status") == "True")
}

/// Takes one disruption from the budget that covers the pod, if one does.
async fn take_disruption(call: &mut Call<'_>, pod: &Object, dry_run: bool) -> Result<(), Status> {
    let table = call.core.registry.table();
    let Some(row) = table.get("policy", "v1", "poddisruptionbudgets").cloned() else {
        return Ok(());
    };
    call.core.cache.wait_until_current().await?;
    let shard = call.core.cache.shard(&row).await?;
    let Some(all) = shard.snapshot(&Selection::all(&row, pod.namespace()), None, 0, 0) else {
        return Ok(());
    };
    let covers = |budget: &Object| -> bool {
        let Some(selector) = budget.get(&["spec", "selector"]) else {
            return false;
        };
        LabelSelector::from_json(selector).is_ok_and(|s| s.matches(|key| pod.label(key)))
    };
    let mut budgets: Vec<String> = all
        .items
        .iter()
        .map(|i| i.object.to_object())
        .filter(covers)
        .map(|b| b.name().to_owned())
        .collect();
    let Some(name) = budgets.pop() else { return Ok(()) };
    if !budgets.is_empty() {
        return Err(Status::internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        ));
    }
    let budget_call = Call {
        core: call.core,
        user: call.user,
        target: coracle_api::service::Target {
            group: "policy".into(),
            version: "v1".into(),
            resource: "poddisruptionbudgets".into(),
            name: name.clone(),
            ..call.target.clone()
        },
        row: row.clone(),
        warnings: Vec::new(),
    };
    let key = budget_call.key(&name);
    for _ in 0..TRIES {
        let Some(current) = read::load(call.core, &row, &key).await? else {
            return Ok(());
        };
        let Some(next) = disrupted(&current.object, pod, call.core.clock.now())? else {
            return Ok(());
        };
        if let Commit::Done(_) = commit(&budget_call, &key, next, Some(&current), dry_run).await? {
            return Ok(());
        }
    }
    Err(Status::too_many_requests(
        "the disruption budget is contended: try again",
        10,
    ))
}

/// The budget with one disruption less; `None` if the pod may go without taking one.
fn disrupted(budget: &Object, pod: &Object, now: coracle_clock::Timestamp) -> Result<Option<Object>, Status> {
    const MOST: usize = 2000;
    let status = |field: &str| budget.i64(&["status", field]).unwrap_or(0);
    if !is_ready(pod) {
        match budget.str(&["spec", "unhealthyPodEvictionPolicy"]) {
            Some("AlwaysAllow") => return Ok(None),
            _ if status("currentHealthy") >= status("desiredHealthy") && status("desiredHealthy") > 0 => {
                return Ok(None);
            }
            _ => {}
        }
    }
    if status("observedGeneration") < budget.generation() {
        let why = format!(
            "The disruption budget {} is still being processed by the server.",
            budget.name()
        );
        return Err(refused(&why));
    }
    if status("disruptionsAllowed") < 0 {
        return Err(Status::failure(403, "Forbidden", "pdb disruptions allowed is negative"));
    }
    if budget
        .get(&["status", "disruptedPods"])
        .and_then(Value::as_object)
        .is_some_and(|m| m.len() > MOST)
    {
        return Err(Status::failure(
            403,
            "Forbidden",
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if status("disruptionsAllowed") == 0 {
        let why = format!(
            "The disruption budget {} needs {} healthy pods and has {} currently",
            budget.name(),
            status("desiredHealthy"),
            status("currentHealthy")
        );
        return Err(refused(&why));
    }
    let mut next = budget.clone();
    next.set(&["status", "disruptionsAllowed"], status("disruptionsAllowed") - 1);
    next.set(&["status", "disruptedPods", pod.name()], meta::time_text(now));
    Ok(Some(next))
}

fn refused(why: &str) -> Status {
    let text = "Cannot evict pod as it would violate the pod's disruption budget.";
    let details = Details {
        causes: vec![Cause {
            reason: "DisruptionBudget".into(),
            message: why.into(),
            field: String::new(),
        }],
        ..Details::default()
    };
    Status::failure(429, "TooManyRequests", text).with_details(Some(Box::new(details)))
}

/// Says on the pod that it goes by eviction.
async fn mark_target(call: &mut Call<'_>, key: &str, dry_run: bool) -> Result<(), Status> {
    for _ in 0..TRIES {
        let row = call.row.clone();
        let Some(current) = read::load(call.core, &row, key).await? else {
            return Ok(());
        };
        let pod = &current.object;
        let mut conditions = pod.array(&["status", "conditions"]).to_vec();
        if conditions
            .iter()
            .any(|c| c.get("type").and_then(Value::as_str) == Some("DisruptionTarget"))
        {
            return Ok(());
        }
        conditions.push(json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
            "lastTransitionTime": meta::time_text(call.core.clock.now()),
        }));
        let mut next = pod.clone();
        next.set(&["status", "conditions"], conditions);
        if let Commit::Done(_) = commit(call, key, next, Some(&current), dry_run).await? {
            return Ok(());
        }
    }
    Err(Status::modified(call.of(), &call.target.name))
}
