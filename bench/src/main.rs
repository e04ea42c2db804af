//! `coracle-bench`: measures any Kubernetes API server that a kubeconfig reaches, or the `coracle` binary, which it starts
//! itself. [`row`] has one named benchmark for every row of the budget table; [`server`] is what they run on; [`load`] sends
//! requests without becoming the bottleneck itself; [`record`] is a run as a document, and [`report`] shows it.
//!
//! Every row is bounded in count and time, works in a namespace of its own and leaves nothing behind.

mod bare_nodes;
mod budget;
mod cli;
mod containerd;
mod figure;
mod image;
mod latency;
mod load;
mod machine;
mod meter;
mod options;
mod process;
mod record;
mod registry;
mod report;
mod row;
mod runner;
mod scratch;
mod server;
mod view;
mod workload;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Cli, Command, Measuring};
use crate::record::{Outcome, Record};
use crate::row::Row;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything that was asked for was done.
fn run(cli: Cli) -> anyhow::Result<bool> {
    match cli.command {
        Command::All { skip, measuring } => measure(cli::rows_without(&skip)?, *measuring),
        Command::Run { rows, measuring } => measure(cli::rows(&rows)?, *measuring),
        Command::Rows => {
            print!("{}", report::contents());
            Ok(true)
        }
        Command::Compare { before, after } => {
            let compared = report::compare::compare(&Record::read(&before)?, &Record::read(&after)?);
            print!("{}", report::compare::table(&compared));
            Ok(true)
        }
        Command::Report { run, html } => {
            let record = Record::read(&run)?;
            match html {
                Some(path) => write_page(&record, &path)?,
                None => print!("{}", report::run(&record)),
            }
            Ok(true)
        }
    }
}

fn measure(rows: Vec<&'static Row>, measuring: Measuring) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let data_root = measuring.data_root();
    let plan = runner::Plan {
        rows,
        targets: measuring.targets(),
        repeat: measuring.repeat,
        json: measuring.json,
        options: measuring.options,
    };
    let record = runtime.block_on(async {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            record = runner::run(plan, &data_root) => record.map(Some),
            // What was started ends with its handle.
            _ = term.recv() => Ok(None),
            _ = int.recv() => Ok(None),
        }
    })?;
    let record = record.context("interrupted")?;
    print!("{}", report::run(&record));
    if let Some(path) = &measuring.html {
        write_page(&record, path)?;
    }
    Ok(!record.rows.iter().any(|r| matches!(r.outcome, Outcome::Failed(_))))
}

fn write_page(record: &Record, path: &Path) -> anyhow::Result<()> {
    std::fs::write(path, report::page(record)).with_context(|| format!("cannot write {}", path.display()))
}
