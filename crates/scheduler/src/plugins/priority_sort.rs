//! PrioritySort: pods of higher priority are tried first.

use crate::framework::{Plugin, Point};
use crate::shape::PodInfo;

pub struct PrioritySort;

impl Plugin for PrioritySort {
    fn name(&self) -> &'static str {
        "PrioritySort"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::QueueSort]
    }

    fn precedence(&self, pod: &PodInfo) -> i64 {
        pod.priority().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;
    use serde_json::json;

    #[test]
    fn a_pod_without_a_priority_counts_as_zero() {
        let precedence = |priority: Option<i32>| PrioritySort.precedence(&pod("a", json!({"priority": priority})));
        assert_eq!([Some(-5), None, Some(7)].map(precedence), [-5, 0, 7]);
    }
}
