//! Which pods this node has: one worker for each, fed from the informer of the node's pods, from the manifests of static
//! ones and from the runtime's events. What the runtime has and nobody asks for is removed.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coracle_informer::{CancellationToken, Change, SharedInformer};
use coracle_runtime::{Event, EventKind};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::mirror::{self, FullName, full_name};
use crate::pod::context::Context;
use crate::pod::start::sandbox::uid_of;
use crate::pod::worker::{Inbox, Leftovers, Stop, Worker, clean};

/// After a worker's panic, before it is started again.
const AFTER_PANIC: Duration = Duration::from_secs(1);
/// Between attempts at removing what a deleted pod left.
const ORPHAN_RETRY: Duration = Duration::from_secs(10);
/// How long the API server may take to hear of the last ends.
const TELLING: Duration = Duration::from_secs(5);

/// The workers of a node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pods {
    cx: Arc<Context>,
    workers: Arc<Mutex<HashMap<String, Handle>>>,
    leftovers: Arc<Mutex<HashMap<String, Leftovers>>>,
    statics: Arc<Mutex<Statics>>,
    /// Counts changes of static pods and of mirrors.
    mirrors: watch::Sender<u64>,
    /// Ends the workers where they are; pods run on.
    shutdown: CancellationToken,
}

struct Handle {
    inbox: Arc<Inbox>,
    pod: Arc<Pod>,
}

/// Static pods as they are asked for, and as the API shows them.
#[derive(Default)]
struct Statics {
    wanted: BTreeMap<FullName, Arc<Pod>>,
    mirrors: BTreeMap<FullName, Arc<Pod>>,
}

/// A pod that has not ended.
#[derive(Clone)]
pub(crate) struct ActivePod {
    pub(crate) pod: Arc<Pod>,
    inbox: Arc<Inbox>,
}

impl ActivePod {
    pub(crate) fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Ends it for the node's sake.
    pub(crate) fn stop(&self, stop: Stop) {
        self.inbox.stop(stop);
    }

    /// Returns when nothing of it runs any more.
    pub(crate) async fn ended(&self) {
        self.inbox.ended().await;
    }
}

impl Pods {
    /// Reads what runs already.
    pub(crate) async fn new(cx: Arc<Context>, shutdown: CancellationToken) -> Self {
        let leftovers = leftovers(&cx).await;
        let live = leftovers.values().flat_map(|l| &l.sandboxes);
        let live = live.map(|sandbox| sandbox.id.to_string()).collect();
        if let Err(error) = cx.network.keep_only(&live).await {
            tracing::warn!(error, "addresses that an earlier agent left were not taken back");
        }
        Self {
            cx,
            workers: Arc::default(),
            leftovers: Arc::new(Mutex::new(leftovers)),
            statics: Arc::default(),
            mirrors: watch::Sender::new(0),
            shutdown,
        }
    }

    pub(crate) fn context(&self) -> Arc<Context> {
        self.cx.clone()
    }

    /// The pods that have not ended, in no order.
    pub(crate) fn active(&self) -> Vec<ActivePod> {
        let workers = self.workers.lock();
        let all = workers.values().filter(|h| !h.inbox.has_ended());
        all.map(|h| ActivePod {
            pod: h.pod.clone(),
            inbox: h.inbox.clone(),
        })
        .collect()
    }

    /// Asks every pod that has ended for what it need not keep of the disk.
    pub(crate) fn reclaim(&self) {
        let workers = self.workers.lock();
        workers
            .values()
            .filter(|h| h.inbox.has_ended())
            .for_each(|h| h.inbox.reclaim());
    }

    /// Takes up every pod that the informer knows and will know, then removes what belongs to none.
    pub(crate) async fn follow(&self, informer: &SharedInformer<Pod>) {
        let pods = self.clone();
        informer.add_handler(move |change| match change {
            Change::Deleted { object, .. } if mirror::is_mirror(object) => pods.mirror(object, None),
            Change::Deleted { object, .. } => pods.gone(object),
            other if mirror::is_mirror(other.object()) => {
                let mirror = other.object().clone();
                pods.mirror(&mirror, Some(mirror.clone()));
            }
            other => pods.take(other.object().clone()),
        });
        informer.synced().await;
        self.remove_orphans();
    }

    /// Listens to the runtime.
    pub(crate) fn listen_to_runtime(&self) {
        let events = self.cx.runtime.events();
        self.spawn(self.clone().listen(events));
    }

    /// These are the static pods now.
    pub(crate) fn set_static(&self, pods: Vec<Arc<Pod>>) {
        self.statics.lock().wanted = pods.into_iter().map(|p| (full_name(&p), p)).collect();
        self.settle_static();
    }

    /// Starts the static pods that should run, once those they replace have ended, and ends those that should not.
    fn settle_static(&self) {
        let wanted = self.statics.lock().wanted.clone();
        let running: Vec<Arc<Pod>> = {
            let workers = self.workers.lock();
            let all = workers.values().map(|h| h.pod.clone());
            all.filter(|pod| mirror::is_static(pod)).collect()
        };
        for pod in &running {
            let stays = wanted.get(&full_name(pod));
            if stays.is_none_or(|w| w.metadata.uid != pod.metadata.uid) {
                self.gone(pod);
            }
        }
        for (name, pod) in wanted {
            let replaces = |other: &Arc<Pod>| full_name(other) == name && other.metadata.uid != pod.metadata.uid;
            if !running.iter().any(replaces) {
                let known = self.statics.lock().mirrors.get(&name).cloned();
                self.take(pod.clone());
                if let Some(mirror) = known {
                    self.show(&mirror, Some(mirror.clone()));
                }
            }
        }
        self.mirrors.send_modify(|n| *n += 1);
    }

    /// The API shows a static pod like this now; or no more.
    fn mirror(&self, known: &Pod, now: Option<Arc<Pod>>) {
        let name = full_name(known);
        {
            let mirrors = &mut self.statics.lock().mirrors;
            match &now {
                Some(mirror) => drop(mirrors.insert(name, mirror.clone())),
                // Another of its name may be there already.
                None if mirrors.get(&name).is_some_and(|m| m.metadata.uid == known.metadata.uid) => {
                    mirrors.remove(&name);
                }
                None => {}
            }
        }
        self.show(known, now);
        self.mirrors.send_modify(|n| *n += 1);
    }

    fn show(&self, known: &Pod, now: Option<Arc<Pod>>) {
        if let Some(handle) = self.workers.lock().get(mirror::runtime_uid(known)) {
            handle.inbox.mirror(now);
        }
    }

    /// The static pods that the API should show, and the mirrors that it has. One that is ending is shown to its end.
    pub(crate) fn mirrors(&self) -> (Vec<Arc<Pod>>, BTreeMap<FullName, Arc<Pod>>) {
        let running: Vec<Arc<Pod>> = {
            let workers = self.workers.lock();
            let all = workers.values().map(|h| h.pod.clone());
            all.filter(|pod| mirror::is_static(pod)).collect()
        };
        (running, self.statics.lock().mirrors.clone())
    }

    pub(crate) fn mirror_changes(&self) -> watch::Receiver<u64> {
        self.mirrors.subscribe()
    }

    fn take(&self, pod: Arc<Pod>) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        let mut workers = self.workers.lock();
        if let Some(handle) = workers.get_mut(&uid) {
            handle.pod = pod.clone();
            handle.inbox.pod(pod);
            return;
        }
        let inbox: Arc<Inbox> = Arc::default();
        let wake = inbox.clone();
        self.cx.objects.follow(&pod, Arc::new(move || wake.objects()));
        let handle = Handle {
            inbox: inbox.clone(),
            pod,
        };
        workers.insert(uid.clone(), handle);
        let leftovers = self.leftovers.lock().remove(&uid);
        if leftovers.is_some() {
            // What has happened to them since they were read was told to nobody.
            inbox.recheck();
        }
        self.spawn(self.clone().supervise(uid, inbox, leftovers.unwrap_or_default()));
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.shutdown.clone().run_until_cancelled_owned(task));
    }

    fn gone(&self, pod: &Pod) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        if let Some(handle) = self.workers.lock().get(uid) {
            handle.inbox.gone();
        }
    }

    async fn supervise(self, uid: String, inbox: Arc<Inbox>, mut found: Leftovers) {
        loop {
            let Some(pod) = self.workers.lock().get(&uid).map(|h| h.pod.clone()) else {
                return;
            };
            let worker = Worker::new(self.cx.clone(), inbox.clone(), pod, found);
            // A panic ends the worker alone; the end of this task ends the worker too.
            match AbortOnDropHandle::new(tokio::spawn(worker.run())).await {
                Ok(()) => break,
                Err(error) if error.is_cancelled() => return,
                Err(error) => {
                    tracing::error!(uid, %error, "a pod's worker panicked; it starts again");
                    self.cx.clock.sleep(AFTER_PANIC).await;
                    found = leftovers(&self.cx).await.remove(&uid).unwrap_or_default();
                }
            }
        }
        let handle = self.workers.lock().remove(&uid);
        if let Some(handle) = handle {
            self.cx.objects.unfollow(&handle.pod);
            if mirror::is_static(&handle.pod) {
                self.settle_static();
            }
        }
    }

    async fn listen(self, mut events: tokio::sync::broadcast::Receiver<Event>) {
        loop {
            match events.recv().await {
                Ok(event) => self.tell(&event),
                Err(RecvError::Lagged(lost)) => {
                    tracing::info!(lost, "events of the runtime were lost; every pod is looked at");
                    self.workers.lock().values().for_each(|h| h.inbox.recheck());
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn tell(&self, event: &Event) {
        let uid = uid_of(&event.sandbox);
        if let Some(handle) = self.workers.lock().get(uid) {
            return handle.inbox.happened(event);
        }
        if event.kind == EventKind::SandboxReady && !self.leftovers.lock().contains_key(uid) {
            // The start of it was given up, and the pod has gone since.
            self.remove_orphan(uid.to_owned(), None);
        }
    }

    /// Pods that were deleted while nobody looked.
    fn remove_orphans(&self) {
        let orphans: Vec<_> = self.leftovers.lock().drain().collect();
        let mut found: BTreeMap<String, Option<PathBuf>> = orphans.into_iter().map(|(uid, _)| (uid, None)).collect();
        for name in names(&self.cx.data_dir.join("pods")) {
            found.entry(name).or_default();
        }
        let logs = self.cx.data_dir.join("logs");
        for name in names(&logs) {
            // `<namespace>_<name>_<uid>`
            if let Some((_, uid)) = name.rsplit_once('_') {
                found.insert(uid.to_owned(), Some(logs.join(&name)));
            }
        }
        let known = self.workers.lock();
        for (uid, logs) in found.into_iter().filter(|(uid, _)| !known.contains_key(uid)) {
            self.remove_orphan(uid, logs);
        }
    }

    fn remove_orphan(&self, uid: String, logs: Option<PathBuf>) {
        tracing::info!(uid, "removing what a deleted pod left");
        let cx = self.cx.clone();
        self.spawn(async move {
            while let Err(error) = clean(&cx, &uid, logs.clone()).await {
                tracing::warn!(uid, error, "what a deleted pod left was not removed; it is tried again");
                cx.clock.sleep(ORPHAN_RETRY).await;
            }
        });
    }

    /// Returns when the API knows of every pod that has ended; it is not waited for long.
    pub(crate) async fn told(&self) {
        let ended: Vec<_> = {
            let workers = self.workers.lock();
            let all = workers.values().filter(|h| h.inbox.has_ended());
            all.map(|h| h.inbox.clone()).collect()
        };
        let all = futures::future::join_all(ended.iter().map(|inbox| inbox.told()));
        if self.cx.clock.timeout(TELLING, all).await.is_err() {
            tracing::warn!("the API server was not told of every pod's end");
        }
    }

    /// How many pods have a worker.
    pub(crate) fn len(&self) -> usize {
        self.workers.lock().len()
    }
}

fn names(directory: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

async fn leftovers(cx: &Context) -> HashMap<String, Leftovers> {
    let mut found: HashMap<String, Leftovers> = HashMap::new();
    for sandbox in cx.runtime.sandboxes().await {
        found
            .entry(uid_of(&sandbox.id).to_owned())
            .or_default()
            .sandboxes
            .push(sandbox);
    }
    for container in cx.runtime.containers().await {
        found
            .entry(uid_of(&container.sandbox).to_owned())
            .or_default()
            .containers
            .push(container);
    }
    found
}

#[cfg(test)]
#[path = "pods_tests.rs"]
mod tests;
