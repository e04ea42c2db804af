//! What every part of the server holds: the store, the cache, the table of resources, and who decides.

use std::sync::Arc;

use arc_swap::ArcSwap;
use coracle_api::openapi::OpenApi;
use coracle_api::resource::Registry;
use coracle_api::status::Status;
use coracle_clock::{Clock, Random};
use coracle_store::Store;
use tokio_util::sync::CancellationToken;

use crate::admission::Chain;
use crate::authn::token_file::TokenFile;
use crate::authn::tokens::TokenIssuer;
use crate::authz::Authorizer;
use crate::cache::{Cache, store_failed};
use crate::dial::NodeClient;
use crate::discovery::Discovery;
use crate::limits::InFlight;
use crate::metrics::Metrics;
use crate::options::Network;
use crate::readiness::Readiness;
use crate::usage::Usages;

/// See the module.
pub(crate) struct Core {
    pub clock: Clock,
    pub random: Random,
    pub store: Arc<dyn Store>,
    pub cache: Arc<Cache>,
    pub registry: Arc<Registry>,
    pub authorizer: Arc<dyn Authorizer>,
    pub admission: Chain,
    pub tokens: TokenIssuer,
    pub token_file: TokenFile,
    pub metrics: Metrics,
    pub network: Network,
    pub limits: InFlight,
    pub nodes: ArcSwap<NodeClient>,
    pub usages: Usages,
    pub discovery: Discovery,
    pub openapi: OpenApi,
    pub ready: Readiness,
    pub shutdown: CancellationToken,
}

impl Core {
    /// Whether a key holds anything.
    pub async fn exists(&self, key: &str) -> Result<bool, Status> {
        Ok(self
            .store
            .get(key, None)
            .await
            .map_err(|e| store_failed(&e))?
            .kv
            .is_some())
    }
}
