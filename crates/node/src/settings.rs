//! How an agent is set up, with upstream's defaults. Reading a KubeletConfiguration is in [`file`]; nothing here acts.

mod file;

use std::path::PathBuf;
use std::time::Duration;

use coracle_api::quantity::{Quantity, QuantityFormat};
use coracle_runtime::LogLimits;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Taint;
use serde_json::{Map, Value, json};

use crate::eviction::threshold::Threshold;
use crate::pod::backoff;
use crate::user_ids;

/// The priority from which on a pod is critical to its node: that of `system-cluster-critical`.
pub(crate) const CRITICAL: i32 = 2_000_000_000;

/// What of a KubeletConfiguration this agent heeds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A directory (or one file) of pods that run without the API server's knowing: `staticPodPath`.
    pub static_pods: Option<PathBuf>,
    pub max_pods: u32,
    /// Most processes of one pod; -1 is no limit. Upstream has none by default and lets one pod take the machine's.
    pub pod_pids_limit: i64,
    /// Ids of a pod with users of its own.
    pub(crate) ids_per_pod: u32,
    /// Taints that the node is registered with.
    pub(crate) taints: Vec<Taint>,
    /// Kernel parameters that pods may set besides the safe ones; `net.core.*` is all that begin so.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// How long a node's shutdown waits for pods, by their priority; empty: it does not.
    pub shutdown: Vec<ShutdownGroup>,
    pub(crate) eviction: EvictionSettings,
    pub(crate) images: ImageSettings,
    /// How long the runtime may take over a call before it counts as failed.
    pub(crate) runtime_request_timeout: Duration,
    /// How much of a container's log is kept; for who opens the runtime.
    pub logs: LogLimits,
    /// To which the pause before a container's restart grows.
    pub(crate) longest_restart_delay: SignedDuration,
}

/// Pods of this priority and up, to the next group's, are ended together within so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownGroup {
    pub priority: i32,
    pub period: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct EvictionSettings {
    pub(crate) thresholds: Vec<Threshold>,
    /// How long a condition is told after its threshold was last met.
    pub(crate) transition: Duration,
    /// The grace that a soft threshold leaves a pod at most.
    pub(crate) max_grace: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ImageSettings {
    /// Percent of the disk in use at which images are removed, and down to which.
    pub(crate) high: u8,
    pub(crate) low: u8,
    /// An image younger than this is left alone.
    pub(crate) min_age: Duration,
    /// One that nobody has used for so long goes though there is room; zero: it stays.
    pub(crate) max_age: Duration,
}

impl Settings {
    /// As `/configz` shows them: the fields of a KubeletConfiguration.
    pub(crate) fn fields(&self) -> Value {
        let seconds = |period: Duration| format!("{}s", period.as_secs());
        let binary =
            |bytes: u64| Quantity::new(i64::try_from(bytes).unwrap_or(i64::MAX), QuantityFormat::BinarySi).to_string();
        let thresholds = |hard: bool| -> Value {
            let own = self.eviction.thresholds.iter().filter(|t| t.is_hard() == hard);
            own.map(|t| (t.signal.name().to_owned(), json!(t.value.to_string())))
                .collect::<Map<_, _>>()
                .into()
        };
        let groups = self
            .shutdown
            .iter()
            .map(|g| json!({"priority": g.priority, "shutdownGracePeriodSeconds": g.period.as_secs()}));
        json!({
            "staticPodPath": self.static_pods,
            "maxPods": self.max_pods,
            "podPidsLimit": self.pod_pids_limit,
            "userNamespaces": {"idsPerPod": self.ids_per_pod},
            "registerWithTaints": self.taints,
            "allowedUnsafeSysctls": self.allowed_unsafe_sysctls,
            "runtimeRequestTimeout": seconds(self.runtime_request_timeout),
            "containerLogMaxSize": binary(self.logs.size),
            "containerLogMaxFiles": self.logs.files,
            "crashLoopBackOff": {
                "maxContainerRestartPeriod": format!("{}s", self.longest_restart_delay.as_secs()),
            },
            "evictionHard": thresholds(true),
            "evictionSoft": thresholds(false),
            "evictionPressureTransitionPeriod": seconds(self.eviction.transition),
            "evictionMaxPodGracePeriod": self.eviction.max_grace.as_secs(),
            "imageGCHighThresholdPercent": self.images.high,
            "imageGCLowThresholdPercent": self.images.low,
            "imageMinimumGCAge": seconds(self.images.min_age),
            "imageMaximumGCAge": seconds(self.images.max_age),
            "shutdownGracePeriodByPodPriority": groups.collect::<Vec<_>>(),
        })
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            static_pods: None,
            max_pods: 110,
            pod_pids_limit: 4096,
            ids_per_pod: user_ids::UNIT,
            taints: Vec::new(),
            allowed_unsafe_sysctls: Vec::new(),
            shutdown: Vec::new(),
            eviction: EvictionSettings {
                thresholds: Threshold::defaults(),
                transition: Duration::from_secs(300),
                max_grace: Duration::ZERO,
            },
            images: ImageSettings {
                high: 85,
                low: 80,
                min_age: Duration::from_secs(120),
                max_age: Duration::ZERO,
            },
            runtime_request_timeout: Duration::from_secs(120),
            logs: LogLimits::default(),
            longest_restart_delay: backoff::LONGEST,
        }
    }
}
