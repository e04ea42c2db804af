//! Requests and limits as cgroup values: QoS class, cgroup path, shares, quotas, limits, the OOM score. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use coracle_runtime::Resources;

use super::amount::{Amounts, milli, milli_of, whole, whole_of};

/// Quality of service, by what a pod asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    /// The class that the API server wrote down, or else the class by the spec.
    pub(crate) fn of(pod: &Pod) -> Self {
        match pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
            Some("Guaranteed") => Self::Guaranteed,
            Some("Burstable") => Self::Burstable,
            Some("BestEffort") => Self::BestEffort,
            _ => pod.spec.as_ref().map_or(Self::BestEffort, Self::by_spec),
        }
    }

    fn by_spec(spec: &PodSpec) -> Self {
        let set =
            |amounts: Option<&Amounts>, name: &str| amounts.and_then(|a| a.get(name)).filter(|q| whole(q) > 0).cloned();
        let mut any = false;
        let mut guaranteed = true;
        let own = spec.resources.iter();
        let each = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let all: Vec<_> = if spec.resources.is_some() {
            own.map(Some).collect()
        } else {
            each.map(|c| c.resources.as_ref()).collect()
        };
        for resources in all {
            for name in ["cpu", "memory"] {
                let request = set(resources.and_then(|r| r.requests.as_ref()), name);
                let limit = set(resources.and_then(|r| r.limits.as_ref()), name);
                any |= request.is_some() || limit.is_some();
                guaranteed &= limit.is_some() && (request.is_none() || same(request.as_ref(), limit.as_ref()));
            }
        }
        match (any, guaranteed) {
            (false, _) => Self::BestEffort,
            (true, true) => Self::Guaranteed,
            (true, false) => Self::Burstable,
        }
    }
}

fn same(a: Option<&Quantity>, b: Option<&Quantity>) -> bool {
    a.map(milli) == b.map(milli)
}

/// The pod's cgroup below `root`.
pub(crate) fn cgroup_path(root: &str, pod: &Pod) -> String {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let root = root.trim_end_matches('/');
    match Qos::of(pod) {
        Qos::Guaranteed => format!("{root}/pod{uid}"),
        Qos::Burstable => format!("{root}/burstable/pod{uid}"),
        Qos::BestEffort => format!("{root}/besteffort/pod{uid}"),
    }
}

const PERIOD: i64 = 100_000;

fn shares(milli: i64) -> u64 {
    u64::try_from(milli.saturating_mul(1024) / 1000)
        .unwrap_or(0)
        .clamp(2, 262_144)
}

fn quota(milli: i64) -> i64 {
    (milli.saturating_mul(PERIOD) / 1000).max(1000)
}

/// What a container is limited to: by itself, or else by the limit of the whole pod, so that a program that sizes itself by
/// its cgroup sees that.
pub(crate) fn limit<'a>(pod: &'a Pod, container: &'a Container, name: &str) -> Option<&'a Quantity> {
    let in_order = [container.resources.as_ref(), whole_pod(pod)].into_iter().flatten();
    in_order
        .filter_map(|r| r.limits.as_ref()?.get(name))
        .find(|amount| milli(amount) > 0)
}

/// A container's cgroup. `memory_capacity` is the node's, in bytes.
pub(crate) fn of_container(pod: &Pod, container: &Container, memory_capacity: i64) -> Resources {
    let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
    let cpu_limit = limit(pod, container, "cpu").map(milli);
    let cpu_request = milli_of(requests, "cpu").or(cpu_limit).unwrap_or(0);
    Resources {
        cpu_shares: Some(shares(cpu_request)),
        cpu_quota: Some(cpu_limit.map_or(-1, quota)),
        cpu_period: Some(PERIOD.unsigned_abs()),
        memory_limit: limit(pod, container, "memory").map(whole),
        hugepage_limits: hugepages([container.resources.as_ref(), whole_pod(pod)], |name| {
            limit(pod, container, name).map(whole)
        }),
        oom_score_adj: Some(oom_score_adj(pod, container, memory_capacity)),
        ..Resources::default()
    }
}

/// Limits of huge pages by the kernel's names for their sizes, for every size that one of these limits.
fn hugepages<'a>(
    limited: impl IntoIterator<Item = Option<&'a ResourceRequirements>>,
    amount: impl Fn(&str) -> Option<i64>,
) -> BTreeMap<String, u64> {
    let names = limited
        .into_iter()
        .flatten()
        .flat_map(|r| r.limits.iter().flat_map(|l| l.keys()));
    let sizes = names.filter_map(|name| {
        let size = name.strip_prefix("hugepages-")?;
        // `2Mi` is `2MB` to the kernel.
        let kernel = size.strip_suffix('i').map(|s| format!("{s}B"))?;
        Some((kernel, u64::try_from(amount(name)?).ok()?))
    });
    sizes.collect()
}

fn whole_pod(pod: &Pod) -> Option<&ResourceRequirements> {
    pod.spec.as_ref().and_then(|s| s.resources.as_ref())
}

fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity: i64) -> i32 {
    const GUARANTEED: i32 = -997;
    let critical = pod.spec.as_ref().and_then(|s| s.priority_class_name.as_deref()) == Some("system-node-critical");
    match Qos::of(pod) {
        _ if critical => GUARANTEED,
        Qos::Guaranteed => GUARANTEED,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let mut asked = requested_memory(container);
            // A sidecar goes no sooner than the containers that it serves.
            if let Some(spec) = pod.spec.as_ref()
                && is_sidecar(container)
            {
                let least = spec.containers.iter().map(requested_memory).min();
                asked = asked.max(least.unwrap_or(0));
            }
            let asked = asked + unclaimed_memory(pod);
            let share = i128::from(asked) * 1000 / i128::from(memory_capacity.max(1));
            let score = 1000 - i32::try_from(share).unwrap_or(1000);
            score.clamp(1000 + GUARANTEED, 999)
        }
    }
}

fn requested_memory(container: &Container) -> i64 {
    let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
    whole_of(requests, "memory").unwrap_or(0)
}

/// What the pod asks for beyond what its containers do, divided among them.
fn unclaimed_memory(pod: &Pod) -> i64 {
    let Some(spec) = &pod.spec else { return 0 };
    let own = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    let Some(own) = whole_of(own, "memory").filter(|own| *own > 0) else {
        return 0;
    };
    let claimed = of_containers(spec, &|r, _| whole_of(r, "memory"));
    let count = spec.containers.len() + spec.init_containers.iter().flatten().count();
    (own - claimed) / i64::try_from(count.max(1)).unwrap_or(i64::MAX)
}

/// The pod's own cgroup: what its containers may use together, and how many processes they may have (-1: any number).
pub(crate) fn of_pod(pod: &Pod, pids_limit: i64) -> Resources {
    let Some(spec) = &pod.spec else {
        return Resources::default();
    };
    let qos = Qos::of(pod);
    let cpu_request = total(spec, |r, l| milli_of(r, "cpu").or_else(|| milli_of(l, "cpu")));
    let cpu_limit = total_limit(spec, |l| milli_of(l, "cpu"));
    let memory_limit = total_limit(spec, |l| whole_of(l, "memory"));
    Resources {
        cpu_shares: Some(if qos == Qos::BestEffort {
            2
        } else {
            shares(cpu_request.unwrap_or(0))
        }),
        cpu_quota: Some(cpu_limit.map_or(-1, quota)),
        cpu_period: Some(PERIOD.unsigned_abs()),
        memory_limit,
        hugepage_limits: hugepages(
            spec.containers
                .iter()
                .chain(spec.init_containers.iter().flatten())
                .map(|c| c.resources.as_ref())
                .chain([spec.resources.as_ref()]),
            |name| total(spec, |_, l| whole_of(l, name)),
        ),
        pids_limit: (pids_limit > 0).then_some(pids_limit),
        ..Resources::default()
    }
}

/// What the whole pod asks for of a resource that is counted whole: memory in bytes, storage in bytes.
pub(crate) fn requested(pod: &Pod, name: &str) -> i64 {
    let spec = pod.spec.as_ref();
    spec.and_then(|s| total(s, |r, l| whole_of(r, name).or_else(|| whole_of(l, name))))
        .unwrap_or(0)
}

/// What the whole pod asks for of CPUs, in thousandths.
pub(crate) fn requested_milli_cpu(pod: &Pod) -> i64 {
    let spec = pod.spec.as_ref();
    spec.and_then(|s| total(s, |r, l| milli_of(r, "cpu").or_else(|| milli_of(l, "cpu"))))
        .unwrap_or(0)
}

/// What those containers that have a limit are limited to together, of a resource that is counted whole.
pub(crate) fn limited(pod: &Pod, name: &str) -> Option<i64> {
    let spec = pod.spec.as_ref()?;
    let each = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let has = |c: &Container| whole_of(c.resources.as_ref().and_then(|r| r.limits.as_ref()), name).is_some();
    each.into_iter()
        .any(has)
        .then(|| total(spec, |_, l| whole_of(l, name)))
        .flatten()
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

type Part<'a> = &'a dyn Fn(Option<&Amounts>, Option<&Amounts>) -> Option<i64>;

fn of(container: &Container, part: Part<'_>) -> Option<i64> {
    let resources = container.resources.as_ref();
    part(
        resources.and_then(|r| r.requests.as_ref()),
        resources.and_then(|r| r.limits.as_ref()),
    )
}

/// The containers and sidecars together, or the greediest step of initialisation.
fn of_containers(spec: &PodSpec, part: Part<'_>) -> i64 {
    let mut sidecars = 0;
    let mut greediest = 0;
    for init in spec.init_containers.iter().flatten() {
        let amount = of(init, part).unwrap_or(0);
        if is_sidecar(init) {
            sidecars += amount;
            greediest = greediest.max(sidecars);
        } else {
            greediest = greediest.max(sidecars + amount);
        }
    }
    let running: i64 = spec.containers.iter().map(|c| of(c, part).unwrap_or(0)).sum();
    (running + sidecars).max(greediest)
}

/// What a pod comes to: what it says itself, or else what its containers do; and its overhead.
fn total(spec: &PodSpec, part: impl Fn(Option<&Amounts>, Option<&Amounts>) -> Option<i64>) -> Option<i64> {
    let own = spec.resources.as_ref();
    let own = own.and_then(|own| part(own.requests.as_ref(), own.limits.as_ref()));
    let overhead = part(spec.overhead.as_ref(), spec.overhead.as_ref()).unwrap_or(0);
    Some(own.unwrap_or_else(|| of_containers(spec, &part)) + overhead)
}

/// The pod is limited only when it says so or every container is.
fn total_limit(spec: &PodSpec, part: impl Fn(Option<&Amounts>) -> Option<i64>) -> Option<i64> {
    let limit = |_: Option<&Amounts>, limits: Option<&Amounts>| part(limits);
    let own = spec.resources.as_ref().and_then(|r| part(r.limits.as_ref()));
    let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    if own.is_none() && all.any(|c| of(c, &limit).is_none_or(|amount| amount == 0)) {
        return None;
    }
    total(spec, limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": spec})).unwrap()
    }

    #[test]
    fn the_class_follows_from_requests_and_limits() {
        for (resources, class, path) in [
            (json!({}), Qos::BestEffort, "/kubepods/besteffort/podu"),
            (
                json!({"requests": {"cpu": "1"}}),
                Qos::Burstable,
                "/kubepods/burstable/podu",
            ),
            (
                json!({"limits": {"cpu": "1", "memory": "1Gi"}}),
                Qos::Guaranteed,
                "/kubepods/podu",
            ),
            (
                json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}),
                Qos::Guaranteed,
                "/kubepods/podu",
            ),
            (
                json!({"limits": {"cpu": "1"}}),
                Qos::Burstable,
                "/kubepods/burstable/podu",
            ),
        ] {
            let pod = pod(json!({"containers": [{"name": "c", "resources": resources}]}));
            assert_eq!(Qos::of(&pod), class);
            assert_eq!(cgroup_path("/kubepods", &pod), path);
        }
    }

    #[test]
    fn a_container_gets_shares_quota_and_limit() {
        let pod = pod(json!({"containers": [{"name": "c", "resources":
            {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"cpu": "500m", "memory": "1Gi"}}}]}));
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let r = of_container(&pod, container, 4 << 30);
        assert_eq!(
            (r.cpu_shares, r.cpu_quota, r.cpu_period),
            (Some(256), Some(50_000), Some(100_000))
        );
        assert_eq!(r.memory_limit, Some(1 << 30));
        assert_eq!(r.oom_score_adj, Some(875));
    }

    #[test]
    fn a_pod_is_limited_only_when_all_its_containers_are() {
        let limited = json!({"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}});
        let free = json!({"name": "b"});
        let both = pod(json!({"containers": [limited, free]}));
        assert_eq!(
            (of_pod(&both, -1).cpu_quota, of_pod(&both, -1).memory_limit),
            (Some(-1), None)
        );
        let sidecar =
            json!({"name": "s", "restartPolicy": "Always", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}});
        let init = json!({"name": "i", "resources": {"limits": {"cpu": "4", "memory": "1Gi"}}});
        let all = pod(json!({"containers": [limited], "initContainers": [sidecar, init]}));
        assert_eq!(of_pod(&all, -1).cpu_quota, Some(500_000));
        assert_eq!(of_pod(&all, -1).memory_limit, Some(2 << 30));
    }

    #[test]
    fn overhead_is_added_to_limits_and_to_what_the_pod_says_itself() {
        let limits = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}});
        let overhead = json!({"cpu": "500m", "memory": "512Mi"});
        let by_container = json!({"containers": [{"name": "a", "resources": limits}], "overhead": overhead});
        let by_pod = json!({"containers": [{"name": "a"}], "resources": limits, "overhead": overhead});
        for spec in [by_container, by_pod] {
            let pod = pod(spec);
            let of = of_pod(&pod, -1);
            assert_eq!(
                (of.cpu_shares, of.cpu_quota, of.memory_limit),
                (Some(1536), Some(150_000), Some(3 << 29))
            );
            assert_eq!(requested(&pod, "memory"), 3 << 29);
        }
    }

    #[test]
    fn a_container_without_limits_has_those_of_the_whole_pod() {
        let own = json!({"name": "own", "resources": {"limits": {"cpu": "500m"}}});
        let pod = pod(json!({"containers": [own, {"name": "free"}],
            "resources": {"limits": {"cpu": "2", "memory": "1Gi"}}}));
        let containers = &pod.spec.as_ref().unwrap().containers;
        let [own, free] = [0, 1].map(|n| of_container(&pod, &containers[n], 4 << 30));
        assert_eq!((own.cpu_quota, own.memory_limit), (Some(50_000), Some(1 << 30)));
        assert_eq!((free.cpu_quota, free.memory_limit), (Some(200_000), Some(1 << 30)));
        assert_eq!(free.cpu_shares, Some(2048), "who asks for nothing asks for its limit");
    }

    /// tasks/configure-pod-container/assign-pod-level-resources.
    #[test]
    fn hugepages_can_be_specified_at_pod_level() {
        let pages = |amount: &str| json!({"limits": {"hugepages-2Mi": amount}});
        let of = |spec: serde_json::Value| {
            let pod = pod(spec);
            let containers = pod.spec.as_ref().unwrap().containers.iter();
            let each: Vec<_> = containers
                .map(|c| of_container(&pod, c, 4 << 30).hugepage_limits)
                .collect();
            (of_pod(&pod, -1).hugepage_limits, each)
        };
        let limit = |mebibytes: u64| BTreeMap::from([("2MB".to_owned(), mebibytes << 20)]);
        let by_containers = json!({"containers": [{"name": "a", "resources": pages("4Mi")}, {"name": "b"}]});
        assert_eq!(of(by_containers), (limit(4), vec![limit(4), BTreeMap::new()]));
        let by_pod = json!({"containers": [{"name": "a", "resources": pages("4Mi")}, {"name": "b"}],
            "resources": pages("8Mi")});
        assert_eq!(of(by_pod), (limit(8), vec![limit(4), limit(8)]));
    }

    /// kubernetes/enhancements 2837: OOM score adjustment.
    #[test]
    fn what_a_pod_asks_for_beyond_its_containers_counts_for_each_of_them() {
        let asks = |memory: &str| json!({"requests": {"memory": memory}});
        let sidecar = json!({"name": "s", "restartPolicy": "Always"});
        let scores = |spec: serde_json::Value| {
            let pod = pod(spec);
            let spec = pod.spec.as_ref().unwrap();
            let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
            let score = |c: &Container| oom_score_adj(&pod, c, 1000 << 20);
            all.map(score).collect::<Vec<_>>()
        };
        let containers = json!([{"name": "a", "resources": asks("100Mi")}, {"name": "b", "resources": asks("200Mi")}]);
        assert_eq!(scores(json!({"containers": containers})), [900, 800]);
        // 90 MiB more than the containers ask for.
        let whole = json!({"containers": containers, "initContainers": [sidecar], "resources": asks("390Mi")});
        assert_eq!(
            scores(whole),
            [870, 770, 870],
            "a sidecar goes no sooner than those it serves"
        );
        assert_eq!(
            scores(json!({"containers": containers, "initContainers": [sidecar]})),
            [900, 800, 900]
        );
    }
}
