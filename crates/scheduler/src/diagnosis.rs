//! Why no node fits: how many were looked at, and what was said of how many.

use std::collections::BTreeMap;
use std::fmt;

use crate::framework::{Reason, Rejection, Severity};

/// See the [module](self). As text it is upstream's message: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were
/// unschedulable. preemption: ...`.
#[derive(Clone, Debug, Default)]
pub struct FitError {
    pub nodes: usize,
    /// By what was said; a node that several things were said of counts once for each.
    pub reasons: BTreeMap<String, usize>,
    /// Names of the plugins that turned the pod down somewhere.
    pub plugins: Vec<&'static str>,
    /// Turned down before any node was looked at.
    pub pre_filter: Option<String>,
    /// What PostFilter had to say.
    pub post_filter: String,
    /// Numbers of the nodes on which evicting pods may help, in the order they were tried.
    pub resolvable: Vec<u32>,
    /// Numbers of the nodes on which it would not.
    pub unresolvable: Vec<u32>,
    /// Something went wrong, rather than did not fit.
    pub is_error: bool,
}

impl FitError {
    pub fn of(nodes: usize) -> Self {
        Self {
            nodes,
            ..Self::default()
        }
    }

    pub(crate) fn blame(&mut self, plugin: &'static str) {
        if !self.plugins.contains(&plugin) {
            self.plugins.push(plugin);
        }
    }

    pub(crate) fn reject_all(&mut self, plugin: &'static str, rejection: &Rejection) {
        self.pre_filter = Some(rejection.to_string());
        self.is_error = rejection.severity == Severity::Error;
        self.blame(plugin);
    }
}

/// Counts what is said of nodes without making text of it for each.
#[derive(Default)]
pub(crate) struct Tally(Vec<(Reason, usize)>);

impl Tally {
    pub fn add(&mut self, reason: &Reason, nodes: usize) {
        match self.0.iter_mut().find(|(r, _)| r == reason) {
            Some((_, n)) => *n += nodes,
            None => self.0.push((reason.clone(), nodes)),
        }
    }

    pub fn into_error(self, error: &mut FitError) {
        for (reason, count) in self.0 {
            *error.reasons.entry(reason.to_string()).or_default() += count;
        }
    }
}

/// Counts, in the order of their text, as upstream sorts them.
pub fn counted<'a, R: fmt::Display>(reasons: impl IntoIterator<Item = (R, &'a usize)>) -> String {
    let mut counted: Vec<String> = reasons.into_iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    counted.sort();
    counted.join(", ")
}

impl fmt::Display for FitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available:", self.nodes)?;
        match &self.pre_filter {
            Some(message) => write!(f, " {message}.")?,
            None if self.reasons.is_empty() => {}
            None => write!(f, " {}.", counted(&self.reasons))?,
        }
        if !self.post_filter.is_empty() {
            write!(f, " {}", self.post_filter)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_upstreams() {
        let mut error = FitError::of(12);
        assert_eq!(error.to_string(), "0/12 nodes are available:");
        error.reasons = [("node(s) were unschedulable", 2), ("Insufficient cpu", 10)]
            .map(|(reason, n)| (reason.to_owned(), n))
            .into();
        assert_eq!(
            error.to_string(),
            "0/12 nodes are available: 10 Insufficient cpu, 2 node(s) were unschedulable."
        );
        error.post_filter = "preemption: not eligible due to preemptionPolicy=Never.".into();
        assert_eq!(
            error.to_string(),
            "0/12 nodes are available: 10 Insufficient cpu, 2 node(s) were unschedulable. \
             preemption: not eligible due to preemptionPolicy=Never."
        );
        error.pre_filter = Some("pod has unbound immediate PersistentVolumeClaims".into());
        error.post_filter.clear();
        assert_eq!(
            error.to_string(),
            "0/12 nodes are available: pod has unbound immediate PersistentVolumeClaims."
        );
        assert_eq!(FitError::of(0).to_string(), "no nodes available to schedule pods");
    }
}
