//! Images by way of the engine: one pull of a name at a time, and no removal from under a container.

use std::sync::{Arc, Weak};

use super::{Engine, blocking};
use crate::error::{Error, Result};
use crate::id::ImageId;
use crate::image::{self, Auth, ProgressSink};
use crate::pod_runtime::Archive;

impl Engine {
    pub(super) async fn pull(&self, reference: &str, auth: Option<Auth>, progress: ProgressSink) -> Result<ImageId> {
        let turn = {
            let mut pulls = self.inner.pulls.lock();
            pulls.retain(|_, turn| turn.strong_count() > 0);
            let known = pulls.get(reference).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let turn = Arc::default();
                pulls.insert(reference.to_owned(), Arc::downgrade(&turn));
                turn
            })
        };
        let _turn = turn.lock().await;
        let registries = &self.inner.config.registries;
        let (images, clock) = (self.inner.images.clone(), self.inner.config.clock);
        let pulled = image::pull::pull(images, registries, reference, auth, progress, clock).await;
        self.collect_layers().await;
        pulled
    }

    pub(super) async fn import(&self, archive: Archive, progress: ProgressSink) -> Result<Vec<String>> {
        let (path, temporary) = match archive {
            Archive::Path(path) => (path, None),
            Archive::Reader(mut reader) => {
                let path = self.inner.images.temporary();
                let guard = RemoveFile(path.clone());
                let mut file = tokio::fs::File::create(&path)
                    .await
                    .map_err(Error::io("create", &path))?;
                tokio::io::copy(&mut reader, &mut file)
                    .await
                    .map_err(Error::io("receive archive into", &path))?;
                tokio::io::AsyncWriteExt::flush(&mut file)
                    .await
                    .map_err(Error::io("write", &path))?;
                (path, Some(guard))
            }
        };
        let images = self.inner.images.clone();
        let imported = blocking(move || {
            let _temporary = temporary;
            image::archive::import(&images, &path, &progress)
        })
        .await;
        self.collect_layers().await;
        imported
    }

    pub(super) async fn remove_by_name(&self, reference: &str) -> Result<()> {
        let (inner, reference) = (self.inner.clone(), reference.to_owned());
        blocking(move || {
            inner.images.remove(&reference, |id| {
                let state = inner.state.lock();
                state
                    .containers
                    .values()
                    .find(|c| {
                        let record = c.record.lock();
                        record.image_id == *id || record.mounted_images.contains(id)
                    })
                    .map(|c| c.id.to_string())
            })
        })
        .await?;
        self.collect_layers().await;
        Ok(())
    }

    /// Removes layers of nothing, such as a failed import leaves.
    pub(super) async fn collect_layers(&self) {
        let inner = self.inner.clone();
        let collected = blocking(move || {
            inner.images.collect_layers(&inner.pinned_layers());
            inner.images.collect_parts(inner.config.clock.now());
            Ok(())
        });
        let _ = collected.await;
    }
}

struct RemoveFile(std::path::PathBuf);

impl Drop for RemoveFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
