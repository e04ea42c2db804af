//! A KubeletConfiguration (`kubelet.config.k8s.io/v1beta1`) as settings. Fields that this agent does not heed are named, so
//! that nobody waits for an effect that does not come.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_api::quantity::Quantity;
use coracle_runtime::LogLimits;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Taint;
use serde::Deserialize;
use serde_json::Value;

use super::{CRITICAL, Settings, ShutdownGroup};
use crate::eviction::threshold::{self, Threshold};
use crate::pod::backoff;
use crate::pod::kernel_support::is_namespaced;
use crate::user_ids;

const KIND: &str = "KubeletConfiguration";
const VERSION: &str = "kubelet.config.k8s.io/v1beta1";

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Syntax(String),
    #[error("apiVersion and kind are {0:?}; they must be {VERSION} and {KIND}")]
    Kind(String),
    #[error("{field}: {reason}")]
    Field { field: &'static str, reason: String },
}

fn wrong(field: &'static str, reason: impl Into<String>) -> Error {
    Error::Field {
        field,
        reason: reason.into(),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    static_pod_path: Option<String>,
    max_pods: Option<u32>,
    pod_pids_limit: Option<i64>,
    #[serde(default)]
    allowed_unsafe_sysctls: Vec<String>,
    shutdown_grace_period: Option<String>,
    shutdown_grace_period_critical_pods: Option<String>,
    shutdown_grace_period_by_pod_priority: Option<Vec<Group>>,
    eviction_hard: Option<BTreeMap<String, String>>,
    eviction_soft: Option<BTreeMap<String, String>>,
    eviction_soft_grace_period: Option<BTreeMap<String, String>>,
    eviction_minimum_reclaim: Option<BTreeMap<String, String>>,
    eviction_pressure_transition_period: Option<String>,
    eviction_max_pod_grace_period: Option<i64>,
    #[serde(rename = "imageGCHighThresholdPercent")]
    image_high: Option<u8>,
    #[serde(rename = "imageGCLowThresholdPercent")]
    image_low: Option<u8>,
    #[serde(rename = "imageMinimumGCAge")]
    image_min_age: Option<String>,
    #[serde(rename = "imageMaximumGCAge")]
    image_max_age: Option<String>,
    runtime_request_timeout: Option<String>,
    container_log_max_size: Option<String>,
    container_log_max_files: Option<usize>,
    #[serde(default)]
    user_namespaces: UserNamespaces,
    #[serde(default)]
    register_with_taints: Vec<Taint>,
    #[serde(default)]
    crash_loop_back_off: CrashLoopBackOff,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct CrashLoopBackOff {
    max_container_restart_period: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct UserNamespaces {
    ids_per_pod: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    priority: i32,
    shutdown_grace_period_seconds: u64,
}

impl Settings {
    /// Reads a configuration; also the names of its fields that have no effect here.
    pub fn parse(text: &str) -> Result<(Self, Vec<String>), Error> {
        let file: File = serde_saphyr::from_str(text).map_err(|e| Error::Syntax(e.to_string()))?;
        if (file.api_version.as_str(), file.kind.as_str()) != (VERSION, KIND) {
            return Err(Error::Kind(format!("{} {}", file.api_version, file.kind)));
        }
        let mut settings = Self {
            static_pods: file.static_pod_path.as_ref().filter(|p| !p.is_empty()).map(Into::into),
            ..Self::default()
        };
        if let Some(most) = file.max_pods {
            settings.max_pods = most;
        }
        if let Some(limit) = file.pod_pids_limit {
            settings.pod_pids_limit = if limit > 0 { limit } else { -1 };
        }
        settings.ids_per_pod = file.user_namespaces.ids_per_pod.unwrap_or(settings.ids_per_pod);
        if settings.ids_per_pod == 0 || !settings.ids_per_pod.is_multiple_of(user_ids::UNIT) {
            return Err(wrong("userNamespaces.idsPerPod", "must be a multiple of 65536"));
        }
        if settings.ids_per_pod.checked_mul(settings.max_pods).is_none() {
            let reason = format!("{} pods cannot have so many each", settings.max_pods);
            return Err(wrong("userNamespaces.idsPerPod", reason));
        }
        settings.taints = taints(&file.register_with_taints)?;
        settings.allowed_unsafe_sysctls = sysctls(&file.allowed_unsafe_sysctls)?;
        let duration = |field, text: &Option<String>, default| match text {
            None => Ok(default),
            Some(text) => go_duration(text).ok_or_else(|| wrong(field, not_a_duration(text))),
        };
        settings.shutdown = shutdown(&file)?;
        settings.eviction.thresholds = thresholds(&file)?;
        let eviction = &mut settings.eviction;
        eviction.transition = duration(
            "evictionPressureTransitionPeriod",
            &file.eviction_pressure_transition_period,
            eviction.transition,
        )?;
        if let Some(seconds) = file.eviction_max_pod_grace_period {
            eviction.max_grace = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        }
        let images = &mut settings.images;
        images.min_age = duration("imageMinimumGCAge", &file.image_min_age, images.min_age)?;
        images.max_age = duration("imageMaximumGCAge", &file.image_max_age, images.max_age)?;
        images.high = file.image_high.unwrap_or(images.high);
        images.low = file.image_low.unwrap_or(images.low);
        if images.high > 100 {
            return Err(wrong("imageGCHighThresholdPercent", "must be between 0 and 100"));
        }
        if images.low >= images.high {
            return Err(wrong(
                "imageGCLowThresholdPercent",
                "must be less than imageGCHighThresholdPercent",
            ));
        }
        settings.runtime_request_timeout = duration(
            "runtimeRequestTimeout",
            &file.runtime_request_timeout,
            settings.runtime_request_timeout,
        )?;
        settings.logs = logs(&file)?;
        let field = "crashLoopBackOff.maxContainerRestartPeriod";
        if let Some(text) = &file.crash_loop_back_off.max_container_restart_period {
            let longest = go_duration(text).ok_or_else(|| wrong(field, not_a_duration(text)))?;
            let longest = SignedDuration::try_from(longest).unwrap_or(SignedDuration::MAX);
            if longest < SignedDuration::from_secs(1) || longest > backoff::LONGEST {
                return Err(wrong(field, "must be between 1s and 300s"));
            }
            settings.longest_restart_delay = longest;
        }
        Ok((settings, file.others.into_keys().collect()))
    }
}

fn taints(written: &[Taint]) -> Result<Vec<Taint>, Error> {
    let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    match written
        .iter()
        .find(|taint| taint.key.is_empty() || !known.contains(&taint.effect.as_str()))
    {
        Some(taint) => {
            let reason = format!("{:?} with the effect {:?} is no taint", taint.key, taint.effect);
            Err(wrong("registerWithTaints", reason))
        }
        None => Ok(written.to_vec()),
    }
}

fn logs(file: &File) -> Result<LogLimits, Error> {
    let mut limits = LogLimits::default();
    if let Some(text) = &file.container_log_max_size {
        let size = text.parse::<Quantity>().ok().map(|q| q.value());
        let size = size.and_then(|size| u64::try_from(size).ok()).filter(|size| *size > 0);
        let reason = || format!("{text:?} is no size; write for example 10Mi");
        limits.size = size.ok_or_else(|| wrong("containerLogMaxSize", reason()))?;
    }
    limits.files = file.container_log_max_files.unwrap_or(limits.files);
    if limits.files < 2 {
        return Err(wrong(
            "containerLogMaxFiles",
            "must be 2 or more: the one being written counts",
        ));
    }
    Ok(limits)
}

/// Only what a namespace of the pod has can be allowed: the rest is the host's.
fn sysctls(names: &[String]) -> Result<Vec<String>, Error> {
    let field = "allowedUnsafeSysctls";
    for name in names {
        if !is_namespaced(name.strip_suffix('*').unwrap_or(name)) {
            return Err(wrong(field, format!("{name:?} belongs to no namespace of a pod")));
        }
    }
    Ok(names.to_vec())
}

fn not_a_duration(text: &str) -> String {
    format!("{text:?} is no duration; write for example 30s or 1m30s")
}

fn shutdown(file: &File) -> Result<Vec<ShutdownGroup>, Error> {
    if let Some(groups) = file
        .shutdown_grace_period_by_pod_priority
        .as_ref()
        .filter(|g| !g.is_empty())
    {
        if file.shutdown_grace_period.is_some() || file.shutdown_grace_period_critical_pods.is_some() {
            return Err(wrong(
                "shutdownGracePeriodByPodPriority",
                "may not be set beside shutdownGracePeriod or shutdownGracePeriodCriticalPods",
            ));
        }
        let mut groups: Vec<_> = groups
            .iter()
            .map(|g| ShutdownGroup {
                priority: g.priority,
                period: Duration::from_secs(g.shutdown_grace_period_seconds),
            })
            .collect();
        groups.sort_by_key(|g| g.priority);
        return Ok(groups);
    }
    let period = |field, text: &Option<String>| match text {
        None => Ok(Duration::ZERO),
        Some(text) => go_duration(text).ok_or_else(|| wrong(field, not_a_duration(text))),
    };
    let whole = period("shutdownGracePeriod", &file.shutdown_grace_period)?;
    let critical = period(
        "shutdownGracePeriodCriticalPods",
        &file.shutdown_grace_period_critical_pods,
    )?;
    let Some(rest) = whole.checked_sub(critical) else {
        return Err(wrong(
            "shutdownGracePeriodCriticalPods",
            "may not be longer than shutdownGracePeriod",
        ));
    };
    if whole.is_zero() {
        return Ok(Vec::new());
    }
    Ok(vec![
        ShutdownGroup {
            priority: 0,
            period: rest,
        },
        ShutdownGroup {
            priority: CRITICAL,
            period: critical,
        },
    ])
}

fn thresholds(file: &File) -> Result<Vec<Threshold>, Error> {
    let mut all = match &file.eviction_hard {
        None => Threshold::defaults(),
        Some(hard) => each("evictionHard", hard)?
            .into_iter()
            .map(|(signal, value)| Threshold {
                signal,
                value,
                grace: Duration::ZERO,
                min_reclaim: None,
            })
            .collect(),
    };
    let graces = file.eviction_soft_grace_period.clone().unwrap_or_default();
    for (signal, value) in each("evictionSoft", file.eviction_soft.as_ref().unwrap_or(&BTreeMap::new()))? {
        let grace = graces.get(signal.name()).and_then(|text| go_duration(text));
        let Some(grace) = grace.filter(|g| !g.is_zero()) else {
            return Err(wrong(
                "evictionSoftGracePeriod",
                format!("{} has a soft threshold and needs a grace period here", signal.name()),
            ));
        };
        all.push(Threshold {
            signal,
            value,
            grace,
            min_reclaim: None,
        });
    }
    let reclaims = file.eviction_minimum_reclaim.clone().unwrap_or_default();
    for (signal, value) in each("evictionMinimumReclaim", &reclaims)? {
        for threshold in all.iter_mut().filter(|t| t.signal == signal) {
            threshold.min_reclaim = Some(value);
        }
    }
    // A threshold of nothing is never met: upstream's way to switch one off.
    all.retain(|t| !t.value.is_zero());
    Ok(all)
}

fn each(
    field: &'static str,
    entries: &BTreeMap<String, String>,
) -> Result<Vec<(threshold::Signal, threshold::Value)>, Error> {
    let parsed = entries.iter().map(|(signal, value)| {
        let signal = threshold::Signal::parse(signal).ok_or_else(|| {
            wrong(
                field,
                format!("{signal:?} is no signal; there are {}", threshold::Signal::names()),
            )
        })?;
        let value = threshold::Value::parse(value).ok_or_else(|| {
            wrong(
                field,
                format!("{}: {value:?} is neither a quantity nor a percentage", signal.name()),
            )
        })?;
        Ok((signal, value))
    });
    parsed.collect()
}

/// A duration as Go writes it: `1m30s`, `1.5h`, `0`.
pub(crate) fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        let unit = rest.get(digits..)?;
        let length = unit
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(unit.len());
        seconds += number
            * match unit.get(..length)? {
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = unit.get(length..)?;
    }
    (!text.is_empty())
        .then(|| Duration::try_from_secs_f64(seconds).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(fields: &str) -> Result<(Settings, Vec<String>), Error> {
        Settings::parse(&format!("apiVersion: {VERSION}\nkind: {KIND}\n{fields}"))
    }

    fn shown(settings: &Settings) -> Vec<String> {
        let all = settings.eviction.thresholds.iter();
        all.map(|t| format!("{}<{} after {}s", t.signal.name(), t.value, t.grace.as_secs()))
            .collect()
    }

    #[test]
    fn without_a_field_upstream_s_default_holds() {
        let (settings, ignored) = parse("").unwrap();
        assert_eq!(
            shown(&settings),
            [
                "memory.available<100Mi after 0s",
                "nodefs.available<5% after 0s",
                "nodefs.inodesFree<5% after 0s",
                "imagefs.available<5% after 0s",
                "imagefs.inodesFree<5% after 0s",
            ]
        );
        assert_eq!(settings.longest_restart_delay, SignedDuration::from_secs(300));
        assert_eq!(settings.fields()["containerLogMaxSize"], "10Mi");
        let (logs, _) = parse("containerLogMaxSize: 64Ki\ncontainerLogMaxFiles: 3").unwrap();
        assert_eq!((logs.logs.size, logs.logs.files), (64 << 10, 3));
        let fields = "crashLoopBackOff: {maxContainerRestartPeriod: 1m40s}";
        assert_eq!(
            parse(fields).unwrap().0.longest_restart_delay,
            SignedDuration::from_secs(100)
        );
        assert!(ignored.is_empty() && settings.shutdown.is_empty() && settings.static_pods.is_none());
    }

    #[test]
    fn thresholds_are_replaced_softened_and_switched_off() {
        let fields = "evictionHard: {memory.available: 500Mi, nodefs.available: 0%}\n\
            evictionSoft: {memory.available: 1Gi}\nevictionSoftGracePeriod: {memory.available: 1m30s}\n\
            evictionMinimumReclaim: {memory.available: 10Mi}\ncgroupDriver: systemd";
        let (settings, ignored) = parse(fields).unwrap();
        assert_eq!(
            shown(&settings),
            ["memory.available<500Mi after 0s", "memory.available<1Gi after 90s"]
        );
        assert!(settings.eviction.thresholds.iter().all(|t| t.min_reclaim.is_some()));
        assert_eq!(ignored, ["cgroupDriver"]);
    }

    #[test]
    fn unsafe_sysctls_are_allowed_by_name_or_beginning_where_a_namespace_has_them() {
        let (settings, _) = parse("allowedUnsafeSysctls: [kernel.msg*, net.core.somaxconn]").unwrap();
        assert_eq!(settings.allowed_unsafe_sysctls, ["kernel.msg*", "net.core.somaxconn"]);
        let error = parse("allowedUnsafeSysctls: [vm.*]").unwrap_err().to_string();
        assert_eq!(error, "allowedUnsafeSysctls: \"vm.*\" belongs to no namespace of a pod");
    }

    /// concepts/workloads/pods/user-namespaces: ID count for each of Pods.
    #[test]
    fn the_value_of_ids_per_pod_must_be_a_multiple_of_65536_which_is_the_default() {
        assert_eq!(parse("").unwrap().0.ids_per_pod, 65_536);
        let (settings, ignored) = parse("userNamespaces: {idsPerPod: 1048576}").unwrap();
        assert_eq!(settings.ids_per_pod, 1_048_576);
        assert_eq!(settings.fields()["userNamespaces"]["idsPerPod"], 1_048_576);
        assert!(ignored.is_empty());
        assert!(parse("userNamespaces: {idsPerPod: 65537}").is_err());
    }

    /// concepts/architecture/nodes: self-registration of nodes.
    #[test]
    fn a_node_is_registered_with_the_given_list_of_taints() {
        let (settings, _) = parse("registerWithTaints: [{key: gpu, value: a, effect: NoSchedule}]").unwrap();
        let taint = &settings.taints[0];
        assert_eq!((taint.key.as_str(), taint.value.as_deref()), ("gpu", Some("a")));
    }

    #[test]
    fn a_shutdown_has_two_groups_or_those_that_are_written() {
        let (settings, _) = parse("shutdownGracePeriod: 30s\nshutdownGracePeriodCriticalPods: 10s").unwrap();
        let groups =
            |s: &Settings| -> Vec<(i32, u64)> { s.shutdown.iter().map(|g| (g.priority, g.period.as_secs())).collect() };
        assert_eq!(groups(&settings), [(0, 20), (CRITICAL, 10)]);
        let by_priority = "shutdownGracePeriodByPodPriority:\n- {priority: 1000, shutdownGracePeriodSeconds: 5}\n\
            - {priority: 0, shutdownGracePeriodSeconds: 60}";
        assert_eq!(groups(&parse(by_priority).unwrap().0), [(0, 60), (1000, 5)]);
    }

    #[test]
    fn a_mistake_is_named_by_its_field() {
        for (fields, expected) in [
            (
                "evictionHard: {memory.free: 1Gi}",
                "evictionHard: \"memory.free\" is no signal",
            ),
            (
                "evictionHard: {memory.available: lots}",
                "evictionHard: memory.available: \"lots\"",
            ),
            (
                "evictionSoft: {memory.available: 1Gi}",
                "evictionSoftGracePeriod: memory.available",
            ),
            ("imageMinimumGCAge: soon", "imageMinimumGCAge: \"soon\" is no duration"),
            (
                "imageGCLowThresholdPercent: 90",
                "imageGCLowThresholdPercent: must be less",
            ),
            (
                "crashLoopBackOff: {maxContainerRestartPeriod: 301s}",
                "crashLoopBackOff.maxContainerRestartPeriod: must be between 1s and 300s",
            ),
            (
                "crashLoopBackOff: {maxContainerRestartPeriod: 0s}",
                "crashLoopBackOff.maxContainerRestartPeriod: must be between",
            ),
            (
                "userNamespaces: {idsPerPod: 100000}",
                "userNamespaces.idsPerPod: must be a multiple of 65536",
            ),
            (
                "userNamespaces: {idsPerPod: 67108864}",
                "userNamespaces.idsPerPod: 110 pods cannot have so many",
            ),
            (
                "registerWithTaints: [{key: a, effect: Sometimes}]",
                "registerWithTaints: \"a\" with the effect \"Sometimes\" is no taint",
            ),
            ("containerLogMaxSize: lots", "containerLogMaxSize: \"lots\" is no size"),
            ("containerLogMaxSize: 0", "containerLogMaxSize: \"0\" is no size"),
            ("containerLogMaxFiles: 1", "containerLogMaxFiles: must be 2 or more"),
            (
                "shutdownGracePeriodCriticalPods: 1s",
                "shutdownGracePeriodCriticalPods: may not",
            ),
        ] {
            let error = parse(fields).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.starts_with(expected), "{fields}: {error}");
        }
        assert!(Settings::parse("kind: Pod").is_err());
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, millis) in [
            ("5m0s", Some(300_000)),
            ("1.5h", Some(5_400_000)),
            ("0", Some(0)),
            ("250ms", Some(250)),
        ] {
            assert_eq!(go_duration(text).map(|d| d.as_millis()), millis, "{text}");
        }
        for text in ["", "5", "m", "5 minutes", "-1s"] {
            assert_eq!(go_duration(text), None, "{text}");
        }
    }
}
