//! The quality of service class of a pod, from what its containers (or the pod as a whole) request and are limited to.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::object::Object;
use crate::quantity::Quantity;

type Amounts<'a> = BTreeMap<&'a str, Quantity>;

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn class_of(pod: &Object) -> &'static str {
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    let mut guaranteed = true;
    let whole = pod.get(&["spec", "resources"]);
    let has = |kind: &str| {
        let list = whole.and_then(|r| r.get(kind)?.as_object());
        list.is_some_and(|list| !list.is_empty())
    };
    if has("requests") || has("limits") {
        collect(whole, "requests", &mut requests);
        guaranteed = collect(whole, "limits", &mut limits) == 2;
    } else {
        let containers = pod.array(&["spec", "containers"]);
        for container in containers.iter().chain(pod.array(&["spec", "initContainers"])) {
            collect(container.get("resources"), "requests", &mut requests);
            guaranteed &= collect(container.get("resources"), "limits", &mut limits) == 2;
        }
    }
    if requests.is_empty() && limits.is_empty() {
        return "BestEffort";
    }
    if guaranteed && requests == limits {
        return "Guaranteed";
    }
    "Burstable"
}

/// Adds CPU and memory that are more than nothing, and tells how many of the two there were.
fn collect<'a>(resources: Option<&'a Value>, kind: &str, sum: &mut Amounts<'a>) -> usize {
    let list = resources.and_then(|r| r.get(kind)?.as_object());
    let mut found = 0;
    for (name, value) in list.into_iter().flatten() {
        let quantity = Quantity::from_json(value).unwrap_or(Quantity::ZERO);
        if matches!(name.as_str(), "cpu" | "memory") && quantity > Quantity::ZERO {
            found += 1;
            let total = sum.entry(name).or_insert(Quantity::ZERO);
            *total += quantity;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_class_follows_from_requests_and_limits() {
        let full = json!({"cpu": "1", "memory": "1Gi"});
        for (resources, class) in [
            (json!({}), "BestEffort"),
            (json!({"requests": {"cpu": "0"}}), "BestEffort"),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
            (json!({"requests": {"example.com/gpu": "1"}}), "BestEffort"),
            (json!({"requests": full, "limits": full}), "Guaranteed"),
            (
                json!({"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": full}),
                "Guaranteed",
            ),
            (
                json!({"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": full}),
                "Burstable",
            ),
            (json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}), "Burstable"),
        ] {
            let pod = json!({"spec": {"containers": [{"name": "a", "resources": resources}]}});
            assert_eq!(class_of(&Object::from_value(pod).unwrap()), class, "{resources}");
            let pod = json!({"spec": {"containers": [{"name": "a"}], "resources": resources}});
            assert_eq!(
                class_of(&Object::from_value(pod).unwrap()),
                class,
                "pod-level {resources}"
            );
        }
        let pod = json!({"spec": {"containers": [{"resources": {"requests": full, "limits": full}}, {}]}});
        assert_eq!(class_of(&Object::from_value(pod).unwrap()), "Burstable");
    }
}
