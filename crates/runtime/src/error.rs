//! What can go wrong at this crate's boundary, in words that a pod's status can show.
//!
//! Each variant that a caller treats differently has a name of its own; everything else is `Failed` or `Io` with the
//! operation it happened in. No variant prints its source: whoever reports an error prints the chain.

use std::path::PathBuf;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("invalid image reference {reference:?}: {reason}; write it as name, name:tag or name@sha256:...")]
    InvalidImageReference { reference: String, reason: String },
    #[error("image {reference:?} is not on this node; pull it or import an archive of it")]
    ImageNotFound { reference: String },
    #[error("registry {registry:?} cannot be reached for image {reference:?}; check its address, network and TLS")]
    RegistryUnavailable {
        registry: String,
        reference: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("registry refused access to {reference:?}; check the image's name and the pull secret")]
    RegistryUnauthorized {
        reference: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("registry has no image {reference:?}; check its name and tag")]
    RegistryNotFound {
        reference: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("image {reference:?} has no manifest for {platform}; its platforms: {available}")]
    PlatformNotFound {
        reference: String,
        platform: String,
        available: String,
    },
    #[error("{what} is corrupt: {reason}; fetch or export it again")]
    CorruptImage { what: String, reason: String },
    #[error("image {reference:?} is used by container {container}; remove the container first")]
    ImageInUse { reference: String, container: String },

    #[error("no sandbox {0}")]
    NoSuchSandbox(String),
    #[error("sandbox {0} already exists")]
    SandboxExists(String),
    /// The text is what other runtimes say too.
    #[error("no runtime for {0:?} is configured")]
    NoSuchHandler(String),
    #[error("sandbox {0} is not ready; remove it and run a new one")]
    SandboxNotReady(String),
    #[error("no container {0}")]
    NoSuchContainer(String),
    #[error("container {id} is {state}, not {wanted}")]
    WrongContainerState {
        id: String,
        state: String,
        wanted: &'static str,
    },
    #[error("invalid configuration: {0}")]
    InvalidConfig(String),

    /// The program is not in the image or may not be run. The text is the OCI runtimes' own (`exec: "foo": ...`).
    #[error("{0}")]
    CommandNotFound(String),
    #[error("{0}")]
    StartFailed(String),
    #[error("command did not end within {limit:?}")]
    ExecTimeout {
        limit: std::time::Duration,
        stdout: Vec<u8>,
        stderr: Vec<u8>,
    },

    #[error("the pod's shim does not answer: {reason}")]
    Shim {
        reason: String,
        #[source]
        source: Option<std::io::Error>,
    },
    #[error("{operation} {path:?}")]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{0}")]
    Failed(String),
}

impl Error {
    pub(crate) fn io<E: Into<std::io::Error>>(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Error {
        let path = path.into();
        move |source| Error::Io {
            operation,
            path,
            source: source.into(),
        }
    }

    pub(crate) fn corrupt(what: impl Into<String>, reason: impl std::fmt::Display) -> Error {
        Error::CorruptImage {
            what: what.into(),
            reason: reason.to_string(),
        }
    }

    /// The error and its sources in one line, for a status message.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(source) = next {
            text.push_str(": ");
            text.push_str(&source.to_string());
            next = source.source();
        }
        text
    }
}
