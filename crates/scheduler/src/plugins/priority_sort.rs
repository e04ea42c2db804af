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
