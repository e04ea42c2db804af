//! Makes the pod's namespaces around the calling process, and sets what is set in them.

mod users;

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{pause, sethostname};

use super::protocol::Setup;
use crate::cgroup::Cgroups;
use crate::sys;

/// Processes that keep namespaces which the shim itself is not in.
#[derive(Default)]
pub(super) struct Keepers {
    /// The first process of the pod's PID namespace, if it has one of its own.
    pub(super) pause: Option<i32>,
    /// With users of its own, the pod has all namespaces by this process, for they must belong to its user namespace.
    pub(super) holder: Option<i32>,
}

pub(super) fn make(setup: &Setup, cgroups: &Cgroups) -> io::Result<Keepers> {
    cgroups
        .join_infra(&setup.cgroup)
        .map_err(context("join the pod's cgroup"))?;
    if let Some(users) = &setup.user_namespace {
        return users::hold(setup, users).map_err(context("make the pod's user namespace"));
    }
    unshare_and_furnish(setup)?;
    if !setup.share_pids {
        return Ok(Keepers::default());
    }
    let pause = start_pause().map_err(context("make the PID namespace"))?;
    Ok(Keepers {
        pause: Some(pause),
        holder: None,
    })
}

/// Moves the calling process into new namespaces of the pod, and sets what is set in them.
fn unshare_and_furnish(setup: &Setup) -> io::Result<()> {
    let mut flags = CloneFlags::empty();
    if !setup.host_network {
        flags |= CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS;
    }
    if !setup.host_ipc {
        flags |= CloneFlags::CLONE_NEWIPC;
    }
    unshare(flags)
        .map_err(io::Error::from)
        .map_err(context("make namespaces"))?;
    if !setup.host_network {
        sethostname(&setup.hostname)
            .map_err(io::Error::from)
            .map_err(context("set the host name"))?;
        sys::bring_up_loopback().map_err(context("bring up the loopback device"))?;
    }
    for (name, value) in &setup.sysctls {
        let path = sysctl_path(name)?;
        fs::write(path, value).map_err(context(&format!("set sysctl {name}")))?;
    }
    Ok(())
}

/// A process that is the first of a new PID namespace, and only that: it waits for nothing and reaps its orphans.
fn start_pause() -> io::Result<i32> {
    let own = File::open("/proc/self/ns/pid")?;
    unshare(CloneFlags::CLONE_NEWPID)?;
    let pid = sys::fork(|| idle(c"coracle-pause"))?;
    // Later children belong where this process does.
    setns(own.as_fd(), CloneFlags::CLONE_NEWPID)?;
    Ok(pid.as_raw())
}

/// Keeps a namespace for as long as its parent lives.
fn idle(name: &CStr) -> ! {
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    let _ = prctl::set_name(name);
    sys::close_from(0);
    sys::reset_signals();
    sys::ignore_children();
    loop {
        pause();
    }
}

/// `net.ipv4.ip_forward`, or `net/ipv4/ip_forward` where a name itself holds dots.
fn sysctl_path(name: &str) -> io::Result<String> {
    let relative: String = match name.find(['.', '/']).map(|at| name.as_bytes()[at]) {
        Some(b'/') => name.to_owned(),
        _ => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
    };
    if relative
        .split('/')
        .any(|part| part.is_empty() || part == "." || part == "..")
    {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("invalid sysctl {name:?}"),
        ));
    }
    Ok(format!("/proc/sys/{relative}"))
}

fn context(what: &str) -> impl FnOnce(io::Error) -> io::Error {
    let what = what.to_owned();
    move |error| io::Error::new(error.kind(), format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctls_are_named_with_dots_or_slashes() {
        assert_eq!(
            sysctl_path("net.ipv4.ip_forward").unwrap(),
            "/proc/sys/net/ipv4/ip_forward"
        );
        assert_eq!(
            sysctl_path("net/ipv4/conf/eth0.1/x").unwrap(),
            "/proc/sys/net/ipv4/conf/eth0.1/x"
        );
        assert_eq!(
            sysctl_path("net.ipv4.conf.eth0/1.x").unwrap(),
            "/proc/sys/net/ipv4/conf/eth0.1/x"
        );
        assert!(sysctl_path("net/../../etc/passwd").is_err());
    }
}
