//! `coracle wait`: until an object has a condition, exists or is gone. Watches; never polls.

use anyhow::{Context, bail};
use coracle_client::{Api, DynamicObject, ListOptions, WatchEvent};
use coracle_clock::Clock;
use futures::StreamExt;

use super::target::{Connection, block_on};
use crate::cli::Wait;

pub fn run(args: Wait) -> anyhow::Result<()> {
    block_on(async {
        let connection = Connection::open(&args.target).await?;
        let words = [args.what.clone()];
        let (resource, names) = connection.parse(&words)?;
        let [name] = names.as_slice() else {
            bail!("name one object, as in deploy/web")
        };
        let api = connection.api(resource, &connection.namespace);
        let wait = async {
            match args.condition.as_str() {
                "delete" => until_gone(&api, name).await,
                "create" => until(&api, name, |o| o.is_some()).await,
                other => {
                    let Some(condition) = other.strip_prefix("condition=") else {
                        bail!("unknown --for {other:?}; use condition=NAME, delete or create");
                    };
                    let (kind, status) = condition.split_once('=').unwrap_or((condition, "True"));
                    until(&api, name, |o| o.is_some_and(|o| has_condition(o, kind, status))).await
                }
            }
        };
        match Clock::system().timeout(args.timeout, wait).await {
            Ok(result) => result?,
            Err(_) => bail!(
                "timed out after {:?} waiting for {} on {}",
                args.timeout,
                args.condition,
                args.what
            ),
        }
        println!("{}/{name} condition met", resource.resource);
        Ok(())
    })
}

fn has_condition(object: &DynamicObject, kind: &str, status: &str) -> bool {
    let conditions = object.get(&["status", "conditions"]).and_then(|c| c.as_array());
    let same = |a: &serde_json::Value, b: &str| a.as_str().is_some_and(|a| a.eq_ignore_ascii_case(b));
    conditions.is_some_and(|all| all.iter().any(|c| same(&c["type"], kind) && same(&c["status"], status)))
}

pub async fn until_gone(api: &Api<DynamicObject>, name: &str) -> anyhow::Result<()> {
    let Some(first) = api.find(name).await? else {
        return Ok(());
    };
    let uid = first.metadata.uid.clone();
    until(api, name, |o| o.is_none_or(|o| o.metadata.uid != uid)).await
}

/// Follows one object until it is (or is not there) as `done` wants.
pub async fn until(
    api: &Api<DynamicObject>,
    name: &str,
    done: impl Fn(Option<&DynamicObject>) -> bool,
) -> anyhow::Result<()> {
    let only = ListOptions {
        field_selector: format!("metadata.name={name}"),
        ..ListOptions::default()
    };
    loop {
        let list = api.list(&only).await?;
        if done(list.items.first().map(AsRef::as_ref)) {
            return Ok(());
        }
        let from = ListOptions {
            resource_version: list.revision.to_string(),
            ..only.clone()
        };
        let mut events = api.watch(&from).await?;
        while let Some(event) = events.next().await {
            let met = match event {
                Ok(WatchEvent::Added(o) | WatchEvent::Modified(o)) => done(Some(&o)),
                Ok(WatchEvent::Deleted(_)) => done(None),
                Ok(WatchEvent::Bookmark { .. }) => false,
                Err(error) if error.is_expired() => break,
                Err(error) => return Err(error).context("the watch ended"),
            };
            if met {
                return Ok(());
            }
        }
    }
}
