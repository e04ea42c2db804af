//! What every controller is given: clients, the shared informers, a clock, and when to stop.

use std::fmt::Debug;

use coracle_api::service::UserInfo;
use coracle_client::Client;
use coracle_client::event::EventRecorder;
use coracle_clock::Clock;
use coracle_informer::work_queue::Item;
use coracle_informer::{CancellationToken, Controller, InformerFactory, QueueOptions};

use crate::Metrics;
use crate::keys::Keys;

/// The world of a controller. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The identity of the controller manager; controllers act by [`client_of`](Self::client_of).
    pub client: Client,
    pub informers: InformerFactory,
    pub clock: Clock,
    pub shutdown: CancellationToken,
    /// The cluster's CA certificate in PEM, for pods that talk to the API.
    pub cluster_ca: std::sync::Arc<str>,
    /// What some controllers sign with.
    pub keys: Keys,
    pub metrics: Metrics,
}

impl Context {
    pub fn new(client: Client, clock: Clock, shutdown: CancellationToken, cluster_ca: &str) -> Self {
        let informers = InformerFactory::new(client.clone(), clock, shutdown.clone());
        Self {
            client,
            informers,
            clock,
            shutdown,
            cluster_ca: cluster_ca.into(),
            keys: Keys::default(),
            metrics: Metrics::default(),
        }
    }

    /// The same, with keys for the controllers that sign.
    pub fn with_keys(self, keys: Keys) -> Self {
        Self { keys, ..self }
    }

    /// The same, counted.
    pub fn metered(self, metrics: Metrics) -> Self {
        let informers = self.informers.metered(metrics.work.clone());
        Self {
            informers,
            metrics,
            ..self
        }
    }

    /// A controller in the making, counted with the others.
    pub fn controller<Q: Item + Debug>(&self, name: &'static str, workers: usize) -> Controller<Q> {
        let options = QueueOptions {
            metrics: self.metrics.work.clone(),
            ..QueueOptions::default()
        };
        Controller::with(name, workers, self.clock, options)
    }

    /// The client of one controller: in process it acts as that controller's own service account, with only the rights
    /// that this has; over HTTP it has the connection's identity.
    pub fn client_of(&self, controller: &str) -> Client {
        let account = controller.strip_suffix("-controller").unwrap_or(controller);
        self.client_as(&format!("{account}-controller"), controller)
    }

    /// The same, where the service account is not named after the controller.
    pub fn client_as(&self, account: &str, controller: &str) -> Client {
        let user = UserInfo {
            name: format!("system:serviceaccount:kube-system:{account}"),
            groups: [
                "system:serviceaccounts",
                "system:serviceaccounts:kube-system",
                "system:authenticated",
            ]
            .map(str::to_owned)
            .to_vec(),
            ..UserInfo::default()
        };
        let client = self.client.impersonating(user).unwrap_or_else(|| self.client.clone());
        client.named(controller)
    }

    /// Records events as a controller.
    pub fn recorder(&self, controller: &str) -> EventRecorder {
        let client = self.client_of(controller);
        EventRecorder::start(&client, controller, None, self.clock, self.shutdown.clone())
    }

    /// The same, where the service account is not named after the controller.
    pub fn recorder_as(&self, account: &str, controller: &str) -> EventRecorder {
        let client = self.client_as(account, controller);
        EventRecorder::start(&client, controller, None, self.clock, self.shutdown.clone())
    }
}
