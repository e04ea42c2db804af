//! Waiting for what changes in directories.

use std::os::fd::AsFd;
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// Waits until something holds, looking whenever something in one of the directories has changed.
pub async fn on_change(directories: impl IntoIterator<Item = impl AsRef<Path>>, holds: impl Fn() -> bool) {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).unwrap();
    let changes =
        AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVE | AddWatchFlags::IN_DELETE;
    for directory in directories {
        inotify.add_watch(directory.as_ref(), changes).unwrap();
    }
    // An inotify descriptor is read like a pipe.
    let file = inotify.as_fd().try_clone_to_owned().unwrap().into();
    let mut told = pipe::Receiver::from_file_unchecked(file).unwrap();
    let mut events = [0; 4096];
    while !holds() {
        assert_ne!(told.read(&mut events).await.unwrap(), 0);
    }
}
