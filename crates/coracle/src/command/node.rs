//! What a node in this process is set up with, and how its process ends: stopped, which its pods do not notice, or because
//! the machine goes down.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use coracle_node::{Agent, Settings};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::NodeFlags;

/// How long the machine's init may take to say whether it is going down.
const ASKING: Duration = Duration::from_secs(2);

/// The settings of a node by its flags.
pub fn settings(flags: &NodeFlags) -> anyhow::Result<Settings> {
    let mut settings = match &flags.kubelet_config {
        None => Settings::default(),
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let (settings, ignored) =
                Settings::parse(&text).with_context(|| format!("--kubelet-config {}", path.display()))?;
            if !ignored.is_empty() {
                tracing::warn!(
                    fields = ignored.join(", "),
                    "fields of the KubeletConfiguration without effect here"
                );
            }
            settings
        }
    };
    if let Some(path) = &flags.pod_manifest_path {
        settings.static_pods = Some(std::path::absolute(path)?);
    }
    Ok(settings)
}

/// The arguments that make another process of this program read the same.
pub fn arguments(flags: &NodeFlags) -> anyhow::Result<Vec<std::ffi::OsString>> {
    let mut arguments = Vec::new();
    for (flag, path) in [
        ("--kubelet-config", &flags.kubelet_config),
        ("--pod-manifest-path", &flags.pod_manifest_path),
        ("--cri-socket", &flags.cri_socket),
    ] {
        if let Some(path) = path {
            arguments.push(flag.into());
            arguments.push(std::path::absolute(path)?.into());
        }
    }
    for (name, path) in &flags.runtime_handler {
        arguments.push("--runtime-handler".into());
        arguments.push(format!("{name}={}", std::path::absolute(path)?.display()).into());
    }
    for (key, value) in &flags.node_labels {
        arguments.push("--node-labels".into());
        arguments.push(format!("{key}={value}").into());
    }
    Ok(arguments)
}

/// Why the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is stopped, perhaps to be started again.
    Stop,
    /// SIGPWR: the machine is said to go down.
    PowerFailure,
}

/// Waits for SIGTERM, SIGINT or SIGPWR.
pub fn end() -> anyhow::Result<tokio::sync::mpsc::Receiver<End>> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut power = signal(SignalKind::from_raw(nix::libc::SIGPWR))?;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        let end = tokio::select! {
            _ = term.recv() => End::Stop,
            _ = int.recv() => End::Stop,
            _ = power.recv() => End::PowerFailure,
        };
        let _ = sender.send(end).await;
    });
    Ok(receiver)
}

/// Ends the pods of a machine that goes down; a process that only stops leaves them alone.
pub async fn leave(agent: &Agent, end: End) {
    if end == End::PowerFailure || machine_goes_down().await {
        tracing::info!("the machine goes down");
        agent.end_pods_for_shutdown().await;
    }
}

/// Whether systemd, where it is, is shutting the machine down.
async fn machine_goes_down() -> bool {
    if !Path::new("/run/systemd/system").exists() {
        return false;
    }
    let asked = tokio::process::Command::new("systemctl")
        .arg("is-system-running")
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let said = coracle_clock::Clock::system().timeout(ASKING, asked).await;
    matches!(said, Ok(Ok(output)) if output.stdout.trim_ascii() == b"stopping")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        agent: crate::cli::Agent,
    }

    fn read(words: impl IntoIterator<Item = std::ffi::OsString>) -> Result<NodeFlags, clap::Error> {
        let line = ["agent", "--kubeconfig", "/etc/node.kubeconfig"].map(Into::into);
        Line::try_parse_from(line.into_iter().chain(words)).map(|line| line.agent.node)
    }

    #[test]
    fn another_process_is_told_the_same_of_its_node() {
        let words = [
            "--runtime-handler",
            "gvisor=/usr/bin/runsc",
            "--runtime-handler=kata=/usr/bin/kata",
            "--node-labels=disk=ssd,example.com/zone=",
            "--kubelet-config=/etc/kubelet.yaml",
        ];
        let flags = read(words.map(Into::into)).unwrap();
        let handlers = flags.runtime_handler.iter().map(|(name, _)| name.as_str());
        assert_eq!(handlers.collect::<Vec<_>>(), ["gvisor", "kata"]);
        assert_eq!(flags.node_labels[1], ("example.com/zone".to_owned(), String::new()));
        let again = read(arguments(&flags).unwrap()).unwrap();
        assert_eq!(format!("{again:?}"), format!("{flags:?}"));
        assert!(read(["--node-labels".into(), "=x".into()]).is_err());
        assert!(read(["--runtime-handler".into(), "gvisor".into()]).is_err());
    }
}
