//! What the server waits for until it is ready.

use std::collections::BTreeMap;

use parking_lot::RwLock;

/// Conditions that the server must meet before it is ready, besides the built-in ones. Anybody may add one.
#[derive(Default)]
pub struct Readiness {
    hooks: RwLock<BTreeMap<String, bool>>,
}

impl Readiness {
    /// Declares or reports a condition; readiness waits for it to be true.
    pub fn set(&self, name: &str, ready: bool) {
        self.hooks.write().insert(name.to_owned(), ready);
    }

    /// The conditions and whether they are met.
    pub(crate) fn conditions(&self) -> Vec<(String, bool)> {
        let hooks = self.hooks.read();
        hooks.iter().map(|(name, met)| (name.clone(), *met)).collect()
    }

    /// The conditions that are not met.
    pub fn missing(&self) -> Vec<String> {
        let unmet = self.conditions().into_iter().filter(|(_, met)| !met);
        unmet.map(|(name, _)| name).collect()
    }
}
