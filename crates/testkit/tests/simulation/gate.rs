//! Between a component and the API server: requests take their time, are refused or lose their answers, watches stall and
//! break, and the component may end at any write. What it has sent by then is still carried out.

use std::sync::Arc;
use std::time::Duration;

use coracle_api::service::{Answer, Operation, Request, Response, Service, UserInfo, WatchStream};
use coracle_api::status::{Of, Status};
use coracle_clock::{Clock, Instant};
use coracle_informer::CancellationToken;
use coracle_server::ApiServer;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use parking_lot::Mutex;

use crate::chaos::{Chaos, Fate, Passage};
use crate::history::ACTOR;

/// How long a request is waited for over a line that is cut.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A component's line to the server, which may be cut until some moment.
#[derive(Default)]
pub struct Line(Mutex<Option<Instant>>);

impl Line {
    pub fn cut(&self, until: Instant) {
        *self.0.lock() = Some(until);
    }

    pub fn mend(&self) {
        *self.0.lock() = None;
    }

    /// For how long it still is cut.
    fn left(&self, now: Instant) -> Option<Duration> {
        let until = (*self.0.lock())?;
        Some(until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }
}

/// One component's way in, for one of its lives.
#[derive(Clone)]
pub struct Gate {
    pub server: ApiServer,
    pub chaos: Arc<Chaos>,
    pub clock: Clock,
    pub line: Arc<Line>,
    /// Cancelled at the end of this life: nothing passes any more, in either direction.
    pub life: CancellationToken,
}

impl Gate {
    async fn pass(&self, user: &UserInfo, request: Request) -> Result<Response, Status> {
        self.wait(self.chaos.latency()).await;
        // It arrives at once or never: a request that comes late would be another's who leads no longer.
        self.cross("the server was not reached").await?;
        let writes = !matches!(
            request.operation,
            Operation::Get { .. } | Operation::List(_) | Operation::Watch(_)
        );
        let fate = if writes { self.chaos.of_write() } else { Fate::Done };
        match fate {
            Fate::Refused => return Err(self.refusal(&request)),
            Fate::CrashBefore => {
                self.life.cancel();
                return std::future::pending().await;
            }
            Fate::Done | Fate::Lost | Fate::CrashAfter => {}
        }
        let actor = user.name.rsplit(':').next().unwrap_or_default().to_owned();
        let answer = ACTOR.scope(actor, self.server.call(user, request)).await;
        if fate == Fate::CrashAfter {
            self.life.cancel();
        }
        self.wait(self.chaos.latency()).await;
        self.cross("the answer was lost").await?;
        if fate == Fate::Lost && answer.is_ok() {
            return Err(Status::timeout("the answer was lost"));
        }
        let mut response = answer?;
        if let Answer::Watch(stream) = response.answer {
            response.answer = Answer::Watch(self.watch(stream));
        }
        Ok(response)
    }

    /// Fails, after a while, if the line is cut.
    async fn cross(&self, failure: &str) -> Result<(), Status> {
        let Some(left) = self.line.left(self.clock.instant()) else {
            return Ok(());
        };
        self.wait(left.min(TIMEOUT)).await;
        Err(Status::timeout(failure))
    }

    /// For ever, once this life has ended.
    async fn wait(&self, delay: Duration) {
        if !delay.is_zero() {
            self.clock.sleep(delay).await;
        }
        if self.life.is_cancelled() {
            std::future::pending().await
        }
    }

    fn refusal(&self, request: &Request) -> Status {
        let of = Of {
            group: &request.target.group,
            plural: &request.target.resource,
        };
        match (self.chaos.refusal(), &request.operation) {
            (0, Operation::Update { .. }) => Status::modified(of, &request.target.name),
            (0 | 1, _) => Status::unavailable("the server is not available for a moment"),
            _ => Status::internal("the server has failed, and nothing was done"),
        }
    }

    /// Stalls do not add up: what has waited through one passes at once, so that nothing is late by more than one lag.
    fn watch(&self, inner: WatchStream) -> WatchStream {
        let start = (self.clone(), Some(inner), self.clock.instant());
        stream::unfold(start, |(gate, inner, stalled)| async move {
            let mut inner = inner?;
            let event = inner.next().await?;
            match gate.chaos.of_event() {
                Passage::After(lag) => {
                    let rested = gate.clock.instant() > stalled;
                    gate.wait(if rested { lag } else { Duration::ZERO }).await;
                    while let Some(left) = gate.line.left(gate.clock.instant()) {
                        gate.wait(left).await;
                    }
                    let stalled = gate.clock.instant();
                    Some((event, (gate, Some(inner), stalled)))
                }
                Passage::Expired => Some((Err(Status::expired("too old, says chance")), (gate, None, stalled))),
                Passage::Ended => None,
            }
        })
        .boxed()
    }
}

impl Service for Gate {
    fn call<'a>(&'a self, user: &'a UserInfo, request: Request) -> BoxFuture<'a, Result<Response, Status>> {
        self.pass(user, request).boxed()
    }
}
