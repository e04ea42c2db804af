//! A pod with users of its own: a child process makes the user namespace and in it all others, so that they belong to it,
//! and holds them. The shim stays outside, for it has work to do as the host's root.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, pipe2, setgroups, setresgid, setresuid};
use serde::{Deserialize, Serialize};

use super::{Keepers, idle, unshare_and_furnish};
use crate::sandbox::UserNamespace;
use crate::shim::protocol::Setup;
use crate::sys;

/// What the child says when it is done.
#[derive(Serialize, Deserialize)]
enum Outcome {
    Held { pause: Option<i32> },
    Failed(String),
}

/// Starts the process that holds the pod's namespaces.
pub(super) fn hold(setup: &Setup, users: &UserNamespace) -> io::Result<Keepers> {
    let (mapped, tell_mapped) = pipe2(OFlag::O_CLOEXEC)?;
    let (told, tell) = pipe2(OFlag::O_CLOEXEC)?;
    let child = sys::fork(|| {
        let (Ok(mapped), Ok(tell)) = (mapped.try_clone(), tell.try_clone()) else {
            return 1;
        };
        holder(setup, mapped, tell)
    })?;
    // Only the child writes now, so that its end is seen.
    drop(tell);
    let result = map(child, users, told.into(), tell_mapped.into());
    if result.is_err() {
        let _ = kill(child, Signal::SIGKILL);
    }
    Ok(Keepers {
        pause: result?,
        holder: Some(child.as_raw()),
    })
}

/// The parent's part: writes the maps when the namespace is there, and waits for the rest.
fn map(child: Pid, users: &UserNamespace, mut told: fs::File, mut tell: fs::File) -> io::Result<Option<i32>> {
    let mut ready = [0];
    told.read_exact(&mut ready)
        .map_err(|_| io::Error::other("the kernel allows no user namespace"))?;
    let line = format!("0 {} {}\n", users.host_id, users.length);
    for kind in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{child}/{kind}"), &line)
            .map_err(|error| io::Error::new(error.kind(), format!("write {kind}: {error}")))?;
    }
    tell.write_all(&[1])?;
    let mut outcome = Vec::new();
    told.read_to_end(&mut outcome)?;
    match serde_json::from_slice(&outcome)? {
        Outcome::Held { pause } => Ok(pause),
        Outcome::Failed(reason) => Err(io::Error::other(reason)),
    }
}

/// The child's part. Ends only when it has failed.
fn holder(setup: &Setup, mapped: OwnedFd, tell: OwnedFd) -> i32 {
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    let (mut mapped, mut tell) = (fs::File::from(mapped), fs::File::from(tell));
    let made = (|| {
        unshare(CloneFlags::CLONE_NEWUSER)?;
        tell.write_all(&[1])?;
        mapped.read_exact(&mut [0])?;
        become_root()?;
        unshare_and_furnish(setup)?;
        if !setup.share_pids {
            return Ok(None);
        }
        unshare(CloneFlags::CLONE_NEWPID)?;
        sys::fork(|| idle(c"coracle-pause")).map(|pid| Some(pid.as_raw()))
    })();
    let (code, outcome) = match made {
        Ok(pause) => (0, Outcome::Held { pause }),
        Err(error) => (1, Outcome::Failed(io::Error::to_string(&error))),
    };
    let told = serde_json::to_vec(&outcome).map(|text| tell.write_all(&text));
    if code != 0 || !matches!(told, Ok(Ok(()))) {
        return 1;
    }
    idle(c"coracle-users")
}

/// The root of the new namespace, and nobody of the host's.
fn become_root() -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    // Containers find the namespaces by this process's entries in /proc, which a change of users hides.
    Ok(prctl::set_dumpable(true)?)
}
