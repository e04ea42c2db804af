//! The rows: one named benchmark for every row of the budget table, each a file. A row asks the target for the server
//! that it needs, measures, and leaves nothing behind.
//!
//! To add one: a file with a `ROW`, and a line in [`ROWS`].

mod churn;
mod crash;
mod exec;
mod fleet;
mod idle;
mod image_pull;
mod jobs;
mod lists;
mod node_loss;
mod node_pods;
mod pod_start;
mod reads;
mod restart;
mod rolling_update;
mod scale_out;
mod schedule;
mod start;
mod watch;
mod writes;

use futures::future::BoxFuture;

use crate::budget::Budget;
use crate::figure::Measured;
use crate::options::Options;
use crate::server::{Nodes, Server, Target};

pub struct Row {
    pub name: &'static str,
    /// What is measured, in a sentence.
    pub about: &'static str,
    /// By the names of figures.
    pub budgets: &'static [(&'static str, Budget)],
    pub run: for<'a> fn(&'a Bench) -> BoxFuture<'a, anyhow::Result<Measured>>,
}

/// In the order in which they run.
pub static ROWS: &[&Row] = &[
    &start::ROW,
    &idle::EMPTY,
    &idle::FILLED,
    &writes::CREATE,
    &reads::GET,
    &lists::ROW,
    &writes::CHANGE,
    &watch::HUNDRED,
    &watch::THOUSAND,
    &watch::TEN_THOUSAND,
    &scale_out::ROW,
    &schedule::ROW,
    &rolling_update::ROW,
    &jobs::ROW,
    &node_loss::ROW,
    &restart::ROW,
    &crash::ROW,
    &churn::ROW,
    &idle::PODS,
    &pod_start::ROW,
    &exec::ROW,
    &node_pods::ROW,
    &image_pull::ROW,
    &fleet::ROW,
];

impl Row {
    pub fn budget(&self, figure: &str) -> Option<&'static Budget> {
        self.budgets.iter().find(|(name, _)| *name == figure).map(|(_, b)| b)
    }
}

/// What a row has to work with.
pub struct Bench {
    pub target: Target,
    pub options: Options,
}

impl Bench {
    pub async fn serve(&self, nodes: Nodes) -> anyhow::Result<Server> {
        self.target.serve(nodes).await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_and_budgeted_figures_have_names_of_their_own() {
        let names: BTreeSet<&str> = ROWS.iter().map(|r| r.name).collect();
        assert_eq!(names.len(), ROWS.len());
        let figures: Vec<&str> = ROWS
            .iter()
            .flat_map(|r| r.budgets.iter().map(|(name, _)| *name))
            .collect();
        let unique: BTreeSet<&str> = figures.iter().copied().collect();
        assert_eq!(unique.len(), figures.len());
    }
}
