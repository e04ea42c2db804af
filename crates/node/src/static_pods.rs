//! Static pods: those that a directory of manifests asks this node to run, with or without an API server. The directory is
//! watched, not polled; what a manifest means is in [`manifest`].

mod manifest;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coracle_clock::Clock;
use k8s_openapi::api::core::v1::Pod;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::net::unix::pipe;

use crate::pods::Pods;

/// While what is to be watched is not there.
const RETRY: Duration = Duration::from_secs(20);
/// A manifest that is larger is none.
const MOST_BYTES: u64 = 10 << 20;

/// Where static pods come from, and what was understood of it last.
pub(crate) struct Source {
    path: PathBuf,
    node: String,
    /// By file. One that cannot be read any more, but is there, keeps its pod.
    known: BTreeMap<PathBuf, Arc<Pod>>,
}

impl Source {
    pub(crate) fn new(path: &Path, node: &str) -> Self {
        Self {
            path: path.to_owned(),
            node: node.to_owned(),
            known: BTreeMap::new(),
        }
    }

    /// The pods that the files ask for now.
    pub(crate) fn read(&mut self) -> Vec<Arc<Pod>> {
        let files = match files(&self.path) {
            Ok(files) => files,
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    tracing::error!(path = %self.path.display(), %error, "static pods cannot be read");
                }
                Vec::new()
            }
        };
        let mut before = std::mem::take(&mut self.known);
        for file in files {
            match read(&file, &self.node) {
                Ok(Some(pod)) => {
                    self.known.insert(file, Arc::new(pod));
                }
                // Somebody is about to write it.
                Ok(None) => self.known.extend(before.remove_entry(&file)),
                Err(error) => {
                    tracing::error!(file = %file.display(), error, "this manifest is no static pod");
                    self.known.extend(before.remove_entry(&file));
                }
            }
        }
        let mut by_name = BTreeMap::new();
        for (file, pod) in &self.known {
            if by_name.insert(crate::mirror::full_name(pod), pod.clone()).is_some() {
                tracing::error!(file = %file.display(), "another manifest has a pod of this name; this one is taken");
            }
        }
        by_name.into_values().collect()
    }

    /// Reads and reads again whenever a file changes, for ever.
    pub(crate) async fn follow(mut self, pods: Pods, clock: Clock) {
        loop {
            let watch = self.watch();
            pods.set_static(self.read());
            match watch {
                Ok(watch) => {
                    if let Err(error) = changed(&watch).await {
                        tracing::warn!(path = %self.path.display(), %error, "the directory of static pods is not watched");
                        clock.sleep(RETRY).await;
                    }
                }
                Err(error) => {
                    tracing::debug!(path = %self.path.display(), %error, "there is no directory of static pods yet");
                    clock.sleep(RETRY).await;
                }
            }
        }
    }

    /// A watch from before the reading, so that no change falls between.
    fn watch(&self) -> std::io::Result<pipe::Receiver> {
        if !self.path.exists() {
            return Err(ErrorKind::NotFound.into());
        }
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let directory = if self.path.is_dir() {
            self.path.as_path()
        } else {
            self.path.parent().unwrap_or(Path::new("/"))
        };
        let what = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        inotify.add_watch(directory, what)?;
        // It is no pipe, but is read like one: bytes come when something has happened.
        pipe::Receiver::from_owned_fd_unchecked(inotify.as_fd().try_clone_to_owned()?)
    }
}

/// Returns once something has happened; all that has happened by then is one change.
async fn changed(watch: &pipe::Receiver) -> std::io::Result<()> {
    let mut events = [0; 4096];
    loop {
        watch.readable().await?;
        match watch.try_read(&mut events) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// The manifests at `path`, in order: itself, or what it holds but for hidden files and directories.
fn files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !hidden && entry.path().is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// The file's pod; none while the file is empty.
fn read(file: &Path, node: &str) -> Result<Option<Pod>, String> {
    let metadata = std::fs::metadata(file).map_err(|e| e.to_string())?;
    if metadata.len() > MOST_BYTES {
        return Err(format!("it is larger than {} MiB", MOST_BYTES >> 20));
    }
    let bytes = std::fs::read(file).map_err(|e| e.to_string())?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    manifest::pod(&bytes, file, node).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: i}}]}}\n"
        )
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter().map(|p| p.metadata.name.as_deref().unwrap()).collect()
    }

    #[test]
    fn every_visible_file_is_a_manifest_and_a_broken_one_keeps_the_pod_it_had() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("a.yaml", &manifest("a"));
        write("b", &manifest("b"));
        write(".hidden.yaml", &manifest("hidden"));
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        let mut source = Source::new(dir.path(), "n1");
        assert_eq!(names(&source.read()), ["a-n1", "b-n1"]);
        write("a.yaml", "kind: Pod, and no more");
        write("b", "");
        assert_eq!(names(&source.read()), ["a-n1", "b-n1"]);
        std::fs::remove_file(dir.path().join("a.yaml")).unwrap();
        assert_eq!(names(&source.read()), ["b-n1"]);
        std::fs::remove_dir_all(dir.path()).unwrap();
        assert_eq!(source.read().len(), 0);
    }

    #[test]
    fn one_file_may_be_given_instead_of_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("only.yaml");
        std::fs::write(&file, manifest("only")).unwrap();
        std::fs::write(dir.path().join("other.yaml"), manifest("other")).unwrap();
        assert_eq!(names(&Source::new(&file, "n1").read()), ["only-n1"]);
    }

    #[tokio::test]
    async fn a_file_that_is_written_moved_or_removed_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let source = Source::new(dir.path(), "n1");
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let changes: [&dyn Fn(); 3] = [
            &|| std::fs::write(&a, "x").unwrap(),
            &|| std::fs::rename(&a, &b).unwrap(),
            &|| std::fs::remove_file(&b).unwrap(),
        ];
        for change in changes {
            let watch = source.watch().unwrap();
            change();
            changed(&watch).await.unwrap();
        }
        assert!(Source::new(&dir.path().join("missing"), "n1").watch().is_err());
    }
}
