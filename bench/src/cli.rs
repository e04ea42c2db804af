//! What can be asked: subcommands, flags and their help; and the targets and rows that they mean.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};

use crate::options::Options;
use crate::row::{ROWS, Row};
use crate::server::{Foreign, Kind, Limits, Target};

/// Measure a Kubernetes API server: this repository's, started afresh for every row, or any other by kubeconfig.
#[derive(Debug, Parser)]
#[command(name = "coracle-bench", version, max_term_width = 100)]
#[command(after_help = "Start with:  coracle-bench all --json run.json --html run.html")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run every row
    All {
        /// Rows to leave out, separated by commas
        #[arg(long, value_delimiter = ',', value_name = "ROWS")]
        skip: Vec<String>,
        #[command(flatten)]
        measuring: Box<Measuring>,
    },
    /// Run some rows
    Run {
        /// Their names, as `rows` shows them
        #[arg(required = true)]
        rows: Vec<String>,
        #[command(flatten)]
        measuring: Box<Measuring>,
    },
    /// Show what there is to run, with every budget
    Rows,
    /// Compare two files written by --json: each figure as a multiple of what it was
    Compare { before: PathBuf, after: PathBuf },
    /// Show a file written by --json as a table again, or as a page
    Report {
        run: PathBuf,
        /// Write a page with plots to this file instead
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub struct Measuring {
    /// Measure the server of this kubeconfig instead of starting one; `-` means what kubectl would use
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    pub subject: Subject,
    /// Measure the server of this kubeconfig too, in turn with the first: its column, and the ratio
    #[arg(long, value_name = "FILE")]
    pub peer: Option<PathBuf>,
    #[command(flatten)]
    pub other: Other,
    /// The coracle binary [default: beside this program, or in PATH]
    #[arg(long, value_name = "PATH")]
    pub coracle: Option<PathBuf>,
    /// Where servers that are started keep their data: should be a disk [default: the directory for temporary files]
    #[arg(long, value_name = "DIR")]
    pub data_root: Option<PathBuf>,
    /// Speak HTTP/1.1 instead of HTTP/2 (watches excepted)
    #[arg(long)]
    pub http1: bool,
    /// How often every row is run; two or more tell how far figures differ by themselves
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub repeat: usize,
    /// Write the figures to this file too, as JSON, after every row
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a page with plots to this file too
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    #[command(flatten)]
    pub options: Options,
}

/// What is known of the server of --kubeconfig.
#[derive(Debug, Args)]
pub struct Subject {
    /// Its processes, for CPU time and memory
    #[arg(long, value_delimiter = ',', value_name = "PIDS")]
    pid: Vec<u32>,
    /// Its programs, by file name
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    process: Vec<String>,
    /// A shell command that starts it, for rows that start and restart
    #[arg(long, value_name = "COMMAND")]
    start_command: Option<String>,
    /// A shell command that stops it
    #[arg(long, value_name = "COMMAND")]
    stop_command: Option<String>,
    /// The client limits of its controllers
    #[arg(long, value_enum, default_value_t, value_name = "LIMITS")]
    limits: Limits,
}

/// The same of the server of --peer.
#[derive(Debug, Args)]
pub struct Other {
    /// The peer's processes
    #[arg(long, value_delimiter = ',', value_name = "PIDS")]
    peer_pid: Vec<u32>,
    /// The peer's programs, such as kube-apiserver,etcd,kube-controller-manager,kube-scheduler
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    peer_process: Vec<String>,
    /// A shell command that starts the peer
    #[arg(long, value_name = "COMMAND")]
    peer_start_command: Option<String>,
    /// A shell command that stops the peer
    #[arg(long, value_name = "COMMAND")]
    peer_stop_command: Option<String>,
    /// The client limits of the peer's controllers
    #[arg(long, value_enum, default_value_t, value_name = "LIMITS")]
    peer_limits: Limits,
}

impl Measuring {
    pub fn data_root(&self) -> PathBuf {
        self.data_root.clone().unwrap_or_else(std::env::temp_dir)
    }

    pub fn targets(&self) -> Vec<Target> {
        let target = |label: &str, kind| Target {
            label: label.into(),
            kind,
            coracle: self.coracle.clone().or_else(find_coracle),
            data_root: self.data_root(),
            http2: !self.http1,
        };
        let first = match &self.kubeconfig {
            None => target("coracle", Kind::Own),
            Some(path) => {
                let subject = &self.subject;
                let foreign = Foreign {
                    kubeconfig: (path.as_os_str() != "-").then(|| path.clone()),
                    pids: subject.pid.clone(),
                    processes: subject.process.clone(),
                    start_command: subject.start_command.clone(),
                    stop_command: subject.stop_command.clone(),
                    limits: subject.limits,
                };
                target("server", Kind::Foreign(foreign))
            }
        };
        let peer = self.peer.as_ref().map(|path| {
            let other = &self.other;
            let foreign = Foreign {
                kubeconfig: Some(path.clone()),
                pids: other.peer_pid.clone(),
                processes: other.peer_process.clone(),
                start_command: other.peer_start_command.clone(),
                stop_command: other.peer_stop_command.clone(),
                limits: other.peer_limits,
            };
            target("peer", Kind::Foreign(foreign))
        });
        std::iter::once(first).chain(peer).collect()
    }
}

/// Beside this program, or in `PATH`.
fn find_coracle() -> Option<PathBuf> {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.join("coracle")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).map(|dir| dir.join("coracle"));
    beside.into_iter().chain(places).find(|p| p.is_file())
}

/// The rows of these names.
pub fn rows(names: &[String]) -> anyhow::Result<Vec<&'static Row>> {
    names
        .iter()
        .map(|name| {
            let row = ROWS.iter().find(|r| r.name == name).copied();
            row.with_context(|| format!("there is no row {name:?}; `coracle-bench rows` shows what there is"))
        })
        .collect()
}

/// All rows but these.
pub fn rows_without(skip: &[String]) -> anyhow::Result<Vec<&'static Row>> {
    rows(skip)?;
    let left: Vec<&Row> = ROWS
        .iter()
        .copied()
        .filter(|r| !skip.iter().any(|s| s == r.name))
        .collect();
    if left.is_empty() {
        bail!("nothing is left to run");
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn rows_are_chosen_by_name_and_a_wrong_name_is_told() {
        let names = |rows: Vec<&Row>| rows.iter().map(|r| r.name).collect::<Vec<_>>();
        assert_eq!(
            names(rows(&["list".into(), "create".into()]).unwrap()),
            ["list", "create"]
        );
        assert!(rows(&["creat".into()]).is_err());
        assert_eq!(rows_without(&["fleet".into()]).unwrap().len(), ROWS.len() - 1);
        assert!(rows_without(&["fleeet".into()]).is_err());
    }

    #[test]
    fn a_peer_is_a_second_target_and_the_first_is_our_own_unless_a_kubeconfig_says_otherwise() {
        let targets = |args: &[&str]| {
            let all = ["coracle-bench", "run", "create"].iter().chain(args);
            match Cli::parse_from(all).command {
                Command::Run { measuring, .. } => measuring.targets(),
                _ => Vec::new(),
            }
        };
        let own = targets(&[]);
        assert_eq!(own.len(), 1);
        assert!(own[0].is_own());
        let both = targets(&[
            "--kubeconfig",
            "a",
            "--peer",
            "b",
            "--peer-process",
            "kube-apiserver,etcd",
        ]);
        assert!(!both[0].is_own());
        let Kind::Foreign(peer) = &both[1].kind else {
            panic!("no peer")
        };
        assert_eq!(peer.processes, ["kube-apiserver", "etcd"]);
        let Kind::Foreign(first) = &targets(&["--kubeconfig", "-"])[0].kind else {
            panic!("not foreign")
        };
        assert_eq!(first.kubeconfig, None);
    }
}
