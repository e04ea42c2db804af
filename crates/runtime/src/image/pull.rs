//! Fetches images from registries: manifest, configuration, then the missing layers side by side, all verified. A layer
//! is unpacked while others are still on their way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coracle_clock::Clock;
use futures::future::try_join_all;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::archive::sha256;
use super::config::ConfigFile;
use super::download::{Download, Failure, Part, descriptor};
use super::layer::{self, LayerSource, chain_names};
use super::manifest::{self, Descriptor, Document};
use super::registries::RegistryConfig;
use super::store::{ImageStore, NewImage};
use super::{Auth, ProgressSink, parse_reference};
use crate::error::{Error, Result};
use crate::id::ImageId;

const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// Of silence, not of the whole download.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// Fetches an image and records it under the reference. Mirrors of its registry come first; one that fails costs nothing
/// but time.
pub(crate) async fn pull(
    store: Arc<ImageStore>,
    registries: &RegistryConfig,
    reference: &str,
    auth: Option<Auth>,
    progress: ProgressSink,
    clock: Clock,
) -> Result<ImageId> {
    let name = parse_reference(reference)?;
    if name.digest().is_some()
        && let Some(image) = store.find(reference)
    {
        return Ok(image.id.clone());
    }
    let puller = |name: Reference, auth: Option<Auth>| -> Result<Puller> {
        Ok(Puller {
            client: client(registries, &name)?,
            name,
            reference: reference.to_owned(),
            auth: match auth {
                None => RegistryAuth::Anonymous,
                Some(Auth::Basic { username, password }) => RegistryAuth::Basic(username, password),
                Some(Auth::Bearer(token)) => RegistryAuth::Bearer(token),
            },
            clock,
        })
    };
    for mirror in registries.mirrors_of(name.registry()) {
        let mut mirrored = name.clone();
        mirrored.set_mirror_registry(mirror.clone());
        // The pull's own credentials are the registry's, not the mirror's.
        let puller = puller(mirrored, registries.credentials_of(mirror))?;
        match puller.run(store.clone(), progress.clone()).await {
            Ok(id) => return Ok(id),
            Err(error @ (Error::Io { .. } | Error::Failed(_) | Error::PlatformNotFound { .. })) => return Err(error),
            Err(error) => {
                tracing::warn!(
                    reference,
                    mirror,
                    error = error.chain(),
                    "a mirror does not have an image; the next is tried"
                );
            }
        }
    }
    let auth = auth.or_else(|| registries.credentials_of(name.registry()));
    puller(name, auth)?.run(store, progress).await
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
        accept_invalid_certificates: registries.unverified.contains(registry),
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

/// What the layers of one pull share.
struct Work<'a> {
    store: &'a ImageStore,
    progress: &'a ProgressSink,
    parts: Mutex<Vec<Part>>,
    downloads: Semaphore,
    /// Each turn is held until the unpacking is over, even when nobody waits for it.
    unpackings: Arc<Semaphore>,
    stop: StopOnDrop,
}

/// Ends the unpackings of a pull that failed or that nobody waits for any more.
#[derive(Default)]
struct StopOnDrop(Arc<AtomicBool>);

impl StopOnDrop {
    fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.now();
    }
}

struct Puller {
    client: Client,
    name: Reference,
    reference: String,
    auth: RegistryAuth,
    clock: Clock,
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
        let work = Work {
            store: &store,
            progress: &progress,
            parts: Mutex::default(),
            downloads: Semaphore::new(layer::PARALLEL.into()),
            unpackings: Arc::new(Semaphore::new(layer::PARALLEL.into())),
            stop: StopOnDrop::default(),
        };
        let mut fetches = Vec::new();
        for (index, layer) in manifest.layers.iter().enumerate() {
            fetches.push(self.layer(&work, layer, &parsed.rootfs.diff_ids[index], &names[index], index == 0));
        }
        let layers: Vec<Option<LayerSource>> = match try_join_all(fetches).await {
            Ok(layers) => layers,
            Err(error) => {
                work.stop.now();
                let _all_over = work.unpackings.acquire_many(layer::PARALLEL.into()).await;
                return Err(error);
            }
        };
        let parts: Vec<Part> = work.parts.into_inner();
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
            let added = store.add(new, &progress);
            // Unpacked or corrupt: either way nothing of them is wanted any more.
            parts.iter().for_each(Part::finished);
            added
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

    /// One layer in a file and unpacked by itself, unless it is there already.
    async fn layer(
        &self,
        work: &Work<'_>,
        layer: &Descriptor,
        diff_id: &str,
        name: &str,
        lowest: bool,
    ) -> Result<Option<LayerSource>> {
        if work.store.has_layer(name) {
            return Ok(None);
        }
        let part = Part::of(work.store, layer);
        {
            let _turn = work.downloads.acquire().await;
            self.download(work, layer, &part).await?;
        }
        let source = LayerSource {
            digest: Some(layer.digest.clone()),
            diff_id: diff_id.to_owned(),
            file: part.file.clone(),
            offset: 0,
            length: layer.size,
            apart: None,
        };
        let turn = work.unpackings.clone().acquire_owned().await;
        let (directory, progress) = (work.store.temporary(), work.progress.clone());
        let (what, stopped) = (self.reference.clone(), work.stop.0.clone());
        let unpacked = tokio::task::spawn_blocking(move || {
            let unpacked = layer::unpack_apart(directory, lowest, &source, &what, &progress, &stopped);
            let source = unpacked.map(|apart| LayerSource { apart, ..source });
            // The turn comes last: where nobody waits for this, it is given back when what was unpacked is gone.
            (source, turn)
        });
        let (unpacked, turn) = unpacked
            .await
            .map_err(|error| Error::Failed(format!("unpacking failed: {error}")))?;
        drop(turn);
        if let Err(Error::CorruptImage { .. }) = &unpacked {
            part.finished();
        }
        work.parts.lock().push(part);
        unpacked.map(Some)
    }

    async fn download(&self, work: &Work<'_>, layer: &Descriptor, part: &Part) -> Result<()> {
        let download = Download {
            client: &self.client,
            name: &self.name,
            clock: self.clock,
            progress: work.progress,
        };
        match download.run(layer, &part.file).await {
            Ok(()) => Ok(()),
            Err(Failure::Registry(error)) => Err(self.explain(error)),
            Err(Failure::Disk(error)) => {
                part.finished();
                Err(Error::io("store layer in", &part.file)(error))
            }
            Err(Failure::TooLong) => {
                part.finished();
                let what = format!("layer {} of {}", layer.digest, self.reference);
                Err(Error::corrupt(what, format!("it is longer than {} bytes", layer.size)))
            }
        }
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
            _ => Error::RegistryUnavailable {
                registry,
                reference,
                source: Box::new(error),
            },
        }
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
