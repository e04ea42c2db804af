//! What the documentation says about placement, word by word and without a thought for speed. It shares nothing with the
//! scheduler but the facts.

use crate::generate::{NodeFacts, PodFacts, Topology};

/// Nodes, and pods by the index of their node.
pub struct Model<'a> {
    pub nodes: &'a [NodeFacts],
    pub placed: Vec<(PodFacts, usize)>,
}

impl Model<'_> {
    fn on(&self, node: usize) -> impl Iterator<Item = &PodFacts> {
        self.placed.iter().filter(move |(_, n)| *n == node).map(|(pod, _)| pod)
    }

    fn domain(&self, topology: Topology, node: usize) -> Option<String> {
        match topology {
            Topology::Host => Some(self.nodes[node].name.clone()),
            Topology::Zone => self.nodes[node].zone.map(|z| z.to_string()),
        }
    }

    /// Whether the two nodes are in one domain.
    fn together(&self, topology: Topology, a: usize, b: usize) -> bool {
        let domain = self.domain(topology, a);
        domain.is_some() && domain == self.domain(topology, b)
    }

    fn suits_labels(&self, pod: &PodFacts, node: usize) -> bool {
        pod.zone.is_none() || pod.zone == self.nodes[node].zone
    }

    /// Pods of the app in the node's domain, on nodes that the spreading of `pod` counts.
    fn spread_count(&self, pod: &PodFacts, topology: Topology, node: usize) -> i64 {
        let counted = self.placed.iter().filter(|(other, at)| {
            other.app == pod.app && self.together(topology, *at, node) && self.suits_labels(pod, *at)
        });
        counted.count() as i64
    }

    pub fn fits(&self, pod: &PodFacts, node: usize) -> bool {
        let facts = &self.nodes[node];
        let there = || self.on(node);
        let tolerated = facts
            .taints
            .iter()
            .all(|(key, soft)| *soft || pod.tolerates.contains(key));
        let room = there().map(|p| p.cpu).sum::<i64>() + pod.cpu <= facts.cpu
            && there().map(|p| p.memory).sum::<i64>() + pod.memory <= facts.memory
            && (there().count() as i64) < facts.max_pods;
        let port = pod.port.is_none() || there().all(|p| p.port != pod.port);
        !facts.cordoned
            && tolerated
            && room
            && port
            && self.suits_labels(pod, node)
            && self.spreads(pod, node)
            && self.suits_pods(pod, node)
    }

    fn spreads(&self, pod: &PodFacts, node: usize) -> bool {
        let Some(spread) = pod.spread.filter(|s| s.hard) else {
            return true;
        };
        if self.domain(spread.topology, node).is_none() {
            return false;
        }
        let counted =
            (0..self.nodes.len()).filter(|n| self.domain(spread.topology, *n).is_some() && self.suits_labels(pod, *n));
        let fewest = counted
            .map(|n| self.spread_count(pod, spread.topology, n))
            .min()
            .unwrap_or(0);
        self.spread_count(pod, spread.topology, node) + 1 - fewest <= spread.max_skew
    }

    fn suits_pods(&self, pod: &PodFacts, node: usize) -> bool {
        // Those placed that must not be with this one.
        let shunned = self.placed.iter().any(|(other, at)| {
            other.affinity.is_some_and(|a| {
                a.anti && a.weight.is_none() && a.app == pod.app && self.together(a.topology, *at, node)
            })
        });
        let Some(own) = pod.affinity.filter(|a| a.weight.is_none()) else {
            return !shunned;
        };
        let with = |n: &usize| self.together(own.topology, *n, node);
        let of_app = || self.placed.iter().filter(|(p, _)| p.app == own.app).map(|(_, n)| *n);
        let any_there = of_app().any(|n| with(&n));
        let wanted = if own.anti {
            !any_there
        } else {
            // The first of pods that want each other may go to any node of the topology.
            let nobody = of_app().all(|n| self.domain(own.topology, n).is_none());
            self.domain(own.topology, node).is_some() && (any_there || (nobody && own.app == pod.app))
        };
        wanted && !shunned
    }

    /// What each of these nodes scores.
    pub fn scores(&self, pod: &PodFacts, nodes: &[usize]) -> Vec<i64> {
        let each = |f: &dyn Fn(usize) -> i64| -> Vec<i64> { nodes.iter().map(|n| f(*n)).collect() };
        let mut out = vec![0; nodes.len()];
        let mut add = |weight: i64, scores: Vec<i64>| {
            out.iter_mut()
                .zip(scores)
                .for_each(|(total, score)| *total += weight * score);
        };
        // TaintToleration.
        let soft = each(&|n| {
            let taints = self.nodes[n].taints.iter();
            taints
                .filter(|(key, soft)| *soft && !pod.tolerates.contains(key))
                .count() as i64
        });
        let most = soft.iter().copied().max().unwrap_or(0);
        add(
            3,
            soft.iter()
                .map(|s| if most == 0 { 100 } else { 100 - 100 * s / most })
                .collect(),
        );
        // NodeAffinity.
        if let Some(weight) = pod.prefers_fast_disk {
            let fast = each(&|n| if self.nodes[n].fast_disk { weight } else { 0 });
            let most = fast.iter().copied().max().unwrap_or(0);
            add(
                2,
                fast.iter()
                    .map(|s| if most == 0 { 0 } else { 100 * s / most })
                    .collect(),
            );
        }
        // NodeResourcesFit and NodeResourcesBalancedAllocation.
        let used = |n: usize| {
            let sum = |f: fn(&PodFacts) -> i64| self.on(n).map(f).sum::<i64>();
            (sum(|p| p.cpu) + pod.cpu, sum(|p| p.memory) + pod.memory)
        };
        add(
            1,
            each(&|n| {
                let (cpu, memory) = used(n);
                let free = |used: i64, has: i64| (has - used) * 100 / has;
                (free(cpu, self.nodes[n].cpu) + free(memory, self.nodes[n].memory)) / 2
            }),
        );
        add(
            1,
            each(&|n| {
                let (cpu, memory) = used(n);
                let share = |used: i64, has: i64| used as f64 / has as f64;
                let balance = |cpu: i64, memory: i64| {
                    let apart = (share(cpu, self.nodes[n].cpu) - share(memory, self.nodes[n].memory)).abs();
                    ((1.0 - apart / 2.0) * 100.0) as i64
                };
                50 + (50 + balance(cpu, memory) - balance(cpu - pod.cpu, memory - pod.memory)) / 2
            }),
        );
        add(2, self.spread_scores(pod, nodes));
        add(2, self.affinity_scores(pod, nodes));
        out
    }

    fn spread_scores(&self, pod: &PodFacts, nodes: &[usize]) -> Vec<i64> {
        let Some(spread) = pod.spread.filter(|s| !s.hard) else {
            return vec![0; nodes.len()];
        };
        let mut domains: Vec<String> = nodes.iter().filter_map(|n| self.domain(spread.topology, *n)).collect();
        domains.sort();
        domains.dedup();
        let weight = ((domains.len() + 2) as f64).ln();
        let raw: Vec<Option<i64>> = nodes
            .iter()
            .map(|n| {
                self.domain(spread.topology, *n)?;
                let count = self.spread_count(pod, spread.topology, *n) as f64;
                Some((count * weight + (spread.max_skew - 1) as f64).round() as i64)
            })
            .collect();
        let most = raw.iter().flatten().copied().max().unwrap_or(0);
        let least = raw.iter().flatten().copied().min().unwrap_or(0);
        let score = |raw: &Option<i64>| match raw {
            None => 0,
            Some(_) if most == 0 => 100,
            Some(raw) => 100 * (most + least - raw) / most,
        };
        raw.iter().map(score).collect()
    }

    fn affinity_scores(&self, pod: &PodFacts, nodes: &[usize]) -> Vec<i64> {
        let raw: Vec<i64> = nodes
            .iter()
            .map(|n| {
                let mut sum = 0;
                for (other, at) in &self.placed {
                    if let Some(own) = pod.affinity
                        && let Some(weight) = own.weight
                        && other.app == own.app
                        && self.together(own.topology, *at, *n)
                    {
                        sum += if own.anti { -weight } else { weight };
                    }
                    if let Some(theirs) = other.affinity
                        && theirs.app == pod.app
                        && self.together(theirs.topology, *at, *n)
                    {
                        sum += match (theirs.anti, theirs.weight) {
                            (false, None) => 1,
                            (true, None) => 0,
                            (false, Some(weight)) => weight,
                            (true, Some(weight)) => -weight,
                        };
                    }
                }
                sum
            })
            .collect();
        let most = raw.iter().copied().max().unwrap_or(0);
        let least = raw.iter().copied().min().unwrap_or(0);
        let scale = |s: &i64| match most - least {
            0 => 0,
            range => (100.0 * ((s - least) as f64 / range as f64)) as i64,
        };
        raw.iter().map(scale).collect()
    }
}
