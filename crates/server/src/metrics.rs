//! What the server counts, by upstream's names. Each metric is a documented method.

mod process;

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::options::Register;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Requests {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: String,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InFlight {
    request_kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Objects {
    resource: String,
}

/// A request as metrics tell them apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Labels {
    pub verb: String,
    pub group: String,
    pub version: String,
    pub resource: String,
    pub subresource: String,
    pub scope: &'static str,
}

impl Labels {
    fn kind(&self) -> Kind {
        Kind {
            verb: self.verb.clone(),
            group: self.group.clone(),
            version: self.version.clone(),
            resource: self.resource.clone(),
            subresource: self.subresource.clone(),
            scope: self.scope.to_owned(),
        }
    }
}

/// See the module.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Requests, Counter>,
    durations: Family<Kind, Histogram>,
    long_running: Family<Kind, Gauge>,
    in_flight: Family<InFlight, Gauge>,
    panics: Counter,
    refused: Counter,
    objects: Family<Objects, Gauge>,
    store_bytes: Gauge,
    authentications: Family<Outcome, Counter>,
    authorizations: Family<Outcome, Counter>,
}

fn histogram() -> Histogram {
    Histogram::new([0.005, 0.025, 0.1, 0.5, 1.0, 2.0, 4.0, 6.0, 10.0, 20.0, 30.0, 45.0, 60.0])
}

impl Metrics {
    /// Its own, and those that `others` put beside them.
    pub fn new(others: &[Register]) -> Self {
        let mut registry = Registry::default();
        for register in others {
            register(&mut registry);
        }
        let requests = Family::default();
        let durations = Family::new_with_constructor(histogram as fn() -> Histogram);
        let long_running = Family::default();
        let in_flight = Family::default();
        let panics = Counter::default();
        let refused = Counter::default();
        let objects = Family::default();
        let store_bytes = Gauge::default();
        let authentications = Family::default();
        let authorizations = Family::default();
        // The client appends `_total` to counters itself.
        registry.register(
            "apiserver_request",
            "Requests, by what they were for and the code they got",
            requests.clone(),
        );
        registry.register(
            "apiserver_request_duration_seconds",
            "How long requests took, except watches and streams",
            durations.clone(),
        );
        registry.register(
            "apiserver_longrunning_requests",
            "Watches and streams that are open",
            long_running.clone(),
        );
        registry.register(
            "apiserver_current_inflight_requests",
            "Requests being served",
            in_flight.clone(),
        );
        registry.register(
            "apiserver_request_panics",
            "Requests that ended in a bug",
            panics.clone(),
        );
        registry.register(
            "apiserver_dropped_requests",
            "Requests sent away with 429",
            refused.clone(),
        );
        registry.register(
            "apiserver_storage_objects",
            "Objects in memory, by resource",
            objects.clone(),
        );
        registry.register(
            "apiserver_storage_size_bytes",
            "What the store takes on the disk",
            store_bytes.clone(),
        );
        registry.register(
            "authentication_attempts",
            "Requests, by whether their credentials were good",
            authentications.clone(),
        );
        registry.register(
            "authorization_attempts",
            "Requests, by whether they were allowed",
            authorizations.clone(),
        );
        registry.register_collector(Box::new(process::Process));
        Self {
            registry,
            requests,
            durations,
            long_running,
            in_flight,
            panics,
            refused,
            objects,
            store_bytes,
            authentications,
            authorizations,
        }
    }

    /// The credentials of a request were looked at.
    pub fn authenticated(&self, good: bool) {
        let result = if good { "success" } else { "failure" };
        self.authentications.get_or_create(&Outcome { result }).inc();
    }

    /// A request was allowed or not.
    pub fn authorized(&self, allowed: bool) {
        let result = if allowed { "allowed" } else { "denied" };
        self.authorizations.get_or_create(&Outcome { result }).inc();
    }

    /// How large the store is.
    pub fn set_store_bytes(&self, bytes: u64) {
        self.store_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// A request has been answered.
    pub fn answered(&self, labels: &Labels, code: u16, took: Option<Duration>) {
        let kind = labels.kind();
        if let Some(took) = took {
            self.durations.get_or_create(&kind).observe(took.as_secs_f64());
        }
        let Kind {
            verb,
            group,
            version,
            resource,
            subresource,
            scope,
        } = kind;
        self.requests
            .get_or_create(&Requests {
                verb,
                group,
                version,
                resource,
                subresource,
                scope,
                code,
            })
            .inc();
    }

    /// A watch or stream begins; it ends when the guard is dropped.
    pub fn long_running(&self, labels: &Labels) -> impl Send + 'static + use<> {
        let gauge = self.long_running.get_or_create(&labels.kind()).clone();
        gauge.inc();
        Guard(gauge)
    }

    /// A request that reads or writes is being served until the guard is dropped.
    pub fn in_flight(&self, mutating: bool) -> impl Send + 'static + use<> {
        let request_kind = if mutating { "mutating" } else { "readOnly" }.to_owned();
        let gauge = self.in_flight.get_or_create(&InFlight { request_kind }).clone();
        gauge.inc();
        Guard(gauge)
    }

    /// A request ended in a bug.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// A request was sent away because there were too many.
    pub fn refused(&self) {
        self.refused.inc();
    }

    /// How many objects of a resource are in memory.
    pub fn set_objects(&self, resource: &str, count: usize) {
        let gauge = self
            .objects
            .get_or_create(&Objects {
                resource: resource.to_owned(),
            })
            .clone();
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// In the exposition format.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut out, &self.registry);
        out
    }
}

struct Guard(Gauge);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
