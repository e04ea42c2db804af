//! How far of what the metrics ask for is gone now: within the bounds, no faster than the policies, and not on account
//! of what a moment says. Pure, over what is remembered of one autoscaler.

use std::time::Duration;

use coracle_clock::Instant;
use k8s_openapi::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior};

/// For how long a higher recommendation holds a scale-down back, if nothing else is said.
const DOWNSCALE_WINDOW: i32 = 300;

/// A condition in the making: status, reason, message.
pub type Said = (&'static str, &'static str, &'static str);

const READY: Said = ("True", "ReadyForNewScale", "recommended size matches current size");
const UP_STABILIZED: Said = (
    "True",
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const DOWN_STABILIZED: Said = (
    "True",
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const WITHIN: Said = (
    "False",
    "DesiredWithinRange",
    "the desired count is within the acceptable range",
);
const UP_LIMIT: Said = (
    "True",
    "ScaleUpLimit",
    "the desired replica count is increasing faster than the maximum scale rate",
);
const DOWN_LIMIT: Said = (
    "True",
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
);
const TOO_MANY: Said = (
    "True",
    "TooManyReplicas",
    "the desired replica count is more than the maximum replica count",
);
const TOO_FEW: Said = (
    "True",
    "TooFewReplicas",
    "the desired replica count is less than the minimum replica count",
);

/// What is remembered of an autoscaler.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    recommendations: Vec<(Instant, i32)>,
    ups: Vec<(Instant, i32)>,
    downs: Vec<(Instant, i32)>,
}

#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub min: i32,
    pub max: i32,
}

/// The replicas to set, and what AbleToScale and ScalingLimited say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    pub replicas: i32,
    pub able: Said,
    pub limited: Said,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Select {
    Max,
    Min,
    Disabled,
}

struct Rules {
    window: Duration,
    select: Select,
    policies: Vec<HPAScalingPolicy>,
}

fn seconds(n: i32) -> Duration {
    Duration::from_secs(u64::try_from(n).unwrap_or(0))
}

fn policy(type_: &str, value: i32) -> HPAScalingPolicy {
    HPAScalingPolicy {
        type_: type_.to_owned(),
        value,
        period_seconds: 15,
    }
}

impl Rules {
    fn new(given: Option<&HPAScalingRules>, window: i32, policies: Vec<HPAScalingPolicy>) -> Self {
        let select = given.and_then(|r| r.select_policy.as_deref());
        Self {
            window: seconds(given.and_then(|r| r.stabilization_window_seconds).unwrap_or(window)),
            select: match select {
                Some("Min") => Select::Min,
                Some("Disabled") => Select::Disabled,
                _ => Select::Max,
            },
            policies: given.and_then(|r| r.policies.clone()).unwrap_or(policies),
        }
    }

    fn up(behavior: &HorizontalPodAutoscalerBehavior) -> Self {
        let policies = vec![policy("Pods", 4), policy("Percent", 100)];
        Self::new(behavior.scale_up.as_ref(), 0, policies)
    }

    fn down(behavior: &HorizontalPodAutoscalerBehavior) -> Self {
        let policies = vec![policy("Percent", 100)];
        Self::new(behavior.scale_down.as_ref(), DOWNSCALE_WINDOW, policies)
    }

    fn longest_period(&self) -> Duration {
        let periods = self.policies.iter().map(|p| seconds(p.period_seconds));
        periods.max().unwrap_or_default()
    }
}

fn is_recent(at: Instant, within: Duration, now: Instant) -> bool {
    now.saturating_duration_since(at) < within
}

/// By how much the replicas have changed within the period.
fn changed(events: &[(Instant, i32)], period: i32, now: Instant) -> i32 {
    let recent = events.iter().filter(|(at, _)| is_recent(*at, seconds(period), now));
    recent.map(|(_, by)| by).sum()
}

impl Memory {
    /// The replicas that were found first count as a recommendation, so that a new controller does not scale down at
    /// once.
    pub fn begin(&mut self, replicas: i32, now: Instant) {
        if self.recommendations.is_empty() {
            self.recommendations.push((now, replicas));
        }
    }

    pub fn decide(
        &mut self,
        behavior: Option<&HorizontalPodAutoscalerBehavior>,
        bounds: Bounds,
        current: i32,
        desired: i32,
        now: Instant,
    ) -> Decision {
        match behavior {
            Some(behavior) => self.by_behavior(behavior, bounds, current, desired, now),
            None => self.by_default(bounds, current, desired, now),
        }
    }

    fn by_default(&mut self, bounds: Bounds, current: i32, desired: i32, now: Instant) -> Decision {
        let window = seconds(DOWNSCALE_WINDOW);
        self.recommendations.retain(|(at, _)| is_recent(*at, window, now));
        let highest = self.recommendations.iter().map(|(_, n)| *n).max();
        let stable = highest.map_or(desired, |h| h.max(desired));
        self.recommendations.push((now, desired));
        let able = if stable == desired { READY } else { DOWN_STABILIZED };
        let fastest = current.saturating_mul(2).max(4);
        let (most, reason) = if bounds.max > fastest {
            (fastest, UP_LIMIT)
        } else {
            (bounds.max, TOO_MANY)
        };
        let (replicas, limited) = if stable < bounds.min {
            (bounds.min, TOO_FEW)
        } else if stable > most {
            (most, reason)
        } else {
            (stable, WITHIN)
        };
        Decision {
            replicas,
            able,
            limited,
        }
    }

    fn by_behavior(
        &mut self,
        behavior: &HorizontalPodAutoscalerBehavior,
        bounds: Bounds,
        current: i32,
        desired: i32,
        now: Instant,
    ) -> Decision {
        let (up, down) = (Rules::up(behavior), Rules::down(behavior));
        let stable = self.stabilize(&up, &down, current, desired, now);
        let able = match (stable == desired, desired >= current) {
            (true, _) => READY,
            (false, true) => UP_STABILIZED,
            (false, false) => DOWN_STABILIZED,
        };
        let (replicas, limited) = self.limit(&up, &down, bounds, current, stable, now);
        Decision {
            replicas,
            able,
            limited,
        }
    }

    /// Up only as far as everything said in the window for going up, down only as far as everything said in the other.
    fn stabilize(&mut self, up: &Rules, down: &Rules, current: i32, desired: i32, now: Instant) -> i32 {
        let (mut lowest, mut highest) = (desired, desired);
        for (at, said) in &self.recommendations {
            if is_recent(*at, up.window, now) {
                lowest = lowest.min(*said);
            }
            if is_recent(*at, down.window, now) {
                highest = highest.max(*said);
            }
        }
        let longest = up.window.max(down.window);
        self.recommendations.retain(|(at, _)| is_recent(*at, longest, now));
        self.recommendations.push((now, desired));
        current.max(lowest).min(highest)
    }

    fn limit(&self, up: &Rules, down: &Rules, bounds: Bounds, current: i32, desired: i32, now: Instant) -> (i32, Said) {
        if desired > current {
            let fastest = self.fastest_up(up, current, now).max(current);
            let (most, reason) = if bounds.max > fastest {
                (fastest, UP_LIMIT)
            } else {
                (bounds.max, TOO_MANY)
            };
            if desired > most {
                return (most, reason);
            }
        } else if desired < current {
            let fastest = self.fastest_down(down, current, now).min(current);
            let (least, reason) = if bounds.min < fastest {
                (fastest, DOWN_LIMIT)
            } else {
                (bounds.min, TOO_FEW)
            };
            if desired < least {
                return (least, reason);
            }
        }
        (desired, WITHIN)
    }

    /// The replicas at the beginning of a policy's period.
    fn at_start(&self, policy: &HPAScalingPolicy, current: i32, now: Instant) -> i32 {
        current - changed(&self.ups, policy.period_seconds, now) + changed(&self.downs, policy.period_seconds, now)
    }

    fn fastest_up(&self, rules: &Rules, current: i32, now: Instant) -> i32 {
        let proposals = rules.policies.iter().map(|policy| {
            let start = self.at_start(policy, current, now);
            match policy.type_.as_str() {
                "Percent" => (f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i32,
                _ => start.saturating_add(policy.value),
            }
        });
        match rules.select {
            Select::Disabled => current,
            Select::Min => proposals.min().unwrap_or(current),
            Select::Max => proposals.max().unwrap_or(current),
        }
    }

    fn fastest_down(&self, rules: &Rules, current: i32, now: Instant) -> i32 {
        let proposals = rules.policies.iter().map(|policy| {
            let start = self.at_start(policy, current, now);
            match policy.type_.as_str() {
                "Percent" => (f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)) as i32,
                _ => start.saturating_sub(policy.value),
            }
        });
        match rules.select {
            Select::Disabled => current,
            // The least change is the highest number.
            Select::Min => proposals.max().unwrap_or(current),
            Select::Max => proposals.min().unwrap_or(current),
        }
    }

    /// Remembers that the target was scaled, for as long as a policy asks.
    pub fn scaled(&mut self, behavior: Option<&HorizontalPodAutoscalerBehavior>, from: i32, to: i32, now: Instant) {
        let Some(behavior) = behavior else { return };
        let longest = Rules::up(behavior)
            .longest_period()
            .max(Rules::down(behavior).longest_period());
        for events in [&mut self.ups, &mut self.downs] {
            events.retain(|(at, _)| is_recent(*at, longest, now));
        }
        if to > from {
            self.ups.push((now, to - from));
        } else {
            self.downs.push((now, from - to));
        }
    }
}
