//! What every controller is given: clients, the shared informers, a clock, and when to stop.

use coracle_api::service::UserInfo;
use coracle_client::Client;
use coracle_client::event::EventRecorder;
use coracle_clock::Clock;
use coracle_informer::{CancellationToken, InformerFactory};

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
        }
    }

    /// The client of one controller: in process it acts as that controller's own service account, with only the rights
    /// that this has; over HTTP it has the connection's identity.
    pub fn client_of(&self, controller: &str) -> Client {
        let account = controller.strip_suffix("-controller").unwrap_or(controller);
        let user = UserInfo {
            name: format!("system:serviceaccount:kube-system:{account}-controller"),
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
        EventRecorder::start(
            &self.client_of(controller),
            controller,
            None,
            self.clock,
            self.shutdown.clone(),
        )
    }
}
