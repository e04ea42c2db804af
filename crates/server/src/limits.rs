//! How many requests are served at a time. Those beyond wait their turn; when too many wait, the next is sent away with
//! 429 and told when to come back. Watches and streams do not count.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coracle_api::status::Status;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::Metrics;
use crate::options::Limits;

/// See the module.
pub(crate) struct InFlight {
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    waiting: AtomicUsize,
    most_waiting: usize,
    pub body_bytes: usize,
    /// How long a request may take that is no watch or stream.
    pub request_time: Duration,
    /// How long a client may take before its request has begun.
    pub head_time: Duration,
}

/// A request's place; given back when it is dropped.
pub(crate) struct Turn {
    _permit: OwnedSemaphorePermit,
    _counted: Box<dyn Send>,
}

impl InFlight {
    pub fn new(limits: Limits) -> Self {
        Self {
            reads: Arc::new(Semaphore::new(limits.reads_in_flight)),
            writes: Arc::new(Semaphore::new(limits.writes_in_flight)),
            waiting: AtomicUsize::new(0),
            most_waiting: limits.waiting,
            body_bytes: limits.body_bytes,
            request_time: limits.request_time,
            head_time: limits.head_time,
        }
    }

    /// Waits for a place.
    pub async fn enter(&self, metrics: &Metrics, mutating: bool) -> Result<Turn, Status> {
        let places = if mutating { &self.writes } else { &self.reads };
        let permit = match places.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let _place = self.queue(metrics)?;
                let turn = places.clone().acquire_owned().await;
                turn.map_err(|_| Status::unavailable("the server is shutting down"))?
            }
        };
        Ok(Turn {
            _permit: permit,
            _counted: Box::new(metrics.in_flight(mutating)),
        })
    }

    fn queue(&self, metrics: &Metrics) -> Result<Place<'_>, Status> {
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        let place = Place(&self.waiting);
        if before >= self.most_waiting {
            metrics.refused();
            return Err(Status::too_many_requests(
                "Too many requests, please try again later.",
                1,
            ));
        }
        Ok(place)
    }
}

struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
