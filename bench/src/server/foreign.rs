//! A server that somebody else runs, which may be started and stopped by commands that were given.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use coracle_client::{Client, Config};
use coracle_clock::Clock;
use k8s_openapi::List;
use k8s_openapi::api::core::v1::Node;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;

use super::{START_LIMIT, Started, Unavailable, is_ready};
use crate::load::{Connection, Endpoint, Prepared};
use crate::process::alive;

/// How often the outside asks: the resolution of the figures.
const STEP: Duration = Duration::from_millis(5);

/// How many requests a second its controllers allow themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Limits {
    /// As upstream's flags are by default.
    #[default]
    Default,
    /// `--kube-api-qps` and `--kube-api-burst` so high that they do not limit.
    Raised,
}

/// A server by kubeconfig.
#[derive(Clone, Debug, Default)]
pub struct Foreign {
    /// `None`: what kubectl would use.
    pub kubeconfig: Option<PathBuf>,
    pub pids: Vec<u32>,
    /// Programs by file name; they may be started again.
    pub processes: Vec<String>,
    /// A shell command; the kubeconfig must reach the server that it starts.
    pub start_command: Option<String>,
    pub stop_command: Option<String>,
    pub limits: Limits,
}

impl Foreign {
    pub async fn start(&self) -> anyhow::Result<Started> {
        let Some(command) = &self.start_command else {
            return Unavailable::because(
                "needs a command that starts the server: --start-command (--peer-start-command)",
            );
        };
        let clock = Clock::system();
        let started = clock.instant();
        let mut child = shell(command).spawn().context("cannot run the start command")?;
        let mut api = None;
        loop {
            if started.elapsed() > START_LIMIT {
                bail!("not up within {START_LIMIT:?}");
            }
            if let Some(status) = child.try_wait()?
                && !status.success()
            {
                bail!("the start command failed: {status}");
            }
            // A connection of one's own: the client's waits before it tries again.
            if let Ok(mut connection) = self.connect().await {
                if api.is_none() && connection.call(&Prepared::get("/readyz")).await.is_ok() {
                    api = Some(started.elapsed());
                }
                if let Some(api) = api
                    && everything_up(&mut connection).await
                {
                    return Ok(Started {
                        api,
                        all: started.elapsed(),
                    });
                }
            }
            clock.sleep(STEP).await;
        }
    }

    async fn connect(&self) -> anyhow::Result<Connection> {
        let config = match &self.kubeconfig {
            Some(path) => Config::from_kubeconfig(path, None)?,
            None => Config::infer()?,
        };
        let client = Client::connect(config.clone(), Clock::system())?;
        Endpoint::new(&config, &client, false).await?.connect().await
    }

    pub async fn stop(&self) -> anyhow::Result<()> {
        let (Some(command), true) = (&self.stop_command, self.start_command.is_some()) else {
            return Unavailable::because(
                "needs commands that stop and start the server: --stop-command, --start-command (--peer-...)",
            );
        };
        let status = shell(command).status().await.context("cannot run the stop command")?;
        if !status.success() {
            bail!("the stop command failed: {status}");
        }
        Ok(())
    }

    pub async fn kill(&self, pids: &[u32]) -> anyhow::Result<()> {
        if self.start_command.is_none() || pids.is_empty() {
            return Unavailable::because("needs --start-command, and --process to know what to kill (--peer-...)");
        }
        for pid in pids {
            kill(Pid::from_raw(i32::try_from(*pid)?), Signal::SIGKILL).context("cannot kill the server")?;
        }
        while pids.iter().any(|pid| alive(*pid)) {
            Clock::system().sleep(STEP).await;
        }
        Ok(())
    }
}

fn shell(command: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(std::process::Stdio::null());
    shell
}

/// A node if there is any, and else what needs the controllers: the default service account.
async fn everything_up(connection: &mut Connection) -> bool {
    let Ok(bytes) = connection.read(&Prepared::get("/api/v1/nodes")).await else {
        return false;
    };
    match serde_json::from_slice::<List<Node>>(&bytes) {
        Ok(nodes) if !nodes.items.is_empty() => nodes.items.iter().all(is_ready),
        Ok(_) => {
            let account = "/api/v1/namespaces/default/serviceaccounts/default";
            connection.call(&Prepared::get(account)).await.is_ok()
        }
        Err(_) => false,
    }
}
