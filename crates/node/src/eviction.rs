//! Eviction: when the node runs short of memory, disk or process ids, it takes back what nobody uses, then ends one pod
//! after the other until it has enough again; and it ends pods that outgrow the disk space they are limited to.
//!
//! [`threshold`] and [`rank`] decide and are pure; [`local_storage`] too. Here it is looked, every ten seconds, and acted.

mod local_storage;
pub(crate) mod rank;
pub(crate) mod threshold;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use coracle_client::event::EventRecorder;
use coracle_client::event::EventType as NodeEventType;
use k8s_openapi::api::core::v1::Node;

use crate::image_gc::{self, Collected, ImageCollector};
use crate::machine::{Disk, pids};
use crate::objects::EventType;
use crate::pod::context::Context;
use crate::pod::worker::Stop;
use crate::pods::{ActivePod, Pods};
use crate::stats::{MachineUsage, PodUsage, Sampler};
use rank::{Candidate, Usage};
use threshold::{Monitor, Observations, Observed, Resource, Signal, Threshold, Verdict};

/// As upstream: how often it is looked.
const PERIOD: Duration = Duration::from_secs(10);
/// How long an evicted pod is waited for before it is looked again.
const CLEANUP: Duration = Duration::from_secs(30);

/// Watches what the node has left, and acts on it.
pub(crate) struct Evictor {
    pub(crate) pods: Pods,
    pub(crate) sampler: Arc<Sampler>,
    pub(crate) images: ImageCollector,
    pub(crate) events: EventRecorder,
    pub(crate) node: Arc<Node>,
}

/// What the node has of everything.
fn observe(data_dir: &Path, image_dir: &Path) -> Observations {
    let machine = MachineUsage::read();
    let (most, present) = pids();
    let (node, image) = (Disk::read(data_dir), Disk::read(image_dir));
    let of = |available, capacity| Observed { available, capacity };
    let mut all: Observations = [
        (Signal::Memory, of(machine.available, machine.total)),
        (Signal::NodeFs, of(node.available, node.total)),
        (Signal::NodeFsInodes, of(node.inodes_free, node.inodes)),
        (Signal::ImageFs, of(image.available, image.total)),
        (Signal::ImageFsInodes, of(image.inodes_free, image.inodes)),
        (Signal::Pids, of(most.saturating_sub(present), most)),
    ]
    .into();
    // What cannot be read, or is not counted (a file system without a number of inodes), is not short.
    all.retain(|_, observed| observed.capacity > 0);
    all
}

impl Evictor {
    fn cx(&self) -> Arc<Context> {
        self.pods.context()
    }

    /// Looks for ever.
    pub(crate) async fn run(self) {
        let cx = self.cx();
        let settings = &cx.settings.eviction;
        let mut monitor = Monitor::default();
        let mut collect_images_at = cx.clock.instant() + image_gc::PERIOD;
        loop {
            let observed = self.observe();
            let verdict = monitor.observe(&settings.thresholds, settings.transition, &observed, cx.clock.now());
            cx.state.pressures.send_if_modified(|known| {
                let changed = *known != verdict.pressures;
                if changed {
                    tracing::info!(pressures = ?verdict.pressures, "the node's pressure has changed");
                    known.clone_from(&verdict.pressures);
                }
                changed
            });
            if !self.evict_over_limits().await {
                self.relieve(&verdict, &observed).await;
            }
            if cx.clock.instant() >= collect_images_at {
                collect_images_at = cx.clock.instant() + image_gc::PERIOD;
                let collected = self.images.collect_due().await;
                self.tell_of(collected);
            }
            cx.clock.sleep(PERIOD).await;
        }
    }

    fn observe(&self) -> Observations {
        let cx = self.cx();
        observe(&cx.data_dir, &cx.runtime.image_filesystem())
    }

    fn tell_of(&self, collected: Collected) {
        if collected.missing > 0 {
            let text = format!(
                "Failed to garbage collect required amount of images. Attempted to free {} bytes, but only found {} \
                 bytes eligible to free.",
                collected.missing.saturating_add(collected.bytes),
                collected.bytes
            );
            self.events
                .event(self.node.as_ref(), NodeEventType::Warning, "FreeDiskSpaceFailed", text);
        }
    }

    /// Takes back what nobody uses; if that is not enough, evicts one pod and waits for its end.
    async fn relieve(&self, verdict: &Verdict, observed: &Observations) {
        let Some(threshold) = verdict.exceeded.first() else {
            return;
        };
        let cx = self.cx();
        let resource = threshold.signal.resource();
        tracing::warn!(
            signal = threshold.signal.name(),
            threshold = %threshold.value,
            available = observed.get(&threshold.signal).map(|o| o.available),
            "the node is short of something"
        );
        self.events.event(
            self.node.as_ref(),
            NodeEventType::Warning,
            "EvictionThresholdMet",
            format!("Attempting to reclaim {}", resource.name()),
        );
        if matches!(resource, Resource::EphemeralStorage | Resource::Inodes) {
            self.pods.reclaim();
            self.images.collect_all().await;
            if threshold::relieved(&cx.settings.eviction.thresholds, &self.observe()) {
                tracing::info!("enough was taken back without evicting a pod");
                return;
            }
        }
        let usages = self.usages(resource).await;
        let active = self.pods.active();
        let candidates = active.iter().filter_map(|pod| {
            let usage = usages.get(pod.uid())?;
            (!rank::is_critical(&pod.pod)).then_some(Candidate { pod: &pod.pod, usage })
        });
        let ordered = rank::order(resource, candidates.collect());
        let Some(victim) = ordered.first().copied() else {
            tracing::warn!(resource = resource.name(), "no pod can be evicted");
            return;
        };
        let seen = observed.get(&threshold.signal).copied().unwrap_or_default();
        let message = rank::message(victim, threshold, seen);
        let uid = victim.pod.metadata.uid.as_deref().unwrap_or_default();
        let Some(pod) = active.iter().find(|p| p.uid() == uid) else {
            return;
        };
        let stop = Stop {
            reason: "Evicted".into(),
            message,
            grace: Some(grace(threshold, cx.settings.eviction.max_grace)),
            disruption: true,
        };
        self.evict(pod, stop).await;
    }

    async fn evict(&self, pod: &ActivePod, stop: Stop) {
        let cx = self.cx();
        let meta = &pod.pod.metadata;
        tracing::warn!(
            namespace = meta.namespace,
            pod = meta.name,
            message = stop.message,
            "a pod is evicted"
        );
        cx.event(&pod.pod, EventType::Warning, "Evicted", stop.message.clone());
        let limit = CLEANUP + stop.grace.unwrap_or_default();
        pod.stop(stop);
        if cx.clock.timeout(limit, pod.ended()).await.is_err() {
            tracing::warn!(pod = meta.name, "an evicted pod has not ended yet");
        }
    }

    /// Evicts the pods that use more of the disk than they may. Whether there were any.
    async fn evict_over_limits(&self) -> bool {
        let limited: Vec<ActivePod> = self
            .pods
            .active()
            .into_iter()
            .filter(|p| local_storage::is_limited(&p.pod) && !rank::is_critical(&p.pod))
            .collect();
        if limited.is_empty() {
            return false;
        }
        let mut evicted = false;
        for pod in limited {
            let Some(usage) = self.sampler.pod_disk(pod.uid()).await else {
                continue;
            };
            if let Some(message) = local_storage::over_limit(&pod.pod, &disk_of(&usage)) {
                evicted = true;
                let stop = Stop {
                    reason: "Evicted".into(),
                    message,
                    grace: Some(Duration::ZERO),
                    disruption: false,
                };
                self.evict(&pod, stop).await;
            }
        }
        evicted
    }

    /// What each pod uses of what is short.
    async fn usages(&self, resource: Resource) -> BTreeMap<String, Usage> {
        let disk = matches!(resource, Resource::EphemeralStorage | Resource::Inodes);
        let snapshot = self.sampler.take(disk).await;
        let all = snapshot.pods.iter().map(|pod| (pod.uid.clone(), usage(pod, resource)));
        all.collect()
    }
}

/// How long an evicted pod has.
fn grace(threshold: &Threshold, most: Duration) -> Duration {
    if threshold.is_hard() { Duration::ZERO } else { most }
}

fn usage(pod: &PodUsage, resource: Resource) -> Usage {
    let each = |part: &dyn Fn(&crate::stats::ContainerUsage) -> u64| -> Vec<(String, u64)> {
        pod.containers.iter().map(|c| (c.name.clone(), part(c))).collect()
    };
    match resource {
        Resource::Memory => Usage {
            total: pod.stats.memory_working_set,
            containers: each(&|c| c.stats.memory_working_set),
        },
        Resource::Pids => Usage {
            total: pod.stats.pids,
            containers: each(&|c| c.stats.pids),
        },
        Resource::EphemeralStorage | Resource::Inodes => {
            let of = |usage: &coracle_runtime::DiskUsage| match resource {
                Resource::Inodes => usage.inodes,
                _ => usage.bytes,
            };
            let containers = each(&|c| [&c.rootfs, &c.logs].into_iter().flatten().map(of).sum());
            let volumes: u64 = pod.volumes.iter().map(|v| of(&v.usage)).sum();
            Usage {
                total: containers.iter().map(|(_, used)| used).sum::<u64>() + volumes,
                containers,
            }
        }
    }
}

fn disk_of(pod: &PodUsage) -> local_storage::Used {
    let containers = pod.containers.iter().map(|c| {
        let bytes = [&c.rootfs, &c.logs].into_iter().flatten().map(|u| u.bytes).sum();
        (c.name.clone(), bytes)
    });
    local_storage::Used {
        containers: containers.collect(),
        volumes: pod.volumes.iter().map(|v| (v.name.clone(), v.usage.bytes)).collect(),
    }
}
