//! Deployments and Jobs as the rows create them, and waiting for them.

use std::time::Duration;

use anyhow::{Context, bail};
use coracle_clock::Clock;
use serde_json::{Value, json};

use crate::load::{Endpoint, Events, Prepared};
use crate::scratch::Scratch;
use crate::server::Server;
use crate::view;

/// What no workload takes longer than.
pub const LIMIT: Duration = Duration::from_secs(3600);

/// A Deployment whose pods vanish as soon as they are deleted.
pub fn deployment(name: &str, replicas: u32, version: &str, pod: Value) -> Value {
    let mut spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [{
            "name": "c", "image": format!("demo/web:{version}"), "command": ["sleep", "100000"],
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
        }],
    });
    if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), pod) {
        spec.extend(more);
    }
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": LIMIT.as_secs(),
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
        },
    })
}

/// Where the Deployments of a namespace are.
pub fn deployments(scratch: &Scratch) -> String {
    format!("/apis/apps/v1/namespaces/{}/deployments", scratch.name)
}

/// Sends one request on a connection of its own.
pub async fn send(endpoint: &Endpoint, request: &Prepared) -> anyhow::Result<()> {
    endpoint.connect().await?.call(request).await
}

/// Waits until every pod of the Deployment is of the newest template and available, and no other is left.
pub async fn rolled_out(server: &Server, scratch: &Scratch, name: &str, replicas: u32) -> anyhow::Result<()> {
    let (endpoint, path) = (server.endpoint()?, deployments(scratch));
    let mut events = Events::open(endpoint, &path, "").await?;
    let now = endpoint
        .connect()
        .await?
        .read(&Prepared::get(format!("{path}/{name}")))
        .await?;
    let now: view::Deployment = serde_json::from_slice(&now)?;
    if now.is_rolled_out(replicas) {
        return Ok(());
    }
    within(&format!("Deployment {name} to be rolled out"), async {
        loop {
            let event = events.next::<view::Deployment>().await?;
            if event.is_deletion() {
                bail!("Deployment {name} was deleted");
            }
            if event.object.name() == name && event.object.is_rolled_out(replicas) {
                return Ok(());
            }
        }
    })
    .await
}

/// Waits, but not for ever.
pub async fn within<T>(what: &str, waiting: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let done = Clock::system().timeout(LIMIT, waiting).await;
    done.with_context(|| format!("waited {LIMIT:?} for {what}"))?
}

/// A number of objects, for people.
pub fn count(n: impl Into<u64>) -> String {
    let digits = n.into().to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_groups_of_three() {
        assert_eq!(count(0_u32), "0");
        assert_eq!(count(999_u32), "999");
        assert_eq!(count(1000_u32), "1,000");
        assert_eq!(count(1_234_567_u32), "1,234,567");
    }

    #[test]
    fn a_pods_own_fields_are_added_to_the_templates() {
        let made = deployment("d", 2, "v2", json!({"priority": 1}));
        let spec = &made["spec"]["template"]["spec"];
        assert_eq!(spec["priority"], 1);
        assert_eq!(spec["containers"][0]["image"], "demo/web:v2");
    }
}
