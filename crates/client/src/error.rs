//! What can go wrong between a caller and an API server: one enum for both transports.

use std::time::Duration;

use coracle_api::status::Status;

use crate::config::ConfigError;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered, and refused.
    #[error(transparent)]
    Api(#[from] Status),
    /// The server could not be reached, or the connection was lost before the answer was complete. Whether a write was
    /// done is unknown.
    #[error("cannot {action} {url}; check that the server is running and reachable")]
    Transport {
        action: &'static str,
        url: String,
        #[source]
        source: Source,
    },
    /// The server did not answer in time. Whether a write was done is unknown.
    #[error("no answer from {url} within {limit:?}; the server may be overloaded")]
    Timeout { url: String, limit: Duration },
    /// What the server sent is not what was asked for.
    #[error("cannot decode {what}")]
    Decode {
        what: String,
        #[source]
        source: Source,
    },
    /// The object given cannot be written as JSON.
    #[error("cannot encode {what}")]
    Encode {
        what: String,
        #[source]
        source: Source,
    },
    /// The connection's configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// This client's transport cannot do it.
    #[error("{0} needs a client that is connected over HTTP")]
    Unsupported(&'static str),
}

impl Error {
    pub(crate) fn decode(what: impl Into<String>, source: impl Into<Source>) -> Self {
        Self::Decode {
            what: what.into(),
            source: source.into(),
        }
    }

    pub(crate) fn encode(what: impl Into<String>, source: impl Into<Source>) -> Self {
        Self::Encode {
            what: what.into(),
            source: source.into(),
        }
    }

    /// The server's refusal, if that is what this is.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Api(status) => Some(status),
            _ => None,
        }
    }

    fn is(&self, test: impl FnOnce(&Status) -> bool) -> bool {
        self.status().is_some_and(test)
    }

    /// There is no such object (or no such resource).
    pub fn is_not_found(&self) -> bool {
        self.is(Status::is_not_found)
    }

    pub fn is_already_exists(&self) -> bool {
        self.is(Status::is_already_exists)
    }

    /// The object has changed since it was read (or a precondition did not hold): read it again.
    pub fn is_conflict(&self) -> bool {
        self.is(Status::is_conflict)
    }

    /// The revision or continue token is older than the server's history: list again from the beginning.
    pub fn is_expired(&self) -> bool {
        self.is(|s| s.is_expired() || s.code == 410)
    }

    pub fn is_forbidden(&self) -> bool {
        self.is(|s| s.is("Forbidden"))
    }

    pub fn is_invalid(&self) -> bool {
        self.is(|s| s.is("Invalid"))
    }

    /// Asked too often, or an eviction that a disruption budget does not allow now.
    pub fn is_too_many_requests(&self) -> bool {
        self.is(|s| s.code == 429)
    }

    /// Objects cannot be created because their namespace is being deleted.
    pub fn is_namespace_terminating(&self) -> bool {
        self.is(|s| {
            s.details
                .as_ref()
                .is_some_and(|d| d.causes.iter().any(|c| c.reason == "NamespaceTerminating"))
        })
    }

    /// A write that failed like this may have been done all the same: its answer is lost or cannot be read, or the server
    /// does not know itself.
    pub fn is_uncertain(&self) -> bool {
        match self {
            Self::Api(status) => status.code >= 500,
            Self::Transport { .. } | Self::Timeout { .. } | Self::Decode { .. } => true,
            Self::Encode { .. } | Self::Config(_) | Self::Unsupported(_) => false,
        }
    }

    /// How long the server asks to wait before the next try.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.status()?.details.as_ref()?.retry_after_seconds?;
        Some(Duration::from_secs(seconds.into()))
    }
}

/// What a write came to; `None` if its object is gone: that needs no more writing, and is gone for who wanted it deleted.
pub fn gone_is_done<T>(written: Result<T, Error>) -> Result<Option<T>, Error> {
    match written {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_is_refused_was_not_done_and_one_without_an_answer_may_have_been() {
        let lost = || std::io::Error::other("the connection was reset");
        let transport = Error::Transport {
            action: "patch",
            url: "https://here".to_owned(),
            source: lost().into(),
        };
        for (error, uncertain) in [
            (transport, true),
            (Error::decode("a pod", lost()), true),
            (Error::encode("a pod", lost()), false),
            (Status::timeout("not in time").into(), true),
            (Status::internal("the store failed").into(), true),
            (Status::no_such_resource().into(), false),
            (Status::bad_request("no name").into(), false),
        ] {
            assert_eq!(error.is_uncertain(), uncertain, "{error}");
        }
    }

    #[test]
    fn a_write_to_what_is_gone_is_done() {
        let gone = Status::no_such_resource();
        assert_eq!(gone_is_done::<()>(Err(gone.into())).unwrap(), None);
        assert_eq!(gone_is_done(Ok(1)).unwrap(), Some(1));
        let refused = gone_is_done::<()>(Err(Status::bad_request("no").into()));
        assert!(refused.is_err());
    }
}
