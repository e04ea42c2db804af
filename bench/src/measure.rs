//! Latencies and rates: many workers, one list of durations.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coracle_client::Client;
use coracle_clock::Clock;
use k8s_openapi::api::core::v1::Namespace;

/// Durations, sorted.
pub struct Latencies(Vec<Duration>);

impl Latencies {
    pub fn new(mut all: Vec<Duration>) -> Self {
        all.sort();
        Self(all)
    }

    /// In milliseconds; 0 when there are none.
    pub fn percentile(&self, percent: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let at = ((last as f64) * percent / 100.0).round() as usize;
        self.0.get(at).map_or(0.0, |d| d.as_secs_f64() * 1000.0)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Calls `work` with 0, 1, ... `count` - 1 from `workers` tasks. Returns how long all of it took, and each call.
pub async fn spread<F, Fut>(workers: usize, count: usize, work: F) -> anyhow::Result<(Duration, Latencies)>
where
    F: Fn(usize) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send,
{
    let clock = Clock::system();
    let (work, next) = (Arc::new(work), Arc::new(AtomicUsize::new(0)));
    let started = clock.instant();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..workers.max(1) {
        let (work, next) = (work.clone(), next.clone());
        tasks.spawn(async move {
            let mut took = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= count {
                    return anyhow::Ok(took);
                }
                let began = clock.instant();
                work(n).await?;
                took.push(began.elapsed());
            }
        });
    }
    let mut all = Vec::with_capacity(count);
    while let Some(result) = tasks.join_next().await {
        all.extend(result??);
    }
    Ok((started.elapsed(), Latencies::new(all)))
}

/// A namespace for one run, deleted by [`Scratch::drop_namespace`].
pub struct Scratch {
    pub name: String,
    client: Client,
}

impl Scratch {
    pub async fn make(client: &Client) -> anyhow::Result<Self> {
        let mut namespace = Namespace::default();
        namespace.metadata.generate_name = Some("bench-".into());
        let made = client.all::<Namespace>().create(&namespace).await?;
        let name = made.metadata.name.clone().unwrap_or_default();
        // Pods need the namespace's default account.
        let accounts = client.namespaced::<k8s_openapi::api::core::v1::ServiceAccount>(&name);
        let give_up = Clock::system().instant() + Duration::from_secs(10);
        while accounts.find("default").await?.is_none() && Clock::system().instant() < give_up {}
        Ok(Self {
            name,
            client: client.clone(),
        })
    }

    pub async fn drop_namespace(self) -> anyhow::Result<()> {
        self.client
            .all::<Namespace>()
            .delete(&self.name, &Default::default())
            .await?;
        Ok(())
    }
}
