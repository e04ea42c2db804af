//! IngressClass: which controller serves an ingress.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, str_of, text};
use super::row::cluster;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("networking.k8s.io", "v1", "IngressClass", "ingressclasses")
        .generation()
        .columns([
            name(),
            text("Controller", "Controller that is responsible for handling this class"),
            text("Parameters", "A reference to a resource with additional parameters"),
            age(),
        ])
        .strategy(IngressClass)
        .build()
}

struct IngressClass;

impl Strategy for IngressClass {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let parameter = |field| object.str(&["spec", "parameters", field]);
        let parameters = match (parameter("kind"), parameter("apiGroup")) {
            (None, _) => "<none>".to_owned(),
            (Some(kind), None) => format!("{kind}/{}", parameter("name").unwrap_or_default()),
            (Some(kind), Some(group)) => format!("{kind}.{group}/{}", parameter("name").unwrap_or_default()),
        };
        vec![
            object.name().into(),
            str_of(object, &["spec", "controller"]),
            parameters.into(),
            age_of(object, now),
        ]
    }
}
