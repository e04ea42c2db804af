//! Which pods came and went lately: what was counted for one pod is brought up to date by it for the next one like it,
//! instead of being counted anew.

use std::collections::VecDeque;

use crate::shape::PodInfo;

/// Who has missed more than this counts anew: that is no slower then.
const MOST: usize = 512;

/// A pod came to a node (1), or left it (-1).
#[derive(Clone, Debug)]
pub struct PodChange {
    pub node: u32,
    pub pod: PodInfo,
    pub by: i64,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Journal {
    changes: VecDeque<PodChange>,
    /// How many there have been, those no longer kept included.
    count: u64,
    /// How often the nodes themselves have changed.
    nodes: u64,
}

/// A moment in the life of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    count: u64,
    nodes: u64,
}

impl Journal {
    pub fn now(&self) -> Moment {
        Moment {
            count: self.count,
            nodes: self.nodes,
        }
    }

    /// The pods that came and went since then, in order; `None` if that is no longer known, or nodes changed.
    pub fn since(&self, then: Moment) -> Option<impl Iterator<Item = &PodChange>> {
        let missed = usize::try_from(self.count.checked_sub(then.count)?).ok()?;
        let skip = self.changes.len().checked_sub(missed)?;
        (then.nodes == self.nodes).then(|| self.changes.range(skip..))
    }

    pub fn pod(&mut self, node: u32, pod: PodInfo, by: i64) {
        self.count += 1;
        if self.changes.len() == MOST {
            self.changes.pop_front();
        }
        self.changes.push_back(PodChange { node, pod, by });
    }

    /// Nodes came, went, or changed in what decides about placement.
    pub fn nodes(&mut self) {
        self.nodes += 1;
        // Nobody asks for what was before.
        self.changes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;
    use serde_json::json;

    fn seen(journal: &Journal, then: Moment) -> Option<Vec<String>> {
        let changes = journal.since(then)?;
        Some(changes.map(|c| format!("{}{:+}", c.pod.name(), c.by)).collect())
    }

    #[test]
    fn who_remembers_a_moment_learns_what_came_after_it_unless_it_is_too_much_or_nodes_changed() {
        let mut journal = Journal::default();
        journal.pod(0, pod("a", json!({})), 1);
        let then = journal.now();
        assert_eq!(seen(&journal, then), Some(vec![]));
        journal.pod(0, pod("b", json!({})), 1);
        journal.pod(0, pod("a", json!({})), -1);
        assert_eq!(seen(&journal, then), Some(vec!["b+1".to_owned(), "a-1".to_owned()]));
        (0..MOST - 2).for_each(|_| journal.pod(0, pod("c", json!({})), 1));
        assert_eq!(seen(&journal, then).map(|s| s.len()), Some(MOST));
        journal.pod(0, pod("c", json!({})), 1);
        assert_eq!(seen(&journal, then), None);
        let then = journal.now();
        journal.nodes();
        assert_eq!(seen(&journal, then), None);
        assert_eq!(seen(&journal, journal.now()), Some(vec![]));
    }
}
