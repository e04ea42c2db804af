//! `plugins` of a profile: which are enabled and disabled, at all of their extension points (`multiPoint`) or at some, and
//! with which weight; and what comes of it, as upstream joins them with the default ones.

use std::sync::Arc;

use coracle_api::configuration::{ConfigError, Field};

use crate::framework::{Plugin, Point};
use crate::listers::Listers;
use crate::plugins::{DEFAULT_PLUGINS, default_plugin};
use crate::profile::ProfilePlugins;

/// Default plugins of upstream's that there are none of here; who disables one has what they want.
const ONLY_UPSTREAM: [&str; 3] = ["DynamicResources", "NodeDeclaredFeatures", "GangScheduling"];

/// At one extension point, or at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginSet {
    /// With their weights; none, which is 0, is 1.
    pub enabled: Vec<(String, i64)>,
    /// `*` is all.
    pub disabled: Vec<String>,
}

impl PluginSet {
    fn disables(&self, name: &str) -> bool {
        self.disabled.iter().any(|d| d == "*" || d == name)
    }

    fn weight(&self, name: &str) -> Option<i64> {
        self.enabled.iter().find(|(n, _)| n == name).map(|(_, weight)| *weight)
    }
}

/// See the [module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginSelection {
    pub multi_point: PluginSet,
    pub points: Vec<(Point, PluginSet)>,
}

impl PluginSelection {
    pub(super) fn read(field: &Field<'_>, more: &[Arc<dyn Plugin>]) -> Result<Self, ConfigError> {
        let listers = Arc::new(Listers::holding());
        let find = |name: &str| {
            let own = more.iter().find(|p| p.name() == name).cloned();
            own.or_else(|| default_plugin(name, &listers))
        };
        let mut out = Self::default();
        let mut fields = field.map()?;
        if let Some(multi) = fields.take("multiPoint") {
            out.multi_point = set(&multi, None, &find)?;
        }
        for point in Point::ALL {
            if let Some(field) = fields.take(point.field()) {
                out.points.push((point, set(&field, Some(point), &find)?));
            }
        }
        fields.end()?;
        Ok(out)
    }

    fn at(&self, point: Point) -> Option<&PluginSet> {
        self.points.iter().find(|(p, _)| *p == point).map(|(_, set)| set)
    }

    /// The plugins at all points: the default ones that are not disabled, with weights replaced, then those added.
    fn everywhere(&self) -> Vec<(String, i64)> {
        let multi = &self.multi_point;
        let defaults = DEFAULT_PLUGINS.iter().filter(|(name, _)| !multi.disables(name));
        let mut out: Vec<(String, i64)> = defaults
            .map(|(name, weight)| ((*name).to_owned(), multi.weight(name).unwrap_or(*weight)))
            .collect();
        for (name, weight) in &multi.enabled {
            if !out.iter().any(|(n, _)| n == name) {
                out.push((name.clone(), *weight));
            }
        }
        out
    }

    /// What runs where.
    pub(super) fn resolve(&self, find: &dyn Fn(&str) -> Option<Arc<dyn Plugin>>) -> ProfilePlugins {
        let everywhere = self.everywhere();
        let named = self
            .points
            .iter()
            .flat_map(|(_, set)| &set.enabled)
            .map(|(name, _)| name);
        let mut names: Vec<&String> = everywhere.iter().map(|(name, _)| name).collect();
        for name in named {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let plugins: Vec<Arc<dyn Plugin>> = names.into_iter().filter_map(|name| find(name)).collect();
        let mut out = ProfilePlugins::default();
        let score = self.at(Point::Score);
        for plugin in &plugins {
            let at_score = score.and_then(|s| s.weight(plugin.name()));
            let anywhere = || everywhere.iter().find(|(n, _)| n == plugin.name()).map(|(_, w)| *w);
            out.plugin(plugin.clone(), at_score.or_else(anywhere).unwrap_or(1).max(1));
        }
        let none = PluginSet::default();
        for point in Point::ALL {
            let set = self.at(point).unwrap_or(&none);
            let takes_part = |name: &str| plugins.iter().find(|p| p.name() == name && p.points().contains(&point));
            let is_everywhere = |name: &str| everywhere.iter().any(|(n, _)| n == name);
            // Those named both here and for all points, in the order given here; then those for all points; then the rest, to
            // which belongs who is disabled here and enabled again.
            let is_both = |name: &str| is_everywhere(name) && !set.disables(name);
            let (both, rest): (Vec<_>, Vec<_>) = set.enabled.iter().partition(|(name, _)| is_both(name));
            let others = everywhere.iter().filter(|(name, _)| !set.disables(name));
            for (name, _) in both.into_iter().chain(others).chain(rest) {
                if let Some(plugin) = takes_part(name) {
                    out.run_at(point, plugin.name());
                }
            }
        }
        out
    }
}

fn set(
    field: &Field<'_>,
    point: Option<Point>,
    find: &dyn Fn(&str) -> Option<Arc<dyn Plugin>>,
) -> Result<PluginSet, ConfigError> {
    let mut out = PluginSet::default();
    let mut fields = field.map()?;
    let known = |name: &Field<'_>| {
        let text = name.text()?;
        find(text).ok_or_else(|| name.error(format!("there is no plugin {text:?}")))
    };
    if let Some(list) = fields.take("enabled") {
        for item in list.list()? {
            let mut fields = item.map()?;
            let name = fields.require("name")?;
            let weight = fields.take("weight").map_or(Ok(0), |f| f.int(0, i64::from(i32::MAX)))?;
            fields.end()?;
            let plugin = known(&name)?;
            if let Some(point) = point.filter(|p| !plugin.points().contains(p)) {
                return Err(name.error(format!("{} does not take part in {}", plugin.name(), point.field())));
            }
            if out.weight(plugin.name()).is_some() {
                return Err(name.error("is enabled twice"));
            }
            out.enabled.push((plugin.name().to_owned(), weight));
        }
    }
    if let Some(list) = fields.take("disabled") {
        for item in list.list()? {
            let mut fields = item.map()?;
            let name = fields.require("name")?;
            // Upstream's lists of the same type have a weight there too.
            if let Some(weight) = fields.take("weight") {
                weight.int(0, i64::from(i32::MAX))?;
            }
            fields.end()?;
            let text = name.text()?;
            if text != "*" && !ONLY_UPSTREAM.contains(&text) {
                known(&name)?;
            }
            if out.disabled.iter().any(|d| d == text) {
                return Err(name.error("is disabled twice"));
            }
            out.disabled.push(text.to_owned());
        }
    }
    fields.end()?;
    Ok(out)
}
