//! One layer from a registry into a file. What an interruption has left is continued, in this pull or in a later one; the
//! bytes are verified when they are unpacked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_clock::Clock;
use futures::StreamExt;
use oci_client::Reference;
use oci_client::client::{BlobResponse, Client};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::OciDescriptor;
use tokio::io::AsyncWriteExt;

use super::manifest::Descriptor;
use super::store::{ImageStore, PartGuard};
use super::{Phase, Progress, ProgressSink};

/// Failures in a row without a byte between them.
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Where a layer is downloaded to. Dropped without [`finished`](Self::finished), a named part stays for the next attempt.
pub(super) struct Part {
    pub(super) file: PathBuf,
    /// Absent when another pull has the layer's own file; then this one is removed in any case.
    guard: Option<PartGuard>,
}

impl Part {
    pub(super) fn of(store: &ImageStore, layer: &Descriptor) -> Self {
        match store.part(&layer.digest) {
            Some((file, guard)) => Self {
                file,
                guard: Some(guard),
            },
            None => Self {
                file: store.temporary(),
                guard: None,
            },
        }
    }

    /// It is unpacked, or useless: nothing is to be continued.
    pub(super) fn finished(&self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.guard.is_none() {
            self.finished();
        }
    }
}

pub(super) enum Failure {
    Registry(OciDistributionError),
    /// Of the disk: there is no use in trying again.
    Disk(std::io::Error),
    /// More bytes than the layer has.
    TooLong,
}

pub(super) struct Download<'a> {
    pub(super) client: &'a Client,
    pub(super) name: &'a Reference,
    pub(super) clock: Clock,
    pub(super) progress: &'a ProgressSink,
}

impl Download<'_> {
    /// Fetches what is missing of the layer.
    pub(super) async fn run(&self, layer: &Descriptor, file: &Path) -> Result<(), Failure> {
        let (mut failures, mut pause) = (0, FIRST_PAUSE);
        loop {
            let before = length(file).await;
            if before == layer.size && before > 0 {
                return Ok(());
            }
            let result = self.attempt(layer, file, before).await;
            let after = length(file).await;
            let error = match result {
                Ok(()) if after == layer.size => return Ok(()),
                Ok(()) if after > layer.size => return Err(Failure::TooLong),
                // The stream ended early and politely.
                Ok(()) => None,
                Err(Failure::Registry(error)) if is_passing(&error) => Some(error),
                Err(error) => return Err(error),
            };
            if after > before {
                (failures, pause) = (0, FIRST_PAUSE);
            }
            failures += 1;
            if failures >= ATTEMPTS {
                let missing = || {
                    let reason = format!("{after} of {} bytes arrived", layer.size);
                    OciDistributionError::IoError(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, reason))
                };
                return Err(Failure::Registry(error.unwrap_or_else(missing)));
            }
            tracing::info!(
                layer = layer.digest,
                after,
                of = layer.size,
                "a download was interrupted; it is continued"
            );
            self.clock.sleep(pause).await;
            pause *= 2;
        }
    }

    async fn attempt(&self, layer: &Descriptor, file: &Path, offset: u64) -> Result<(), Failure> {
        let descriptor = descriptor(layer);
        // Something in the file that is longer than the layer cannot be its beginning.
        let offset = if offset < layer.size { offset } else { 0 };
        let response = self
            .client
            .pull_blob_stream_partial(self.name, &descriptor, offset, None)
            .await
            .map_err(Failure::Registry)?;
        // A registry that knows no ranges begins anew.
        let (mut stream, offset) = match response {
            BlobResponse::Full(stream) => (stream.stream, 0),
            BlobResponse::Partial(stream) => (stream.stream, offset),
        };
        let mut open = tokio::fs::OpenOptions::new();
        open.create(true).write(true).truncate(offset == 0).append(offset > 0);
        let file = open.open(file).await.map_err(Failure::Disk)?;
        let mut out = tokio::io::BufWriter::with_capacity(1 << 18, file);
        let mut count = offset;
        let result = loop {
            match stream.next().await {
                None => break Ok(()),
                Some(Err(error)) => break Err(Failure::Registry(OciDistributionError::IoError(error))),
                Some(Ok(bytes)) => {
                    if let Err(error) = out.write_all(&bytes).await {
                        return Err(Failure::Disk(error));
                    }
                    let before = count;
                    count += bytes.len() as u64;
                    if count > layer.size {
                        break Ok(());
                    }
                    self.report(layer, before, count);
                }
            }
        };
        out.flush().await.map_err(Failure::Disk)?;
        result
    }

    /// About once per percent.
    fn report(&self, layer: &Descriptor, before: u64, current: u64) {
        let step = (layer.size / 100).max(1);
        if let Some(progress) = self.progress
            && before / step != current / step
        {
            progress(Progress {
                layer: layer.digest.clone(),
                phase: Phase::Downloading,
                current,
                total: layer.size,
            });
        }
    }
}

/// Whether another attempt may go better.
fn is_passing(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::RequestError(_) | OciDistributionError::IoError(_) => true,
        OciDistributionError::ServerError { code, .. } => *code >= 500 || *code == 429,
        _ => false,
    }
}

pub(super) fn descriptor(blob: &Descriptor) -> OciDescriptor {
    OciDescriptor {
        media_type: blob.media_type.clone(),
        digest: blob.digest.clone(),
        size: i64::try_from(blob.size).unwrap_or(i64::MAX),
        ..OciDescriptor::default()
    }
}

async fn length(file: &Path) -> u64 {
    tokio::fs::metadata(file).await.map_or(0, |metadata| metadata.len())
}
