//! `pluginConfig`: the arguments of each plugin that takes some, checked as upstream checks them.

use std::sync::Arc;
use std::time::Duration;

use coracle_api::configuration::{ConfigError, Field};
use k8s_openapi::api::core::v1::NodeAffinity as Affinity;

use super::added_affinity;
use crate::framework::Plugin;
use crate::listers::Listers;
use crate::plugins::default_preemption::DefaultPreemption;
use crate::plugins::inter_pod_affinity::InterPodAffinity;
use crate::plugins::node_affinity::NodeAffinity;
use crate::plugins::node_resources_balanced_allocation::NodeResourcesBalancedAllocation;
use crate::plugins::node_resources_fit::NodeResourcesFit;
use crate::plugins::pod_topology_spread::{DefaultConstraint, Defaults, PodTopologySpread};
use crate::plugins::resource_score::{ShapePoint, Strategy, WeightedResource};
use crate::plugins::volume_binding::VolumeBinding;

/// Arguments of one plugin.
#[derive(Clone, Debug, PartialEq)]
pub enum Arguments {
    DefaultPreemption {
        percentage: u32,
        absolute: u32,
    },
    InterPodAffinity {
        hard_weight: i64,
        ignore_preferred: bool,
    },
    NodeAffinity(Option<Box<Affinity>>),
    NodeResourcesFit {
        ignored: Vec<String>,
        ignored_groups: Vec<String>,
        strategy: Strategy,
        resources: Vec<WeightedResource>,
    },
    NodeResourcesBalancedAllocation(Vec<WeightedResource>),
    PodTopologySpread(Defaults),
    VolumeBinding {
        timeout: Duration,
        shape: Vec<ShapePoint>,
    },
}

impl Arguments {
    /// Of `plugin`, from the `args` beside its name.
    pub fn read(plugin: &Field<'_>, args: &Field<'_>) -> Result<Self, ConfigError> {
        let name = plugin.text()?;
        let mut fields = args.map()?;
        if let Some(version) = fields.take("apiVersion") {
            version.expect("kubescheduler.config.k8s.io/v1")?;
        }
        if let Some(kind) = fields.take("kind") {
            kind.expect(&format!("{name}Args"))?;
        }
        let out = match name {
            "DefaultPreemption" => {
                let percentage = small(fields.take("minCandidateNodesPercentage"), 100)?.unwrap_or(10);
                let absolute = small(fields.take("minCandidateNodesAbsolute"), i32::MAX.unsigned_abs())?.unwrap_or(100);
                if (percentage, absolute) == (0, 0) {
                    let both = "minCandidateNodesPercentage and minCandidateNodesAbsolute must not both be 0";
                    return Err(args.error(both));
                }
                Self::DefaultPreemption { percentage, absolute }
            }
            "InterPodAffinity" => Self::InterPodAffinity {
                hard_weight: fields.take("hardPodAffinityWeight").map_or(Ok(1), |f| f.int(0, 100))?,
                ignore_preferred: fields
                    .take("ignorePreferredTermsOfExistingPods")
                    .map_or(Ok(false), |f| f.bool())?,
            },
            "NodeAffinity" => Self::NodeAffinity(
                fields
                    .take("addedAffinity")
                    .map(|f| added_affinity::read(&f))
                    .transpose()?,
            ),
            "NodeResourcesFit" => {
                let (strategy, resources) = match fields.take("scoringStrategy") {
                    Some(strategy) => strategy_of(&strategy)?,
                    None => (Strategy::LeastAllocated, WeightedResource::cpu_and_memory()),
                };
                Self::NodeResourcesFit {
                    ignored: names(fields.take("ignoredResources"), |_| Ok(()))?,
                    ignored_groups: names(fields.take("ignoredResourceGroups"), |f| {
                        match f.text()?.contains('/') {
                            true => Err(f.error("a group must not contain a slash")),
                            false => Ok(()),
                        }
                    })?,
                    strategy,
                    resources,
                }
            }
            "NodeResourcesBalancedAllocation" => Self::NodeResourcesBalancedAllocation(
                fields
                    .take("resources")
                    .map_or_else(|| Ok(WeightedResource::cpu_and_memory()), |f| resources(&f, 1))?,
            ),
            "PodTopologySpread" => Self::PodTopologySpread(spread(
                fields.take("defaultingType").as_ref(),
                fields.take("defaultConstraints").as_ref(),
            )?),
            "VolumeBinding" => Self::VolumeBinding {
                timeout: Duration::from_secs(
                    fields
                        .take("bindTimeoutSeconds")
                        .map_or(Ok(600), |f| f.int(0, u32::MAX))?
                        .into(),
                ),
                shape: fields.take("shape").map_or_else(|| Ok(Vec::new()), |f| shape(&f))?,
            },
            other => return Err(plugin.error(format!("{other:?} takes no arguments"))),
        };
        fields.end()?;
        Ok(out)
    }

    pub fn plugin_name(&self) -> &'static str {
        match self {
            Self::DefaultPreemption { .. } => "DefaultPreemption",
            Self::InterPodAffinity { .. } => "InterPodAffinity",
            Self::NodeAffinity(_) => "NodeAffinity",
            Self::NodeResourcesFit { .. } => "NodeResourcesFit",
            Self::NodeResourcesBalancedAllocation(_) => "NodeResourcesBalancedAllocation",
            Self::PodTopologySpread(_) => "PodTopologySpread",
            Self::VolumeBinding { .. } => "VolumeBinding",
        }
    }

    /// The plugin with these arguments.
    pub fn plugin(&self, listers: &Arc<Listers>) -> Arc<dyn Plugin> {
        let listers = listers.clone();
        match self.clone() {
            Self::DefaultPreemption { percentage, absolute } => Arc::new(DefaultPreemption {
                min_candidate_nodes_percentage: percentage,
                min_candidate_nodes_absolute: absolute,
                ..DefaultPreemption::new(listers)
            }),
            Self::InterPodAffinity {
                hard_weight,
                ignore_preferred,
            } => Arc::new(InterPodAffinity {
                hard_pod_affinity_weight: hard_weight,
                ignore_preferred_terms_of_existing_pods: ignore_preferred,
                ..InterPodAffinity::new(listers)
            }),
            Self::NodeAffinity(added) => Arc::new(NodeAffinity::adding(added.as_deref())),
            Self::NodeResourcesFit {
                ignored,
                ignored_groups,
                strategy,
                resources,
            } => Arc::new(NodeResourcesFit {
                ignored,
                ignored_groups,
                strategy,
                resources,
            }),
            Self::NodeResourcesBalancedAllocation(resources) => Arc::new(NodeResourcesBalancedAllocation { resources }),
            Self::PodTopologySpread(defaults) => Arc::new(PodTopologySpread::new(listers, defaults)),
            Self::VolumeBinding { timeout, shape } => Arc::new(VolumeBinding {
                timeout,
                shape,
                ..VolumeBinding::new(listers)
            }),
        }
    }
}

fn small(field: Option<Field<'_>>, most: u32) -> Result<Option<u32>, ConfigError> {
    field.map(|f| f.int(0, most)).transpose()
}

/// Of resources, or groups of them.
fn names(
    field: Option<Field<'_>>,
    check: impl Fn(&Field<'_>) -> Result<(), ConfigError>,
) -> Result<Vec<String>, ConfigError> {
    let name = |f: &Field<'_>| check(f).and_then(|()| Ok(f.label_name()?.to_owned()));
    field.map_or_else(|| Ok(Vec::new()), |list| list.each(name))
}

/// None stand for the default ones.
fn resources(field: &Field<'_>, most: i64) -> Result<Vec<WeightedResource>, ConfigError> {
    let mut out: Vec<WeightedResource> = Vec::new();
    for item in field.list()? {
        let mut fields = item.map()?;
        let name = fields.require("name")?;
        let weight = fields.take("weight").map_or(Ok(1), |f| match f.int(0, most)? {
            0 => Ok(1),
            weight => Ok(weight),
        })?;
        fields.end()?;
        if out.iter().any(|r| Ok(r.name.as_str()) == name.text()) {
            return Err(name.error("is there twice"));
        }
        out.push(WeightedResource {
            name: name.text()?.to_owned(),
            weight,
        });
    }
    match out.is_empty() {
        true => Ok(WeightedResource::cpu_and_memory()),
        false => Ok(out),
    }
}

fn strategy_of(field: &Field<'_>) -> Result<(Strategy, Vec<WeightedResource>), ConfigError> {
    let mut fields = field.map()?;
    let kind = fields.take("type");
    let line = fields.take("requestedToCapacityRatio");
    let strategy = match kind.as_ref().map_or(Ok("LeastAllocated"), Field::text)? {
        "LeastAllocated" => Strategy::LeastAllocated,
        "MostAllocated" => Strategy::MostAllocated,
        "RequestedToCapacityRatio" => {
            let Some(line) = &line else {
                return Err(field.error("requestedToCapacityRatio is required with this type"));
            };
            let mut of_line = line.map()?;
            let points = shape(&of_line.require("shape")?)?;
            of_line.end()?;
            Strategy::RequestedToCapacityRatio(points)
        }
        other => {
            let wanted = "LeastAllocated, MostAllocated or RequestedToCapacityRatio";
            let at = kind.as_ref().unwrap_or(field);
            return Err(at.error(format!("must be {wanted}, not {other:?}")));
        }
    };
    let resources = match fields.take("resources") {
        Some(list) => resources(&list, 100)?,
        None => WeightedResource::cpu_and_memory(),
    };
    fields.end()?;
    Ok((strategy, resources))
}

/// Points of rising utilization from 0 to 100, with scores from 0 to 10, which are scaled to 100.
fn shape(field: &Field<'_>) -> Result<Vec<ShapePoint>, ConfigError> {
    let mut out: Vec<ShapePoint> = Vec::new();
    for item in field.list()? {
        let mut fields = item.map()?;
        let utilization = fields.require("utilization")?;
        let point = ShapePoint {
            utilization: utilization.int(0, 100)?,
            score: fields.require("score")?.int(0, 10)? * 10,
        };
        fields.end()?;
        if out.last().is_some_and(|before| before.utilization >= point.utilization) {
            return Err(utilization.error("must be larger than that of the point before"));
        }
        out.push(point);
    }
    match out.is_empty() {
        true => Err(field.error("needs at least one point")),
        false => Ok(out),
    }
}

/// Whether the field says the second, rather than the first.
fn one_of(field: &Field<'_>, words: [&str; 2]) -> Result<bool, ConfigError> {
    let text = field.text()?;
    match words.iter().position(|word| *word == text) {
        Some(at) => Ok(at == 1),
        None => Err(field.error(format!("must be {} or {}, not {text:?}", words[0], words[1]))),
    }
}

/// Whether nodes are to be left out.
fn policy(field: Option<Field<'_>>, default: bool) -> Result<bool, ConfigError> {
    field.map_or(Ok(default), |f| one_of(&f, ["Ignore", "Honor"]))
}

fn spread(kind: Option<&Field<'_>>, list: Option<&Field<'_>>) -> Result<Defaults, ConfigError> {
    let mut constraints: Vec<DefaultConstraint> = Vec::new();
    let items = list.map_or_else(|| Ok(Vec::new()), Field::list)?;
    for item in items {
        let mut fields = item.map()?;
        if let Some(selector) = fields.take("labelSelector") {
            return Err(selector.error("is not allowed here: the pod's services and controller select"));
        }
        let when = fields.require("whenUnsatisfiable")?;
        let min_domains = fields.take("minDomains");
        let constraint = DefaultConstraint {
            max_skew: fields.require("maxSkew")?.int(1, i64::from(i32::MAX))?,
            topology_key: fields.require("topologyKey")?.label_name()?.into(),
            hard: one_of(&when, ["ScheduleAnyway", "DoNotSchedule"])?,
            min_domains: min_domains.as_ref().map_or(Ok(1), |f| f.int(1, i64::from(i32::MAX)))?,
            honor_affinity: policy(fields.take("nodeAffinityPolicy"), true)?,
            honor_taints: policy(fields.take("nodeTaintsPolicy"), false)?,
        };
        fields.end()?;
        if let Some(field) = min_domains.filter(|_| !constraint.hard) {
            return Err(field.error("needs whenUnsatisfiable: DoNotSchedule"));
        }
        let same = |c: &DefaultConstraint| c.topology_key == constraint.topology_key && c.hard == constraint.hard;
        if constraints.iter().any(same) {
            return Err(item.error("there is a constraint for this topologyKey and whenUnsatisfiable already"));
        }
        constraints.push(constraint);
    }
    match kind.map_or(Ok(false), |k| one_of(k, ["System", "List"]))? {
        true => Ok(Defaults::List(constraints)),
        false => match list {
            Some(list) if !constraints.is_empty() => Err(list.error("needs defaultingType: List")),
            _ => Ok(Defaults::System),
        },
    }
}
