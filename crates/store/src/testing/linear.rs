//! Checks a history of concurrent operations for linearizability: whether there is an order of them that keeps to real
//! time (what had ended before another began comes before it) and in which each does what a sequential object would.
//!
//! This is the algorithm of Wing and Gong with Lowe's improvement, as porcupine and knossos have it: a depth-first
//! search that takes operations off a list one by one, remembers every pair of operations taken and state reached, and
//! never looks at a pair twice.

use std::collections::HashSet;
use std::fmt::Debug;

/// What the operations are done to, one at a time.
pub trait Sequential {
    type State: Clone;
    type Operation: Debug;

    /// The states that an operation may lead to from this one, given what it was answered. None if the answer cannot
    /// be; several if it was not answered.
    fn step(&self, state: &Self::State, operation: &Self::Operation) -> Vec<Self::State>;

    /// Tells states apart.
    fn fingerprint(&self, state: &Self::State) -> u128;

    /// Whether an operation that has yet to come can still come after this state, if that can be told. A hint that
    /// shortens the search: it says no only if it is certain.
    fn possible(&self, state: &Self::State, later: &Self::Operation) -> Option<bool>;
}

/// An operation and when it began and ended, in any unit. One without an answer never ended.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Timed<O> {
    pub began: u64,
    pub ended: Option<u64>,
    pub operation: O,
}

/// How many operations ahead are looked at to see that there is no way on.
const FORESIGHT: usize = 8;
/// The end of the list, and the place before its first entry.
const HEAD: usize = 0;

/// A beginning or an end, in the order of time.
#[derive(Clone, Copy, Debug)]
struct Entry {
    operation: usize,
    /// The entry of the end, if this is a beginning.
    end: Option<usize>,
    before: usize,
    after: usize,
}

/// Entries as a doubly linked list, so that an operation is taken off and put back at no cost.
struct Timeline(Vec<Entry>);

impl Timeline {
    fn new<O>(history: &[Timed<O>]) -> Self {
        // At the same moment beginnings come first: such operations are taken as concurrent. What never ended ends
        // after everything else.
        let mut moments: Vec<(u64, bool, usize)> = Vec::new();
        for (operation, timed) in history.iter().enumerate() {
            moments.push((timed.began, false, operation));
            moments.push((timed.ended.unwrap_or(u64::MAX), true, operation));
        }
        moments.sort_unstable();
        let nowhere = Entry {
            operation: usize::MAX,
            end: None,
            before: moments.len(),
            after: 1,
        };
        let mut entries = vec![nowhere];
        let mut ends = vec![0; history.len()];
        for (index, (_, is_end, operation)) in moments.iter().enumerate() {
            if *is_end {
                ends[*operation] = index + 1;
            }
        }
        for (index, (_, is_end, operation)) in moments.iter().enumerate() {
            entries.push(Entry {
                operation: *operation,
                end: (!is_end).then_some(ends[*operation]),
                before: index,
                after: (index + 2) % (moments.len() + 1),
            });
        }
        Self(entries)
    }

    fn unlink(&mut self, at: usize) {
        let Entry { before, after, .. } = self.0[at];
        self.0[before].after = after;
        self.0[after].before = before;
    }

    fn relink(&mut self, at: usize) {
        let Entry { before, after, .. } = self.0[at];
        self.0[before].after = at;
        self.0[after].before = at;
    }

    fn take(&mut self, at: usize) {
        self.unlink(at);
        if let Some(end) = self.0[at].end {
            self.unlink(end);
        }
    }

    fn put_back(&mut self, at: usize) {
        if let Some(end) = self.0[at].end {
            self.relink(end);
        }
        self.relink(at);
    }

    fn first(&self) -> usize {
        self.0[HEAD].after
    }

    /// The operations that are left, by when they have to be done.
    fn due(&self) -> impl Iterator<Item = usize> {
        let mut at = HEAD;
        let next = move || {
            at = self.0[at].after;
            (at != HEAD).then(|| self.0[at])
        };
        std::iter::from_fn(next)
            .filter(|entry| entry.end.is_none())
            .map(|entry| entry.operation)
    }
}

/// An operation that was taken, where the search stood before, and the other states it may have led to.
struct Taken<S> {
    at: usize,
    before: S,
    others: Vec<S>,
}

struct Search<'a, M: Sequential> {
    model: &'a M,
    history: &'a [Timed<M::Operation>],
    timeline: Timeline,
    state: M::State,
    taken: Vec<Taken<M::State>>,
    /// Which operations are taken, as a set of bits.
    done: Vec<u64>,
    visited: HashSet<(Vec<u64>, u128)>,
    /// How many that were answered are not taken.
    left: usize,
}

/// The state after all of a history, in an order that is possible. Fails with the longest order that could be found and
/// what could not follow it.
pub fn check<M: Sequential>(model: &M, initial: M::State, history: &[Timed<M::Operation>]) -> Result<M::State, String> {
    let mut search = Search {
        model,
        history,
        timeline: Timeline::new(history),
        state: initial,
        taken: Vec::new(),
        done: vec![0; history.len().div_ceil(64)],
        visited: HashSet::new(),
        // What has no answer may never have happened.
        left: history.iter().filter(|timed| timed.ended.is_some()).count(),
    };
    let mut longest: Vec<usize> = Vec::new();
    let mut at = search.timeline.first();
    while search.left > 0 {
        let entry = search.timeline.0[at];
        if entry.end.is_none() {
            // What ends here was not placed before: another way must be found.
            at = search.go_back().ok_or_else(|| explain(history, &longest))?;
        } else if search.take(at) {
            if search.taken.len() > longest.len() {
                longest = search.order();
            }
            at = search.timeline.first();
        } else {
            at = entry.after;
        }
    }
    Ok(search.state)
}

impl<M: Sequential> Search<'_, M> {
    fn order(&self) -> Vec<usize> {
        let operation = |taken: &Taken<M::State>| self.timeline.0[taken.at].operation;
        self.taken.iter().map(operation).collect()
    }

    /// Takes the operation that begins at an entry, if it leads to where the search has not been.
    fn take(&mut self, at: usize) -> bool {
        let operation = self.timeline.0[at].operation;
        let mut others = self.model.step(&self.state, &self.history[operation].operation);
        if self.history[operation].ended.is_none() {
            // It need not be placed where it changes nothing.
            let now = self.model.fingerprint(&self.state);
            others.retain(|state| self.model.fingerprint(state) != now);
        }
        if others.is_empty() {
            return false;
        }
        self.timeline.take(at);
        self.mark(operation);
        let Some(next) = self.fresh(&mut others) else {
            self.put_back(at);
            return false;
        };
        let before = std::mem::replace(&mut self.state, next);
        self.taken.push(Taken { at, before, others });
        true
    }

    /// Takes back the last operation, and where to go on; nothing if all ways have been tried.
    fn go_back(&mut self) -> Option<usize> {
        let mut last = self.taken.pop()?;
        if let Some(other) = self.fresh(&mut last.others) {
            self.state = other;
            self.taken.push(last);
            return Some(self.timeline.first());
        }
        self.put_back(last.at);
        self.state = last.before;
        Some(self.timeline.0[last.at].after)
    }

    /// The first of the states that has not been reached before by the same operations and may be part of the whole.
    fn fresh(&mut self, states: &mut Vec<M::State>) -> Option<M::State> {
        while let Some(state) = states.pop() {
            let due = self.timeline.due().map(|due| &self.history[due]);
            let due = due.take_while(|due| due.ended.is_some());
            let mut told = due
                .filter_map(|due| self.model.possible(&state, &due.operation))
                .take(FORESIGHT);
            if told.any(|possible| !possible) {
                continue;
            }
            if self.visited.insert((self.done.clone(), self.model.fingerprint(&state))) {
                return Some(state);
            }
        }
        None
    }

    fn mark(&mut self, operation: usize) {
        self.done[operation / 64] ^= 1 << (operation % 64);
        self.left -= usize::from(self.history[operation].ended.is_some());
    }

    fn put_back(&mut self, at: usize) {
        let operation = self.timeline.0[at].operation;
        self.timeline.put_back(at);
        self.done[operation / 64] ^= 1 << (operation % 64);
        self.left += usize::from(self.history[operation].ended.is_some());
    }
}

fn explain<O: Debug>(history: &[Timed<O>], longest: &[usize]) -> String {
    let mut text = format!(
        "no order of {} operations is possible; the longest is of {}, and ends with\n",
        history.len(),
        longest.len()
    );
    for operation in longest.iter().rev().take(8).rev() {
        text += &format!("  {:?}\n", history[*operation]);
    }
    text += "and cannot go on with any of\n";
    let mut left: Vec<_> = (0..history.len())
        .filter(|operation| !longest.contains(operation))
        .collect();
    left.sort_by_key(|operation| history[*operation].began);
    for operation in left.into_iter().take(8) {
        text += &format!("  {:?}\n", history[operation]);
    }
    text
}
