//! A KubeletConfiguration (`kubelet.config.k8s.io/v1beta1`) as settings. A mistake is told with its field and line; fields
//! that this agent does not heed are named, so that nobody waits for an effect that does not come.

use std::time::Duration;

use coracle_api::configuration::{ConfigError, Document, Field, Fields};
use coracle_api::quantity::Quantity;
use coracle_runtime::LogLimits;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Taint;

use super::{CRITICAL, ImageSettings, Settings, ShutdownGroup};
use crate::eviction::threshold::{Signal, Threshold, Value};
use crate::pod::backoff;
use crate::pod::kernel_support::is_namespaced;
use crate::user_ids;

const KIND: &str = "KubeletConfiguration";
const VERSION: &str = "kubelet.config.k8s.io/v1beta1";

impl Settings {
    /// Reads a configuration; also the names of its fields that have no effect here.
    pub fn parse(text: &str) -> Result<(Self, Vec<String>), ConfigError> {
        let document = Document::parse(text)?;
        let mut fields = document.root().map()?;
        fields.require("apiVersion")?.expect(VERSION)?;
        fields.require("kind")?.expect(KIND)?;
        let mut settings = Self::default();
        let mut ignored = Vec::new();
        if let Some(field) = fields.take("staticPodPath") {
            settings.static_pods = Some(field.text()?).filter(|path| !path.is_empty()).map(Into::into);
        }
        if let Some(field) = fields.take("maxPods") {
            settings.max_pods = field.int(0, u32::MAX)?;
        }
        if let Some(field) = fields.take("podPidsLimit") {
            let limit = field.int(i64::MIN, i64::MAX)?;
            settings.pod_pids_limit = if limit > 0 { limit } else { -1 };
        }
        if let Some(field) = fields.take("userNamespaces") {
            let mut fields = field.map()?;
            if let Some(field) = fields.take("idsPerPod") {
                settings.ids_per_pod = ids_per_pod(&field, settings.max_pods)?;
            }
            note(&mut ignored, fields);
        }
        if let Some(list) = fields.take("registerWithTaints") {
            settings.taints = list.each(taint)?;
        }
        if let Some(list) = fields.take("allowedUnsafeSysctls") {
            settings.allowed_unsafe_sysctls = list.each(sysctl)?;
        }
        settings.shutdown = shutdown(&mut fields, &mut ignored)?;
        settings.eviction.thresholds = thresholds(&mut fields)?;
        if let Some(field) = fields.take("evictionMaxPodGracePeriod") {
            settings.eviction.max_grace = Duration::from_secs(field.int(i64::MIN, i64::MAX)?.max(0).unsigned_abs());
        }
        percentages(&mut fields, &mut settings.images)?;
        for (name, target) in [
            ("evictionPressureTransitionPeriod", &mut settings.eviction.transition),
            ("imageMinimumGCAge", &mut settings.images.min_age),
            ("imageMaximumGCAge", &mut settings.images.max_age),
            ("runtimeRequestTimeout", &mut settings.runtime_request_timeout),
        ] {
            if let Some(field) = fields.take(name) {
                *target = field.duration()?;
            }
        }
        logs(&mut fields, &mut settings.logs)?;
        if let Some(field) = fields.take("crashLoopBackOff") {
            let mut fields = field.map()?;
            if let Some(field) = fields.take("maxContainerRestartPeriod") {
                settings.longest_restart_delay = restart_delay(&field)?;
            }
            note(&mut ignored, fields);
        }
        note(&mut ignored, fields);
        Ok((settings, ignored))
    }
}

/// Fields that nobody asked for have no effect.
fn note(ignored: &mut Vec<String>, fields: Fields<'_>) {
    ignored.extend(fields.rest().into_iter().map(|(_, field)| field.path));
}

/// Only what a namespace of the pod has can be allowed: the rest is the host's.
fn sysctl(field: &Field<'_>) -> Result<String, ConfigError> {
    let name = field.text()?;
    if is_namespaced(name.strip_suffix('*').unwrap_or(name)) {
        Ok(name.to_owned())
    } else {
        Err(field.error(format!("{name:?} belongs to no namespace of a pod")))
    }
}

/// The kernel has only so many ids for all pods together.
fn ids_per_pod(field: &Field<'_>, pods: u32) -> Result<u32, ConfigError> {
    let ids: u32 = field.int(0, u32::MAX)?;
    if ids == 0 || !ids.is_multiple_of(user_ids::UNIT) {
        return Err(field.error(format!("must be a multiple of {}", user_ids::UNIT)));
    }
    match ids.checked_mul(pods) {
        Some(_) => Ok(ids),
        None => Err(field.error(format!("{pods} pods cannot have so many each"))),
    }
}

fn taint(field: &Field<'_>) -> Result<Taint, ConfigError> {
    let mut fields = field.map()?;
    let key = fields.require("key")?;
    let effect = fields.require("effect")?;
    let value = fields.take("value");
    fields.end()?;
    if key.text()?.is_empty() {
        return Err(key.error("must not be empty"));
    }
    let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    if !known.contains(&effect.text()?) {
        return Err(effect.error(format!("must be one of {}", known.join(", "))));
    }
    Ok(Taint {
        key: key.text()?.to_owned(),
        value: value.map(|v| v.text().map(str::to_owned)).transpose()?,
        effect: effect.text()?.to_owned(),
        time_added: None,
    })
}

fn percentages(fields: &mut Fields<'_>, images: &mut ImageSettings) -> Result<(), ConfigError> {
    let high = fields.take("imageGCHighThresholdPercent");
    let low = fields.take("imageGCLowThresholdPercent");
    for (field, target) in [(&high, &mut images.high), (&low, &mut images.low)] {
        if let Some(field) = field {
            *target = field.int(0, 100u8)?;
        }
    }
    match low.or(high) {
        Some(field) if images.low >= images.high => {
            Err(field.error("the low threshold must be less than the high one"))
        }
        _ => Ok(()),
    }
}

fn logs(fields: &mut Fields<'_>, limits: &mut LogLimits) -> Result<(), ConfigError> {
    if let Some(field) = fields.take("containerLogMaxSize") {
        let text = field.written().unwrap_or_default();
        let size = text.parse::<Quantity>().ok().map(|q| q.value());
        let size = size.and_then(|size| u64::try_from(size).ok()).filter(|size| *size > 0);
        limits.size = size.ok_or_else(|| field.not("a size; write for example 10Mi"))?;
    }
    if let Some(field) = fields.take("containerLogMaxFiles") {
        limits.files = field.int(0, usize::MAX)?;
        if limits.files < 2 {
            return Err(field.error("must be 2 or more: the one being written counts"));
        }
    }
    Ok(())
}

fn restart_delay(field: &Field<'_>) -> Result<SignedDuration, ConfigError> {
    let longest = SignedDuration::try_from(field.duration()?).unwrap_or(SignedDuration::MAX);
    if longest < SignedDuration::from_secs(1) || longest > backoff::LONGEST {
        return Err(field.error("must be between 1s and 300s"));
    }
    Ok(longest)
}

fn shutdown(fields: &mut Fields<'_>, ignored: &mut Vec<String>) -> Result<Vec<ShutdownGroup>, ConfigError> {
    let whole = fields.take("shutdownGracePeriod");
    let critical = fields.take("shutdownGracePeriodCriticalPods");
    if let Some(list) = fields.take("shutdownGracePeriodByPodPriority") {
        let groups = list.list()?;
        let groups: Result<Vec<_>, _> = groups.iter().map(|field| group(field, ignored)).collect();
        let mut groups = groups?;
        if !groups.is_empty() {
            if whole.or(critical).is_some() {
                let beside = "may not be set beside shutdownGracePeriod or shutdownGracePeriodCriticalPods";
                return Err(list.error(beside));
            }
            groups.sort_by_key(|g| g.priority);
            return Ok(groups);
        }
    }
    let period = |field: &Option<Field<'_>>| field.as_ref().map_or(Ok(Duration::ZERO), Field::duration);
    let (all, last) = (period(&whole)?, period(&critical)?);
    if let Some(critical) = critical.filter(|_| last > all) {
        return Err(critical.error("may not be longer than shutdownGracePeriod"));
    }
    if all.is_zero() {
        return Ok(Vec::new());
    }
    Ok(vec![
        ShutdownGroup {
            priority: 0,
            period: all.saturating_sub(last),
        },
        ShutdownGroup {
            priority: CRITICAL,
            period: last,
        },
    ])
}

fn group(field: &Field<'_>, ignored: &mut Vec<String>) -> Result<ShutdownGroup, ConfigError> {
    let mut fields = field.map()?;
    let group = ShutdownGroup {
        priority: fields.require("priority")?.int(i32::MIN, i32::MAX)?,
        period: Duration::from_secs(fields.require("shutdownGracePeriodSeconds")?.int(0, u32::MAX)?.into()),
    };
    note(ignored, fields);
    Ok(group)
}

fn thresholds(fields: &mut Fields<'_>) -> Result<Vec<Threshold>, ConfigError> {
    let mut all = match fields.take("evictionHard") {
        None => Threshold::defaults(),
        hard => each(hard, value)?
            .into_iter()
            .map(|(signal, value)| Threshold {
                signal,
                value,
                grace: Duration::ZERO,
                min_reclaim: None,
            })
            .collect(),
    };
    let graces = each(fields.take("evictionSoftGracePeriod"), Field::duration)?;
    let soft = each(fields.take("evictionSoft"), |field| Ok((value(field)?, field.clone())))?;
    for (signal, (value, field)) in soft {
        let grace = graces.iter().find(|(of, grace)| *of == signal && !grace.is_zero());
        let Some((_, grace)) = grace else {
            return Err(field.error("needs a grace period in evictionSoftGracePeriod"));
        };
        all.push(Threshold {
            signal,
            value,
            grace: *grace,
            min_reclaim: None,
        });
    }
    for (signal, value) in each(fields.take("evictionMinimumReclaim"), value)? {
        for threshold in all.iter_mut().filter(|t| t.signal == signal) {
            threshold.min_reclaim = Some(value);
        }
    }
    // A threshold of nothing is never met: upstream's way to switch one off.
    all.retain(|t| !t.value.is_zero());
    Ok(all)
}

/// What `read` makes of each signal's entry.
fn each<'a, T>(
    field: Option<Field<'a>>,
    read: impl Fn(&Field<'a>) -> Result<T, ConfigError>,
) -> Result<Vec<(Signal, T)>, ConfigError> {
    let Some(field) = field else {
        return Ok(Vec::new());
    };
    let entry = |(name, field): (&str, Field<'a>)| match Signal::parse(name) {
        Some(signal) => Ok((signal, read(&field)?)),
        None => Err(field.error(format!("is no signal; there are {}", Signal::names()))),
    };
    field.map()?.rest().into_iter().map(entry).collect()
}

fn value(field: &Field<'_>) -> Result<Value, ConfigError> {
    let value = field.written().and_then(|text| Value::parse(&text));
    value.ok_or_else(|| field.not("a quantity or a percentage"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(fields: &str) -> Result<(Settings, Vec<String>), ConfigError> {
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
        assert_eq!(
            error,
            "line 3: allowedUnsafeSysctls[0]: \"vm.*\" belongs to no namespace of a pod"
        );
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
    fn a_mistake_is_told_by_field_and_line() {
        for (fields, expected) in [
            (
                "maxPods: 5\nevictionHard:\n  memory.free: 1Gi",
                "line 5: evictionHard.memory.free: is no signal; there are memory.available, ",
            ),
            (
                "evictionHard: {memory.available: lots}",
                "line 3: evictionHard.memory.available: \"lots\" is not a quantity or a percentage",
            ),
            (
                "evictionSoft: {memory.available: 1Gi}\nevictionSoftGracePeriod: {memory.available: 0s}",
                "line 3: evictionSoft.memory.available: needs a grace period in evictionSoftGracePeriod",
            ),
            ("maxPods: -1", "line 3: maxPods: must be from 0 to 4294967295, not -1"),
            (
                "imageMinimumGCAge: soon",
                "line 3: imageMinimumGCAge: \"soon\" is no duration",
            ),
            (
                "imageGCHighThresholdPercent: 101",
                "line 3: imageGCHighThresholdPercent: must be from 0 to 100, not 101",
            ),
            (
                "imageGCLowThresholdPercent: 90",
                "line 3: imageGCLowThresholdPercent: the low threshold must be less than the high one",
            ),
            (
                "imageGCHighThresholdPercent: 70",
                "line 3: imageGCHighThresholdPercent: the low threshold must be less than the high one",
            ),
            (
                "crashLoopBackOff:\n  maxContainerRestartPeriod: 301s",
                "line 4: crashLoopBackOff.maxContainerRestartPeriod: must be between 1s and 300s",
            ),
            (
                "crashLoopBackOff: {maxContainerRestartPeriod: 0s}",
                "line 3: crashLoopBackOff.maxContainerRestartPeriod: must be between",
            ),
            (
                "userNamespaces: {idsPerPod: 100000}",
                "line 3: userNamespaces.idsPerPod: must be a multiple of 65536",
            ),
            (
                "userNamespaces: {idsPerPod: 67108864}",
                "line 3: userNamespaces.idsPerPod: 110 pods cannot have so many",
            ),
            (
                "registerWithTaints: [{key: a, effect: Sometimes}]",
                "line 3: registerWithTaints[0].effect: must be one of NoSchedule, ",
            ),
            (
                "containerLogMaxSize: lots",
                "line 3: containerLogMaxSize: \"lots\" is not a size",
            ),
            ("containerLogMaxSize: 0", "line 3: containerLogMaxSize: 0 is not a size"),
            (
                "containerLogMaxFiles: 1",
                "line 3: containerLogMaxFiles: must be 2 or more",
            ),
            (
                "shutdownGracePeriodCriticalPods: 1s",
                "line 3: shutdownGracePeriodCriticalPods: may not be longer than shutdownGracePeriod",
            ),
            (
                "shutdownGracePeriod: 1s\nshutdownGracePeriodByPodPriority:\n\
                 - {priority: 0, shutdownGracePeriodSeconds: 5}",
                "line 4: shutdownGracePeriodByPodPriority: may not be set beside shutdownGracePeriod",
            ),
            (
                "shutdownGracePeriodByPodPriority:\n- priority: 0",
                "line 4: shutdownGracePeriodByPodPriority[0].shutdownGracePeriodSeconds: is required",
            ),
        ] {
            let error = parse(fields).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.starts_with(expected), "{fields}: {error}");
        }
        let error = Settings::parse("kind: Pod").unwrap_err().to_string();
        assert_eq!(error, "line 1: apiVersion: is required");
    }

    #[test]
    fn fields_without_effect_are_named_wherever_they_stand() {
        let fields = "cgroupDriver: systemd\ncrashLoopBackOff: {more: 1}\nshutdownGracePeriodByPodPriority:\n\
            - {priority: 0, shutdownGracePeriodSeconds: 5, more: 1}\nevictionHard: {memory.available: 0}";
        let (settings, ignored) = parse(fields).unwrap();
        assert_eq!(
            ignored,
            [
                "shutdownGracePeriodByPodPriority[0].more",
                "crashLoopBackOff.more",
                "cgroupDriver",
            ]
        );
        assert!(settings.eviction.thresholds.is_empty(), "nothing stands for none");
    }
}
