//! A netlink socket inside a pod's network namespace. The socket belongs for good to the namespace it was made in, so
//! one thread enters, makes it and ends; no other thread ever leaves the host's namespace.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::sched::{CloneFlags, setns};
use rtnetlink::Handle;
use tokio::sync::oneshot;

use crate::Error;

/// An open namespace.
pub(crate) struct Netns {
    pub(crate) file: File,
}

impl Netns {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| Error::Namespace {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { file })
    }

    /// A netlink handle that works inside the namespace; its connection ends when the handle is dropped.
    pub(crate) async fn netlink(&self, path: &Path) -> Result<Handle, Error> {
        let fail = |source: io::Error| Error::Namespace {
            path: path.to_owned(),
            source,
        };
        let file = self.file.try_clone().map_err(fail)?;
        let runtime = tokio::runtime::Handle::current();
        let (send, receive) = oneshot::channel();
        std::thread::Builder::new()
            .name("netns".into())
            .spawn(move || {
                let _context = runtime.enter();
                let made = setns(&file, CloneFlags::CLONE_NEWNET)
                    .map_err(io::Error::from)
                    .and_then(|()| rtnetlink::new_connection());
                let _ = send.send(made);
            })
            .map_err(fail)?;
        let made = receive
            .await
            .map_err(|_| fail(io::Error::other("the thread ended early")))?;
        let (connection, handle, _) = made.map_err(fail)?;
        tokio::spawn(connection);
        Ok(handle)
    }
}
