//! Fetches images from registries: manifest, configuration, then the missing layers side by side, all verified.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};
use tokio::io::AsyncWrite;

use super::archive::sha256;
use super::config::ConfigFile;
use super::layer::{LayerSource, chain_names};
use super::manifest::{self, Descriptor, Document};
use super::store::{ImageStore, NewImage};
use super::{Auth, Phase, Progress, ProgressSink, parse_reference};
use crate::error::{Error, Result};
use crate::id::ImageId;

const PARALLEL_DOWNLOADS: usize = 4;
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// Of silence, not of the whole download.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// What the node's administrator says about registries.
#[derive(Clone, Debug, Default)]
pub struct RegistryConfig {
    /// Registries (`host:port`) to speak plain HTTP to, besides those on this machine.
    pub insecure: BTreeSet<String>,
    /// PEM certificates of authorities to trust besides the usual ones.
    pub certificate_authorities: Vec<Vec<u8>>,
}

/// Fetches an image and records it under the reference.
pub(crate) async fn pull(
    store: Arc<ImageStore>,
    registries: &RegistryConfig,
    reference: &str,
    auth: Option<Auth>,
    progress: ProgressSink,
) -> Result<ImageId> {
    let name = parse_reference(reference)?;
    if name.digest().is_some()
        && let Some(image) = store.find(reference)
    {
        return Ok(image.id.clone());
    }
    let auth = match auth {
        None => RegistryAuth::Anonymous,
        Some(Auth::Basic { username, password }) => RegistryAuth::Basic(username, password),
        Some(Auth::Bearer(token)) => RegistryAuth::Bearer(token),
    };
    let puller = Puller {
        client: client(registries, &name)?,
        name,
        reference: reference.to_owned(),
        auth,
    };
    puller.run(store, progress).await
}

fn client(registries: &RegistryConfig, name: &Reference) -> Result<Client> {
    // Only the first call has an effect; whichever provider the process has chosen stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let registry = name.resolve_registry();
    let plain = is_local(registry) || registries.insecure.contains(registry);
    let certificates = registries
        .certificate_authorities
        .iter()
        .map(|data| oci_client::client::Certificate {
            encoding: oci_client::client::CertificateEncoding::Pem,
            data: data.clone(),
        });
    Client::try_from(ClientConfig {
        protocol: if plain {
            ClientProtocol::Http
        } else {
            ClientProtocol::Https
        },
        extra_root_certificates: certificates.collect(),
        connect_timeout: Some(CONNECT_LIMIT),
        read_timeout: Some(READ_LIMIT),
        user_agent: concat!("coracle/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    })
    .map_err(|error| Error::RegistryUnavailable {
        registry: registry.to_owned(),
        reference: name.whole(),
        source: Box::new(error),
    })
}

/// A registry on this machine needs no TLS.
fn is_local(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => registry.split(':').next().unwrap_or_default(),
    };
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

struct Puller {
    client: Client,
    name: Reference,
    reference: String,
    auth: RegistryAuth,
}

impl Puller {
    async fn run(self, store: Arc<ImageStore>, progress: ProgressSink) -> Result<ImageId> {
        self.client
            .auth(&self.name, &self.auth, RegistryOperation::Pull)
            .await
            .map_err(|error| self.explain(error))?;
        let (top_digest, manifest) = self.manifest().await?;
        let config = self.blob(&manifest.config).await?;
        let parsed = ConfigFile::parse(&config, &self.reference)?;
        if parsed.rootfs.diff_ids.len() != manifest.layers.len() {
            let reason = "its manifest and configuration name different numbers of layers";
            return Err(Error::corrupt(format!("image {}", self.reference), reason));
        }
        let names = chain_names(&parsed.rootfs.diff_ids);
        let downloads = Downloads::default();
        let mut fetches = Vec::new();
        for ((layer, diff_id), name) in manifest.layers.iter().zip(&parsed.rootfs.diff_ids).zip(&names) {
            fetches.push(self.layer(&store, &downloads, &progress, layer, diff_id, name));
        }
        let layers: Vec<Option<LayerSource>> = stream::iter(fetches).buffered(PARALLEL_DOWNLOADS).try_collect().await?;
        let repository = format!("{}/{}", self.name.registry(), self.name.repository());
        let new = NewImage {
            id: ImageId::new(manifest.config.digest.clone()),
            config_size: config.len() as u64,
            config: parsed,
            layers,
            layers_size: manifest.layers.iter().map(|layer| layer.size).sum(),
            tags: if self.name.digest().is_some() {
                Vec::new()
            } else {
                vec![self.name.whole()]
            },
            digests: vec![format!("{repository}@{top_digest}")],
        };
        let added = tokio::task::spawn_blocking(move || {
            let _downloads = downloads;
            store.add(new, &progress)
        });
        let info = added
            .await
            .map_err(|error| Error::Failed(format!("unpacking failed: {error}")))??;
        Ok(info.id.clone())
    }

    /// The digest that the reference stands for and the manifest for this host.
    async fn manifest(&self) -> Result<(String, manifest::Manifest)> {
        let mut name = self.name.clone();
        let mut top = None;
        // An index in an index is allowed; one that never ends is not.
        for _ in 0..4 {
            let pulled = self
                .client
                .pull_manifest_raw(&name, &self.auth, manifest::ACCEPTED)
                .await;
            let (bytes, _) = pulled.map_err(|error| self.explain(error))?;
            let digest = sha256(&bytes);
            if let Some(wanted) = name.digest()
                && wanted.starts_with("sha256:")
                && wanted != digest
            {
                let reason = format!("its manifest hashes to {digest}");
                return Err(Error::corrupt(format!("image {}", self.reference), reason));
            }
            let top = top.get_or_insert(digest);
            match manifest::parse(&bytes, &self.reference)? {
                Document::Manifest(manifest) => return Ok((top.clone(), manifest)),
                Document::Index(index) => {
                    let chosen = manifest::choose(&index, &self.reference)?;
                    name = self.name.clone_with_digest(chosen.digest.clone());
                }
            }
        }
        Err(Error::corrupt(
            format!("image {}", self.reference),
            "its indexes are nested too deeply",
        ))
    }

    async fn blob(&self, blob: &Descriptor) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.client
            .pull_blob(&self.name, &descriptor(blob), &mut bytes)
            .await
            .map_err(|error| self.explain(error))?;
        Ok(bytes)
    }

    /// One layer in a file, unless it is unpacked already.
    async fn layer(
        &self,
        store: &ImageStore,
        downloads: &Downloads,
        progress: &ProgressSink,
        layer: &Descriptor,
        diff_id: &str,
        name: &str,
    ) -> Result<Option<LayerSource>> {
        if store.has_layer(name) {
            return Ok(None);
        }
        let file = store.temporary();
        downloads.0.lock().push(file.clone());
        self.download(layer, &file, progress).await?;
        let length = tokio::fs::metadata(&file)
            .await
            .map_err(Error::io("look up", &file))?
            .len();
        let (digest, diff_id) = (Some(layer.digest.clone()), diff_id.to_owned());
        Ok(Some(LayerSource {
            digest,
            diff_id,
            file,
            offset: 0,
            length,
        }))
    }

    async fn download(&self, layer: &Descriptor, file: &std::path::Path, progress: &ProgressSink) -> Result<()> {
        let out = tokio::fs::File::create(file).await.map_err(Error::io("create", file))?;
        let out = Counting {
            inner: tokio::io::BufWriter::with_capacity(1 << 18, out),
            progress: progress.clone(),
            layer: layer.digest.clone(),
            current: 0,
            total: layer.size,
        };
        self.client
            .pull_blob(&self.name, &descriptor(layer), out)
            .await
            .map_err(|error| self.explain(error))
    }

    fn explain(&self, error: OciDistributionError) -> Error {
        let reference = self.reference.clone();
        let registry = self.name.resolve_registry().to_owned();
        match &error {
            OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => {
                Error::RegistryUnauthorized {
                    reference,
                    source: Box::new(error),
                }
            }
            OciDistributionError::ImageManifestNotFoundError(_) => Error::RegistryNotFound {
                reference,
                source: Box::new(error),
            },
            OciDistributionError::ServerError { code: 404, .. } => Error::RegistryNotFound {
                reference,
                source: Box::new(error),
            },
            OciDistributionError::ServerError { code: 401 | 403, .. } => Error::RegistryUnauthorized {
                reference,
                source: Box::new(error),
            },
            OciDistributionError::RegistryError { envelope, .. } => {
                let has = |codes: &[OciErrorCode]| envelope.errors.iter().any(|e| codes.contains(&e.code));
                if has(&[
                    OciErrorCode::ManifestUnknown,
                    OciErrorCode::NameUnknown,
                    OciErrorCode::NotFound,
                ]) {
                    Error::RegistryNotFound {
                        reference,
                        source: Box::new(error),
                    }
                } else if has(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                    Error::RegistryUnauthorized {
                        reference,
                        source: Box::new(error),
                    }
                } else {
                    Error::RegistryUnavailable {
                        registry,
                        reference,
                        source: Box::new(error),
                    }
                }
            }
            OciDistributionError::DigestError(_)
            | OciDistributionError::JsonError(_)
            | OciDistributionError::ManifestParsingError(_)
            | OciDistributionError::ManifestEncodingError(_)
            | OciDistributionError::VersionedParsingError(_) => Error::corrupt(format!("image {reference}"), error),
            OciDistributionError::IoError(_) => Error::Failed(format!("cannot store image {reference}: {error}")),
            _ => Error::RegistryUnavailable {
                registry,
                reference,
                source: Box::new(error),
            },
        }
    }
}

fn descriptor(blob: &Descriptor) -> OciDescriptor {
    OciDescriptor {
        media_type: blob.media_type.clone(),
        digest: blob.digest.clone(),
        size: i64::try_from(blob.size).unwrap_or(i64::MAX),
        ..OciDescriptor::default()
    }
}

/// Downloaded files, removed when they are unpacked or no longer wanted.
#[derive(Default)]
struct Downloads(parking_lot::Mutex<Vec<std::path::PathBuf>>);

impl Drop for Downloads {
    fn drop(&mut self) {
        for file in self.0.lock().drain(..) {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// Tells of progress as bytes pass, about once per percent.
struct Counting<W> {
    inner: W,
    progress: ProgressSink,
    layer: String,
    current: u64,
    total: u64,
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Counting<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = futures::ready!(Pin::new(&mut self.inner).poll_write(cx, buffer))?;
        let before = self.current;
        self.current += written as u64;
        let step = (self.total / 100).max(1);
        if let Some(progress) = self.progress.clone()
            && before / step != self.current / step
        {
            let (layer, current, total) = (self.layer.clone(), self.current, self.total);
            progress(Progress {
                layer,
                phase: Phase::Downloading,
                current,
                total,
            });
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_on_this_machine_need_no_tls() {
        for local in ["localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000"] {
            assert!(is_local(local), "{local}");
        }
        for remote in ["docker.io", "127.example.com", "10.0.0.1:5000", "localhost.example.com"] {
            assert!(!is_local(remote), "{remote}");
        }
    }
}
