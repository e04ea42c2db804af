//! `coracle rollout status|undo`: follows a Deployment to its end, or goes back to an earlier template.

use anyhow::{Context, bail};
use coracle_client::{DynamicObject, ListOptions, Patch, WatchEvent};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::target::{Connection, block_on};
use crate::cli::{Rollout, RolloutVerb};

const REVISION: &str = "deployment.kubernetes.io/revision";

pub fn run(args: Rollout) -> anyhow::Result<()> {
    block_on(async {
        let connection = Connection::open(&args.target).await?;
        match &args.verb {
            RolloutVerb::Status { deployment } => status(&connection, bare(deployment)).await,
            RolloutVerb::Undo {
                deployment,
                to_revision,
            } => undo(&connection, bare(deployment), *to_revision).await,
        }
    })
}

/// `deploy/web` is `web`.
fn bare(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

async fn status(connection: &Connection, name: &str) -> anyhow::Result<()> {
    let api = connection.client.namespaced::<Deployment>(&connection.namespace);
    let only = ListOptions {
        field_selector: format!("metadata.name={name}"),
        ..ListOptions::default()
    };
    let mut said = String::new();
    loop {
        let list = api.list(&only).await?;
        let Some(first) = list.items.first() else {
            bail!("there is no deployment {name:?}")
        };
        if tell(first, &mut said)? {
            return Ok(());
        }
        let from = ListOptions {
            resource_version: list.revision.to_string(),
            ..only.clone()
        };
        let mut events = api.watch(&from).await?;
        while let Some(event) = events.next().await {
            match event {
                Ok(WatchEvent::Added(d) | WatchEvent::Modified(d)) => {
                    if tell(&d, &mut said)? {
                        return Ok(());
                    }
                }
                Ok(WatchEvent::Deleted(_)) => bail!("deployment {name:?} was deleted"),
                Ok(WatchEvent::Bookmark { .. }) => {}
                Err(error) if error.is_expired() => break,
                Err(error) => return Err(error).context("the watch ended"),
            }
        }
    }
}

/// Prints where the rollout stands, when that changed; true at its end.
fn tell(deployment: &Deployment, said: &mut String) -> anyhow::Result<bool> {
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let status = deployment.status.clone().unwrap_or_default();
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let n = |v: Option<i32>| v.unwrap_or(0);
    let observed = status.observed_generation.unwrap_or(0) >= deployment.metadata.generation.unwrap_or(0);
    let progressing = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_.as_deref() == Some("Progressing"));
    if observed && progressing.and_then(|c| c.reason.as_deref()) == Some("ProgressDeadlineExceeded") {
        bail!(
            "deployment {name:?} exceeded its progress deadline; see `coracle get pods`, and go back with `coracle rollout undo {name}`"
        );
    }
    let text = if !observed {
        "waiting for the change to be observed".to_owned()
    } else if n(status.updated_replicas) < wanted {
        format!("{} of {wanted} replicas are new", n(status.updated_replicas))
    } else if n(status.replicas) > n(status.updated_replicas) {
        format!(
            "{} old replicas are still ending",
            n(status.replicas) - n(status.updated_replicas)
        )
    } else if n(status.available_replicas) < n(status.updated_replicas) {
        format!(
            "{} of {wanted} new replicas are available",
            n(status.available_replicas)
        )
    } else {
        println!("deployment {name:?} is rolled out");
        return Ok(true);
    };
    if *said != text {
        println!("{text}");
        *said = text;
    }
    Ok(false)
}

async fn undo(connection: &Connection, name: &str, to_revision: Option<i64>) -> anyhow::Result<()> {
    let api = connection.client.namespaced::<Deployment>(&connection.namespace);
    let deployment = api.get(name).await?;
    let sets = connection
        .client
        .namespaced::<ReplicaSet>(&connection.namespace)
        .list(&ListOptions::default())
        .await?;
    let revision = |s: &ReplicaSet| -> i64 {
        let annotations = s.metadata.annotations.as_ref();
        annotations
            .and_then(|a| a.get(REVISION))
            .and_then(|r| r.parse().ok())
            .unwrap_or(0)
    };
    let owned = |s: &&std::sync::Arc<ReplicaSet>| {
        s.metadata
            .owner_references
            .iter()
            .flatten()
            .any(|o| Some(&o.uid) == deployment.metadata.uid.as_ref())
    };
    let mut history: Vec<_> = sets.items.iter().filter(owned).collect();
    history.sort_by_key(|s| revision(s));
    let target = match to_revision {
        Some(wanted) if wanted > 0 => history.iter().find(|s| revision(s) == wanted),
        _ => history.len().checked_sub(2).and_then(|at| history.get(at)),
    };
    let Some(target) = target else {
        let known: Vec<String> = history.iter().map(|s| revision(s).to_string()).collect();
        bail!(
            "there is no such revision of deployment {name:?}; it has {}",
            known.join(", ")
        );
    };
    let mut template = target.spec.template.clone().unwrap_or_default();
    if let Some(labels) = template.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
        labels.remove("pod-template-hash");
    }
    let patch = serde_json::json!([
        {"op": "test", "path": "/metadata/resourceVersion", "value": deployment.metadata.resource_version},
        {"op": "replace", "path": "/spec/template", "value": template},
    ]);
    let resource = connection.resource("deployments")?;
    let api: coracle_client::Api<DynamicObject> = connection.api(resource, &connection.namespace);
    api.patch(name, Patch::Json(patch)).await?;
    println!("deployment {name:?} goes back to revision {}", revision(target));
    Ok(())
}
