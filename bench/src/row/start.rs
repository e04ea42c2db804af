//! From starting a command until the API answers, and until a node is Ready.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use coracle_client::ListOptions;
use coracle_clock::Clock;
use k8s_openapi::api::core::v1::{Namespace, Node};

use crate::report::Report;

const LIMIT: Duration = Duration::from_secs(120);
/// How often the outside asks: the resolution of the figures.
const STEP: Duration = Duration::from_millis(2);

pub async fn run(kubeconfig: Option<&PathBuf>, command: &[String], no_node: bool) -> anyhow::Result<Report> {
    let clock = Clock::system();
    let (program, arguments) = command.split_first().context("say which command starts the server")?;
    let started = clock.instant();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let mut api_ready = None;
    loop {
        if started.elapsed() > LIMIT {
            bail!("not ready within {LIMIT:?}");
        }
        if let Some(status) = child.try_wait()?
            && !status.success()
        {
            bail!("{program} failed: {status}");
        }
        if let Ok(client) = crate::connect(kubeconfig) {
            if api_ready.is_none() && client.all::<Namespace>().get("default").await.is_ok() {
                api_ready = Some(started.elapsed());
                if no_node {
                    break;
                }
            }
            if api_ready.is_some()
                && let Ok(nodes) = client.all::<Node>().list(&ListOptions::default()).await
                && nodes.items.iter().any(|n| is_ready(n))
            {
                break;
            }
        }
        clock.sleep(STEP).await;
    }
    let mut report = Report::default();
    if let Some(api) = api_ready {
        report.add("start to API ready", api.as_secs_f64() * 1000.0, "ms");
    }
    if !no_node {
        report.add("start to node Ready", started.elapsed().as_secs_f64() * 1000.0, "ms");
    }
    Ok(report)
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}
