//! Whether quotas have room for an object, and what they say when it is charged.

use std::collections::{BTreeMap, BTreeSet};

use coracle_api::object::Object;
use coracle_api::quantity::Quantity;
use coracle_api::quota::{Counted, Evaluator, Usage};
use k8s_openapi::api::core::v1::ResourceQuotaSpec;
use serde_json::Value;

/// A quota with its amounts as numbers.
pub(super) struct Quota {
    object: Object,
    spec: ResourceQuotaSpec,
    hard: Usage,
    used: Usage,
}

fn amounts(object: &Object, field: &str) -> Usage {
    let all = object.get(&["status", field]).and_then(Value::as_object);
    all.into_iter()
        .flatten()
        .filter_map(|(name, amount)| Some((name.clone(), Quantity::from_json(amount).ok()?)))
        .collect()
}

impl Quota {
    pub fn read(object: Object) -> Option<Self> {
        let spec = serde_json::from_value(object.0.get("spec").cloned().unwrap_or(Value::Null)).unwrap_or_default();
        Some(Self {
            hard: amounts(&object, "hard"),
            used: amounts(&object, "used"),
            spec,
            object,
        })
    }
}

/// `cpu=1,memory=1Gi`.
fn shown<'a>(amounts: impl IntoIterator<Item = (&'a String, Quantity)>) -> String {
    let all: Vec<String> = amounts
        .into_iter()
        .map(|(name, amount)| format!("{name}={amount}"))
        .collect();
    all.join(",")
}

/// The quotas that change, with their new usage, when an object that counted for `before` counts for `usage`; or why a
/// quota does not allow it.
pub(super) fn charge(
    evaluator: &Evaluator,
    object: &Counted,
    usage: &Usage,
    before: &Usage,
    quotas: &[Quota],
) -> Result<Vec<Object>, String> {
    let covering: Vec<&Quota> = quotas
        .iter()
        .filter(|q| evaluator.is_covered(&q.spec, q.hard.keys().map(String::as_str), object))
        .collect();
    for quota in &covering {
        let name = quota.object.name();
        let tracked: BTreeSet<&str> = quota
            .hard
            .keys()
            .map(String::as_str)
            .filter(|resource| evaluator.tracks(resource))
            .collect();
        if let Some(why) = object.missing(tracked.iter().copied()) {
            return Err(format!("failed quota: {name}: {why}"));
        }
        if !tracked.iter().all(|resource| quota.used.contains_key(*resource)) {
            let all: Vec<&str> = tracked.into_iter().collect();
            return Err(format!(
                "status unknown for quota: {name}, resources: {}",
                all.join(",")
            ));
        }
    }
    // Only what grows is charged.
    let mut growth: BTreeMap<&String, Quantity> = BTreeMap::new();
    for (name, amount) in usage {
        let more = before.get(name).map_or(*amount, |b| *amount - *b);
        if !more.is_zero() && !more.is_negative() {
            growth.insert(name, more);
        }
    }
    if growth.is_empty() {
        return Ok(Vec::new());
    }
    let mut changed = Vec::new();
    for quota in covering {
        let asked: BTreeMap<&String, Quantity> = growth
            .iter()
            .filter(|(name, _)| quota.hard.contains_key(**name))
            .map(|(name, more)| (*name, *more))
            .collect();
        let used = |name: &String| quota.used.get(name).copied().unwrap_or(Quantity::ZERO);
        let hard = |name: &String| quota.hard.get(name).copied().unwrap_or(Quantity::ZERO);
        let exceeded: Vec<&String> = asked
            .iter()
            .filter(|(name, more)| used(name) + **more > hard(name))
            .map(|(name, _)| *name)
            .collect();
        if !exceeded.is_empty() {
            return Err(format!(
                "exceeded quota: {}, requested: {}, used: {}, limited: {}",
                quota.object.name(),
                shown(exceeded.iter().filter_map(|n| Some((*n, *asked.get(*n)?)))),
                shown(exceeded.iter().map(|n| (*n, used(n)))),
                shown(exceeded.iter().map(|n| (*n, hard(n)))),
            ));
        }
        if asked.is_empty() {
            continue;
        }
        let mut object = quota.object.clone();
        for (name, more) in asked {
            object.set(&["status", "used", name], (used(name) + more).to_string());
        }
        changed.push(object);
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_api::object::StoredObject;
    use serde_json::json;

    fn quota(name: &str, hard: Value, used: Value, more: Value) -> Quota {
        let mut spec = json!({"hard": hard});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let object = json!({"metadata": {"name": name}, "spec": spec, "status": {"hard": hard, "used": used}});
        Quota::read(Object::from_value(object).unwrap()).unwrap()
    }

    fn pod(cpu: &str, quotas: &[Quota]) -> Result<Vec<Object>, String> {
        let resources = if cpu.is_empty() {
            json!({})
        } else {
            json!({"requests": {"cpu": cpu}})
        };
        let value = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": resources}]}});
        let stored = StoredObject::from_object(Object::from_value(value).unwrap()).unwrap();
        let evaluator = Evaluator::of("", "pods");
        let counted = evaluator.counted(&stored).unwrap();
        let usage = evaluator.usage(&counted, "2026-01-01T00:00:00Z".parse().unwrap());
        charge(&evaluator, &counted, &usage, &Usage::new(), quotas)
    }

    #[test]
    fn what_fits_is_charged_and_what_does_not_is_refused_in_upstreams_words() {
        let hard = json!({"pods": "2", "requests.cpu": "1"});
        let room = quota(
            "q",
            hard.clone(),
            json!({"pods": "1", "requests.cpu": "500m"}),
            json!({}),
        );
        let charged = pod("250m", &[room]).unwrap();
        assert_eq!(
            charged[0].get(&["status", "used"]),
            Some(&json!({"pods": "2", "requests.cpu": "750m"}))
        );
        let full = quota("q", hard, json!({"pods": "2", "requests.cpu": "750m"}), json!({}));
        assert_eq!(
            pod("500m", &[full]).unwrap_err(),
            "exceeded quota: q, requested: pods=1,requests.cpu=500m, used: pods=2,requests.cpu=750m, limited: \
             pods=2,requests.cpu=1"
        );
    }

    #[test]
    fn a_quota_that_was_not_counted_yet_or_needs_more_said_refuses() {
        let hard = json!({"pods": "2", "requests.cpu": "1"});
        let fresh = quota("q", hard.clone(), json!({}), json!({}));
        assert_eq!(
            pod("1", &[fresh]).unwrap_err(),
            "status unknown for quota: q, resources: pods,requests.cpu"
        );
        let counted = quota("q", hard, json!({"pods": "0", "requests.cpu": "0"}), json!({}));
        let missing = pod("", &[counted]).unwrap_err();
        assert!(missing.starts_with("failed quota: q: must specify"), "{missing}");
    }

    #[test]
    fn a_quota_of_other_scopes_is_not_concerned() {
        let other = quota(
            "q",
            json!({"pods": "0"}),
            json!({"pods": "0"}),
            json!({"scopes": ["Terminating"]}),
        );
        assert!(pod("1", &[other]).unwrap().is_empty());
    }
}
