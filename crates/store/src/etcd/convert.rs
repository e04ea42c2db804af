//! etcd's messages as this crate's types, and back.

use std::error::Error as _;

use bytes::Bytes;
use etcd_client::{CompareOp, DeleteOptions, PutOptions, ResponseHeader, TxnOp};
use tonic::Code;

use crate::{Compare, Error, KeyValue, Op, Revision};

/// etcd's numbers are signed and never negative.
pub(super) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The revision that an answer is from.
pub(super) fn revision(header: Option<&ResponseHeader>) -> Result<Revision, Error> {
    header
        .map(|header| unsigned(header.revision()))
        .ok_or_else(|| Error::corrupt("answer without a header", "etcd"))
}

pub(super) fn stored(kv: etcd_client::KeyValue) -> Result<KeyValue, Error> {
    let (create, modified, version) = (kv.create_revision(), kv.mod_revision(), kv.version());
    let (key, value) = kv.into_key_value();
    let key = String::from_utf8(key).map_err(|e| Error::corrupt(format!("key {e}"), "etcd"))?;
    Ok(KeyValue {
        key: key.into(),
        value: Bytes::from(value),
        create_revision: unsigned(create),
        mod_revision: unsigned(modified),
        version: unsigned(version),
    })
}

/// The first key of a prefix after `after`, and the first one past the prefix (`\0` is etcd's word for no end).
pub(super) fn range(prefix: &str, after: Option<&str>) -> (Vec<u8>, Vec<u8>) {
    let mut end = prefix.as_bytes().to_vec();
    while end.last() == Some(&0xff) {
        end.pop();
    }
    match end.last_mut() {
        Some(last) => *last += 1,
        None => end = vec![0],
    }
    let first = if prefix.is_empty() { "\0" } else { prefix };
    let start = match after {
        Some(after) if after >= first => [after.as_bytes(), &[0]].concat(),
        _ => first.as_bytes().to_vec(),
    };
    (start, end)
}

pub(super) fn compare(compare: &Compare) -> etcd_client::Compare {
    match compare {
        Compare::Absent(key) => etcd_client::Compare::version(key.as_str(), CompareOp::Equal, 0),
        Compare::Exists(key) => etcd_client::Compare::version(key.as_str(), CompareOp::Greater, 0),
        // A key that is absent has revision 0 there, which no caller names.
        Compare::ModRevision(key, revision) => {
            etcd_client::Compare::mod_revision(key.as_str(), CompareOp::Equal, signed(*revision))
        }
    }
}

pub(super) fn op(op: &Op) -> TxnOp {
    match op {
        Op::Put { key, value } => TxnOp::put(key.as_str(), value.as_ref(), Some(PutOptions::new().with_prev_key())),
        Op::Delete { key } => TxnOp::delete(key.as_str(), Some(DeleteOptions::new().with_prev_key())),
    }
}

/// What an error of a request means for the next attempt.
pub(super) enum Failure {
    /// The request never left; another member may take it.
    Unsent(Error),
    /// It may have been done, and another member may answer.
    Unanswered(Error),
    /// An answer.
    Final(Error),
}

/// An endpoint that does not answer, and what may help.
pub(super) fn unavailable(endpoint: &str, cause: String) -> Error {
    Error::Unavailable {
        endpoints: endpoint.to_owned(),
        hint: advice(&cause, endpoint.starts_with("https://")),
        cause,
    }
}

/// What to do about a connection that failed, by what TLS and the network say.
fn advice(cause: &str, tls: bool) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| cause.contains(word));
    if says(&[
        "BadCertificate",
        "CertificateRequired",
        "AccessDenied",
        "UnknownCA",
        "fatal alert: Certificate",
    ]) {
        "it wants a certificate that its own authority signed for a client: give --store-cert and --store-key"
    } else if says(&["UnknownIssuer", "BadSignature"]) {
        "its certificate is not signed by the authority given: give the one of etcd's with --store-ca"
    } else if says(&["NotValidForName", "not valid for name"]) {
        "its certificate is not for this address: use an address that it names"
    } else if says(&["Expired", "expired", "NotValidYet", "not valid yet"]) {
        "its certificate is not valid at this time: renew it, or set the clock"
    } else if says(&["Connection refused"]) {
        "check that it runs and that the address is right"
    } else if tls {
        // A certificate that is refused may show as a connection that breaks.
        "check that it runs, its address, and the certificates given by --store-ca, --store-cert and --store-key"
    } else {
        "check that it runs, and its address, which begins with https if it speaks TLS"
    }
}

/// `revision` errors carry zeros: etcd does not say which.
pub(super) fn failure(error: etcd_client::Error, endpoint: &str) -> Failure {
    let unavailable = |cause: String| unavailable(endpoint, cause);
    let status = match error {
        etcd_client::Error::GRpcStatus(status) => status,
        other => return Failure::Unsent(unavailable(other.to_string())),
    };
    let message = status.message();
    match status.code() {
        Code::OutOfRange if message.contains("compacted") => Failure::Final(Error::Compacted {
            compacted: 0,
            requested: 0,
        }),
        Code::OutOfRange => Failure::Final(Error::FutureRevision {
            current: 0,
            requested: 0,
        }),
        Code::InvalidArgument => Failure::Final(Error::Invalid {
            what: message.to_owned(),
        }),
        Code::PermissionDenied | Code::Unauthenticated | Code::FailedPrecondition => {
            Failure::Final(unavailable(message.to_owned()))
        }
        Code::ResourceExhausted if message.contains("space") => Failure::Final(Error::Full { path: endpoint.into() }),
        _ if is_connect(&status) => Failure::Unsent(unavailable(chain(&status))),
        _ => Failure::Unanswered(unavailable(chain(&status))),
    }
}

/// Whether there was no connection to send the request on.
fn is_connect(status: &tonic::Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The status's message and what it was caused by, each said once.
fn chain(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}
