//! `KubeSchedulerConfiguration` (`kubescheduler.config.k8s.io/v1`): how many nodes to score, back-offs, leader election,
//! and profiles with their plugins and the plugins' arguments. A mistake is told with its field and line.

mod added_affinity;
mod arguments;
mod selection;

use std::sync::Arc;
use std::time::Duration;

use crate::framework::{Plugin, Point};
use crate::listers::Listers;
use crate::profile::Profile;
use crate::queue::Backoff;

pub use arguments::Arguments;
pub use coracle_api::configuration::ConfigError;
pub use selection::PluginSelection;

use coracle_api::configuration::{Document, Field};

/// See the [module](self).
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulerConfiguration {
    /// 0 decides by the size of the cluster.
    pub percentage_of_nodes_to_score: u32,
    pub backoff: Backoff,
    pub leader_election: LeaderElection,
    pub client_connection: ClientConnection,
    pub profiles: Vec<ProfileConfiguration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderElection {
    pub leader_elect: bool,
    pub lease_duration: Duration,
    pub renew_deadline: Duration,
    pub retry_period: Duration,
    pub resource_name: String,
    pub resource_namespace: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientConnection {
    pub kubeconfig: Option<String>,
    /// Requests a second, and how many at once beyond that; `None`: no limit.
    pub rate: Option<(f64, u32)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProfileConfiguration {
    pub scheduler_name: String,
    pub percentage_of_nodes_to_score: Option<u32>,
    pub plugins: PluginSelection,
    pub arguments: Vec<Arguments>,
}

impl Default for LeaderElection {
    fn default() -> Self {
        Self {
            leader_elect: true,
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
            resource_name: "kube-scheduler".into(),
            resource_namespace: "kube-system".into(),
        }
    }
}

impl Default for SchedulerConfiguration {
    fn default() -> Self {
        Self {
            percentage_of_nodes_to_score: 0,
            backoff: Backoff::default(),
            leader_election: LeaderElection::default(),
            client_connection: ClientConnection::default(),
            profiles: vec![ProfileConfiguration::named(crate::DEFAULT_SCHEDULER)],
        }
    }
}

impl ProfileConfiguration {
    /// The default plugins under another name.
    pub fn named(scheduler_name: &str) -> Self {
        Self {
            scheduler_name: scheduler_name.to_owned(),
            ..Self::default()
        }
    }

    /// The profile itself. `more` are plugins beside the default ones, to be enabled by name.
    pub fn build(&self, listers: &Arc<Listers>, more: &[Arc<dyn Plugin>]) -> Profile {
        let plugin = |name: &str| {
            if let Some(arguments) = self.arguments.iter().find(|a| a.plugin_name() == name) {
                return Some(arguments.plugin(listers));
            }
            let more = more.iter().find(|p| p.name() == name).cloned();
            more.or_else(|| crate::plugins::default_plugin(name, listers))
        };
        let set = self.plugins.resolve(&plugin);
        Profile::with(&self.scheduler_name, set, self.percentage_of_nodes_to_score)
    }
}

fn percentage(field: Option<&Field<'_>>) -> Result<Option<u32>, ConfigError> {
    field.map(|f| f.int(0, 100)).transpose()
}

fn seconds(field: &Field<'_>) -> Result<Duration, ConfigError> {
    Ok(Duration::from_secs(field.int(1, u32::MAX)?.into()))
}

impl SchedulerConfiguration {
    /// From a file's text. `more` are plugins beside the default ones.
    pub fn parse(text: &str, more: &[Arc<dyn Plugin>]) -> Result<Self, ConfigError> {
        let document = Document::parse(text)?;
        let mut fields = document.root().map()?;
        fields.require("apiVersion")?.expect("kubescheduler.config.k8s.io/v1")?;
        fields.require("kind")?.expect("KubeSchedulerConfiguration")?;
        let mut out = Self {
            percentage_of_nodes_to_score: percentage(fields.take("percentageOfNodesToScore").as_ref())?.unwrap_or(0),
            ..Self::default()
        };
        if let Some(field) = fields.take("podInitialBackoffSeconds") {
            out.backoff.initial = seconds(&field)?;
        }
        let max = fields.take("podMaxBackoffSeconds");
        if let Some(field) = &max {
            out.backoff.max = seconds(field)?;
        }
        if out.backoff.max < out.backoff.initial {
            let at = max.unwrap_or_else(|| document.root());
            return Err(at.error("podMaxBackoffSeconds must not be less than podInitialBackoffSeconds"));
        }
        if let Some(field) = fields.take("leaderElection") {
            out.leader_election = leader_election(&field)?;
        }
        if let Some(field) = fields.take("clientConnection") {
            out.client_connection = client_connection(&field)?;
        }
        if let Some(field) = fields.take("extenders")
            && !field.list()?.is_empty()
        {
            return Err(field.error("scheduler extenders are not supported; write a plugin instead"));
        }
        for without_effect in [
            "parallelism",
            "enableProfiling",
            "enableContentionProfiling",
            "delayCacheUntilActive",
        ] {
            if let Some(field) = fields.take(without_effect) {
                if without_effect == "parallelism" {
                    field.int(1, i32::MAX)?;
                } else {
                    field.bool()?;
                }
                tracing::warn!(
                    field = without_effect,
                    "this field of the scheduler's configuration has no effect here"
                );
            }
        }
        if let Some(field) = fields.take("profiles") {
            out.profiles = profiles(&field, more)?;
        }
        fields.end()?;
        Ok(out)
    }
}

fn leader_election(field: &Field<'_>) -> Result<LeaderElection, ConfigError> {
    let mut out = LeaderElection::default();
    let mut fields = field.map()?;
    if let Some(f) = fields.take("leaderElect") {
        out.leader_elect = f.bool()?;
    }
    for (name, target) in [
        ("leaseDuration", &mut out.lease_duration),
        ("renewDeadline", &mut out.renew_deadline),
        ("retryPeriod", &mut out.retry_period),
    ] {
        // Nothing, in these and in names, stands for the default.
        if let Some(given) = fields.take(name).map(|f| f.duration()).transpose()?
            && !given.is_zero()
        {
            *target = given;
        }
    }
    for (name, target) in [
        ("resourceName", &mut out.resource_name),
        ("resourceNamespace", &mut out.resource_namespace),
    ] {
        if let Some(f) = fields.take(name)
            && !f.text()?.is_empty()
        {
            *target = f.text()?.to_owned();
        }
    }
    if let Some(f) = fields.take("resourceLock")
        && !f.text()?.is_empty()
    {
        f.expect("leases")?;
    }
    fields.end()?;
    if !out.leader_elect {
        return Ok(out);
    }
    if out.renew_deadline >= out.lease_duration || out.retry_period >= out.renew_deadline {
        return Err(field.error("must have leaseDuration > renewDeadline > retryPeriod"));
    }
    Ok(out)
}

fn client_connection(field: &Field<'_>) -> Result<ClientConnection, ConfigError> {
    let mut out = ClientConnection::default();
    let mut fields = field.map()?;
    out.kubeconfig = fields
        .take("kubeconfig")
        .map(|f| f.text().map(str::to_owned))
        .transpose()?;
    out.kubeconfig = out.kubeconfig.filter(|k| !k.is_empty());
    let qps = fields.take("qps").map(|f| f.number()).transpose()?;
    let burst = fields.take("burst").map(|f| f.int(0, u32::MAX)).transpose()?;
    if let Some(qps) = qps.filter(|q| *q > 0.0) {
        let burst = burst.unwrap_or(qps as u32);
        out.rate = Some((qps, burst.max(1)));
    }
    for content in ["contentType", "acceptContentTypes"] {
        if let Some(f) = fields.take(content)
            && f.text()?
                .split(',')
                .all(|t| t.trim() != "application/json" && !t.trim().is_empty())
        {
            tracing::warn!(field = content, "the scheduler speaks JSON");
        }
    }
    fields.end()?;
    Ok(out)
}

fn profiles(field: &Field<'_>, more: &[Arc<dyn Plugin>]) -> Result<Vec<ProfileConfiguration>, ConfigError> {
    let mut out: Vec<ProfileConfiguration> = Vec::new();
    let listers = Arc::new(Listers::holding());
    let items = field.list()?;
    if items.is_empty() {
        return Ok(vec![ProfileConfiguration::named(crate::DEFAULT_SCHEDULER)]);
    }
    let is_only = items.len() == 1;
    for item in items {
        let profile = profile(&item, is_only, more)?;
        if out.iter().any(|p| p.scheduler_name == profile.scheduler_name) {
            return Err(item.error(format!("there is a profile named {:?} already", profile.scheduler_name)));
        }
        let built = profile.build(&listers, more);
        if built.plugins_at(Point::QueueSort).len() != 1 {
            return Err(item.error("needs exactly one plugin at queueSort"));
        }
        if built.plugins_at(Point::Bind).is_empty() {
            return Err(item.error("needs a plugin at bind"));
        }
        if let Some(first) = out.first()
            && first.build(&listers, more).plugins_at(Point::QueueSort) != built.plugins_at(Point::QueueSort)
        {
            return Err(item.error("all profiles must have the same plugin at queueSort: there is one queue"));
        }
        out.push(profile);
    }
    Ok(out)
}

/// One that `is_only` need not have a name.
fn profile(item: &Field<'_>, is_only: bool, more: &[Arc<dyn Plugin>]) -> Result<ProfileConfiguration, ConfigError> {
    let mut fields = item.map()?;
    let name = match fields.take("schedulerName") {
        None if is_only => crate::DEFAULT_SCHEDULER,
        None => return Err(item.error("needs a schedulerName: there are several profiles")),
        Some(name) if name.text()?.is_empty() => return Err(name.error("must not be empty")),
        Some(name) => name.text()?,
    };
    let mut out = ProfileConfiguration::named(name);
    out.percentage_of_nodes_to_score = percentage(fields.take("percentageOfNodesToScore").as_ref())?;
    if let Some(plugins) = fields.take("plugins") {
        out.plugins = PluginSelection::read(&plugins, more)?;
    }
    if let Some(list) = fields.take("pluginConfig") {
        for item in list.list()? {
            let mut fields = item.map()?;
            let plugin = fields.require("name")?;
            let args = fields.require("args")?;
            fields.end()?;
            let arguments = Arguments::read(&plugin, &args)?;
            if out.arguments.iter().any(|a| a.plugin_name() == arguments.plugin_name()) {
                return Err(plugin.error("has arguments already"));
            }
            out.arguments.push(arguments);
        }
    }
    fields.end()?;
    Ok(out)
}

#[cfg(test)]
mod tests;
