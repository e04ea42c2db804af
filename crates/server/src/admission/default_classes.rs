//! DefaultStorageClass and DefaultIngressClass: a claim or ingress that names no class gets the one that is marked as
//! the default.

use async_trait::async_trait;
use coracle_api::object::Object;
use coracle_api::status::Status;

use super::{Admission, Attributes, Operation};

const STORAGE: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
/// How old clients name a claim's class.
const CLAIM_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const INGRESS: [&str; 1] = ["ingressclass.kubernetes.io/is-default-class"];
const INGRESS_CLASS: &str = "kubernetes.io/ingress.class";

pub(super) struct DefaultStorageClass;
pub(super) struct DefaultIngressClass;

fn is_default(class: &Object, annotations: &[&str]) -> bool {
    annotations.iter().any(|a| class.annotation(a) == Some("true"))
}

/// Of several defaults the newest wins, and by name among those of one second.
fn preferred(mut defaults: Vec<Object>) -> Option<Object> {
    let made = |o: &Object| o.str(&["metadata", "creationTimestamp"]).unwrap_or_default().to_owned();
    defaults.sort_by(|a, b| made(b).cmp(&made(a)).then_with(|| a.name().cmp(b.name())));
    defaults.into_iter().next()
}

#[async_trait]
impl Admission for DefaultStorageClass {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is("persistentvolumeclaims") && attributes.operation == Operation::Create
    }

    async fn mutate(&self, attributes: &Attributes<'_>, claim: &mut Object) -> Result<bool, Status> {
        // An empty name is a choice: no class.
        if claim.annotation(CLAIM_CLASS).is_some() || claim.str(&["spec", "storageClassName"]).is_some() {
            return Ok(false);
        }
        let mut classes = attributes.list("storage.k8s.io", "v1", "storageclasses", "").await?;
        classes.retain(|c| is_default(c, &STORAGE));
        let Some(class) = preferred(classes) else {
            return Ok(false);
        };
        claim.set(&["spec", "storageClassName"], class.name());
        Ok(true)
    }
}

#[async_trait]
impl Admission for DefaultIngressClass {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is_of("networking.k8s.io", "ingresses", "") && attributes.operation == Operation::Create
    }

    async fn mutate(&self, attributes: &Attributes<'_>, ingress: &mut Object) -> Result<bool, Status> {
        if ingress.annotation(INGRESS_CLASS).is_some() || ingress.str(&["spec", "ingressClassName"]).is_some() {
            return Ok(false);
        }
        let mut classes = attributes.list("networking.k8s.io", "v1", "ingressclasses", "").await?;
        classes.retain(|c| is_default(c, &INGRESS));
        let Some(class) = preferred(classes) else {
            return Ok(false);
        };
        ingress.set(&["spec", "ingressClassName"], class.name());
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_newest_default_wins_then_the_first_name() {
        let class = |name: &str, made: &str| {
            Object::from_value(json!({"metadata": {"name": name, "creationTimestamp": made}})).unwrap()
        };
        let all = vec![
            class("a", "2026-01-01T00:00:00Z"),
            class("c", "2026-01-02T00:00:00Z"),
            class("b", "2026-01-02T00:00:00Z"),
        ];
        assert_eq!(preferred(all).unwrap().name(), "b");
    }
}
