//! CustomResourceDefinitions: kinds that are added at run time. This task follows the definitions, accepts their names,
//! says so in their status, and keeps the table of resources in step; when one goes, its objects go first.

mod columns;
mod form;
pub(crate) mod json_path;
mod names;
mod rows;
mod strategy;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use coracle_api::object::Object;
use coracle_api::resource::Resource;
use coracle_api::service::{DeleteOptions, Operation, Request, Target, UserInfo};
use coracle_api::status::Status;

use crate::bootstrap::own_identity;
use crate::cache::{Delivery, Selection, Shard, Start, Watcher};
use crate::core::Core;
use crate::registry::read::load;
use crate::registry::update::{Commit, commit};
use crate::registry::{Call, meta};

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";
/// Holds a definition until its objects are gone.
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// How often a definition's status is written again when somebody else writes meanwhile.
const TRIES: usize = 16;

/// Follows the definitions until shutdown. When it returns, those that exist are served.
pub(crate) async fn start(core: &Arc<Core>) -> Result<(), Status> {
    let Some(row) = definitions(core) else { return Ok(()) };
    let mut follower = Follower {
        core: core.clone(),
        row,
        known: HashMap::new(),
        cleaning: HashSet::new(),
    };
    let mut watcher = follower.open().await?;
    // The first batch is what there is.
    while watcher.has_initial() {
        match watcher.next().await {
            Some(Ok(batch)) => follower.take(batch).await,
            _ => break,
        }
    }
    tokio::spawn(follower.run(watcher));
    Ok(())
}

/// The row of the definitions themselves.
fn definitions(core: &Core) -> Option<Arc<Resource>> {
    core.registry.table().get(GROUP, "v1", PLURAL).cloned()
}

struct Follower {
    core: Arc<Core>,
    row: Arc<Resource>,
    /// What is in the table because of a definition, by group and plural: of which state of it.
    known: HashMap<(String, String), (String, i64, bool)>,
    /// Definitions whose objects are being deleted, by uid.
    cleaning: HashSet<String>,
}

impl Follower {
    async fn open(&self) -> Result<Watcher, Status> {
        let shard = self.core.cache.shard(&self.row).await?;
        let selection = Selection::all(&self.row, "");
        let start = Start::Everything {
            closing_bookmark: false,
        };
        let forever = Duration::from_secs(86_400 * 365);
        Watcher::open(self.core.cache.clone(), shard, selection, start, false, forever)
    }

    async fn run(mut self, mut watcher: Watcher) {
        loop {
            match watcher.next().await {
                Some(Ok(batch)) => self.take(batch).await,
                Some(Err(error)) => {
                    tracing::warn!(%error, "the watch on custom resource definitions begins afresh");
                    match self.reopen().await {
                        Some(again) => watcher = again,
                        None => return,
                    }
                }
                None if self.core.shutdown.is_cancelled() => return,
                None => match self.reopen().await {
                    Some(again) => watcher = again,
                    None => return,
                },
            }
        }
    }

    async fn reopen(&mut self) -> Option<Watcher> {
        loop {
            match self.open().await {
                Ok(watcher) => return Some(watcher),
                Err(error) => tracing::warn!(%error, "custom resource definitions cannot be watched"),
            }
            tokio::select! {
                biased;
                () = self.core.shutdown.cancelled() => return None,
                () = self.core.clock.sleep(Duration::from_secs(1)) => {}
            }
        }
    }

    async fn take(&mut self, batch: Vec<Delivery>) {
        use coracle_api::service::WatchEvent;
        for delivery in batch {
            match delivery.into_event() {
                Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    let name = object.head().name.to_string();
                    if let Err(error) = self.reconcile(object.to_object()).await {
                        tracing::warn!(name, %error, "a custom resource definition could not be put into effect");
                    }
                }
                Some(WatchEvent::Deleted(object)) => {
                    let definition = object.to_object();
                    self.forget(&definition);
                    self.retry(&definition).await;
                }
                _ => {}
            }
        }
    }

    fn forget(&mut self, definition: &Object) {
        let (group, plural) = group_and_plural(definition);
        self.cleaning.remove(definition.uid());
        if self.known.remove(&(group.clone(), plural.clone())).is_some() {
            self.core.registry.set_custom(&group, &plural, Vec::new());
            tracing::info!(group, plural, "a custom resource is no longer served");
        }
    }

    /// What one definition had to leave free, another one of its group may have waited for.
    async fn retry(&mut self, gone: &Object) {
        let (group, _) = group_and_plural(gone);
        let Ok(shard) = self.core.cache.shard(&self.row).await else {
            return;
        };
        let Some(all) = shard.snapshot(&Selection::all(&self.row, ""), None, 0, 0) else {
            return;
        };
        for item in &all.items {
            let definition = item.object.to_object();
            if definition.str(&["spec", "group"]) == Some(&group) && !names::are_accepted(&definition) {
                let name = definition.name().to_owned();
                if let Err(error) = self.reconcile(definition).await {
                    tracing::warn!(name, %error, "a custom resource definition could not be put into effect");
                }
            }
        }
    }

    /// Puts one state of a definition into effect.
    async fn reconcile(&mut self, definition: Object) -> Result<(), Status> {
        let (group, plural) = group_and_plural(&definition);
        let accepted = names::decide(&self.core.registry.table(), &definition);
        let terminating = definition.is_terminating();
        if accepted.is_ok() || names::is_established(&definition) {
            let state = (definition.uid().to_owned(), definition.generation(), terminating);
            let place = (group.clone(), plural.clone());
            if self.known.get(&place) != Some(&state) {
                // Objects that were written later are of the form that this state demands.
                let since = if self.known.contains_key(&place) {
                    self.core.cache.revision()
                } else {
                    definition.resource_version().parse().unwrap_or(u64::MAX)
                };
                let rows = rows::rows(&definition, terminating, since);
                self.core.registry.set_custom(&group, &plural, rows);
                self.known.insert(place, state);
            }
        }
        if terminating {
            let held = definition.finalizers().any(|f| f == CLEANUP);
            if held && self.cleaning.insert(definition.uid().to_owned()) {
                let now = meta::time_text(self.core.clock.now());
                self.write(definition.name(), |definition| {
                    names::write_terminating(definition, false, &now)
                })
                .await?;
                let core = self.core.clone();
                tokio::spawn(async move {
                    if let Err(error) = clean_up(&core, &definition).await {
                        tracing::warn!(name = definition.name(), %error, "custom objects could not all be deleted");
                    }
                });
            }
            return Ok(());
        }
        let now = meta::time_text(self.core.clock.now());
        self.write(definition.name(), |definition| {
            let changed = names::write_status(definition, &accepted, &now);
            let unheld = accepted.is_ok() && !definition.finalizers().any(|f| f == CLEANUP);
            if unheld && !definition.is_terminating() {
                let mut finalizers = definition.array(&["metadata", "finalizers"]).to_vec();
                finalizers.push(CLEANUP.into());
                definition.set(&["metadata", "finalizers"], finalizers);
            }
            changed || unheld
        })
        .await
    }

    /// Changes a definition as it is now, if there is something to change.
    async fn write(&self, name: &str, change: impl Fn(&mut Object) -> bool) -> Result<(), Status> {
        write(&self.core, &self.row, name, change).await
    }
}

async fn write(
    core: &Arc<Core>,
    row: &Arc<Resource>,
    name: &str,
    change: impl Fn(&mut Object) -> bool,
) -> Result<(), Status> {
    let user = own_identity();
    let target = Target {
        group: GROUP.into(),
        version: "v1".into(),
        resource: PLURAL.into(),
        ..Target::default()
    };
    let call = Call {
        core,
        user: &user,
        target,
        row: row.clone(),
        warnings: Vec::new(),
    };
    let key = row.key("", name);
    for _ in 0..TRIES {
        let Some(current) = load(core, row, &key).await? else {
            return Ok(());
        };
        let mut next = current.object.clone();
        if !change(&mut next) {
            return Ok(());
        }
        let done = if meta::deletion_is_complete(row, &next) {
            crate::registry::update::remove(&call, &key, &current, next, false).await?
        } else {
            commit(&call, &key, next, Some(&current), false).await?
        };
        if let Commit::Done(_) = done {
            return Ok(());
        }
    }
    Err(Status::modified(call.of(), name))
}

fn group_and_plural(definition: &Object) -> (String, String) {
    let text = |path: &[&str]| definition.str(path).unwrap_or_default().to_owned();
    (text(&["spec", "group"]), text(&["spec", "names", "plural"]))
}

/// Deletes all objects of a definition, waits until they are gone, and lets the definition go.
async fn clean_up(core: &Arc<Core>, definition: &Object) -> Result<(), Status> {
    let (group, plural) = group_and_plural(definition);
    let table = core.registry.table();
    let row = table
        .iter()
        .find(|r| r.custom && r.group == group && r.plural == plural)
        .cloned();
    if let Some(row) = row {
        let user = own_identity();
        let shard = core.cache.shard(&row).await?;
        core.cache.wait_until_current().await?;
        delete_all(core, &user, &row, &shard).await?;
    }
    let Some(definitions) = definitions(core) else {
        return Ok(());
    };
    let now = meta::time_text(core.clock.now());
    write(core, &definitions, definition.name(), |definition| {
        let left: Vec<_> = definition
            .array(&["metadata", "finalizers"])
            .iter()
            .filter(|f| f.as_str() != Some(CLEANUP))
            .cloned()
            .collect();
        definition.set(&["metadata", "finalizers"], left);
        names::write_terminating(definition, true, &now);
        true
    })
    .await
}

async fn delete_all(core: &Arc<Core>, user: &UserInfo, row: &Arc<Resource>, shard: &Arc<Shard>) -> Result<(), Status> {
    let everything = Selection::all(row, "");
    loop {
        let changed = shard.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let gone = || Status::unavailable("the watch cache started afresh");
        let left = shard.snapshot(&everything, None, 0, 0).ok_or_else(gone)?;
        if left.items.is_empty() {
            return Ok(());
        }
        for item in left.items.iter().filter(|i| !i.object.head().terminating) {
            let head = item.object.head();
            let target = Target {
                group: row.group.to_string(),
                version: row.version.to_string(),
                resource: row.plural.to_string(),
                namespace: head.namespace.to_string(),
                name: head.name.to_string(),
                subresource: String::new(),
            };
            let operation = Operation::Delete(DeleteOptions::default());
            match core.serve(user, Request { target, operation }).await {
                Err(status) if !status.is_not_found() && !status.is_conflict() => return Err(status),
                _ => {}
            }
        }
        tokio::select! {
            biased;
            () = core.shutdown.cancelled() => return Ok(()),
            () = &mut changed => {}
        }
    }
}
