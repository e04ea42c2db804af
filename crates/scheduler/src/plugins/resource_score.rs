//! How full a node would be: what the plugins that score by resources share.

use crate::framework::MAX_SCORE;
use crate::node_info::NodeInfo;
use crate::resources::Resources;
use crate::shape::PodInfo;

/// A resource that counts in a score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedResource {
    pub name: String,
    pub weight: i64,
}

impl WeightedResource {
    pub fn cpu_and_memory() -> Vec<Self> {
        ["cpu", "memory"]
            .map(|name| Self {
                name: name.to_owned(),
                weight: 1,
            })
            .into()
    }
}

/// A point of a line that maps how full a node is (in percent) to a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShapePoint {
    pub utilization: i64,
    pub score: i64,
}

/// The value of the line at `utilization`: straight between points, flat beyond them.
pub fn on_line(points: &[ShapePoint], utilization: i64) -> i64 {
    let Some(after) = points.iter().position(|p| utilization <= p.utilization) else {
        return points.last().map_or(0, |p| p.score);
    };
    let to = points[after];
    let Some(from) = after.checked_sub(1).map(|before| points[before]) else {
        return to.score;
    };
    from.score + (to.score - from.score) * (utilization - from.utilization) / (to.utilization - from.utilization)
}

/// What NodeResourcesFit prefers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Emptier nodes.
    LeastAllocated,
    /// Fuller nodes.
    MostAllocated,
    /// By a line over how full a node is; its scores go to [`MAX_SCORE`].
    RequestedToCapacityRatio(Vec<ShapePoint>),
}

pub fn amount(of: &Resources, name: &str) -> i64 {
    match name {
        "cpu" => of.milli_cpu,
        "memory" => of.memory,
        "ephemeral-storage" => of.ephemeral_storage,
        other => of.scalar(other),
    }
}

/// How much of a resource the node has, and how much of it would be used with the pod there. `None` if the node has none,
/// or the resource is an extended one that the pod does not ask for. CPU and memory count as [assumed] or as requested.
///
/// [assumed]: crate::shape::Shape::assumed_use
pub fn use_of(node: &NodeInfo, pod: &PodInfo, name: &str, assumed: bool) -> Option<(i64, i64)> {
    let has = amount(&node.allocatable, name);
    if has == 0 {
        return None;
    }
    if matches!(name, "cpu" | "memory") && assumed {
        return Some((
            has,
            amount(&node.assumed_use, name) + amount(&pod.shape.assumed_use, name),
        ));
    }
    let own = amount(&pod.shape.requests, name);
    if own == 0 && !matches!(name, "cpu" | "memory" | "ephemeral-storage") {
        return None;
    }
    Some((has, amount(&node.requested, name) + own))
}

impl Strategy {
    fn of(&self, has: i64, used: i64) -> i64 {
        match self {
            Self::LeastAllocated if used > has => 0,
            Self::LeastAllocated => (has - used) * MAX_SCORE / has,
            Self::MostAllocated => used.min(has) * MAX_SCORE / has,
            Self::RequestedToCapacityRatio(line) if used > has => on_line(line, 100),
            Self::RequestedToCapacityRatio(line) => on_line(line, used * 100 / has),
        }
    }

    /// The weighted mean over resources.
    pub fn score(&self, resources: &[WeightedResource], node: &NodeInfo, pod: &PodInfo) -> i64 {
        let (mut sum, mut weights) = (0, 0);
        let by_line = matches!(self, Self::RequestedToCapacityRatio(_));
        for resource in resources {
            let Some((has, used)) = use_of(node, pod, &resource.name, true) else {
                continue;
            };
            let score = self.of(has, used);
            // Upstream leaves resources out that score nothing by a line, and rounds; otherwise neither.
            if !by_line || score > 0 {
                sum += score * resource.weight;
                weights += resource.weight;
            }
        }
        match weights {
            0 => 0,
            _ if by_line => (sum as f64 / weights as f64).round() as i64,
            _ => sum / weights,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_straight_between_its_points_and_flat_beyond() {
        let line = [(10, 20), (50, 100), (90, 0)].map(|(utilization, score)| ShapePoint { utilization, score });
        for (utilization, score) in [(0, 20), (10, 20), (30, 60), (50, 100), (70, 50), (90, 0), (100, 0)] {
            assert_eq!(on_line(&line, utilization), score, "{utilization}");
        }
        assert_eq!(on_line(&[], 50), 0);
    }
}
