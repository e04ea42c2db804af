//! Leader election by a Lease: of several replicas one works, and another takes over when it stops renewing.
//!
//! Clocks of different machines are never compared: a lease is taken over when *this* replica has seen it unchanged for
//! its whole duration.

use std::future::Future;
use std::time::Duration;

use coracle_clock::{Clock, Instant};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use tokio_util::sync::CancellationToken;

use crate::{Client, Error};

/// How an election is held. The durations are upstream's.
#[derive(Clone, Debug)]
pub struct LeaderConfig {
    pub namespace: String,
    pub name: String,
    /// Who this replica is; no two may share it.
    pub identity: String,
    /// How long a lease that is not renewed keeps others out.
    pub lease_duration: Duration,
    /// How long the leader tries to renew before it gives up; shorter than the lease.
    pub renew_deadline: Duration,
    pub retry_period: Duration,
}

impl LeaderConfig {
    pub fn new(namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// A candidate.
pub struct LeaderElector {
    client: Client,
    config: LeaderConfig,
    clock: Clock,
    /// The lease as it was last seen, and since when it is unchanged.
    seen: Option<(Lease, Instant)>,
}

impl LeaderElector {
    pub fn new(client: Client, config: LeaderConfig, clock: Clock) -> Self {
        Self {
            client,
            config,
            clock,
            seen: None,
        }
    }

    /// Waits to become leader, then runs `lead`, whose token is cancelled when leadership is lost or at `shutdown`; ends
    /// when `lead` has. At shutdown (or when `lead` ends of itself) the lease is given up, so that another need not wait.
    ///
    /// Returns `None` if `shutdown` came before leadership did.
    pub async fn run<F, Fut>(mut self, shutdown: CancellationToken, lead: F) -> Option<Fut::Output>
    where
        F: FnOnce(CancellationToken) -> Fut,
        Fut: Future,
    {
        shutdown.run_until_cancelled(self.acquire()).await?;
        tracing::info!(
            lease = self.config.name,
            identity = self.config.identity,
            "became leader"
        );
        let leading = shutdown.child_token();
        let work = lead(leading.clone());
        tokio::pin!(work);
        let output = tokio::select! {
            output = &mut work => Some(output),
            () = shutdown.cancelled() => None,
            () = self.keep() => {
                tracing::warn!(lease = self.config.name, identity = self.config.identity, "lost leadership");
                None
            }
        };
        leading.cancel();
        let output = match output {
            Some(output) => output,
            // Its last writes come before the lease is free.
            None => work.await,
        };
        self.release().await;
        Some(output)
    }

    async fn acquire(&mut self) {
        loop {
            match self.try_take().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, lease = self.config.name, "cannot read or take the lease"),
            }
            self.clock.sleep(self.config.retry_period).await;
        }
    }

    /// Renews until that has failed for the renew deadline.
    async fn keep(&mut self) {
        let mut renewed = self.clock.instant();
        loop {
            self.clock.sleep(self.config.retry_period).await;
            let deadline = renewed + self.config.renew_deadline;
            let left = deadline.saturating_duration_since(self.clock.instant());
            let clock = self.clock;
            match clock.timeout(left, self.try_take()).await {
                Ok(Ok(true)) => renewed = clock.instant(),
                // Somebody else has it.
                Ok(Ok(false)) => return,
                Ok(Err(error)) => {
                    tracing::warn!(%error, lease = self.config.name, "cannot renew the lease");
                    if clock.instant() >= deadline {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }

    /// Takes or renews the lease unless somebody else holds it.
    async fn try_take(&mut self) -> Result<bool, Error> {
        let leases = self.client.namespaced::<Lease>(&self.config.namespace);
        let now = MicroTime(self.clock.now());
        let mut spec = LeaseSpec {
            holder_identity: Some(self.config.identity.clone()),
            lease_duration_seconds: i32::try_from(self.config.lease_duration.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(0),
            ..LeaseSpec::default()
        };
        let Some(current) = leases.find(&self.config.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.config.name.clone()),
                    namespace: Some(self.config.namespace.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(spec),
            };
            return match leases.create(&lease).await {
                Ok(created) => {
                    self.observe(&created);
                    Ok(true)
                }
                Err(error) if error.is_already_exists() => Ok(false),
                Err(error) => Err(error),
            };
        };
        let since = self.observe(&current);
        let old = current.spec.clone().unwrap_or_default();
        let holder = old.holder_identity.as_deref().unwrap_or_default();
        if holder == self.config.identity {
            spec.acquire_time = old.acquire_time;
            spec.lease_transitions = old.lease_transitions;
        } else {
            let seconds = old.lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
            let duration = seconds.map_or(self.config.lease_duration, Duration::from_secs);
            if !holder.is_empty() && since + duration > self.clock.instant() {
                return Ok(false);
            }
            spec.lease_transitions = Some(old.lease_transitions.unwrap_or(0).saturating_add(1));
        }
        spec.preferred_holder = old.preferred_holder;
        spec.strategy = old.strategy;
        let lease = Lease {
            spec: Some(spec),
            ..(*current).clone()
        };
        match leases.update(&lease).await {
            Ok(updated) => {
                self.observe(&updated);
                Ok(true)
            }
            // Somebody was faster.
            Err(error) if error.is_conflict() && holder != self.config.identity => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Remembers the lease; since when it has been as it is.
    fn observe(&mut self, lease: &Lease) -> Instant {
        let now = self.clock.instant();
        match &self.seen {
            Some((seen, since)) if seen.spec == lease.spec => *since,
            _ => {
                self.seen = Some((lease.clone(), now));
                now
            }
        }
    }

    async fn release(&mut self) {
        let Some((lease, _)) = &self.seen else { return };
        let Some(spec) = &lease.spec else { return };
        if spec.holder_identity.as_deref() != Some(&self.config.identity) {
            return;
        }
        let now = MicroTime(self.clock.now());
        let released = Lease {
            metadata: lease.metadata.clone(),
            spec: Some(LeaseSpec {
                holder_identity: Some(String::new()),
                lease_duration_seconds: Some(1),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                ..spec.clone()
            }),
        };
        let leases = self.client.namespaced::<Lease>(&self.config.namespace);
        let update = leases.update(&released);
        match self.clock.timeout(self.config.renew_deadline, update).await {
            Ok(Ok(_)) => tracing::info!(lease = self.config.name, "gave up leadership"),
            Ok(Err(error)) => tracing::warn!(%error, lease = self.config.name, "cannot give up the lease"),
            Err(_) => tracing::warn!(lease = self.config.name, "cannot give up the lease in time"),
        }
    }
}
