//! `coracle logs`: a container's log, as it is or as it grows.

use anyhow::{Context, bail};
use coracle_client::ListOptions;
use coracle_client::pod::LogOptions;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use tokio::io::AsyncWriteExt;

use super::target::{Connection, block_on};
use crate::cli::Logs;

pub fn run(args: Logs) -> anyhow::Result<()> {
    block_on(async {
        let connection = Connection::open(&args.target).await?;
        let pods = connection.client.namespaced::<Pod>(&connection.namespace);
        let name = match args.pod.split_once('/') {
            None => args.pod.clone(),
            Some(("pod" | "pods" | "po", name)) => name.to_owned(),
            Some((word, name)) => {
                let owner = connection
                    .api(connection.resource(word)?, &connection.namespace)
                    .get(name)
                    .await?;
                let labels = owner
                    .get(&["spec", "selector", "matchLabels"])
                    .and_then(|l| l.as_object());
                let Some(labels) = labels else {
                    bail!("{word}/{name} selects no pods")
                };
                let terms: Vec<String> = labels
                    .iter()
                    .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
                    .collect();
                let options = ListOptions {
                    label_selector: terms.join(","),
                    ..ListOptions::default()
                };
                let found = pods.list(&options).await?.items;
                let Some(first) = found.first() else {
                    bail!("{word}/{name} has no pods")
                };
                first.metadata.name.clone().unwrap_or_default()
            }
        };
        let container = match &args.container {
            Some(container) => container.clone(),
            None => {
                let pod = pods.get(&name).await?;
                let first = pod.spec.as_ref().and_then(|s| s.containers.first());
                first.map(|c| c.name.clone()).unwrap_or_default()
            }
        };
        let options = LogOptions {
            container,
            follow: args.follow,
            previous: args.previous,
            tail_lines: args.tail,
            ..LogOptions::default()
        };
        let mut stream = pods.logs(&name, &options).await?;
        let mut out = tokio::io::stdout();
        while let Some(bytes) = stream.try_next().await.context("the log ended early")? {
            out.write_all(&bytes).await?;
            out.flush().await?;
        }
        Ok(())
    })
}
