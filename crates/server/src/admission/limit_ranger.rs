//! LimitRanger: gives containers the requests and limits that a namespace's limit ranges say by default, and refuses
//! pods and claims that are outside of them.

mod usage;

use async_trait::async_trait;
use coracle_api::object::Object;
use coracle_api::quantity::Quantity;
use coracle_api::status::Status;
use serde_json::{Map, Value};

use super::{Admission, Attributes, Operation};
use usage::{Amounts, amounts, pod_total};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";
const LISTS: [(&str, &str); 2] = [("containers", "container"), ("initContainers", "init container")];

pub(super) struct LimitRanger;

#[async_trait]
impl Admission for LimitRanger {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        // Containers do not change, except by being resized.
        match attributes.operation {
            Operation::Create => attributes.is("pods") || attributes.is("persistentvolumeclaims"),
            Operation::Update => attributes.is("persistentvolumeclaims") || attributes.is_of("", "pods", "resize"),
            Operation::Delete => false,
        }
    }

    async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Object) -> Result<bool, Status> {
        if attributes.row.plural != "pods" || is_going(attributes) {
            return Ok(false);
        }
        let mut changed = false;
        for range in ranges(attributes).await? {
            changed |= set_defaults(object, &range);
        }
        Ok(changed)
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>) -> Result<(), Status> {
        let Some(object) = object.filter(|_| !is_going(attributes)) else {
            return Ok(());
        };
        for range in ranges(attributes).await? {
            let faults = if attributes.row.plural == "pods" {
                pod_faults(object, &range)
            } else {
                claim_faults(object, &range)
            };
            match faults.as_slice() {
                [] => {}
                [one] => return Err(attributes.forbidden(one)),
                many => return Err(attributes.forbidden(format!("[{}]", many.join(", ")))),
            }
        }
        Ok(())
    }
}

/// An object that is being deleted is not held up by limits.
fn is_going(attributes: &Attributes<'_>) -> bool {
    attributes.old.is_some_and(Object::is_terminating)
}

async fn ranges(attributes: &Attributes<'_>) -> Result<Vec<Object>, Status> {
    attributes
        .list("", "v1", "limitranges", &attributes.target.namespace)
        .await
}

/// The limits of one type in a range.
fn limits<'a>(range: &'a Object, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let all = range.array(&["spec", "limits"]).iter();
    all.filter(move |l| l.get("type").and_then(Value::as_str) == Some(kind))
}

fn map<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value.get(field).and_then(Value::as_object).into_iter().flatten()
}

/// Gives containers what they lack; whether one lacked something. An annotation tells what was given.
fn set_defaults(pod: &mut Object, range: &Object) -> bool {
    let mut requests = Map::new();
    let mut most = Map::new();
    for limit in limits(range, "Container") {
        requests.extend(map(limit, "defaultRequest").map(|(k, v)| (k.clone(), v.clone())));
        most.extend(map(limit, "default").map(|(k, v)| (k.clone(), v.clone())));
    }
    let mut told = Vec::new();
    for (list, word) in LISTS {
        let containers = pod.get_mut(&["spec", list]).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            let name = container
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            for (field, defaults, what) in [("requests", &requests, "request"), ("limits", &most, "limit")] {
                let given = fill(container, field, defaults);
                if !given.is_empty() {
                    told.push(format!("{} {what} for {word} {name}", given.join(", ")));
                }
            }
        }
    }
    if told.is_empty() {
        return false;
    }
    let text = format!("LimitRanger plugin set: {}", told.join("; "));
    pod.set(&["metadata", "annotations", ANNOTATION], text);
    true
}

/// Adds the amounts that a container does not name; their names in order.
fn fill(container: &mut Map<String, Value>, field: &str, defaults: &Map<String, Value>) -> Vec<String> {
    if defaults.is_empty() {
        return Vec::new();
    }
    let resources = container
        .entry("resources")
        .or_insert_with(|| Value::Object(Map::new()));
    if resources.is_null() {
        *resources = Value::Object(Map::new());
    }
    let Some(resources) = resources.as_object_mut() else {
        return Vec::new();
    };
    let amounts = resources.entry(field).or_insert_with(|| Value::Object(Map::new()));
    if amounts.is_null() {
        *amounts = Value::Object(Map::new());
    }
    let Some(amounts) = amounts.as_object_mut() else {
        return Vec::new();
    };
    let mut given = Vec::new();
    for (name, amount) in defaults {
        if !amounts.contains_key(name) {
            amounts.insert(name.clone(), amount.clone());
            given.push(name.clone());
        }
    }
    given.sort();
    given
}

fn pod_faults(pod: &Object, range: &Object) -> Vec<String> {
    let mut faults = Vec::new();
    for limit in limits(range, "Container") {
        for (list, _) in LISTS {
            for container in pod.array(&["spec", list]) {
                let of = |field: &str| amounts(container.pointer("/resources").and_then(|r| r.get(field)));
                compare(limit, "Container", &of("requests"), &of("limits"), &mut faults);
            }
        }
    }
    for limit in limits(range, "Pod") {
        compare(
            limit,
            "Pod",
            &pod_total(pod, "requests"),
            &pod_total(pod, "limits"),
            &mut faults,
        );
    }
    faults
}

fn claim_faults(claim: &Object, range: &Object) -> Vec<String> {
    let mut faults = Vec::new();
    let kind = "PersistentVolumeClaim";
    let requests = amounts(claim.get(&["spec", "resources", "requests"]));
    for limit in limits(range, kind) {
        for (name, bound) in bounds(limit, "min") {
            faults.extend(below(name, kind, bound, &requests, &Amounts::new()));
        }
        for (name, bound) in bounds(limit, "max") {
            faults.extend(match requests.get(name) {
                None => Some(format!(
                    "maximum {name} usage per {kind} is {bound}.  No request is specified"
                )),
                Some(asked) if *asked > bound => Some(format!(
                    "maximum {name} usage per {kind} is {bound}, but request is {asked}"
                )),
                Some(_) => None,
            });
        }
    }
    faults
}

fn bounds<'a>(limit: &'a Value, field: &str) -> impl Iterator<Item = (&'a String, Quantity)> {
    map(limit, field).filter_map(|(name, bound)| Some((name, Quantity::from_json(bound).ok()?)))
}

fn compare(limit: &Value, kind: &str, requests: &Amounts, most: &Amounts, faults: &mut Vec<String>) {
    for (name, bound) in bounds(limit, "min") {
        faults.extend(below(name, kind, bound, requests, most));
    }
    for (name, bound) in bounds(limit, "max") {
        faults.extend(above(name, kind, bound, requests, most));
    }
    for (name, bound) in bounds(limit, "maxLimitRequestRatio") {
        faults.extend(ratio(name, kind, bound, requests, most));
    }
}

fn below(name: &str, kind: &str, bound: Quantity, requests: &Amounts, most: &Amounts) -> Option<String> {
    let head = format!("minimum {name} usage per {kind} is {bound}");
    match (requests.get(name), most.get(name)) {
        (None, _) => Some(format!("{head}.  No request is specified")),
        (Some(asked), _) if *asked < bound => Some(format!("{head}, but request is {asked}")),
        (_, Some(limit)) if *limit < bound => Some(format!("{head}, but limit is {limit}")),
        _ => None,
    }
}

fn above(name: &str, kind: &str, bound: Quantity, requests: &Amounts, most: &Amounts) -> Option<String> {
    let head = format!("maximum {name} usage per {kind} is {bound}");
    match (requests.get(name), most.get(name)) {
        (_, None) => Some(format!("{head}.  No limit is specified")),
        (_, Some(limit)) if *limit > bound => Some(format!("{head}, but limit is {limit}")),
        (Some(asked), _) if *asked > bound => Some(format!("{head}, but request is {asked}")),
        _ => None,
    }
}

fn ratio(name: &str, kind: &str, bound: Quantity, requests: &Amounts, most: &Amounts) -> Option<String> {
    let head = format!("{name} max limit to request ratio per {kind} is {bound}");
    let asked = requests.get(name).filter(|q| !q.is_zero());
    let Some(asked) = asked else {
        return Some(format!("{head}, but no request is specified or request is 0"));
    };
    let Some(limit) = most.get(name).filter(|q| !q.is_zero()) else {
        return Some(format!("{head}, but no limit is specified or limit is 0"));
    };
    let found = limit.as_f64() / asked.as_f64();
    (found > bound.as_f64()).then(|| format!("{head}, but provided ratio is {found:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Object {
        Object::from_value(value).unwrap()
    }

    fn range(limit: Value) -> Object {
        object(json!({"spec": {"limits": [limit]}}))
    }

    fn pod(resources: Value) -> Object {
        object(json!({"spec": {"containers": [{"name": "c", "resources": resources}]}}))
    }

    #[test]
    fn what_a_container_lacks_is_given_and_told() {
        let range = range(json!({
            "type": "Container",
            "default": {"cpu": "1", "memory": "1Gi"},
            "defaultRequest": {"cpu": "500m"},
        }));
        let mut made = pod(json!({"limits": {"memory": "2Gi"}}));
        assert!(set_defaults(&mut made, &range));
        let resources = &made.array(&["spec", "containers"])[0]["resources"];
        assert_eq!(
            resources,
            &json!({"limits": {"memory": "2Gi", "cpu": "1"}, "requests": {"cpu": "500m"}})
        );
        assert_eq!(
            made.annotation(ANNOTATION),
            Some("LimitRanger plugin set: cpu request for container c; cpu limit for container c")
        );
        assert!(!set_defaults(&mut made, &range));
    }

    #[test]
    fn limits_are_enforced_in_upstreams_words() {
        for (limit, resources, expected) in [
            (
                json!({"type": "Container", "min": {"cpu": "100m"}}),
                json!({"requests": {"cpu": "50m"}}),
                "minimum cpu usage per Container is 100m, but request is 50m",
            ),
            (
                json!({"type": "Container", "min": {"cpu": "100m"}}),
                json!({}),
                "minimum cpu usage per Container is 100m.  No request is specified",
            ),
            (
                json!({"type": "Container", "max": {"memory": "1Gi"}}),
                json!({"limits": {"memory": "2Gi"}}),
                "maximum memory usage per Container is 1Gi, but limit is 2Gi",
            ),
            (
                json!({"type": "Pod", "max": {"memory": "1Gi"}}),
                json!({}),
                "maximum memory usage per Pod is 1Gi.  No limit is specified",
            ),
            (
                json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}),
                json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "300m"}}),
                "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
            ),
            (
                json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}),
                json!({"limits": {"cpu": "300m"}}),
                "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
            ),
        ] {
            assert_eq!(pod_faults(&pod(resources), &range(limit)), [expected]);
        }
        let within = range(json!({"type": "Pod", "max": {"cpu": "1"}, "min": {"cpu": "100m"}}));
        let fits = pod(json!({"requests": {"cpu": "200m"}, "limits": {"cpu": "1"}}));
        assert!(pod_faults(&fits, &within).is_empty());
    }

    #[test]
    fn a_claims_size_is_bounded() {
        let range = range(json!({
            "type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "5Gi"},
        }));
        let claim = |size: &str| object(json!({"spec": {"resources": {"requests": {"storage": size}}}}));
        assert_eq!(
            claim_faults(&claim("10Gi"), &range),
            ["maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 10Gi"]
        );
        assert_eq!(
            claim_faults(&claim("1Mi"), &range),
            ["minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"]
        );
        assert!(claim_faults(&claim("2Gi"), &range).is_empty());
    }
}
