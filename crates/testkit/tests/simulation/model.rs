//! What the store holds, kind by kind, as the rules look at it.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_clock::Timestamp;
use serde_json::Value;

use crate::json;

/// One key's change in the store.
pub struct Commit {
    pub now: Timestamp,
    /// Since the story began.
    pub seconds: f64,
    pub actor: String,
    pub key: String,
    pub before: Option<Arc<Value>>,
    pub after: Option<Arc<Value>>,
}

impl Commit {
    /// Whether it is about an object of this kind: by the store's word for it.
    pub fn is_of(&self, kind: &str) -> bool {
        kind_of(&self.key) == kind
    }

    /// The object, if it has just been created.
    pub fn created(&self) -> Option<&Value> {
        if self.before.is_none() {
            self.after.as_deref()
        } else {
            None
        }
    }

    /// The object, if it has just begun to go or gone.
    pub fn doomed(&self) -> Option<&Value> {
        let before = self.before.as_deref()?;
        match &self.after {
            _ if json::terminating(before) => None,
            None => Some(before),
            Some(after) => json::terminating(after).then_some(&**after),
        }
    }

    pub fn states(&self) -> Option<(&Value, &Value)> {
        Some((self.before.as_deref()?, self.after.as_deref()?))
    }
}

/// `pods` of `/registry/pods/default/web`.
pub fn kind_of(key: &str) -> &str {
    let rest = key.strip_prefix("/registry/").unwrap_or(key);
    rest.split('/').next().unwrap_or_default()
}

/// Objects by kind and then by key.
#[derive(Default)]
pub struct Model {
    kinds: BTreeMap<String, BTreeMap<String, Arc<Value>>>,
    /// Keys by uid, of all kinds.
    uids: BTreeMap<String, String>,
}

impl Model {
    /// Takes the key's new state in; what it was before.
    pub fn apply(&mut self, key: &str, after: Option<Arc<Value>>) -> Option<Arc<Value>> {
        let kind = self.kinds.entry(kind_of(key).to_owned()).or_default();
        let Some(after) = after else {
            let before = kind.remove(key);
            if let Some(before) = &before {
                self.uids.remove(json::uid(before));
            }
            return before;
        };
        let before = kind.insert(key.to_owned(), after.clone());
        if before.is_none() {
            self.uids.insert(json::uid(&after).to_owned(), key.to_owned());
        }
        before
    }

    pub fn all(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.kinds.get(kind).into_iter().flatten().map(|(_, v)| &**v)
    }

    /// Those of a kind that an owner manages.
    pub fn controlled<'m>(&'m self, kind: &str, uid: &'m str) -> impl Iterator<Item = &'m Value> {
        self.all(kind).filter(move |o| json::controller_uid(o) == uid)
    }

    pub fn by_uid(&self, uid: &str) -> Option<&Value> {
        let key = self.uids.get(uid)?;
        self.kinds.get(kind_of(key))?.get(key).map(|v| &**v)
    }

    pub fn named(&self, kind: &str, name: &str) -> Option<&Value> {
        self.all(kind).find(|o| json::name(o) == name)
    }
}
