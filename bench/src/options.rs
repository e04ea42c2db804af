//! Sizes of the rows: those of the budget table by default. A figure's name carries the sizes that are its own, so that
//! figures of other sizes are never compared or judged.

use std::time::Duration;

use clap::Args;

#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Clients that send requests at once, each on a connection of its own
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub workers: usize,
    /// Objects of each kind that are created, read, changed and deleted
    #[arg(long, default_value_t = 5000, value_name = "N")]
    pub objects: usize,
    /// Writes in a second that watchers see
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub write_rate: u32,
    /// Writes that watchers see
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub writes: usize,
    /// How long rest is observed, in seconds
    #[arg(long, default_value = "30", value_parser = seconds, value_name = "SECONDS")]
    pub idle: Duration,
    /// How long a server is left alone before rest or memory is observed, in seconds
    #[arg(long, default_value = "15", value_parser = seconds, value_name = "SECONDS")]
    pub settle: Duration,
    /// Pods of the Deployment that is scaled and updated
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub replicas: u32,
    /// Nodes of the clusters that pods are scheduled on, one size after another
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1000, 5000], value_name = "NUMBERS")]
    pub schedule_nodes: Vec<usize>,
    /// Pods that are scheduled; of those that must be apart or evict others, no more than there are nodes
    #[arg(long, default_value_t = 2000, value_name = "N")]
    pub schedule_pods: usize,
    /// Jobs of one pod
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub jobs: u32,
    /// Pods at rest, for the cost of controllers
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub idle_pods: u32,
    /// ConfigMaps that a server restarts with (and a quarter as many Pods)
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    pub restart_maps: usize,
    /// Starts that are timed, and kills that are survived
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub starts: usize,
    /// Pods that are started one after another (a fifth of them then at once), that rest on a node; commands executed
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub pods: usize,
    /// An image that is on the node, with `sleep` and `true` [default: one made from this machine's busybox]
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// How large the image is that is pulled, unpacked
    #[arg(long, default_value_t = 300, value_name = "MIB")]
    pub image_mib: u64,
    /// Fake nodes of the largest row
    #[arg(long, default_value_t = 5000, value_name = "N")]
    pub fleet_nodes: u32,
    /// Pods of the largest row
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pub fleet_pods: u32,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is no number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}
