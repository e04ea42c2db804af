//! Reads the resource metrics of a node's agent.

use std::collections::HashMap;
use std::sync::Arc;

use coracle_clock::Timestamp;

use super::points::{ContainerName, ContainerPoint, Point, Reading};
use crate::core::Core;
use crate::http::connect;

pub(super) async fn node(core: &Arc<Core>, name: &str) -> Result<Reading, String> {
    let body = connect::metrics(core, name).await?;
    parse(&String::from_utf8_lossy(&body), core.clock.now()).ok_or_else(|| "its metrics lack the node's own".to_owned())
}

/// A line of Prometheus' text format.
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, &'a str)>,
    value: f64,
    at: Option<Timestamp>,
}

impl<'a> Sample<'a> {
    /// Labels here are names of Kubernetes objects: nothing in them is escaped.
    fn parse(line: &'a str) -> Option<Self> {
        let (head, rest) = match line.split_once('}') {
            Some((head, rest)) => (head, rest),
            None => line.split_once(' ')?,
        };
        let (name, labels) = head.split_once('{').unwrap_or((head, ""));
        let labels = labels.split(',').filter_map(|pair| {
            let (label, value) = pair.split_once('=')?;
            Some((label, value.trim_matches('"')))
        });
        let mut numbers = rest.split_whitespace();
        Some(Self {
            name,
            labels: labels.collect(),
            value: numbers.next()?.parse().ok()?,
            at: numbers
                .next()
                .and_then(|ms| Timestamp::from_millisecond(ms.parse().ok()?).ok()),
        })
    }

    fn label(&self, name: &str) -> String {
        let found = self.labels.iter().find(|(label, _)| *label == name);
        found.map(|(_, value)| (*value).to_owned()).unwrap_or_default()
    }

    fn container(&self) -> ContainerName {
        (self.label("namespace"), self.label("pod"), self.label("container"))
    }
}

/// What comes line by line.
#[derive(Default)]
struct Parts {
    cpu: Option<(f64, Timestamp)>,
    memory: Option<f64>,
    started_at: Option<Timestamp>,
}

impl Parts {
    fn point(&self) -> Option<Point> {
        let (cpu_seconds, at) = self.cpu?;
        Some(Point {
            at,
            cpu_seconds,
            memory_bytes: self.memory? as u64,
        })
    }
}

fn parse(text: &str, now: Timestamp) -> Option<Reading> {
    let mut node = Parts::default();
    let mut containers: HashMap<ContainerName, Parts> = HashMap::new();
    for sample in text.lines().filter(|l| !l.starts_with('#')).filter_map(Sample::parse) {
        let at = sample.at.unwrap_or(now);
        match sample.name {
            "node_cpu_usage_seconds_total" => node.cpu = Some((sample.value, at)),
            "node_memory_working_set_bytes" => node.memory = Some(sample.value),
            "container_cpu_usage_seconds_total" => {
                containers.entry(sample.container()).or_default().cpu = Some((sample.value, at));
            }
            "container_memory_working_set_bytes" => {
                containers.entry(sample.container()).or_default().memory = Some(sample.value);
            }
            "container_start_time_seconds" => {
                let started = Timestamp::from_millisecond((sample.value * 1000.0) as i64).ok();
                containers.entry(sample.container()).or_default().started_at = started;
            }
            _ => {}
        }
    }
    let containers = containers.into_iter().filter_map(|(name, parts)| {
        let point = parts.point()?;
        let started_at = parts.started_at?;
        Some((name, ContainerPoint { point, started_at }))
    });
    Some(Reading {
        node: node.point()?,
        containers: containers.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_s_metrics_are_read_container_by_container() {
        let text = "# HELP x\n# TYPE container_cpu_usage_seconds_total counter\n\
            container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"} 2.5 1700000000500\n\
            container_cpu_usage_seconds_total{container=\"half\",namespace=\"n\",pod=\"p\"} 1 1700000000500\n\
            container_memory_working_set_bytes{container=\"c\",namespace=\"n\",pod=\"p\"} 2000 1700000000500\n\
            container_start_time_seconds{container=\"c\",namespace=\"n\",pod=\"p\"} 1699999999.25\n\
            node_cpu_usage_seconds_total 7 1700000000600\n\
            node_memory_working_set_bytes 1e6 1700000000600\n\
            resource_scrape_error 0\nnonsense\n";
        let reading = parse(text, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((reading.node.cpu_seconds, reading.node.memory_bytes), (7.0, 1_000_000));
        assert_eq!(reading.node.at.as_millisecond(), 1_700_000_000_600);
        assert_eq!(reading.containers.len(), 1, "what is half there is left out");
        let container = reading.containers[&("n".into(), "p".into(), "c".into())];
        assert_eq!(container.point.memory_bytes, 2000);
        assert_eq!(container.started_at.as_millisecond(), 1_699_999_999_250);
        assert!(parse("resource_scrape_error 1\n", Timestamp::UNIX_EPOCH).is_none());
    }
}
