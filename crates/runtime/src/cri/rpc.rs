//! Calls of the interface: one request, one answer. What goes wrong becomes one of this crate's errors.

use std::path::Path;

use http::uri::PathAndQuery;
use prost::Message;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use crate::error::{Error, Result};

/// As much as upstream's agent takes in one answer.
const MOST_BYTES: usize = 16 << 20;

/// A connection that is made when it is needed, and made anew when it broke.
#[derive(Clone, Debug)]
pub(super) struct Rpc(Channel);

impl Rpc {
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let invalid = || Error::InvalidConfig(format!("{} is no path of a socket", socket.display()));
        let address = format!("unix://{}", socket.to_str().ok_or_else(invalid)?);
        let endpoint = Endpoint::from_shared(address).map_err(|_| invalid())?;
        Ok(Self(endpoint.connect_lazy()))
    }

    pub(super) async fn runtime<Q, A>(&self, method: &str, request: Q) -> Result<A, Failure>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.call(&format!("/runtime.v1.RuntimeService/{method}"), request)
            .await
    }

    pub(super) async fn images<Q, A>(&self, method: &str, request: Q) -> Result<A, Failure>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.call(&format!("/runtime.v1.ImageService/{method}"), request).await
    }

    async fn call<Q, A>(&self, path: &str, request: Q) -> Result<A, Failure>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let path = PathAndQuery::try_from(path).map_err(|e| Failure(Status::internal(e.to_string())))?;
        let mut client = tonic::client::Grpc::new(self.0.clone())
            .max_decoding_message_size(MOST_BYTES)
            .max_encoding_message_size(MOST_BYTES);
        let ready = client.ready().await;
        ready.map_err(|e| Failure(Status::unavailable(with_sources(&e))))?;
        let answer = client
            .unary(tonic::Request::new(request), path, ProstCodec::<Q, A>::default())
            .await;
        answer.map(tonic::Response::into_inner).map_err(Failure)
    }
}

/// Transport errors say nothing by themselves.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

/// What the runtime answered instead.
#[derive(Debug)]
pub(super) struct Failure(Status);

impl Failure {
    pub(super) fn is_missing(&self) -> bool {
        self.0.code() == Code::NotFound
    }

    pub(super) fn is_unavailable(&self) -> bool {
        self.0.code() == Code::Unavailable
    }

    pub(super) fn is_late(&self) -> bool {
        self.0.code() == Code::DeadlineExceeded || self.0.message().contains("context deadline exceeded")
    }

    pub(super) fn text(&self) -> &str {
        self.0.message()
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.text(), std::error::Error::source(&self.0)) {
            ("", None) => f.write_str(self.0.code().description()),
            (text, None) => f.write_str(text),
            (text, Some(source)) => write!(f, "{text}: {}", with_sources(source)),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match command_not_found(failure.text()) {
            Some(text) => Error::CommandNotFound(text),
            None => Error::Failed(failure.to_string()),
        }
    }
}

/// The OCI runtime's own words for a program that is not there or may not be run, out of what is around them.
pub(super) fn command_not_found(text: &str) -> Option<String> {
    let own = &text[text.rfind("exec: \"")?..];
    let reasons = [
        "executable file not found",
        "no such file or directory",
        "permission denied",
    ];
    reasons
        .iter()
        .any(|reason| own.contains(reason))
        .then(|| own.trim_end_matches(": unknown").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_told_from_other_failures() {
        let text = "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create \
                    failed: unable to start container process: exec: \"nope\": executable file not found in $PATH: unknown";
        let error = Error::from(Failure(Status::unknown(text)));
        let expected = "exec: \"nope\": executable file not found in $PATH";
        assert!(
            matches!(&error, Error::CommandNotFound(message) if message == expected),
            "{error:?}"
        );
        let error = Error::from(Failure(Status::unknown("exec: \"x\": input/output error")));
        assert!(matches!(error, Error::Failed(_)));
        assert!(Failure(Status::not_found("x")).is_missing());
        assert!(Failure(Status::unknown("timeout 1s exceeded: context deadline exceeded")).is_late());
    }
}
