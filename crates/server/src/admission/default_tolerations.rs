//! DefaultTolerationSeconds: a pod that says nothing of nodes that are not ready or unreachable stays for five minutes.

use async_trait::async_trait;
use coracle_api::object::Object;
use coracle_api::status::Status;
use serde_json::{Value, json};

use super::{Admission, Attributes, Operation};

const SECONDS: i64 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub(super) struct DefaultTolerationSeconds;

#[async_trait]
impl Admission for DefaultTolerationSeconds {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is("pods") && matches!(attributes.operation, Operation::Create | Operation::Update)
    }

    async fn mutate(&self, _attributes: &Attributes<'_>, pod: &mut Object) -> Result<bool, Status> {
        let mut tolerations = pod.array(&["spec", "tolerations"]).to_vec();
        let before = tolerations.len();
        for taint in TAINTS {
            if !tolerations.iter().any(|t| tolerates(t, taint)) {
                tolerations.push(json!({
                    "key": taint,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": SECONDS,
                }));
            }
        }
        let changed = tolerations.len() > before;
        if changed {
            pod.set(&["spec", "tolerations"], tolerations);
        }
        Ok(changed)
    }
}

fn tolerates(toleration: &Value, taint: &str) -> bool {
    let field = |name: &str| toleration.get(name).and_then(Value::as_str).unwrap_or_default();
    (field("key") == taint || field("key").is_empty()) && matches!(field("effect"), "" | "NoExecute")
}
