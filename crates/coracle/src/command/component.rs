//! `coracle controller-manager` and `coracle scheduler`: the same components in a process of their own, against any
//! Kubernetes API server, elected by a Lease.

mod endpoint;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use coracle_client::config::RateLimit;
use coracle_client::leader::{LeaderConfig, LeaderElector};
use coracle_client::{Client, Config};
use coracle_clock::Clock;
use coracle_controllers::keys::{Keys, SigningPair, TokenKey};
use coracle_informer::{CancellationToken, InformerFactory};
use coracle_scheduler::{Metrics, Scheduler, SchedulerConfiguration, SchedulerOptions};
use prometheus_client::registry::Registry;
use tokio::signal::unix::{SignalKind, signal};

use super::server::start_log;
use crate::cli::{ControllerManager, Endpoint, SchedulerArgs};

pub fn controllers(args: ControllerManager) -> anyhow::Result<()> {
    let wanted = Selection::parse(&args.controllers)?;
    let keys = keys(&args)?;
    let root_ca = args.root_ca_file.as_deref().map(read).transpose()?;
    let flags = args.component;
    if flags.leader_elect_renew_deadline >= flags.leader_elect_lease_duration {
        bail!("--leader-elect-renew-deadline must be less than --leader-elect-lease-duration");
    }
    let metrics = coracle_controllers::Metrics::default();
    let setup = Setup {
        kubeconfig: flags.kubeconfig,
        rate_limit: None,
        election: (!flags.no_leader_election).then(|| LeaderConfig {
            lease_duration: flags.leader_elect_lease_duration,
            renew_deadline: flags.leader_elect_renew_deadline,
            retry_period: flags.leader_elect_retry_period,
            ..election("kube-controller-manager")
        }),
        endpoint: flags.endpoint,
        port: 10257,
        metrics: registry(|registry| metrics.register(registry)),
        log: flags.log,
    };
    run(
        setup,
        "kube-controller-manager",
        move |client, clock, shutdown, ca| async move {
            let ca = root_ca.unwrap_or(ca);
            let cx = coracle_controllers::Context::new(client, clock, shutdown, &ca)
                .with_keys(keys)
                .metered(metrics);
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

pub fn scheduler(args: SchedulerArgs) -> anyhow::Result<()> {
    let configuration = scheduler_configuration(args.config.as_deref())?;
    let connection = &configuration.client_connection;
    let leader = &configuration.leader_election;
    let elects = leader.leader_elect && !args.no_leader_election;
    let (metrics, work) = (Metrics::default(), coracle_informer::Metrics::default());
    let setup = Setup {
        kubeconfig: args
            .kubeconfig
            .or_else(|| connection.kubeconfig.as_ref().map(PathBuf::from)),
        rate_limit: connection
            .rate
            .map(|(per_second, burst)| RateLimit { per_second, burst }),
        election: elects.then(|| LeaderConfig {
            namespace: leader.resource_namespace.clone(),
            lease_duration: leader.lease_duration,
            renew_deadline: leader.renew_deadline,
            retry_period: leader.retry_period,
            ..election(&leader.resource_name)
        }),
        endpoint: args.endpoint,
        port: 10259,
        metrics: registry(|registry| {
            metrics.register(registry);
            work.register(registry);
        }),
        log: args.log,
    };
    run(setup, "kube-scheduler", |client, clock, shutdown, _| async move {
        let informers = InformerFactory::new(client.clone(), clock, shutdown.clone()).metered(work);
        let options = SchedulerOptions {
            configuration,
            metrics,
            ..SchedulerOptions::default()
        };
        let scheduler = Scheduler::new(&client, clock, shutdown.clone(), options);
        scheduler.run(&informers, shutdown).await;
    })
}

/// The default configuration, if no file is given. Mistakes in one name it, with field and line.
pub fn scheduler_configuration(file: Option<&Path>) -> anyhow::Result<SchedulerConfiguration> {
    let Some(file) = file else {
        return Ok(SchedulerConfiguration::default());
    };
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    SchedulerConfiguration::parse(&text, &[])
        .with_context(|| format!("{} is no scheduler configuration", file.display()))
}

/// By upstream's durations, under a name of this process.
fn election(lease: &str) -> LeaderConfig {
    LeaderConfig::new("kube-system", lease, &identity())
}

/// How a component runs in a process of its own.
struct Setup {
    kubeconfig: Option<PathBuf>,
    rate_limit: Option<RateLimit>,
    /// Without, it runs at once.
    election: Option<LeaderConfig>,
    endpoint: Endpoint,
    /// The endpoint's, if none is given.
    port: u16,
    metrics: Registry,
    log: String,
}

/// What a component counts.
fn registry(own: impl FnOnce(&mut Registry)) -> Registry {
    let mut registry = Registry::default();
    own(&mut registry);
    registry
}

fn run<F, Fut>(setup: Setup, name: &'static str, work: F) -> anyhow::Result<()>
where
    F: FnOnce(Client, Clock, CancellationToken, String) -> Fut,
    Fut: Future<Output = ()>,
{
    start_log(&setup.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut config = match &setup.kubeconfig {
            Some(path) => Config::from_kubeconfig(path, None)?,
            None => Config::infer()?,
        };
        config.rate_limit = setup.rate_limit.or(config.rate_limit);
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
        let own = (client.clone(), setup.metrics, shutdown.clone());
        endpoint::serve(&setup.endpoint, setup.port, own.0, own.1, clock, own.2).await?;
        tokio::spawn(coracle_runtime::give_back_own_pages(clock));
        let Some(election) = setup.election else {
            work(client, clock, shutdown, ca).await;
            return Ok(());
        };
        let lease = format!("{}/{}", election.namespace, election.name);
        let elector = LeaderElector::new(client.clone(), election, clock);
        elector.run(shutdown.clone(), |led| work(client, clock, led, ca)).await;
        if shutdown.is_cancelled() {
            return Ok(());
        }
        // Another leads now; a fresh start waits for its turn with nothing left over.
        bail!("the lease {lease} was lost; start again to wait for it")
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
