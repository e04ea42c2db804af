//! `coracle-bench`: measures any Kubernetes API server that a kubeconfig reaches. One file per row of the budget table
//! in `row/`; [`measure`] has what they share; [`report`] prints them.
//!
//! Every row is bounded in count and time, works in a namespace of its own and deletes it at the end.

mod measure;
mod process;
mod report;
mod row;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};
use coracle_client::{Client, Config};
use coracle_clock::Clock;

use crate::report::Report;

/// Measure a Kubernetes API server.
#[derive(Debug, Parser)]
#[command(name = "coracle-bench", version, max_term_width = 100)]
struct Cli {
    /// How to reach the server [default: $KUBECONFIG or ~/.kube/config]
    #[arg(long, global = true)]
    kubeconfig: Option<PathBuf>,
    /// Requests under way at once
    #[arg(long, global = true, default_value_t = 16)]
    workers: usize,
    /// Process ids of the server, for its CPU time and memory
    #[arg(long, global = true, value_delimiter = ',')]
    pid: Vec<u32>,
    /// Write the figures to this file too, as JSON
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Creates, gets, lists, patches, updates and deletes of ConfigMaps and Pods
    Requests {
        /// How many objects of each kind
        #[arg(long, default_value_t = 5000)]
        objects: usize,
    },
    /// Watchers of ConfigMaps while one writer writes
    Watch {
        #[arg(long, default_value_t = 1000)]
        watchers: usize,
        /// Writes in a second
        #[arg(long, default_value_t = 20)]
        rate: u32,
        #[arg(long, default_value_t = 200)]
        writes: usize,
    },
    /// A Deployment from none to many replicas, until all are bound
    ScaleOut {
        #[arg(long, default_value_t = 1000)]
        replicas: i32,
    },
    /// Pods scheduled in a second: plain, spread, apart, evicting others; on clusters of several sizes
    Schedule(row::schedule::Schedule),
    /// Bound to Running: one pod at a time, then 20 at once
    PodStart {
        /// An image that is on the node, with `sleep`
        #[arg(long, default_value = "demo/web:v1")]
        image: String,
        #[arg(long, default_value_t = 20)]
        pods: usize,
    },
    /// A cluster of fake nodes (`coracle up --fake-nodes N`): memory and CPU at rest with many pods, listing them, and a
    /// rolling update
    FakeNodes {
        /// How many nodes there must be first
        #[arg(long, default_value_t = 1000)]
        nodes: usize,
        #[arg(long, default_value_t = 10_000)]
        pods: u32,
        /// How many of the pods are in the Deployment that is updated
        #[arg(long, default_value_t = 10_000)]
        rolling: u32,
        /// How long rest is watched
        #[arg(long, default_value_t = 30)]
        seconds: u64,
    },
    /// CPU, memory and writes of the processes given by --pid, while nothing happens
    Idle {
        #[arg(long, default_value_t = 30)]
        seconds: u64,
    },
    /// Time from starting a command until the API answers and until a node is Ready. The command must start a server
    /// that the kubeconfig (which it may write) reaches, and either stay in the foreground or return
    Start {
        /// Do not wait for a node
        #[arg(long)]
        no_node: bool,
        #[arg(required = true, trailing_var_arg = true)]
        command: Vec<String>,
    },
    /// Compare two files written by --json: the second as a multiple of the first
    Compare { before: PathBuf, after: PathBuf },
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(run(&cli))?;
    report.print();
    if let Some(path) = &cli.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

pub fn connect(kubeconfig: Option<&PathBuf>) -> anyhow::Result<Client> {
    let config = match kubeconfig {
        Some(path) => Config::from_kubeconfig(path, None)?,
        None => Config::infer()?,
    };
    Ok(Client::connect(config, Clock::system())?.named("coracle-bench"))
}

async fn run(cli: &Cli) -> anyhow::Result<Report> {
    let client = || connect(cli.kubeconfig.as_ref());
    match &cli.command {
        Command::Requests { objects } => row::requests::run(&client()?, cli.workers, *objects, &cli.pid).await,
        Command::Watch { watchers, rate, writes } => {
            row::watch::run(&client()?, *watchers, *rate, *writes, &cli.pid).await
        }
        Command::ScaleOut { replicas } => row::scale_out::run(&client()?, *replicas).await,
        Command::Schedule(args) => row::schedule::run(&client()?, cli.workers, args).await,
        Command::PodStart { image, pods } => row::pod_start::run(&client()?, image, *pods).await,
        Command::FakeNodes {
            nodes,
            pods,
            rolling,
            seconds,
        } => row::fake_nodes::run(&client()?, *nodes, *pods, *rolling, *seconds, &cli.pid).await,
        Command::Idle { seconds } => row::idle::run(&cli.pid, *seconds).await,
        Command::Start { no_node, command } => row::start::run(cli.kubeconfig.as_ref(), command, *no_node).await,
        Command::Compare { before, after } => report::compare(before, after),
    }
}
