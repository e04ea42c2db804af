//! Gives a waiting container's mounts the propagation that its specification asks for.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns};
use oci_spec::runtime::Mount;

/// Moves the calling process into the mount namespace of `pid`, for good.
pub(super) fn apply(pid: i32, mounts: &[Mount]) -> io::Result<()> {
    let wanted: Vec<(&Mount, MsFlags)> = mounts.iter().filter_map(|m| Some((m, propagation(m)?))).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let namespace = File::open(format!("/proc/{pid}/ns/mnt"))?;
    // Inside it paths are the container's own: it has changed its root already.
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWNS)?;
    for (entry, flags) in wanted {
        match mount(None::<&str>, entry.destination(), None::<&str>, flags, None::<&str>) {
            // Another mount may have covered it.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn propagation(mount: &Mount) -> Option<MsFlags> {
    mount.options().iter().flatten().find_map(|option| {
        Some(match option.as_str() {
            "private" => MsFlags::MS_PRIVATE,
            "rprivate" => MsFlags::MS_PRIVATE | MsFlags::MS_REC,
            "slave" => MsFlags::MS_SLAVE,
            "rslave" => MsFlags::MS_SLAVE | MsFlags::MS_REC,
            "shared" => MsFlags::MS_SHARED,
            "rshared" => MsFlags::MS_SHARED | MsFlags::MS_REC,
            _ => return None,
        })
    })
}
