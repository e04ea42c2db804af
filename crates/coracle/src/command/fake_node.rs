//! `coracle fake-node`, and the fake nodes beside a server in its process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use coracle_client::{Client, Config as Connection};
use coracle_clock::Clock;
use coracle_fake_node::{Config, ConfigError, Fleet, FleetOptions, NodeTemplate, Serving};
use coracle_informer::{CancellationToken, Metrics};
use coracle_server::PkiDir;
use tokio::signal::unix::{SignalKind, signal};

use super::server::start_log;
use crate::cli;

/// Who fake nodes are in the server's process; the role of this name is its.
pub const USER: &str = "system:coracle:fake-node";
/// Who may ask for logs: the API server, by the name that it has for nodes here and in clusters made by kubeadm.
const CALLER: &str = "kube-apiserver-kubelet-client";

/// The files that fake nodes are made from, read.
#[derive(Debug, Default)]
pub struct Files {
    config: Config,
    template: NodeTemplate,
}

impl Files {
    pub fn read(args: &cli::FakeNodes) -> anyhow::Result<Self> {
        Self::of(args.fake_stages.as_deref(), args.node_template.as_deref())
    }

    fn of(stages: Option<&Path>, template: Option<&Path>) -> anyhow::Result<Self> {
        Ok(Self {
            config: read(stages, Config::parse)?.unwrap_or_default(),
            template: read(template, NodeTemplate::parse)?.unwrap_or_default(),
        })
    }
}

fn read<T>(path: Option<&Path>, parse: impl Fn(&str) -> Result<T, ConfigError>) -> anyhow::Result<Option<T>> {
    let Some(path) = path else { return Ok(None) };
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let parsed = parse(&text).with_context(|| format!("{} cannot be used", path.display()))?;
    Ok(Some(parsed))
}

/// Fake nodes in the server's process.
pub async fn start(
    count: u32,
    files: Files,
    client: Client,
    pki: &PkiDir,
    clock: Clock,
    shutdown: &CancellationToken,
    metrics: &Metrics,
) -> anyhow::Result<Fleet> {
    // Who asks for their logs is in this process: nobody else needs to reach them.
    let address = IpAddr::from(Ipv4Addr::LOCALHOST);
    let pair = pki.serving("fake-node", USER, &[], &[address])?;
    let fleet = FleetOptions {
        clock,
        shutdown: shutdown.clone(),
        metrics: metrics.clone(),
        config: files.config,
        template: files.template,
        serving: Some(Serving {
            listen: SocketAddr::new(address, 0),
            certificate: pair.certificate.into_bytes(),
            key: pair.key.into_bytes(),
            client_ca: pki.authority()?.certificate().as_bytes().to_vec(),
            allowed_users: vec![CALLER.into()],
        }),
        ..FleetOptions::new(client, count)
    };
    Fleet::start(fleet).await.context("the fake nodes do not start")
}

pub fn run(args: cli::FakeNode) -> anyhow::Result<()> {
    start_log(&args.log)?;
    let files = Files::of(args.fake_stages.as_deref(), args.node_template.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let clock = Clock::system();
        let connection = match &args.kubeconfig {
            Some(path) => Connection::from_kubeconfig(path, None)?,
            None => Connection::infer()?,
        };
        let serving = serving(&args, connection.certificate_authority.clone())?;
        let client = Client::connect(connection, clock)?.named("fake-node");
        let shutdown = CancellationToken::new();
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            stop.cancel();
        });
        let fleet = FleetOptions {
            clock,
            shutdown,
            name: args.name.clone(),
            config: files.config,
            template: files.template,
            serving,
            ..FleetOptions::new(client, args.nodes)
        };
        let fleet = Fleet::start(fleet).await.context("the fake nodes do not start")?;
        fleet.ended().await;
        Ok(())
    })
}

/// The endpoint for logs. Without an authority to know the API server by there is none.
fn serving(args: &cli::FakeNode, client_ca: Option<Vec<u8>>) -> anyhow::Result<Option<Serving>> {
    let Some(client_ca) = client_ca else {
        tracing::warn!("the kubeconfig names no certificate authority: the fake nodes serve no logs");
        return Ok(None);
    };
    let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let (certificate, key) = match (&args.tls_cert_file, &args.tls_private_key_file) {
        (Some(certificate), Some(key)) => (read(certificate)?, read(key)?),
        _ => {
            tracing::info!(
                "the fake nodes' certificate is signed by itself: an API server that verifies nodes, as Coracle's does, \
                 gets their logs only with --tls-cert-file and --tls-private-key-file of an authority that it knows"
            );
            let own = rcgen::generate_simple_self_signed([args.listen.ip().to_string()])?;
            (
                own.cert.pem().into_bytes(),
                own.signing_key.serialize_pem().into_bytes(),
            )
        }
    };
    Ok(Some(Serving {
        listen: args.listen,
        certificate,
        key,
        client_ca,
        allowed_users: vec![CALLER.into()],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_in_a_file_is_told_by_file_line_and_field() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stages.yaml");
        std::fs::write(&path, "seed: 1\nrules:\n- run: soon\n").unwrap();
        let error = format!("{:#}", Files::of(Some(&path), None).unwrap_err());
        assert!(error.contains("stages.yaml"), "{error}");
        assert!(
            error.contains("line 3: rules[0].run: \"soon\" is no duration"),
            "{error}"
        );
        let missing = dir.path().join("none.yaml");
        assert!(
            Files::of(None, Some(&missing))
                .unwrap_err()
                .to_string()
                .contains("none.yaml")
        );
    }
}
