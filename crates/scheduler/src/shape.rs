//! What the scheduler asks of a pod again and again, worked out once. Pods of one controller are alike in all of it, so they
//! share one [`Shape`]: a thousand replicas cost one.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};

use coracle_api::selector::{LabelSelector, Operator, Requirement};
use k8s_openapi::api::core::v1::{ImageVolumeSource, Pod, PodSpec, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;

use crate::affinity_term::AffinityTerm;
use crate::node_selector::NodeWish;
use crate::resources::{Resources, pod_assumed_use, pod_requests, was_resized};

/// A port of the node that a container claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub ip: String,
    pub protocol: String,
    pub port: i32,
}

/// How the pods of a selector should spread over a topology.
#[derive(Clone, Debug)]
pub struct SpreadConstraint {
    pub max_skew: i64,
    pub topology_key: Arc<str>,
    /// `DoNotSchedule`; otherwise the constraint only scores.
    pub hard: bool,
    pub selector: LabelSelector,
    pub min_domains: i64,
    /// Nodes that the pod's node selector and affinity leave out do not count.
    pub honor_affinity: bool,
    /// Nodes whose taints the pod does not tolerate do not count.
    pub honor_taints: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Shape {
    exemplar: Arc<Pod>,
    pub requests: Resources,
    pub assumed_use: Resources,
    pub host_ports: Box<[HostPort]>,
    pub node_wish: NodeWish,
    pub required_affinity: Box<[AffinityTerm]>,
    pub required_anti_affinity: Box<[AffinityTerm]>,
    pub preferred_affinity: Box<[(i64, AffinityTerm)]>,
    pub preferred_anti_affinity: Box<[(i64, AffinityTerm)]>,
    pub spread: Arc<[SpreadConstraint]>,
    /// Images of its containers and image volumes, with a tag or digest.
    pub images: Box<[String]>,
    /// How many containers and image volumes it has.
    pub image_uses: usize,
    pub priority: i32,
}

impl Shape {
    fn of(pod: Arc<Pod>) -> Self {
        let none = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&none);
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let affinity = spec.affinity.as_ref();
        let to = affinity.and_then(|a| a.pod_affinity.as_ref());
        let from = affinity.and_then(|a| a.pod_anti_affinity.as_ref());
        Self {
            requests: pod_requests(&pod),
            assumed_use: pod_assumed_use(&pod),
            host_ports: host_ports(spec),
            node_wish: NodeWish::of(spec),
            required_affinity: AffinityTerm::parse_all(
                to.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()),
                namespace,
            ),
            required_anti_affinity: AffinityTerm::parse_all(
                from.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()),
                namespace,
            ),
            preferred_affinity: AffinityTerm::parse_weighted(
                to.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()),
                namespace,
            ),
            preferred_anti_affinity: AffinityTerm::parse_weighted(
                from.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()),
                namespace,
            ),
            spread: spread(spec, pod.metadata.labels.as_ref()),
            images: images(spec),
            image_uses: spec.containers.len()
                + spec.init_containers.as_ref().map_or(0, Vec::len)
                + image_volumes(spec).count(),
            priority: spec.priority.unwrap_or(0),
            exemplar: pod,
        }
    }

    pub fn namespace(&self) -> &str {
        self.exemplar.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub fn labels(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.exemplar.metadata.labels.as_ref().unwrap_or(&NONE)
    }

    pub fn tolerations(&self) -> &[Toleration] {
        let spec = self.exemplar.spec.as_ref();
        spec.and_then(|s| s.tolerations.as_deref()).unwrap_or_default()
    }

    /// Whether the pod wants to be with or apart from other pods.
    pub fn has_pod_affinity(&self) -> bool {
        !(self.required_affinity.is_empty()
            && self.required_anti_affinity.is_empty()
            && self.preferred_affinity.is_empty()
            && self.preferred_anti_affinity.is_empty())
    }

    /// Every term of affinity to pods.
    pub fn pod_affinity_terms(&self) -> impl Iterator<Item = &AffinityTerm> {
        let weighted = self.preferred_affinity.iter().chain(&self.preferred_anti_affinity);
        let required = self.required_affinity.iter().chain(&self.required_anti_affinity);
        required.chain(weighted.map(|(_, term)| term))
    }

    /// Whether the labels of namespaces decide where the pod fits.
    pub fn selects_namespaces(&self) -> bool {
        self.pod_affinity_terms().any(AffinityTerm::selects_namespaces)
    }

    /// Keys of node labels that group nodes for this pod.
    pub fn topology_keys(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pod_affinity_terms()
            .map(|t| &t.topology_key)
            .chain(self.spread.iter().map(|c| &c.topology_key))
    }
}

/// A pod, with its shape. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PodInfo {
    pub pod: Arc<Pod>,
    pub shape: Arc<Shape>,
}

impl PodInfo {
    /// With a shape of its own; see [`Shapes`].
    pub fn new(pod: Arc<Pod>) -> Self {
        let shape = Arc::new(Shape::of(pod.clone()));
        Self { pod, shape }
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        key(&self.pod.metadata)
    }

    pub fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    pub fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    pub fn priority(&self) -> i32 {
        self.shape.priority
    }

    pub fn is_terminating(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    /// The node that preemption has made room on, if any.
    pub fn nominated_node(&self) -> Option<&str> {
        let status = self.pod.status.as_ref();
        status
            .and_then(|s| s.nominated_node_name.as_deref())
            .filter(|n| !n.is_empty())
    }

    /// Names of the claims that the pod's volumes use, those made for ephemeral volumes included.
    pub fn claims(&self) -> impl Iterator<Item = Claim<'_>> {
        let volumes = self.pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
        volumes.filter_map(move |v| {
            if let Some(claim) = &v.persistent_volume_claim {
                return Some(Claim::Named(&claim.claim_name));
            }
            v.ephemeral.as_ref().map(|_| Claim::Ephemeral {
                pod: self.name(),
                volume: &v.name,
            })
        })
    }

    pub fn has_claims(&self) -> bool {
        self.claims().next().is_some()
    }
}

/// A claim as a pod's volume names it.
#[derive(Clone, Copy, Debug)]
pub enum Claim<'a> {
    Named(&'a str),
    Ephemeral { pod: &'a str, volume: &'a str },
}

impl Claim<'_> {
    pub fn name(&self) -> String {
        match self {
            Self::Named(name) => (*name).to_owned(),
            Self::Ephemeral { pod, volume } => format!("{pod}-{volume}"),
        }
    }

    pub fn is_ephemeral(&self) -> bool {
        matches!(self, Self::Ephemeral { .. })
    }
}

/// `namespace/name`.
pub fn key(meta: &ObjectMeta) -> String {
    format!(
        "{}/{}",
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default()
    )
}

fn host_ports(spec: &PodSpec) -> Box<[HostPort]> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars);
    let ports = ports.flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(HostPort {
                port: port.host_port.filter(|p| *p > 0)?,
                ip: port
                    .host_ip
                    .clone()
                    .filter(|ip| !ip.is_empty())
                    .unwrap_or_else(|| "0.0.0.0".into()),
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
            })
        })
        .collect()
}

fn image_volumes(spec: &PodSpec) -> impl Iterator<Item = &ImageVolumeSource> {
    spec.volumes.iter().flatten().filter_map(|v| v.image.as_ref())
}

/// As nodes report them: an image without tag or digest is `:latest`.
fn images(spec: &PodSpec) -> Box<[String]> {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let named = containers.filter_map(|c| c.image.as_deref());
    let mounted = image_volumes(spec).filter_map(|v| v.reference.as_deref());
    named
        .chain(mounted)
        .filter(|image| !image.is_empty())
        .map(|image| match image.rsplit('/').next() {
            Some(last) if !last.contains(':') && !image.contains('@') => format!("{image}:latest"),
            _ => image.to_owned(),
        })
        .collect()
}

fn spread(spec: &PodSpec, labels: Option<&BTreeMap<String, String>>) -> Arc<[SpreadConstraint]> {
    let constraints = spec.topology_spread_constraints.iter().flatten();
    constraints
        .map(|c| {
            let mut selector =
                LabelSelector::from_typed(c.label_selector.as_ref()).unwrap_or_else(|_| LabelSelector::nothing());
            for key in c.match_label_keys.iter().flatten() {
                let value = labels.and_then(|l| l.get(key));
                if let Some(Ok(own)) = value.map(|v| Requirement::new(key, Operator::Equals, [v]))
                    && !selector.is_nothing()
                {
                    selector = selector.with(own);
                }
            }
            SpreadConstraint {
                max_skew: c.max_skew.into(),
                topology_key: c.topology_key.as_str().into(),
                hard: c.when_unsatisfiable == "DoNotSchedule",
                selector,
                min_domains: c.min_domains.unwrap_or(1).into(),
                honor_affinity: c.node_affinity_policy.as_deref() != Some("Ignore"),
                honor_taints: c.node_taints_policy.as_deref() == Some("Honor"),
            }
        })
        .collect()
}

/// The uid of the pod's controller.
fn controller(pod: &Pod) -> Option<&str> {
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    let owner = owners.iter().find(|o| o.controller == Some(true))?;
    Some(&owner.uid)
}

/// Where pods like this one are looked for: by controller, or, of those that have none, by what is most likely to differ.
fn likeness(pod: &Pod) -> u64 {
    let mut hasher = DefaultHasher::new();
    match controller(pod) {
        Some(uid) => uid.hash(&mut hasher),
        None => {
            pod.metadata.namespace.hash(&mut hasher);
            pod.metadata.labels.hash(&mut hasher);
            if let Some(spec) = &pod.spec {
                spec.priority.hash(&mut hasher);
                for container in &spec.containers {
                    container.image.hash(&mut hasher);
                    let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
                    for (name, quantity) in requests.into_iter().flatten() {
                        (name, &quantity.0).hash(&mut hasher);
                    }
                }
            }
        }
    }
    hasher.finish()
}

/// Whether the scheduler cannot tell the two apart.
fn alike(a: &Pod, b: &Pod) -> bool {
    let (Some(x), Some(y)) = (&a.spec, &b.spec) else {
        return false;
    };
    a.metadata.namespace == b.metadata.namespace
        && controller(a) == controller(b)
        && a.metadata.labels == b.metadata.labels
        && x.priority == y.priority
        && x.node_selector == y.node_selector
        && x.affinity == y.affinity
        && x.tolerations == y.tolerations
        && x.topology_spread_constraints == y.topology_spread_constraints
        && x.overhead == y.overhead
        && x.resources == y.resources
        && image_volumes(x).eq(image_volumes(y))
        && same_containers(&x.containers, &y.containers)
        && match (&x.init_containers, &y.init_containers) {
            (None, None) => true,
            (Some(x), Some(y)) => same_containers(x, y),
            _ => false,
        }
        && !was_resized(a)
        && !was_resized(b)
}

fn same_containers(x: &[k8s_openapi::api::core::v1::Container], y: &[k8s_openapi::api::core::v1::Container]) -> bool {
    x.len() == y.len()
        && x.iter().zip(y).all(|(x, y)| {
            x.image == y.image
                && x.ports == y.ports
                && x.resources == y.resources
                && x.restart_policy == y.restart_policy
        })
}

/// Gives pods their shapes, shared where pods are alike.
#[derive(Default)]
pub struct Shapes {
    /// The last shape of each [likeness].
    known: Mutex<HashMap<u64, Weak<Shape>>>,
}

impl Shapes {
    /// The pod with its shape; `before` is what was known of it so far.
    pub fn info(&self, pod: &Arc<Pod>, before: Option<&PodInfo>) -> PodInfo {
        if let Some(before) = before
            && alike(&before.pod, pod)
        {
            return PodInfo {
                pod: pod.clone(),
                shape: before.shape.clone(),
            };
        }
        let likeness = likeness(pod);
        let mut known = self.known.lock();
        if let Some(shape) = known.get(&likeness).and_then(Weak::upgrade)
            && alike(&shape.exemplar, pod)
        {
            return PodInfo {
                pod: pod.clone(),
                shape,
            };
        }
        let info = PodInfo::new(pod.clone());
        if known.len() == known.capacity() {
            known.retain(|_, shape| shape.strong_count() > 0);
        }
        known.insert(likeness, Arc::downgrade(&info.shape));
        info
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, labels: serde_json::Value, owner: Option<&str>) -> Arc<Pod> {
        let owners: Vec<_> = owner
            .map(|uid| serde_json::json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": uid, "controller": true}))
            .into_iter()
            .collect();
        let pod = serde_json::json!({
            "metadata": {"namespace": "n", "name": uid, "uid": uid, "labels": labels, "ownerReferences": owners},
            "spec": {"containers": [{"name": "c", "image": "web", "resources": {"requests": {"cpu": "1"}}}],
                "volumes": [{"name": "v", "ephemeral": {}}, {"name": "w", "persistentVolumeClaim": {"claimName": "data"}}]},
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn replicas_share_a_shape_and_others_do_not() {
        let shapes = Shapes::default();
        let web = serde_json::json!({"app": "web"});
        let first = shapes.info(&pod("a", web.clone(), Some("rs")), None);
        let shared = |other: PodInfo| Arc::ptr_eq(&first.shape, &other.shape);
        assert!(shared(shapes.info(&pod("b", web.clone(), Some("rs")), None)));
        assert!(!shared(shapes.info(&pod("c", web.clone(), Some("other")), None)));
        let alone = shapes.info(&pod("d", web.clone(), None), None);
        assert!(!shared(alone.clone()));
        let beside = shapes.info(&pod("f", web.clone(), None), None);
        assert!(
            Arc::ptr_eq(&alone.shape, &beside.shape),
            "pods without a controller too"
        );
        assert!(!shared(
            shapes.info(&pod("e", serde_json::json!({"app": "db"}), Some("rs")), None)
        ));
    }

    #[test]
    fn a_pod_that_only_changes_its_status_keeps_its_shape() {
        let shapes = Shapes::default();
        let before = shapes.info(&pod("a", serde_json::json!({"app": "web"}), None), None);
        let mut changed = (*before.pod).clone();
        changed.status.get_or_insert_default().phase = Some("Running".into());
        let after = shapes.info(&Arc::new(changed.clone()), Some(&before));
        assert!(Arc::ptr_eq(&before.shape, &after.shape));
        changed.metadata.labels = None;
        let relabelled = shapes.info(&Arc::new(changed), Some(&before));
        assert!(!Arc::ptr_eq(&before.shape, &relabelled.shape));
    }

    #[test]
    fn images_get_the_tag_that_nodes_report() {
        for (image, expected) in [
            ("web", "web:latest"),
            ("localhost:5000/web", "localhost:5000/web:latest"),
            ("localhost:5000/web:v1", "localhost:5000/web:v1"),
            ("web@sha256:00", "web@sha256:00"),
        ] {
            let spec = serde_json::json!({"containers": [{"name": "c", "image": image}]});
            assert_eq!(*images(&serde_json::from_value(spec).unwrap()), [expected.to_owned()]);
        }
    }

    #[test]
    fn claims_include_those_made_for_ephemeral_volumes() {
        let info = PodInfo::new(pod("a", serde_json::json!({}), None));
        assert_eq!(info.claims().map(|c| c.name()).collect::<Vec<_>>(), ["a-v", "data"]);
    }

    #[test]
    fn match_label_keys_narrow_the_selector_to_the_pods_own_values() {
        let spec = serde_json::json!({"containers": [], "topologySpreadConstraints": [{"maxSkew": 1,
            "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "x"}},
            "matchLabelKeys": ["hash", "absent"]}]});
        let labels =
            |hash: &str| BTreeMap::from([("app".to_owned(), "x".to_owned()), ("hash".to_owned(), hash.to_owned())]);
        let constraints = spread(&serde_json::from_value(spec).unwrap(), Some(&labels("1")));
        assert!(constraints[0].selector.matches_labels(&labels("1")));
        assert!(!constraints[0].selector.matches_labels(&labels("2")));
    }
}
