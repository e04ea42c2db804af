//! The pod's shim: one small single-threaded process per pod, and the pod's infra container.
//!
//! It starts first and makes the pod's namespaces; it is the parent of the pod's containers, holds their streams, writes
//! their logs and records how they end. It outlives the agent, which finds it again by its directory. The pod's life is
//! its life. It knows nothing of images or pods' specifications, and uses no threads, so that it may fork at any time.

mod container;
mod log;
mod namespaces;
pub(crate) mod protocol;
mod server;
pub(crate) mod wire;

pub use log::LogLimits;
pub(crate) use log::{aside, remove_surplus};

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{dup2, setsid};

use crate::sys;
use protocol::{Hello, IDENTITY, SETUP, SOCKET, Setup, ShimIdentity};

/// Less likely to be killed for want of memory than anything in the pod.
const OOM_SCORE: &str = "-998";

/// Runs `shim DIRECTORY` in the background; what calls it ends at once. For single-threaded processes.
pub fn shim_main(arguments: impl IntoIterator<Item = OsString>) -> ! {
    let Some(directory) = arguments.into_iter().next().map(PathBuf::from) else {
        eprintln!("usage: shim DIRECTORY");
        std::process::exit(2);
    };
    // Leave the agent's family: its end must not be ours, and nobody there waits for us.
    match sys::fork(|| detached(&directory)) {
        Ok(_) => std::process::exit(0),
        Err(error) => {
            eprintln!("cannot fork the shim: {error}");
            std::process::exit(1)
        }
    }
}

fn detached(directory: &Path) -> i32 {
    sys::close_from(3);
    // The standard input is the lock that tells of this start; a copy keeps it to the end.
    let starting = io::stdin().as_fd().try_clone_to_owned();
    let result = start(directory);
    let hello = match &result {
        Ok((identity, _)) => Hello::Ready(identity.clone()),
        Err(error) => Hello::Failed(error.to_string()),
    };
    let mut line = serde_json::to_vec(&hello).unwrap_or_default();
    line.push(b'\n');
    let told = io::stdout().write_all(&line).and_then(|()| io::stdout().flush());
    let Ok((_, mut server)) = result else { return 1 };
    // Nobody knows of us if nobody has heard it.
    if told.is_err() || silence(1).is_err() {
        return 1;
    }
    drop(starting);
    match server.run() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("shim failed: {error}");
            1
        }
    }
}

fn start(directory: &Path) -> io::Result<(ShimIdentity, server::Server)> {
    setsid()?;
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    std::env::set_current_dir("/")?;
    silence(0)?;
    let log = File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(directory.join("shim.log"))?;
    dup2(log.as_raw_fd(), 2)?;
    drop(log);
    let _ = prctl::set_name(c"coracle-shim");
    prctl::set_child_subreaper(true)?;
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);

    let setup: Setup = serde_json::from_slice(&fs::read(directory.join(SETUP))?)?;
    let pid = std::process::id() as i32;
    let mut identity = ShimIdentity {
        pid,
        start_time: sys::start_time(pid).unwrap_or(0),
        boot_id: sys::boot_id(),
        pause_pid: None,
        holder_pid: None,
    };
    // From here on whoever comes to clean up knows whom to kill.
    sys::write_atomic(&directory.join(IDENTITY), &serde_json::to_vec(&identity)?)?;
    let signals = server::block_signals()?;
    let cgroups = crate::cgroup::Cgroups::detect()?;
    let keepers = namespaces::make(&setup, &cgroups)?;
    (identity.pause_pid, identity.holder_pid) = (keepers.pause, keepers.holder);
    if keepers.pause.or(keepers.holder).is_some() {
        sys::write_atomic(&directory.join(IDENTITY), &serde_json::to_vec(&identity)?)?;
    }
    let listener = listen(directory)?;
    // Its end is the namespaces' end, and the pod's.
    let keeper = identity.holder_pid.or(identity.pause_pid);
    Ok((identity, server::Server::new(setup, cgroups, listener, signals, keeper)))
}

/// Binds the socket by its short name: a whole path may be longer than a socket's address.
fn listen(directory: &Path) -> io::Result<UnixListener> {
    std::env::set_current_dir(directory)?;
    let _ = fs::remove_file(SOCKET);
    let previous = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(SOCKET);
    umask(previous);
    std::env::set_current_dir("/")?;
    let listener = listener?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A line in the shim's own log. What cannot be written is lost: the disk may be full, and the pod must not end of that.
/// (The macros for it end the process.)
fn complain(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Points a standard stream at nothing.
fn silence(stream: i32) -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2(null.as_raw_fd(), stream)?;
    Ok(())
}
