//! TaintNodesByCondition: a new node takes no pods before the node lifecycle controller has seen that it is ready.

use async_trait::async_trait;
use coracle_api::object::Object;
use coracle_api::status::Status;
use serde_json::{Value, json};

use super::{Admission, Attributes, Operation};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const EFFECT: &str = "NoSchedule";

pub(super) struct TaintNodesByCondition;

#[async_trait]
impl Admission for TaintNodesByCondition {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is("nodes") && attributes.operation == Operation::Create
    }

    async fn mutate(&self, _attributes: &Attributes<'_>, node: &mut Object) -> Result<bool, Status> {
        let mut taints = node.array(&["spec", "taints"]).to_vec();
        let field = |taint: &Value, name: &str| taint.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        if taints
            .iter()
            .any(|t| field(t, "key") == NOT_READY && field(t, "effect") == EFFECT)
        {
            return Ok(false);
        }
        taints.push(json!({"key": NOT_READY, "effect": EFFECT}));
        node.set(&["spec", "taints"], taints);
        Ok(true)
    }
}
