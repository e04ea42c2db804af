//! `pods/eviction`: deletes a pod if the disruption budget that covers it allows one more.

use coracle_api::object::Object;
use coracle_api::selector::LabelSelector;
use coracle_api::service::{DeleteOptions, Propagation, WriteOptions};
use coracle_api::status::{Cause, Details, Status};
use serde_json::{Value, json};

use super::binding::success;
use crate::admission::{self, Attributes};
use crate::cache::Selection;
use crate::registry::read::Current;
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
    let mut pod = newest(call, &key).await?;
    {
        let pod = Some(&pod.object);
        let attributes = Attributes::new(call, admission::Operation::Create, &name, pod).dry_run(how.dry_run);
        call.core.admission.validate(&attributes, Some(&eviction)).await?;
    }
    for _ in 0..TRIES {
        delete::check_preconditions(call, &pod, &how)?;
        let grant = if goes_freely(&pod.object) {
            Grant::WhileFree
        } else {
            take_disruption(call, &pod.object, how.dry_run).await?
        };
        if let Some(marked) = mark_target(call, &key, &how, grant).await? {
            // The pod that was granted, and as the mark left it where the client named a version.
            how.uid.get_or_insert_with(|| pod.object.uid().to_owned());
            if let Some(version) = how.resource_version.as_mut() {
                *version = marked;
            }
            delete::delete_named(call, &name, &how).await?;
            return Ok(Output::Status(success(201)));
        }
        pod = newest(call, &key).await?;
    }
    Err(Status::modified(call.of(), &name))
}

/// The pod as it is now.
async fn newest(call: &Call<'_>, key: &str) -> Result<Current, Status> {
    let pod = read::load(call.core, &call.row, key).await?;
    pod.ok_or_else(|| Status::not_found(call.of(), &call.target.name))
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

/// That a pod may go.
#[derive(Clone, Copy)]
enum Grant {
    Given,
    /// As long as it disturbs nobody: no budget was asked.
    WhileFree,
    /// As long as it is not ready: the budget was not asked for one that is.
    WhileUnready,
}

impl Grant {
    fn holds(self, pod: &Object) -> bool {
        match self {
            Self::Given => true,
            Self::WhileFree => goes_freely(pod),
            Self::WhileUnready => !is_ready(pod),
        }
    }
}

/// Takes one disruption from the budget that covers the pod, if one does.
async fn take_disruption(call: &mut Call<'_>, pod: &Object, dry_run: bool) -> Result<Grant, Status> {
    let table = call.core.registry.table();
    let Some(row) = table.get("policy", "v1", "poddisruptionbudgets").cloned() else {
        return Ok(Grant::Given);
    };
    call.core.cache.wait_until_current().await?;
    let shard = call.core.cache.shard(&row).await?;
    let Some(all) = shard.snapshot(&Selection::all(&row, pod.namespace()), None, 0, 0) else {
        return Ok(Grant::Given);
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
    let Some(name) = budgets.pop() else {
        return Ok(Grant::Given);
    };
    if !budgets.is_empty() {
        let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        return Err(Status::failure(500, "InternalError", why));
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
            return Ok(Grant::Given);
        };
        let Some(next) = disrupted(&current.object, pod, call.core.clock.now())? else {
            return Ok(Grant::WhileUnready);
        };
        if let Commit::Done(_) = commit(&budget_call, &key, next, Some(&current), dry_run).await? {
            return Ok(Grant::Given);
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
        return Err(refused(&why, Some(10)));
    }
    let forbidden = |why: &str| {
        let of = format!("poddisruptionbudgets.policy \"{}\" is forbidden: {why}", budget.name());
        Status::failure(403, "Forbidden", of)
    };
    if status("disruptionsAllowed") < 0 {
        return Err(forbidden("pdb disruptions allowed is negative"));
    }
    if budget
        .get(&["status", "disruptedPods"])
        .and_then(Value::as_object)
        .is_some_and(|m| m.len() > MOST)
    {
        return Err(forbidden(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if status("disruptionsAllowed") == 0 {
        return Err(refused(&why_none(budget), None));
    }
    let mut next = budget.clone();
    let left = status("disruptionsAllowed") - 1;
    next.set(&["status", "disruptionsAllowed"], left);
    next.set(&["status", "disruptedPods", pod.name()], meta::time_text(now));
    if left == 0 {
        no_more(&mut next, now);
    }
    Ok(Some(next))
}

fn allowed_condition(budget: &Object) -> Option<&Value> {
    let mut conditions = budget.array(&["status", "conditions"]).iter();
    let is_it = |c: &&Value| c.get("type").and_then(Value::as_str) == Some("DisruptionAllowed");
    conditions.find(is_it)
}

/// Why the budget allows no disruption: for want of healthy pods, or because nobody knows how many there are.
fn why_none(budget: &Object) -> String {
    let name = budget.name();
    let text = |field: &str| allowed_condition(budget)?.get(field)?.as_str();
    if (text("status"), text("reason")) == (Some("False"), Some("SyncFailed")) {
        let message = text("message").unwrap_or_default();
        return format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {message}"
        );
    }
    let status = |field: &str| budget.i64(&["status", field]).unwrap_or(0);
    let (needs, has) = (status("desiredHealthy"), status("currentHealthy"));
    format!("The disruption budget {name} needs {needs} healthy pods and has {has} currently")
}

/// Says in the conditions that the last disruption was taken.
fn no_more(budget: &mut Object, now: coracle_clock::Timestamp) {
    let mut condition = json!({
        "type": "DisruptionAllowed",
        "status": "False",
        "reason": "InsufficientPods",
        "message": "",
        "observedGeneration": budget.i64(&["status", "observedGeneration"]).unwrap_or(0),
        "lastTransitionTime": meta::time_text(now),
    });
    if let Some(old) = allowed_condition(budget).filter(|c| c.get("status") == condition.get("status")) {
        condition["lastTransitionTime"] = old["lastTransitionTime"].clone();
    }
    let mut conditions = budget.array(&["status", "conditions"]).to_vec();
    conditions.retain(|c| c.get("type") != condition.get("type"));
    conditions.push(condition);
    budget.set(&["status", "conditions"], conditions);
}

fn refused(why: &str, retry_after_seconds: Option<u32>) -> Status {
    let text = "Cannot evict pod as it would violate the pod's disruption budget.";
    let details = Details {
        causes: vec![Cause {
            reason: "DisruptionBudget".into(),
            message: why.into(),
            field: String::new(),
        }],
        retry_after_seconds,
        ..Details::default()
    };
    Status::failure(429, "TooManyRequests", text).with_details(Some(Box::new(details)))
}

/// Says on the pod that it goes by eviction. The version this makes of it, or `None` if the grant does not hold any more.
async fn mark_target(call: &Call<'_>, key: &str, how: &DeleteOptions, grant: Grant) -> Result<Option<String>, Status> {
    for _ in 0..TRIES {
        let current = newest(call, key).await?;
        delete::check_preconditions(call, &current, how)?;
        if !grant.holds(&current.object) {
            return Ok(None);
        }
        let next = marked(&current.object, call.core.clock.now());
        if next == current.object {
            return Ok(Some(next.resource_version().to_owned()));
        }
        if let Commit::Done(stored) = commit(call, key, next, Some(&current), how.dry_run).await? {
            return Ok(Some(stored.revision().to_string()));
        }
    }
    Err(Status::modified(call.of(), &call.target.name))
}

/// The pod with the condition that it goes by eviction, which says when it began to go for whatever reason.
fn marked(pod: &Object, now: coracle_clock::Timestamp) -> Object {
    let mut condition = json!({
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
        "lastTransitionTime": meta::time_text(now),
        "observedGeneration": pod.generation(),
    });
    let mut conditions = pod.array(&["status", "conditions"]).to_vec();
    match conditions.iter_mut().find(|c| c.get("type") == condition.get("type")) {
        Some(old) => {
            if old.get("status") == condition.get("status")
                && let Some(since) = old.get("lastTransitionTime")
            {
                condition["lastTransitionTime"] = since.clone();
            }
            *old = condition;
        }
        None => conditions.push(condition),
    }
    let mut next = pod.clone();
    next.set(&["status", "conditions"], conditions);
    next
}
