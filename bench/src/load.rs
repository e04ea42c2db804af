//! The load generator: prepared requests over connections of its own, answers read and dropped undecoded, so that what
//! is measured is the server. It knows HTTP and no Kubernetes type.

mod connection;
mod events;
mod request;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coracle_clock::Clock;

pub use connection::{Connection, Endpoint};
pub use events::Events;
pub use request::Prepared;

use crate::latency::{Latencies, micros};

/// What came of many requests.
pub struct Outcome {
    pub took: Duration,
    pub latencies: Latencies,
}

impl Outcome {
    /// Requests in a second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64().max(1e-9)
    }
}

/// Connections, each for one request at a time, as so many clients would have.
pub struct Workers(Vec<Connection>);

impl Workers {
    pub async fn connect(endpoint: &Endpoint, count: usize) -> anyhow::Result<Self> {
        let mut all = Vec::with_capacity(count);
        for _ in 0..count.max(1) {
            all.push(endpoint.connect().await?);
        }
        Ok(Self(all))
    }

    /// Sends every request once, each worker the next that nobody has taken.
    pub async fn send_all(&mut self, requests: Vec<Prepared>) -> anyhow::Result<Outcome> {
        let (requests, next) = (Arc::new(requests), Arc::new(AtomicUsize::new(0)));
        let clock = Clock::system();
        let started = clock.instant();
        let mut tasks = tokio::task::JoinSet::new();
        for mut connection in self.0.drain(..) {
            let (requests, next) = (requests.clone(), next.clone());
            tasks.spawn(async move {
                let mut took = Vec::new();
                while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let began = clock.instant();
                    connection.call(request).await?;
                    took.push(micros(began.elapsed()));
                }
                anyhow::Ok((connection, took))
            });
        }
        let mut all = Vec::with_capacity(requests.len());
        while let Some(done) = tasks.join_next().await {
            let (connection, took) = done??;
            self.0.push(connection);
            all.extend(took);
        }
        Ok(Outcome {
            took: started.elapsed(),
            latencies: Latencies::from_micros(all),
        })
    }
}
