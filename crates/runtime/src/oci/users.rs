//! Commands in a container with users of its own. libcontainer joins every namespace for them but the user namespace, so
//! the command gets that far as the host's root and takes this last step itself, right before its program is run.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use libcontainer::capabilities;
use libcontainer::syscall::syscall::create_syscall;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::stat::fstat;
use nix::unistd::{Gid, Uid, fchown, isatty, setgroups, setresgid, setresuid};
use oci_spec::runtime::{LinuxCapabilities, LinuxNamespaceType, Spec, User};
use serde_json::{Value, json};

pub(super) struct Users {
    namespace: File,
    /// The host's id of the namespace's root.
    root: u32,
    user: User,
    capabilities: LinuxCapabilities,
}

impl Users {
    /// Of a container that joined a user namespace. Takes the user and the capabilities out of the command's
    /// specification, which keeps the host's root.
    pub(super) fn take(spec: &Spec, process: &Path) -> Result<Option<Self>, super::Failure> {
        let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
        let joined = namespaces
            .into_iter()
            .flatten()
            .find(|n| n.typ() == LinuxNamespaceType::User);
        let Some(path) = joined.and_then(|namespace| namespace.path().as_ref()) else {
            return Ok(None);
        };
        let mut own: Value = serde_json::from_slice(&fs::read(process)?)?;
        let users = Self {
            namespace: File::open(path)?,
            root: root_of(path)?,
            user: serde_json::from_value(own["user"].take())?,
            capabilities: serde_json::from_value(own["capabilities"].take())?,
        };
        own["user"] = json!({ "uid": 0, "gid": 0 });
        if let Some(object) = own.as_object_mut() {
            // Absent, they stay as they are; it is `enter` that takes them away.
            object.remove("capabilities");
        }
        fs::write(process, serde_json::to_vec(&own)?)?;
        Ok(Some(users))
    }

    /// Becomes who the command should be. For the command's own process.
    pub(super) fn enter(&self) -> io::Result<()> {
        self.own_terminal()?;
        setns(self.namespace.as_fd(), CloneFlags::CLONE_NEWUSER)?;
        let (uid, gid) = (Uid::from_raw(self.user.uid()), Gid::from_raw(self.user.gid()));
        let groups = self.user.additional_gids().iter().flatten();
        setgroups(&groups.map(|gid| Gid::from_raw(*gid)).collect::<Vec<_>>())?;
        setresgid(gid, gid, gid)?;
        // Which capabilities remain is said next, not by who it is.
        prctl::set_keepcaps(true)?;
        setresuid(uid, uid, uid)?;
        prctl::set_keepcaps(false)?;
        let syscall = create_syscall();
        let drop = || {
            capabilities::reset_effective(syscall.as_ref())?;
            capabilities::drop_privileges(&self.capabilities, syscall.as_ref())
        };
        drop().map_err(|error| io::Error::other(error.to_string()))
    }

    /// Its terminal was made by the host's root, whom nobody in the namespace knows.
    fn own_terminal(&self) -> io::Result<()> {
        if !isatty(0).unwrap_or(false) {
            return Ok(());
        }
        let group = fstat(0)?.st_gid;
        fchown(
            0,
            Some(Uid::from_raw(self.root + self.user.uid())),
            Some(Gid::from_raw(group)),
        )?;
        Ok(())
    }
}

/// Reads the map of the process whose namespace it is.
fn root_of(namespace: &Path) -> io::Result<u32> {
    let process = namespace.parent().and_then(Path::parent).unwrap_or(namespace);
    let map = fs::read_to_string(process.join("uid_map"))?;
    let outside = map.split_whitespace().nth(1).and_then(|id| id.parse().ok());
    outside.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the user namespace has no map"))
}
