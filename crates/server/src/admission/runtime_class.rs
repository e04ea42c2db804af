//! RuntimeClass: a pod that names a runtime class bears what that costs (overhead) and goes where it is (scheduling).

use async_trait::async_trait;
use coracle_api::object::Object;
use coracle_api::quantity::Quantity;
use coracle_api::status::Status;
use serde_json::Value;

use super::{Admission, Attributes, Operation};

pub(super) struct RuntimeClass;

async fn class(attributes: &Attributes<'_>, pod: &Object) -> Result<Option<Object>, Status> {
    let Some(name) = pod.str(&["spec", "runtimeClassName"]) else {
        return Ok(None);
    };
    let found = attributes.find("node.k8s.io", "v1", "runtimeclasses", "", name).await?;
    let missing = || attributes.forbidden(format!("pod rejected: RuntimeClass {name:?} not found"));
    found.ok_or_else(missing).map(Some)
}

/// What the class says a pod costs by itself.
fn overhead(class: Option<&Object>) -> Option<&Value> {
    class?.get(&["overhead"])?;
    class?.get(&["overhead", "podFixed"])
}

fn same(a: &Value, b: &Value) -> bool {
    let amounts = |v: &Value| -> Option<Vec<(String, Quantity)>> {
        let map = v.as_object()?;
        map.iter()
            .map(|(k, v)| Some((k.clone(), Quantity::from_json(v).ok()?)))
            .collect()
    };
    let sorted = |v: &Value| {
        amounts(v).map(|mut all| {
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all
        })
    };
    sorted(a) == sorted(b)
}

#[async_trait]
impl Admission for RuntimeClass {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is("pods") && attributes.operation == Operation::Create
    }

    async fn mutate(&self, attributes: &Attributes<'_>, pod: &mut Object) -> Result<bool, Status> {
        let Some(class) = class(attributes, pod).await? else {
            return Ok(false);
        };
        if let Some(fixed) = overhead(Some(&class)) {
            if pod.get(&["spec", "overhead"]).is_some_and(|given| !same(given, fixed)) {
                return Err(
                    attributes.forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
                );
            }
            pod.set(&["spec", "overhead"], fixed.clone());
        }
        let selector = class.get(&["scheduling", "nodeSelector"]).and_then(Value::as_object);
        for (key, value) in selector.into_iter().flatten() {
            let value = value.as_str().unwrap_or_default();
            match pod.str(&["spec", "nodeSelector", key]) {
                Some(given) if given != value => {
                    return Err(attributes.forbidden(format!(
                        "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; \
                         pod.spec.nodeSelector[{key}] = {given}"
                    )));
                }
                _ => pod.set(&["spec", "nodeSelector", key], value),
            }
        }
        let more = class.array(&["scheduling", "tolerations"]);
        if !more.is_empty() {
            let mut tolerations = pod.array(&["spec", "tolerations"]).to_vec();
            for one in more {
                if !tolerations.contains(one) {
                    tolerations.push(one.clone());
                }
            }
            pod.set(&["spec", "tolerations"], tolerations);
        }
        Ok(true)
    }

    async fn validate(&self, attributes: &Attributes<'_>, pod: Option<&Object>) -> Result<(), Status> {
        let Some(pod) = pod else { return Ok(()) };
        let class = class(attributes, pod).await?;
        match (overhead(class.as_ref()), pod.get(&["spec", "overhead"])) {
            (Some(fixed), given) if !given.is_some_and(|g| same(g, fixed)) => {
                Err(attributes.forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"))
            }
            (None, Some(_)) => Err(attributes
                .forbidden("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")),
            _ => Ok(()),
        }
    }
}
