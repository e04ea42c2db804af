//! Makes the pod's namespaces around the calling process, and sets what is set in them.

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

/// Returns the first process of the pod's PID namespace, if it has one of its own.
pub(super) fn make(setup: &Setup, cgroups: &Cgroups) -> io::Result<Option<i32>> {
    cgroups
        .join_infra(&setup.cgroup)
        .map_err(context("join the pod's cgroup"))?;
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
    if !setup.share_pids {
        return Ok(None);
    }
    start_pause().map(Some).map_err(context("make the PID namespace"))
}

/// A process that is the first of a new PID namespace, and only that: it waits for nothing and reaps its orphans.
fn start_pause() -> io::Result<i32> {
    let own = File::open("/proc/self/ns/pid")?;
    unshare(CloneFlags::CLONE_NEWPID)?;
    let pid = sys::fork(|| {
        let _ = prctl::set_pdeathsig(Signal::SIGKILL);
        let _ = prctl::set_name(c"coracle-pause");
        sys::close_from(0);
        sys::reset_signals();
        sys::ignore_children();
        loop {
            pause();
        }
    })?;
    // Later children belong where this process does.
    setns(own.as_fd(), CloneFlags::CLONE_NEWPID)?;
    Ok(pid.as_raw())
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
