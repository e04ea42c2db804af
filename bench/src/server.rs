//! What is measured: a server that this tool starts afresh for every row (the `coracle` binary), or any other that a
//! kubeconfig reaches, of which some things cannot be measured from outside.

mod fleet;
mod foreign;
mod own;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use coracle_client::{Client, Config};
use coracle_clock::Clock;
use k8s_openapi::api::core::v1::Node;

pub use foreign::{Foreign, Limits};
pub use own::Started;

use self::fleet::Fleet;
use self::own::Own;
use crate::load::{Endpoint, Workers};
use crate::meter::Meter;
use crate::process::{Usage, alive, named};

/// A row that this target does not allow, and what would allow it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

impl Unavailable {
    pub fn because<T>(why: impl Into<String>) -> anyhow::Result<T> {
        Err(Self(why.into()).into())
    }
}

/// Which nodes a row needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// None, or whatever the foreign server has.
    Any,
    /// So many on which pods run without containers.
    Fake(u32),
    /// One that runs containers.
    Real,
}

/// A server to be measured.
#[derive(Clone, Debug)]
pub struct Target {
    /// What its column is called.
    pub label: String,
    pub kind: Kind,
    /// The `coracle` binary.
    pub coracle: Option<PathBuf>,
    /// Where servers of our own keep their data.
    pub data_root: PathBuf,
    pub http2: bool,
}

#[derive(Clone, Debug)]
pub enum Kind {
    /// Started by this tool.
    Own,
    Foreign(Foreign),
}

impl Target {
    /// A server for one row: a fresh one, or the foreign one as it stands.
    pub async fn serve(&self, nodes: Nodes) -> anyhow::Result<Server> {
        match &self.kind {
            Kind::Own => {
                let mut server = Server::not_started(self, nodes)?;
                server.start().await?;
                Ok(server)
            }
            Kind::Foreign(foreign) => {
                let fleet = match nodes {
                    Nodes::Fake(count) => Some(Fleet::start(self.binary()?, foreign, count).await?),
                    _ => None,
                };
                let mut server = Server::new(self.clone(), Running::Foreign(foreign.clone()), fleet);
                server.connect().await?;
                Ok(server)
            }
        }
    }

    fn binary(&self) -> anyhow::Result<&PathBuf> {
        let missing = || Unavailable("needs the coracle binary; say where with --coracle".into());
        Ok(self.coracle.as_ref().ok_or_else(missing)?)
    }

    pub fn is_own(&self) -> bool {
        matches!(self.kind, Kind::Own)
    }
}

enum Running {
    Own(Box<Own>),
    Foreign(Foreign),
}

/// A server that runs (or has just been stopped, between [`Server::stop`] and [`Server::start`]).
pub struct Server {
    target: Target,
    running: Running,
    /// On a foreign server; our own has its fake nodes within.
    fleet: Option<Fleet>,
    link: Option<(Client, Endpoint)>,
}

impl Server {
    fn new(target: Target, running: Running, fleet: Option<Fleet>) -> Self {
        Self {
            target,
            running,
            fleet,
            link: None,
        }
    }

    /// Room for a server of our own, which [`Server::start`] starts.
    pub fn not_started(target: &Target, nodes: Nodes) -> anyhow::Result<Self> {
        let own = Own::prepare(target.binary()?, &target.data_root, nodes)?;
        Ok(Self::new(target.clone(), Running::Own(Box::new(own)), None))
    }

    async fn connect(&mut self) -> anyhow::Result<()> {
        let kubeconfig = match &self.running {
            Running::Own(own) => Some(own.kubeconfig()),
            Running::Foreign(foreign) => foreign.kubeconfig.clone(),
        };
        let config = match &kubeconfig {
            Some(path) => Config::from_kubeconfig(path, None)?,
            None => Config::infer()?,
        };
        let client = Client::connect(config.clone(), Clock::system())?.named("coracle-bench");
        let endpoint = Endpoint::new(&config, &client, self.target.http2).await?;
        self.link = Some((client, endpoint));
        Ok(())
    }

    pub fn client(&self) -> anyhow::Result<&Client> {
        Ok(&self.link.as_ref().context("the server is stopped")?.0)
    }

    pub fn endpoint(&self) -> anyhow::Result<&Endpoint> {
        Ok(&self.link.as_ref().context("the server is stopped")?.1)
    }

    pub async fn workers(&self, count: usize) -> anyhow::Result<Workers> {
        Workers::connect(self.endpoint()?, count).await
    }

    /// The server's processes, as far as they are known.
    pub fn pids(&self) -> Vec<u32> {
        match &self.running {
            Running::Own(own) => own.pid().into_iter().collect(),
            Running::Foreign(foreign) => {
                let mut pids = foreign.pids.clone();
                pids.extend(named(&foreign.processes));
                // Started again, a server has other ids.
                pids.retain(|pid| alive(*pid));
                pids.sort_unstable();
                pids.dedup();
                pids
            }
        }
    }

    pub fn meter(&self) -> anyhow::Result<Meter> {
        Meter::start(self.pids())
    }

    /// Counters of the server's processes, which must be known.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        let pids = self.pids();
        if pids.is_empty() {
            return Unavailable::because(
                "needs the server's processes; say which with --process NAME, or with --pid if it is never started again (--peer-process, --peer-pid)",
            );
        }
        Usage::of(&pids)
    }

    /// Resident memory in MiB.
    pub fn resident(&self) -> anyhow::Result<f64> {
        Ok(self.usage()?.resident_bytes as f64 / 1_048_576.0)
    }

    /// Starts the stopped server and waits until all of it is up.
    pub async fn start(&mut self) -> anyhow::Result<Started> {
        let started = match &mut self.running {
            Running::Own(own) => own.start().await?,
            Running::Foreign(foreign) => foreign.start().await?,
        };
        self.connect().await?;
        Ok(started)
    }

    /// Asks the server to end, and waits until it has.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.link = None;
        match &mut self.running {
            Running::Own(own) => own.stop().await,
            Running::Foreign(foreign) => foreign.stop().await,
        }
    }

    /// Kills the server, as a power cut of its process.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        let pids = self.pids();
        self.link = None;
        match &mut self.running {
            Running::Own(own) => own.kill().await,
            Running::Foreign(foreign) => foreign.kill(&pids).await,
        }
    }

    /// Puts an image on the node of a server of our own; a foreign one has its own.
    pub async fn import(&self, archive: &std::path::Path) -> anyhow::Result<()> {
        match &self.running {
            Running::Own(own) => own.import(archive).await,
            Running::Foreign(_) => Ok(()),
        }
    }

    /// Runs a subcommand on the cluster of a server of our own.
    pub async fn coracle(&self, arguments: &[&str]) -> anyhow::Result<()> {
        match &self.running {
            Running::Own(own) => own.coracle(arguments).await,
            Running::Foreign(_) => Unavailable::because("needs a server of our own"),
        }
    }

    /// Where a server of our own has its pods' shims.
    pub fn sandboxes(&self) -> PathBuf {
        match &self.running {
            Running::Own(own) => own.sandboxes(),
            Running::Foreign(_) => PathBuf::new(),
        }
    }

    /// Leaves nothing behind.
    pub async fn close(mut self) -> anyhow::Result<()> {
        if let (Some(fleet), Some((client, _))) = (self.fleet.take(), &self.link) {
            fleet.end(client).await?;
        }
        match self.running {
            Running::Own(own) => own.close().await,
            Running::Foreign(_) => Ok(()),
        }
    }
}

pub fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

/// What no start takes longer than.
const START_LIMIT: Duration = Duration::from_secs(180);
