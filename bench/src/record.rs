//! One run as a document: what `--json` writes, and what reports and comparisons are made from.

use std::path::Path;

use anyhow::Context;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::figure::{Figure, Measured};
use crate::machine::Machine;

/// Raised when older tools could not read it.
const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub version: u32,
    pub started: Timestamp,
    pub machine: Machine,
    /// The first is the one that budgets are about.
    pub targets: Vec<TargetRecord>,
    pub rows: Vec<RowRecord>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetRecord {
    pub label: String,
    /// What the server says that it is.
    pub version: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowRecord {
    pub row: String,
    /// A target's label.
    pub target: String,
    /// How long the row took, with all that is not measured.
    pub seconds: f64,
    #[serde(flatten)]
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Measured(Measured),
    /// Not possible on this target.
    Skipped(String),
    Failed(String),
}

impl Record {
    pub fn new(started: Timestamp, machine: Machine, targets: Vec<TargetRecord>) -> Self {
        Self {
            version: VERSION,
            started,
            machine,
            targets,
            rows: Vec::new(),
        }
    }

    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&bytes).with_context(|| format!("{} cannot be used", path.display()))
    }

    fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let head: Head = serde_json::from_slice(bytes).context("it was not written by --json")?;
        anyhow::ensure!(
            head.version == VERSION,
            "it is of version {} and this tool reads version {VERSION}",
            head.version
        );
        serde_json::from_slice(bytes).context("it was not written by --json")
    }

    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        std::fs::write(path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// The names of the rows, in order, each once.
    pub fn row_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !names.contains(&row.row.as_str()) {
                names.push(&row.row);
            }
        }
        names
    }

    pub fn row(&self, row: &str, target: &str) -> Option<&RowRecord> {
        self.rows.iter().find(|r| r.row == row && r.target == target)
    }

    /// What a row measured on a target.
    pub fn measured(&self, row: &str, target: &str) -> Option<&Measured> {
        match &self.row(row, target)?.outcome {
            Outcome::Measured(measured) => Some(measured),
            _ => None,
        }
    }

    /// All figures of the first target.
    pub fn figures(&self) -> impl Iterator<Item = &Figure> {
        let first = self.targets.first().map(|t| t.label.as_str()).unwrap_or_default();
        let rows = self.rows.iter().filter(move |r| r.target == first);
        rows.flat_map(|r| match &r.outcome {
            Outcome::Measured(measured) => measured.figures.as_slice(),
            _ => &[],
        })
    }
}

/// A run of two targets, for tests of what is made from runs.
#[cfg(test)]
pub fn example(own: f64, peer: f64) -> Record {
    let measured = |rate: f64| {
        let mut measured = Measured::default();
        measured.gain("create ConfigMaps", rate, "/s");
        measured.latencies(
            "create ConfigMaps",
            &crate::latency::Latencies::new((1..=100).map(std::time::Duration::from_millis)),
        );
        measured.note("a <remark>");
        Outcome::Measured(measured)
    };
    let row = |row: &str, target: &str, outcome| RowRecord {
        row: row.into(),
        target: target.into(),
        seconds: 1.0,
        outcome,
    };
    let target = |label: &str| TargetRecord {
        label: label.into(),
        version: "v1".into(),
    };
    let mut record = Record::new(
        Timestamp::UNIX_EPOCH,
        Machine::default(),
        vec![target("coracle"), target("peer")],
    );
    record.rows = vec![
        row("create", "coracle", measured(own)),
        row("create", "peer", measured(peer)),
        row("restart", "coracle", Outcome::Failed("it broke".into())),
        row("restart", "peer", Outcome::Skipped("needs --peer-start-command".into())),
    ];
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_read_as_it_was_written() {
        let record = example(10.0, 2.0);
        assert_eq!(Record::parse(&serde_json::to_vec(&record).unwrap()).unwrap(), record);
        assert_eq!(record.row_names(), ["create", "restart"]);
        assert_eq!(record.figures().count(), 3);
        assert!(record.measured("restart", "peer").is_none());
    }

    #[test]
    fn what_is_no_run_is_refused_with_its_reason() {
        let error = |bytes: &[u8]| format!("{:#}", Record::parse(bytes).unwrap_err());
        assert!(error(b"{}").contains("not written by --json"));
        assert!(error(br#"{"version": 9}"#).contains("version 9"));
        assert!(error(b"[1").contains("not written by --json"));
    }
}
