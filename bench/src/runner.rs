//! Runs rows, one after another, each on every target in turn, so that what changes on the machine meanwhile meets all of
//! them alike. A row that fails does not end the run.

use std::path::{Path, PathBuf};

use coracle_client::{Client, Config};
use coracle_clock::Clock;

use crate::figure::Measured;
use crate::machine::Machine;
use crate::options::Options;
use crate::record::{Outcome, Record, RowRecord, TargetRecord};
use crate::row::{Bench, Row};
use crate::server::{Kind, Target, Unavailable};

pub struct Plan {
    pub rows: Vec<&'static Row>,
    /// The first is the one that budgets are about.
    pub targets: Vec<Target>,
    pub options: Options,
    pub repeat: usize,
    /// Written after every row: what was measured is not lost if the run is ended.
    pub json: Option<PathBuf>,
}

pub async fn run(plan: Plan, data_root: &Path) -> anyhow::Result<Record> {
    let clock = Clock::system();
    let mut targets = Vec::new();
    for target in &plan.targets {
        targets.push(TargetRecord {
            label: target.label.clone(),
            version: version(target).await?,
        });
    }
    let mut record = Record::new(clock.now(), Machine::look(data_root)?, targets);
    let benches: Vec<Bench> = plan
        .targets
        .iter()
        .map(|target| Bench {
            target: target.clone(),
            options: plan.options.clone(),
        })
        .collect();
    for row in &plan.rows {
        for bench in &benches {
            let label = &bench.target.label;
            eprintln!("{} on {label}", row.name);
            let started = clock.instant();
            let outcome = repeated(row, bench, plan.repeat).await;
            if let Outcome::Failed(why) = &outcome {
                eprintln!("{} on {label} failed: {why}", row.name);
            }
            record.rows.push(RowRecord {
                row: row.name.into(),
                target: label.clone(),
                seconds: started.elapsed().as_secs_f64(),
                outcome,
            });
            if let Some(path) = &plan.json {
                record.write(path)?;
            }
        }
    }
    Ok(record)
}

async fn repeated(row: &Row, bench: &Bench, repeat: usize) -> Outcome {
    let mut all: Option<Measured> = None;
    for _ in 0..repeat.max(1) {
        match (row.run)(bench).await {
            Ok(measured) => match &mut all {
                Some(all) => all.merge(measured),
                None => all = Some(measured),
            },
            Err(error) if error.is::<Unavailable>() => return Outcome::Skipped(format!("{error:#}")),
            Err(error) => return Outcome::Failed(format!("{error:#}")),
        }
    }
    Outcome::Measured(all.unwrap_or_default())
}

/// What the target says that it is.
async fn version(target: &Target) -> anyhow::Result<String> {
    match &target.kind {
        Kind::Own => {
            let Some(binary) = &target.coracle else {
                return Ok("not found".into());
            };
            let output = tokio::process::Command::new(binary).arg("--version").output().await?;
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        Kind::Foreign(foreign) => {
            let config = match &foreign.kubeconfig {
                Some(path) => Config::from_kubeconfig(path, None)?,
                None => Config::infer()?,
            };
            let server = config.server.clone();
            let answer = Client::connect(config, Clock::system())?
                .raw("/version", "application/json")
                .await;
            let told = answer
                .ok()
                .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok())
                .and_then(|v| v["gitVersion"].as_str().map(str::to_owned));
            Ok(format!("{} at {server}", told.as_deref().unwrap_or("not reached yet")))
        }
    }
}
