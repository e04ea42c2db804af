//! The nodes grouped by the value of one label. Values have small numbers, so that plugins count pods per value in plain
//! vectors instead of maps of strings.

use std::collections::HashMap;
use std::sync::Arc;

/// No value: the node lacks the label.
const NONE: u32 = u32::MAX;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Topology {
    /// By node number.
    value_of: Vec<u32>,
    values: Vec<Value>,
    numbers: HashMap<Arc<str>, u32>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Value {
    name: Arc<str>,
    nodes: u32,
}

impl Topology {
    /// The number of the node's value.
    #[inline]
    pub fn value(&self, node: u32) -> Option<usize> {
        match self.value_of.get(node as usize) {
            Some(&value) if value != NONE => Some(value as usize),
            _ => None,
        }
    }

    /// How long a vector of something per value must be.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// The node was added, or its label changed, or (with `None`) it went.
    pub(crate) fn set(&mut self, node: u32, value: Option<&str>) {
        let at = node as usize;
        if self.value_of.len() <= at {
            self.value_of.resize(at + 1, NONE);
        }
        let before = self.value_of[at];
        if let (Some(before), Some(value)) = (self.values.get(before as usize), value)
            && before.name.as_ref() == value
        {
            return;
        }
        let after = value.map_or(NONE, |v| self.number(v));
        self.value_of[at] = after;
        if let Some(value) = self.values.get_mut(after as usize) {
            value.nodes += 1;
        }
        if let Some(value) = self.values.get_mut(before as usize) {
            value.nodes -= 1;
            if value.nodes == 0 {
                self.numbers.remove(&value.name);
                self.free.push(before);
            }
        }
    }

    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let value = Value {
            name: name.into(),
            nodes: 0,
        };
        let key = value.name.clone();
        let number = match self.free.pop() {
            Some(number) => {
                self.values[number as usize] = value;
                number
            }
            None => {
                self.values.push(value);
                u32::try_from(self.values.len() - 1).unwrap_or(NONE)
            }
        };
        self.numbers.insert(key, number);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_with_one_value_share_its_number_and_numbers_are_used_again() {
        let mut zones = Topology::default();
        zones.set(0, Some("a"));
        zones.set(2, Some("b"));
        zones.set(5, Some("a"));
        assert_eq!(zones.value(0), zones.value(5));
        assert_ne!(zones.value(0), zones.value(2));
        assert_eq!(zones.value(1), None);
        zones.set(2, Some("c"));
        assert_eq!(zones.len(), 3, "the old value is let go of after the new one is there");
        zones.set(2, Some("d"));
        assert_eq!(zones.len(), 3);
        for node in [0, 2, 5] {
            zones.set(node, None);
        }
        assert!(zones.is_empty());
        assert_eq!(zones.value(0), None);
    }
}
