//! Sets of completion indexes, in the text form of a Job's status: `1,3-5,7`.

use std::fmt;

/// A set of indexes, as ranges that neither overlap nor touch, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes(Vec<(i32, i32)>);

impl Indexes {
    /// Reads the text form; indexes at or above `limit` (a job that was scaled down) and what is no number are left out.
    pub fn parse(text: &str, limit: i32) -> Self {
        let mut all = Self::default();
        for part in text.split(',').filter(|p| !p.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>())
                && first >= 0
                && first < limit
            {
                all.insert_range(first, last.min(limit - 1));
            }
        }
        all
    }

    pub fn insert(&mut self, index: i32) {
        self.insert_range(index, index);
    }

    fn insert_range(&mut self, mut first: i32, mut last: i32) {
        if first > last {
            return;
        }
        let from = self.0.partition_point(|(_, end)| end.saturating_add(1) < first);
        let to = self.0.partition_point(|(start, _)| *start <= last.saturating_add(1));
        if let Some(touched) = self.0.get(from..to).filter(|t| !t.is_empty()) {
            first = touched.iter().map(|r| r.0).min().unwrap_or(first).min(first);
            last = touched.iter().map(|r| r.1).max().unwrap_or(last).max(last);
        }
        self.0.splice(from..to.max(from), [(first, last)]);
    }

    pub fn contains(&self, index: i32) -> bool {
        let at = self.0.partition_point(|(_, end)| *end < index);
        self.0.get(at).is_some_and(|(start, _)| *start <= index)
    }

    pub fn len(&self) -> i32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many indexes are in both sets.
    pub fn common(&self, other: &Self) -> i32 {
        let overlap = |a: &(i32, i32), b: &(i32, i32)| (a.1.min(b.1) - a.0.max(b.0) + 1).max(0);
        self.0
            .iter()
            .flat_map(|a| other.0.iter().map(move |b| overlap(a, b)))
            .sum()
    }
}

/// Three or more consecutive indexes are written as a range.
impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            if at > 0 {
                write!(f, ",")?;
            }
            match last - first {
                0 => write!(f, "{first}")?,
                1 => write!(f, "{first},{last}")?,
                _ => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn three_or_more_consecutive_numbers_are_compressed() {
        let mut set = Indexes::default();
        for index in [7, 4, 1, 3, 5] {
            set.insert(index);
        }
        assert_eq!(set.to_string(), "1,3-5,7");
        assert_eq!(Indexes::parse("1,2", 10).to_string(), "1,2");
    }

    #[test]
    fn indexes_beyond_completions_are_dropped_when_a_job_is_scaled_down() {
        assert_eq!(Indexes::parse("0-9", 5).to_string(), "0-4");
        assert_eq!(Indexes::parse("0,7-9", 5).to_string(), "0");
    }

    proptest! {
        #[test]
        fn it_is_a_set(all in proptest::collection::vec(0i32..60, 0..60)) {
            let mut set = Indexes::default();
            all.iter().for_each(|i| set.insert(*i));
            let model: BTreeSet<i32> = all.into_iter().collect();
            prop_assert_eq!(usize::try_from(set.len()).unwrap(), model.len());
            for index in 0..60 {
                prop_assert_eq!(set.contains(index), model.contains(&index));
            }
            prop_assert_eq!(Indexes::parse(&set.to_string(), 60), set.clone());
            prop_assert_eq!(set.common(&set), set.len());
        }
    }
}
