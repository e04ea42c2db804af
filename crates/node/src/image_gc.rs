//! Image garbage collection: unused images go when the disk is fuller than one threshold, the least recently used first,
//! until it is emptier than another; and those that nobody has used for very long. An image that a container is made of is
//! never removed, nor one that came from an archive: it could not be had again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_clock::{Clock, Timestamp};
use coracle_runtime::{ImageInfo, PodRuntime};
use parking_lot::Mutex;

use crate::machine::Disk;
use crate::settings::ImageSettings;

/// As upstream: how often it is looked whether there is something to do.
pub(crate) const PERIOD: Duration = Duration::from_secs(300);

/// When an image was first seen here, and last seen used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    first: Timestamp,
    last_used: Timestamp,
}

/// An image that may be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unused {
    id: String,
    size: u64,
    seen: Seen,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Plan {
    remove: Vec<String>,
    /// More bytes should have been freed, had there been any.
    missing: u64,
}

/// Which images go for `to_free` bytes, and which for their age. Pure.
fn plan(mut unused: Vec<Unused>, to_free: u64, min_age: Duration, max_age: Duration, now: Timestamp) -> Plan {
    let age = |since: Timestamp| Duration::try_from(now.duration_since(since)).unwrap_or_default();
    unused.sort_by_key(|i| (i.seen.last_used, i.seen.first));
    let mut plan = Plan {
        missing: to_free,
        ..Plan::default()
    };
    for image in unused {
        let too_old = !max_age.is_zero() && age(image.seen.last_used) > max_age;
        let young = age(image.seen.first) < min_age;
        if too_old || plan.missing > 0 && !young {
            plan.missing = plan.missing.saturating_sub(image.size);
            plan.remove.push(image.id);
        }
    }
    plan
}

/// How many bytes have to be freed for the disk to be no fuller than `low` percent; none if it is not fuller than `high`.
fn to_free(disk: Disk, high: u8, low: u8) -> u64 {
    let used = disk.total.saturating_sub(disk.available);
    let percent = |part: u8| disk.total / 100 * u64::from(part);
    if disk.total == 0 || high >= 100 || used < percent(high) {
        return 0;
    }
    used.saturating_sub(percent(low))
}

/// What one collection came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Collected {
    pub(crate) images: usize,
    pub(crate) bytes: u64,
    /// What should have been freed besides.
    pub(crate) missing: u64,
}

/// Removes images that nobody uses.
pub(crate) struct ImageCollector {
    runtime: Arc<dyn PodRuntime>,
    clock: Clock,
    settings: ImageSettings,
    seen: Mutex<BTreeMap<String, Seen>>,
}

impl ImageCollector {
    pub(crate) fn new(runtime: Arc<dyn PodRuntime>, clock: Clock, settings: ImageSettings) -> Self {
        Self {
            runtime,
            clock,
            settings,
            seen: Mutex::default(),
        }
    }

    /// Looks which images there are, which of them are used, and returns the others.
    async fn look(&self) -> Vec<Unused> {
        let (images, containers) = (self.runtime.images().await, self.runtime.containers().await);
        let now = self.clock.now();
        let mut seen = self.seen.lock();
        seen.retain(|id, _| images.iter().any(|i| i.id.as_str() == id));
        let used = |image: &ImageInfo| {
            containers
                .iter()
                .any(|c| c.image_id == image.id || c.image == image.id.as_str() || image.repo_tags.contains(&c.image))
        };
        let mut unused = Vec::new();
        for image in &images {
            let seen = seen.entry(image.id.as_str().to_owned()).or_insert(Seen {
                first: now,
                last_used: Timestamp::UNIX_EPOCH,
            });
            if used(image) {
                seen.last_used = now;
            } else if !image.repo_digests.is_empty() && !image.pinned {
                unused.push(Unused {
                    id: image.id.as_str().to_owned(),
                    size: image.size,
                    seen: *seen,
                });
            }
        }
        unused
    }

    async fn carry_out(&self, plan: Plan, sizes: &BTreeMap<String, u64>) -> Collected {
        let mut collected = Collected {
            missing: plan.missing,
            ..Collected::default()
        };
        for id in plan.remove {
            let size = sizes.get(&id).copied().unwrap_or(0);
            match self.runtime.remove_image(&id).await {
                Ok(()) => {
                    tracing::info!(image = id, bytes = size, "an unused image was removed");
                    collected.images += 1;
                    collected.bytes += size;
                }
                Err(error) => {
                    tracing::warn!(image = id, error = error.chain(), "an unused image was not removed");
                    collected.missing = collected.missing.saturating_add(size);
                }
            }
        }
        collected
    }

    async fn collect(&self, to_free: u64, max_age: Duration, min_age: Duration) -> Collected {
        let unused = self.look().await;
        let sizes = unused.iter().map(|i| (i.id.clone(), i.size)).collect();
        let plan = plan(unused, to_free, min_age, max_age, self.clock.now());
        self.carry_out(plan, &sizes).await
    }

    /// What is due by the thresholds and by age.
    pub(crate) async fn collect_due(&self) -> Collected {
        let disk = Disk::read(&self.runtime.image_filesystem());
        let to_free = to_free(disk, self.settings.high, self.settings.low);
        self.collect(to_free, self.settings.max_age, self.settings.min_age)
            .await
    }

    /// Every image that nobody uses: the disk is short.
    pub(crate) async fn collect_all(&self) -> Collected {
        let collected = self.collect(u64::MAX, Duration::ZERO, Duration::ZERO).await;
        Collected {
            missing: 0,
            ..collected
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::scripted::{Scripted, Shared};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn image(id: &str, size: u64, first: i64, last_used: i64) -> Unused {
        Unused {
            id: id.into(),
            size,
            seen: Seen {
                first: at(first),
                last_used: at(last_used),
            },
        }
    }

    const MINUTES: Duration = Duration::from_secs(120);

    #[test]
    fn the_least_recently_used_images_go_until_enough_is_free_and_young_ones_stay() {
        let images = || {
            vec![
                image("recent", 100, 0, 900),
                image("old", 100, 0, 100),
                image("older", 100, 0, 50),
                image("young", 100, 950, 0),
            ]
        };
        let plan = |to_free, max_age| {
            let plan = super::plan(images(), to_free, MINUTES, max_age, at(1000));
            (plan.remove.join(" "), plan.missing)
        };
        let never = Duration::ZERO;
        assert_eq!(plan(0, never), (String::new(), 0));
        assert_eq!(plan(101, never), ("older old".into(), 0));
        assert_eq!(plan(1000, never), ("older old recent".into(), 700));
        assert_eq!(
            plan(0, Duration::from_secs(920)),
            ("young older".into(), 0),
            "unused for longer than that"
        );
    }

    #[test]
    fn the_disk_is_emptied_from_the_high_to_the_low_threshold() {
        let disk = |available| Disk {
            total: 1000,
            available,
            ..Disk::default()
        };
        assert_eq!(to_free(disk(151), 85, 80), 0);
        assert_eq!(to_free(disk(150), 85, 80), 50);
        assert_eq!(to_free(disk(0), 85, 80), 200);
        assert_eq!(to_free(disk(0), 100, 80), 0, "a hundred switches it off");
        assert_eq!(to_free(Disk::default(), 85, 80), 0, "nothing is known of the disk");
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_in_use_and_one_from_an_archive_are_never_removed() {
        let clock = Clock::starting_at(at(0));
        let runtime = Scripted::new(clock);
        runtime.image("pulled:1", 10, true);
        runtime.image("imported:1", 10, false);
        runtime.image("used:1", 10, true);
        runtime.uses("used:1");
        let collector = ImageCollector::new(
            Arc::new(Shared(runtime.clone())),
            clock,
            crate::settings::Settings::default().images,
        );
        let collected = collector.collect_all().await;
        assert_eq!((collected.images, collected.bytes), (1, 10));
        assert_eq!(runtime.take_log(), ["0 remove_image pulled:1"]);
    }
}
