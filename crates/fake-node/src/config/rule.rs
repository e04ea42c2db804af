//! Which pods live how.

use std::collections::BTreeMap;

use coracle_api::configuration::{ConfigError, Field, Node};
use k8s_openapi::api::core::v1::Pod;

use super::amount::Amount;
use super::delay::Delay;
use super::values::Values;

/// Annotations of a pod that begin so override one field of its rule: `fake.coracle.io/run: 10s`.
pub const ANNOTATION_PREFIX: &str = "fake.coracle.io/";

/// How the pods that match live.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    pub matches: Match,
    pub stages: Stages,
}

impl Rule {
    /// What holds behind the configuration's own rules: pods of Jobs run for a while and succeed, all others run on.
    pub fn defaults() -> [Self; 2] {
        let job = Self {
            matches: Match {
                owner_kind: Some("Job".into()),
                ..Match::default()
            },
            stages: Stages {
                run: Some(Delay::between_ms(1000, 5000)),
                ..Stages::default()
            },
        };
        [job, Self::default()]
    }
}

/// All that is said must hold; nothing said matches every pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// `*` stands for anything, as in `node`.
    pub namespace: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// The kind of the pod's controller: `Job`, `ReplicaSet`.
    pub owner_kind: Option<String>,
    pub node: Option<String>,
}

impl Match {
    pub(crate) fn matches(&self, pod: &Pod) -> bool {
        let meta = &pod.metadata;
        let fits = |pattern: &Option<String>, text: Option<&str>| {
            pattern.as_ref().is_none_or(|p| glob(p, text.unwrap_or_default()))
        };
        let owner = || {
            let owners = meta.owner_references.as_deref().unwrap_or_default();
            owners.iter().find(|o| o.controller == Some(true))
        };
        let has = |(key, value): (&String, &String)| meta.labels.as_ref().and_then(|l| l.get(key)) == Some(value);
        fits(&self.namespace, meta.namespace.as_deref())
            && self
                .owner_kind
                .as_ref()
                .is_none_or(|kind| owner().is_some_and(|o| o.kind == *kind))
            && fits(&self.node, pod.spec.as_ref().and_then(|s| s.node_name.as_deref()))
            && self.labels.iter().all(has)
    }
}

/// The stages of a pod's life, and what may go wrong in them.
#[derive(Clone, Debug, PartialEq)]
pub struct Stages {
    /// From being bound until the first container starts: sandbox, network, images.
    pub create: Delay,
    /// How long an init container runs.
    pub init: Delay,
    /// From a container's start (and its readiness probe's initial delay) until it is ready.
    pub ready: Delay,
    /// How long a container runs; `None`: until it is stopped.
    pub run: Option<Delay>,
    /// What it then ends with.
    pub exit_code: i32,
    /// How many runs crash instead.
    pub crashes: f64,
    pub crash_after: Delay,
    pub crash_exit_code: i32,
    /// How many pods cannot pull their images.
    pub pull_failures: f64,
    /// When they can after all; `None`: never.
    pub pull_recovery: Option<Delay>,
    /// How many pods never become ready.
    pub unready: f64,
    /// From the signal to stop until a container has ended; `None`: it must be killed at the end of its grace period.
    pub terminate: Option<Delay>,
    /// What each container uses while it runs: cores.
    pub cpu: Amount,
    /// Cores that the running pods of one controller use together, in equal parts, beside `cpu`.
    pub shared_cpu: Amount,
    /// What each container uses while it runs: bytes.
    pub memory: Amount,
}

impl Default for Stages {
    fn default() -> Self {
        Self {
            create: Delay::between_ms(200, 1000),
            init: Delay::between_ms(200, 500),
            ready: Delay::ZERO,
            run: None,
            exit_code: 0,
            crashes: 0.0,
            crash_after: Delay::between_ms(1000, 10_000),
            crash_exit_code: 1,
            pull_failures: 0.0,
            pull_recovery: None,
            unready: 0.0,
            terminate: Some(Delay::between_ms(100, 1000)),
            cpu: Amount::ZERO,
            shared_cpu: Amount::ZERO,
            memory: Amount::ZERO,
        }
    }
}

/// Every field of a rule besides `match`.
pub(super) const FIELDS: [&str; 15] = [
    "create",
    "init",
    "ready",
    "run",
    "exitCode",
    "crashes",
    "crashAfter",
    "crashExitCode",
    "pullFailures",
    "pullRecovery",
    "unready",
    "terminate",
    "cpu",
    "sharedCPU",
    "memory",
];

impl Stages {
    pub(crate) fn set(&mut self, name: &str, field: &Field<'_>) -> Result<(), ConfigError> {
        match name {
            "create" => self.create = field.delay()?,
            "init" => self.init = field.delay()?,
            "ready" => self.ready = field.delay()?,
            "run" => self.run = field.delay_or("forever")?,
            "exitCode" => self.exit_code = field.exit_code()?,
            "crashes" => self.crashes = field.fraction()?,
            "crashAfter" => self.crash_after = field.delay()?,
            "crashExitCode" => self.crash_exit_code = field.exit_code()?,
            "pullFailures" => self.pull_failures = field.fraction()?,
            "pullRecovery" => self.pull_recovery = field.delay_or("never")?,
            "unready" => self.unready = field.fraction()?,
            "terminate" => self.terminate = field.delay_or("forever")?,
            "cpu" => self.cpu = field.amount()?,
            "sharedCPU" => self.shared_cpu = field.shared_amount()?,
            "memory" => self.memory = field.amount()?,
            _ => {
                return Err(field.error(format!("unknown field; there are match, {}", FIELDS.join(", "))));
            }
        }
        Ok(())
    }
}

/// How the pod lives: its rule, and its annotations on top. Annotations that make no sense are told and not followed.
pub(crate) fn stages_of(rules: &[Rule], pod: &Pod) -> (Stages, Vec<String>) {
    let found = rules.iter().find(|r| r.matches.matches(pod));
    let mut stages = match found {
        Some(rule) => rule.stages.clone(),
        None => {
            let fallback = Rule::defaults().into_iter().find(|r| r.matches.matches(pod));
            fallback.map(|r| r.stages).unwrap_or_default()
        }
    };
    let mut wrong = Vec::new();
    for (key, text) in pod.metadata.annotations.iter().flatten() {
        let Some(name) = key.strip_prefix(ANNOTATION_PREFIX) else {
            continue;
        };
        let field = Field {
            path: format!("annotation {key}"),
            line: 0,
            node: &Node::Scalar(text.as_str().into()),
        };
        if let Err(error) = stages.set(name, &field) {
            wrong.push(error.to_string());
        }
    }
    (stages, wrong)
}

/// Whether the text is as the pattern has it, in which `*` stands for anything.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    if !pattern.contains('*') {
        return rest.is_empty();
    }
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return false;
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}
