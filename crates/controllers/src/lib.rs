//! The built-in controllers, one file each: what is watched, which key an event means, and what a look at that key leads
//! to. A controller holds a client and shared informers, nothing else; it is level-triggered and idempotent, so it
//! may be killed between any two writes and started again, here or in another process.
//!
//! [`CONTROLLERS`] lists them all. What several need is one module each: [`owner`] (adoption and release),
//! [`expectations`] (waiting for one's own writes to come back), [`pods`] (which pods count, which go first),
//! [`template`] (pods from templates).
//!
//! Start reading at [`replicaset`], the smallest that does everything a controller does.

pub mod context;
pub mod deployment;
pub mod expectations;
pub mod garbage_collector;
pub mod namespace;
pub mod owner;
pub mod pods;
pub mod replicaset;
pub mod root_ca;
pub mod service_account;
pub mod template;

pub use context::Context;

/// A controller's name (as `--controllers` takes it) and how it is started.
pub struct Registration {
    pub name: &'static str,
    pub start: fn(&Context),
}

/// Every built-in controller.
pub const CONTROLLERS: &[Registration] = &[
    Registration { name: "deployment-controller", start: deployment::start },
    Registration { name: "garbage-collector-controller", start: garbage_collector::start },
    Registration { name: "namespace-controller", start: namespace::start },
    Registration { name: "replicaset-controller", start: replicaset::start },
    Registration { name: "root-ca-certificate-publisher-controller", start: root_ca::start },
    Registration { name: "serviceaccount-controller", start: service_account::start },
];
