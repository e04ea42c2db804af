//! What a whole pod asks for: the sum of its containers, or the most that its initialisation needs at a time.

use std::collections::BTreeMap;

use coracle_api::object::Object;
use coracle_api::quantity::Quantity;
use serde_json::Value;

pub(super) type Amounts = BTreeMap<String, Quantity>;

pub(super) fn amounts(value: Option<&Value>) -> Amounts {
    let map = value.and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .filter_map(|(name, amount)| Some((name.clone(), Quantity::from_json(amount).ok()?)))
        .collect()
}

fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = total.get(name).copied().map_or(*amount, |t| t + *amount);
        total.insert(name.clone(), sum);
    }
}

/// The pod's `requests` or `limits`. Init containers run one after the other, beside those that restart always.
pub(super) fn pod_total(pod: &Object, field: &str) -> Amounts {
    let of = |container: &Value| amounts(container.pointer("/resources").and_then(|r| r.get(field)));
    let mut total = Amounts::new();
    for container in pod.array(&["spec", "containers"]) {
        add(&mut total, &of(container));
    }
    let mut beside = Amounts::new();
    let mut peak = Amounts::new();
    for container in pod.array(&["spec", "initContainers"]) {
        let mut now = of(container);
        if container.get("restartPolicy").and_then(Value::as_str) == Some("Always") {
            add(&mut total, &now);
            add(&mut beside, &now);
            now = beside.clone();
        } else {
            add(&mut now, &beside);
        }
        raise(&mut peak, &now);
    }
    raise(&mut total, &peak);
    // What is said of the pod as a whole replaces the sum.
    for (name, amount) in amounts(pod.get(&["spec", "resources", field])) {
        total.insert(name, amount);
    }
    total
}

fn raise(total: &mut Amounts, at_least: &Amounts) {
    for (name, amount) in at_least {
        let entry = total.entry(name.clone()).or_insert(*amount);
        if *entry < *amount {
            *entry = *amount;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_asks_for_its_containers_together_or_for_its_greediest_start() {
        let with = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let sidecar = json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}});
        let pod = Object::from_value(json!({"spec": {
            "containers": [with("1"), with("1")],
            "initContainers": [with("500m"), sidecar, with("3")],
        }}))
        .unwrap();
        assert_eq!(pod_total(&pod, "requests")["cpu"].to_string(), "4");
        assert!(pod_total(&pod, "limits").is_empty());
    }
}
