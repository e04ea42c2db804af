//! `coracle controller-manager` and `coracle scheduler`: the same components in a process of their own, against any
//! Kubernetes API server, elected by a Lease.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use coracle_client::leader::{LeaderConfig, LeaderElector};
use coracle_client::{Client, Config};
use coracle_clock::Clock;
use coracle_controllers::keys::{Keys, SigningPair, TokenKey};
use coracle_informer::{CancellationToken, InformerFactory};
use coracle_scheduler::{Scheduler, SchedulerOptions};
use tokio::signal::unix::{SignalKind, signal};

use super::server::start_log;
use crate::cli::{Component, ControllerManager};

pub fn controllers(args: ControllerManager) -> anyhow::Result<()> {
    let wanted = Selection::parse(&args.controllers)?;
    let keys = keys(&args)?;
    let root_ca = args.root_ca_file.as_deref().map(read).transpose()?;
    run(
        &args.component,
        "kube-controller-manager",
        move |client, clock, shutdown, ca| async move {
            let ca = root_ca.unwrap_or(ca);
            let cx = coracle_controllers::Context::new(client, clock, shutdown, &ca).with_keys(keys);
            coracle_controllers::run(cx, |name| wanted.includes(name)).await;
        },
    )
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The keys that the flags name.
fn keys(args: &ControllerManager) -> anyhow::Result<Keys> {
    let mut keys = Keys::default();
    if let (Some(certificate), Some(key)) = (&args.cluster_signing_cert_file, &args.cluster_signing_key_file) {
        let mut pair = SigningPair::new(read(certificate)?, read(key)?);
        pair.longest = args.cluster_signing_duration.unwrap_or(pair.longest);
        keys.cluster_signing = Some(Arc::new(pair));
    }
    if let Some(path) = &args.service_account_private_key_file {
        let key = TokenKey::from_pem(&read(path)?);
        keys.service_account = Some(Arc::new(key.with_context(|| format!("cannot use {}", path.display()))?));
    }
    Ok(keys)
}

pub fn scheduler(args: Component) -> anyhow::Result<()> {
    run(&args, "kube-scheduler", |client, clock, shutdown, _| async move {
        let informers = InformerFactory::new(client.clone(), clock, shutdown.clone());
        let scheduler = Scheduler::new(&client, clock, shutdown.clone(), SchedulerOptions::default());
        scheduler.run(&informers, shutdown).await;
    })
}

fn run<F, Fut>(args: &Component, name: &'static str, work: F) -> anyhow::Result<()>
where
    F: FnOnce(Client, Clock, CancellationToken, String) -> Fut,
    Fut: Future<Output = ()>,
{
    if args.leader_elect_renew_deadline >= args.leader_elect_lease_duration {
        bail!("--leader-elect-renew-deadline must be less than --leader-elect-lease-duration");
    }
    start_log(&args.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let config = match &args.kubeconfig {
            Some(path) => Config::from_kubeconfig(path, None)?,
            None => Config::infer()?,
        };
        let ca = config
            .certificate_authority
            .as_deref()
            .map(String::from_utf8_lossy)
            .unwrap_or_default()
            .into_owned();
        let clock = Clock::system();
        let client = Client::connect(config, clock)?.named(name);
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
        if args.no_leader_election {
            work(client, clock, shutdown, ca).await;
            return Ok(());
        }
        let config = LeaderConfig {
            lease_duration: args.leader_elect_lease_duration,
            renew_deadline: args.leader_elect_renew_deadline,
            retry_period: args.leader_elect_retry_period,
            ..LeaderConfig::new("kube-system", name, &identity())
        };
        let elector = LeaderElector::new(client.clone(), config, clock);
        elector.run(shutdown.clone(), |led| work(client, clock, led, ca)).await;
        if shutdown.is_cancelled() {
            return Ok(());
        }
        // Another leads now; a fresh start waits for its turn with nothing left over.
        bail!("the lease kube-system/{name} was lost; start again to wait for it")
    })
}

/// Who this process is in an election.
pub fn identity() -> String {
    let host = nix::unistd::gethostname()
        .map(|h| h.to_string_lossy().into_owned())
        .unwrap_or_default();
    format!("{host}_{}", std::process::id())
}

/// Which controllers to run.
#[derive(Debug)]
struct Selection {
    all: bool,
    named: Vec<String>,
    without: Vec<String>,
}

impl Selection {
    fn parse(words: &[String]) -> anyhow::Result<Self> {
        let mut out = Self {
            all: false,
            named: Vec::new(),
            without: Vec::new(),
        };
        for word in words {
            let (list, name) = match word.strip_prefix('-') {
                Some(name) => (&mut out.without, name),
                None if word == "*" => {
                    out.all = true;
                    continue;
                }
                None => (&mut out.named, word.as_str()),
            };
            let known = coracle_controllers::CONTROLLERS.iter().map(|c| c.name);
            let Some(full) = known
                .clone()
                .find(|k| *k == name || k.strip_suffix("-controller") == Some(name))
            else {
                bail!(
                    "there is no controller {name:?}; there are {}",
                    known.collect::<Vec<_>>().join(", ")
                );
            };
            list.push(full.to_owned());
        }
        // Leaving some out means all the others.
        out.all |= out.named.is_empty();
        Ok(out)
    }

    fn includes(&self, name: &str) -> bool {
        let listed = |list: &[String]| list.iter().any(|n| n == name);
        !listed(&self.without) && (self.all || listed(&self.named))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(words: &[&str]) -> Vec<&'static str> {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        let selection = Selection::parse(&words).unwrap();
        coracle_controllers::CONTROLLERS
            .iter()
            .map(|c| c.name)
            .filter(|n| selection.includes(n))
            .collect()
    }

    #[test]
    fn controllers_are_selected_by_name_all_or_all_but_some() {
        assert_eq!(selected(&["*"]).len(), coracle_controllers::CONTROLLERS.len());
        assert_eq!(selected(&["deployment"]), ["deployment-controller"]);
        assert_eq!(
            selected(&["*", "-namespace"]).len(),
            coracle_controllers::CONTROLLERS.len() - 1
        );
        assert!(
            Selection::parse(&["deployments".into()])
                .unwrap_err()
                .to_string()
                .contains("deployment-controller")
        );
    }
}
