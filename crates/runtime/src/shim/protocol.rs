//! What the agent and a shim say to each other: frames of a four-byte length and JSON over a unix socket, with file
//! descriptors beside a frame where it says so. One request a connection, but for event streams.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::log::LogLimits;
use crate::sandbox::UserNamespace;

/// No message comes near this.
const FRAME_LIMIT: usize = 8 << 20;

pub(crate) const SOCKET: &str = "shim.sock";

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Request {
    Start(StartRequest),
    Kill {
        container: String,
        signal: i32,
    },
    /// Beside it: standard input, output and error, each if asked for and not with a terminal. Answered with `Started`
    /// (with the terminal beside it) and later `Ended`. Closing the connection kills the command.
    Exec {
        container: String,
        /// The specification's process.
        process: serde_json::Value,
        terminal: bool,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
    /// Beside it: what to read input from, what to write output and errors to, each if asked for.
    Attach {
        container: String,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
    Resize {
        container: String,
        columns: u16,
        rows: u16,
    },
    ReopenLog {
        container: String,
    },
    /// Its container was removed.
    Forget {
        container: String,
    },
    /// Answered with `Ok`, then every record as it changes.
    Subscribe,
    /// Kills everything, then ends the shim.
    Shutdown,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StartRequest {
    pub(crate) container: String,
    /// The container's directory: bundle, record, sockets.
    pub(crate) directory: PathBuf,
    pub(crate) cgroup: String,
    pub(crate) terminal: bool,
    pub(crate) stdin: bool,
    pub(crate) stdin_once: bool,
    pub(crate) log: Option<PathBuf>,
    #[serde(default)]
    pub(crate) log_limits: LogLimits,
    /// Its processes do not end with its first one: they share a PID namespace with others.
    pub(crate) shared_pids: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub(crate) enum Reply {
    Ok,
    Started { pid: i32 },
    Ended { code: i32 },
    Changed(Record),
    Error { kind: ErrorKind, message: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ErrorKind {
    CommandNotFound,
    StartFailed,
    NoSuchContainer,
    NotRunning,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RecordState {
    Running,
    Exited,
}

/// What the shim knows of a container, kept as `status.json` in the container's directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) container: String,
    pub(crate) state: RecordState,
    pub(crate) pid: Option<i32>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
    #[serde(default)]
    pub(crate) oom_killed: bool,
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
}

pub(crate) const RECORD: &str = "status.json";

/// What a shim says of itself when it is up, and keeps as `shim.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ShimIdentity {
    pub(crate) pid: i32,
    pub(crate) start_time: u64,
    pub(crate) boot_id: String,
    /// The first process of the pod's PID namespace, where it has one.
    pub(crate) pause_pid: Option<i32>,
    /// Who holds the pod's namespaces where it has a user namespace, which the shim itself must not be in.
    #[serde(default)]
    pub(crate) holder_pid: Option<i32>,
}

impl ShimIdentity {
    /// The process whose network, IPC and UTS namespaces are the pod's.
    pub(crate) fn namespaces_pid(&self) -> i32 {
        self.holder_pid.unwrap_or(self.pid)
    }
}

pub(crate) const IDENTITY: &str = "shim.json";

/// Locked by whoever starts a shim until it is ready or has failed, whatever becomes of the agent meanwhile.
pub(crate) const STARTING: &str = "shim.lock";

/// What a shim is told by `setup.json` in its directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) hostname: String,
    pub(crate) host_network: bool,
    pub(crate) host_ipc: bool,
    pub(crate) share_pids: bool,
    pub(crate) sysctls: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) user_namespace: Option<UserNamespace>,
    /// The group that the shim puts itself into.
    pub(crate) cgroup: String,
    /// Where the OCI runtime keeps its state.
    pub(crate) oci_root: PathBuf,
    /// A foreign OCI runtime; the embedded one when absent.
    pub(crate) oci_runtime: Option<PathBuf>,
}

pub(crate) const SETUP: &str = "setup.json";

/// The line that a starting shim writes to its standard output.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Hello {
    Ready(ShimIdentity),
    Failed(String),
}

pub(crate) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(message)?;
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend(json);
    Ok(frame)
}

/// Takes the first whole frame off a buffer.
pub(crate) fn decode<T: DeserializeOwned>(buffer: &mut Vec<u8>) -> io::Result<Option<T>> {
    let Some(head) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*head) as usize;
    if length > FRAME_LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "frame too long"));
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    let message = serde_json::from_slice(&buffer[4..4 + length])?;
    buffer.drain(..4 + length);
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_taken_when_it_is_whole_and_not_before() {
        let frame = encode(&Request::ReopenLog { container: "c".into() }).unwrap();
        let mut buffer = frame[..frame.len() - 1].to_vec();
        assert!(decode::<Request>(&mut buffer).unwrap().is_none());
        buffer.push(frame[frame.len() - 1]);
        buffer.push(9);
        assert!(matches!(decode(&mut buffer).unwrap(), Some(Request::ReopenLog { .. })));
        assert_eq!(buffer, [9]);
    }

    #[test]
    fn an_absurd_length_is_an_error_and_not_an_allocation() {
        assert!(decode::<Request>(&mut vec![0xff; 8]).is_err());
    }
}
