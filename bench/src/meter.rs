//! Who used the machine's processors while something was measured: the server, this load generator, and all others. A
//! figure taken on a full machine says less about the server than about the machine, and the report must say so.

use coracle_clock::{Clock, Instant};
use serde::{Deserialize, Serialize};

use crate::process::{Spent, Usage};

/// Past this share of all processors the machine counts as full.
const FULL: f64 = 0.9;

/// Processors in use, on average over a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Load {
    pub seconds: f64,
    /// How many the machine has.
    pub cores: f64,
    pub generator: f64,
    /// Unknown unless the server's processes are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<f64>,
    /// Neither of the two.
    pub others: f64,
}

impl Load {
    pub fn is_full(&self) -> bool {
        self.generator + self.server.unwrap_or(0.0) + self.others >= FULL * self.cores
    }

    /// In a sentence.
    pub fn describe(&self) -> String {
        let server = self
            .server
            .map_or_else(String::new, |cores| format!("server {cores:.2}, "));
        let full = if self.is_full() {
            "; the machine was full, so that rates are lower bounds"
        } else {
            ""
        };
        format!(
            "{server}load generator {:.2}, others {:.2} of {} cores over {:.1} s{full}",
            self.generator, self.others, self.cores, self.seconds
        )
    }
}

/// Counters at the beginning.
pub struct Meter {
    started: Instant,
    pids: Vec<u32>,
    own: Usage,
    server: Usage,
    machine: f64,
}

impl Meter {
    pub fn start(pids: Vec<u32>) -> anyhow::Result<Self> {
        Ok(Self {
            own: Usage::own()?,
            server: Usage::of(&pids)?,
            machine: machine()?.busy,
            pids,
            started: Clock::system().instant(),
        })
    }

    /// The load since the beginning, and what the server spent if its processes are known.
    pub fn stop(self) -> anyhow::Result<(Load, Option<Spent>)> {
        let seconds = self.started.elapsed().as_secs_f64().max(1e-9);
        let server = Usage::of(&self.pids)?.since(&self.server);
        let own = Usage::own()?.since(&self.own);
        let machine_now = machine()?;
        let busy = (machine_now.busy - self.machine) / seconds;
        let known = !self.pids.is_empty();
        let (generator, serving) = (own.cpu_seconds / seconds, server.cpu_seconds / seconds);
        let load = Load {
            seconds,
            cores: machine_now.cores,
            generator,
            server: known.then_some(serving),
            others: (busy - generator - if known { serving } else { 0.0 }).max(0.0),
        };
        Ok((load, known.then_some(server)))
    }
}

struct Machine {
    /// Seconds of all processors together since the machine started.
    busy: f64,
    cores: f64,
}

fn machine() -> anyhow::Result<Machine> {
    Ok(parse(&std::fs::read_to_string("/proc/stat")?))
}

fn parse(stat: &str) -> Machine {
    let lines: Vec<&str> = stat.lines().filter(|l| l.starts_with("cpu")).collect();
    let all: Vec<f64> = lines
        .first()
        .map(|l| l.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect())
        .unwrap_or_default();
    // user nice system idle iowait irq softirq steal; guests are within the first two.
    let busy = [0, 1, 2, 5, 6, 7].iter().filter_map(|at| all.get(*at)).sum::<f64>() / 100.0;
    Machine {
        busy,
        cores: lines.len().saturating_sub(1).max(1) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_processors_are_not_busy() {
        let machine = parse("cpu  100 10 50 9000 500 1 2 37 0 0\ncpu0 1 2\ncpu1 1 2\nintr 1\n");
        assert_eq!(machine.busy, 2.0);
        assert_eq!(machine.cores, 2.0);
    }

    #[test]
    fn a_full_machine_is_told() {
        let mut load = Load {
            seconds: 2.0,
            cores: 2.0,
            generator: 0.5,
            server: Some(1.0),
            others: 0.1,
        };
        assert!(!load.is_full());
        assert_eq!(
            load.describe(),
            "server 1.00, load generator 0.50, others 0.10 of 2 cores over 2.0 s"
        );
        load.others = 0.4;
        assert!(load.describe().contains("the machine was full"));
        load.server = None;
        assert!(!load.describe().contains("server"));
    }
}
