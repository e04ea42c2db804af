//! The store that the server of a story writes to: the memory engine, with every commit noted, judged by the rules and mixed
//! into one number, so that two tellings of a seed can be compared.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use coracle_clock::Clock;
use coracle_store::{Embedded, Error, Got, ListOptions, ListPage, Op, Revision, Status, Store, Txn, TxnResult, Watch};
use parking_lot::Mutex;
use serde_json::Value;

use crate::json;
use crate::model::{Commit, Model};
use crate::rules::Rules;

tokio::task_local! {
    /// On whose behalf the server works: the last part of the user's name.
    pub static ACTOR: String;
}

/// A store that remembers.
pub struct History {
    inner: Embedded,
    clock: Clock,
    told: Mutex<Told>,
}

struct Told {
    hasher: DefaultHasher,
    commits: u64,
    /// What was written, a line each.
    lines: Vec<String>,
    model: Model,
    rules: Rules,
    faults: Vec<String>,
    /// Whether lines say what was written, and not only where.
    in_full: bool,
    trace: bool,
}

impl History {
    pub fn new(inner: Embedded, clock: Clock, rules: Rules, in_full: bool) -> Self {
        Self {
            inner,
            clock,
            told: Mutex::new(Told {
                hasher: DefaultHasher::new(),
                commits: 0,
                lines: Vec::new(),
                model: Model::default(),
                rules,
                faults: Vec::new(),
                in_full,
                trace: std::env::var_os("CORACLE_SIM_TRACE").is_some(),
            }),
        }
    }

    pub fn commits(&self) -> u64 {
        self.told.lock().commits
    }

    /// A number that differs when any two commits, or their order or time, do.
    pub fn hash(&self) -> u64 {
        self.told.lock().hasher.finish()
    }

    pub fn lines(&self) -> Vec<String> {
        self.told.lock().lines.clone()
    }

    pub fn faults(&self) -> Vec<String> {
        self.told.lock().faults.clone()
    }

    /// Something that is no commit, but belongs to the story.
    pub fn note(&self, what: impl Into<String>) {
        let line = format!("{:>9.3} -- {}", self.seconds(), what.into());
        self.told.lock().say(line);
    }

    pub fn read<T>(&self, read: impl FnOnce(&Model, &Rules) -> T) -> T {
        let told = self.told.lock();
        read(&told.model, &told.rules)
    }

    fn seconds(&self) -> f64 {
        let start = crate::world::start();
        self.clock.now().duration_since(start).as_secs_f64()
    }

    fn committed(&self, op: Op, revision: Revision) {
        let (key, value) = match op {
            Op::Put { key, value } => (key, Some(value)),
            Op::Delete { key } => (key, None),
        };
        let after: Option<Arc<Value>> = value
            .as_ref()
            .and_then(|v| serde_json::from_slice(v).ok())
            .map(Arc::new);
        let seconds = self.seconds();
        let actor = ACTOR.try_with(Clone::clone).unwrap_or_else(|_| "server".into());
        let mut told = self.told.lock();
        let told = &mut *told;
        told.commits += 1;
        (&key, value.as_deref(), revision, seconds.to_bits()).hash(&mut told.hasher);
        let before = told.model.apply(&key, after.clone());
        let line = format!(
            "{seconds:>9.3} {revision:>6} {actor:<28} {} {}",
            key.trim_start_matches("/registry/"),
            match told.in_full || after.is_none() {
                true => told_of(before.as_deref(), after.as_deref()),
                false => String::new(),
            },
        );
        let commit = Commit {
            now: self.clock.now(),
            seconds,
            actor,
            key,
            before,
            after,
        };
        let faults = told.rules.judge(&told.model, &commit);
        told.say(line);
        for fault in faults {
            told.say(format!("{seconds:>9.3} !! {fault}"));
            told.faults.push(format!("at {seconds:.3}: {fault}"));
        }
    }
}

impl Told {
    fn say(&mut self, line: String) {
        if self.trace {
            println!("{line}");
        }
        self.lines.push(line);
    }
}

/// What a write did, shortly.
fn told_of(before: Option<&Value>, after: Option<&Value>) -> String {
    let Some(after) = after else { return "deleted".into() };
    let kind = if before.is_none() { "created" } else { "=" };
    let mut text = kind.to_owned();
    for path in [
        "metadata.generation",
        "metadata.deletionTimestamp",
        "metadata.finalizers",
        "spec.nodeName",
        "spec.replicas",
        "spec.unschedulable",
        "spec.taints",
        "reason",
        "message",
        "status",
    ] {
        let (old, new) = (before.map(|b| json::at(b, path)), json::at(after, path));
        if old.unwrap_or(&Value::Null) != new {
            let mut shown = new.to_string();
            if shown.len() > 300 {
                let end = (0..=300).rev().find(|at| shown.is_char_boundary(*at)).unwrap_or(0);
                shown.truncate(end);
            }
            text.push_str(&format!(" {path}={shown}"));
        }
    }
    text
}

#[async_trait]
impl Store for History {
    async fn get(&self, key: &str, revision: Option<Revision>) -> Result<Got, Error> {
        self.inner.get(key, revision).await
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage, Error> {
        self.inner.list(options).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, Error> {
        let ops = txn.ops.clone();
        // Nobody else has a turn between the commit and its judgement.
        let result = tokio::task::unconstrained(self.inner.txn(txn)).await?;
        if let TxnResult::Committed { revision, .. } = &result {
            for op in ops {
                self.committed(op, *revision);
            }
        }
        Ok(result)
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, Error> {
        self.inner.watch(prefix, from).await
    }

    async fn compact(&self, upto: Revision) -> Result<(), Error> {
        self.inner.compact(upto).await
    }

    async fn revision(&self) -> Result<Revision, Error> {
        self.inner.revision().await
    }

    async fn status(&self) -> Result<Status, Error> {
        self.inner.status().await
    }
}
