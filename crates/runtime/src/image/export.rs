//! Writes images into an archive that is an OCI layout and Docker's format in one, so that every tool takes it.
//!
//! Layers are kept unpacked, and are packed anew: in the order of their names and with nothing but what is in them, so that
//! the same layer always comes to the same file. That file is another one than the image came with, and so are the
//! digests in the archive; what is in the image is the same. Blocking.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use super::manifest::host_architecture;
use super::store::ImageStore;
use super::{ImageInfo, Phase, Progress, ProgressSink, pack};
use crate::error::{Error, Result};
use crate::id;

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Writes the images with these names to `path`.
pub(crate) fn export(store: &ImageStore, references: &[String], path: &Path, progress: &ProgressSink) -> Result<()> {
    let _kept = store.keep_layers();
    let mut draft = path.to_owned().into_os_string();
    draft.push(".part");
    let draft = Draft(draft.into());
    let failed = || Error::io("write archive", path);
    let file = File::create(&draft.0).map_err(failed())?;
    let mut archive = Archive {
        store,
        progress,
        tar: tar::Builder::new(BufWriter::new(file)),
        blobs: BTreeSet::new(),
    };
    let (mut index, mut docker) = (Vec::new(), Vec::new());
    for reference in references {
        let image = store.find(reference).ok_or_else(|| Error::ImageNotFound {
            reference: reference.clone(),
        })?;
        let name = name_of(reference, &image);
        let exported = archive.image(&image).map_err(failed())?;
        let mut descriptor = exported.manifest;
        if let Some(name) = &name {
            descriptor["annotations"] =
                json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name});
        }
        index.push(descriptor);
        docker.push(
            json!({"Config": exported.config, "RepoTags": name.into_iter().collect::<Vec<_>>(),
            "Layers": exported.layers}),
        );
    }
    archive.finish(&index, &docker).map_err(failed())?;
    std::fs::rename(&draft.0, path).map_err(failed())
}

/// Removes its file if it is still there.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The full name by which the image was asked for; its only one if that was an id.
fn name_of(reference: &str, image: &ImageInfo) -> Option<String> {
    let asked = super::parse_reference(reference).ok().map(|r| r.whole());
    let known = asked.filter(|name| image.repo_tags.contains(name));
    known.or_else(|| match image.repo_tags.as_slice() {
        [only] => Some(only.clone()),
        _ => None,
    })
}

/// Where an image's parts are in the archive.
struct Exported {
    manifest: Value,
    config: String,
    layers: Vec<String>,
}

struct Archive<'a, W: Write> {
    store: &'a ImageStore,
    progress: &'a ProgressSink,
    tar: tar::Builder<W>,
    /// Digests of what it holds.
    blobs: BTreeSet<String>,
}

impl<W: Write> Archive<'_, W> {
    fn image(&mut self, image: &ImageInfo) -> io::Result<Exported> {
        let (mut layers, mut diff_ids, mut paths) = (Vec::new(), Vec::new(), Vec::new());
        for name in &image.layers {
            let (digest, size) = self.layer(name)?;
            layers.push(json!({"mediaType": LAYER, "digest": digest, "size": size}));
            paths.push(blob_path(&digest));
            diff_ids.push(digest);
        }
        let config = json!({"architecture": host_architecture(), "os": "linux", "config": image.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = self.document(CONFIG, &config)?;
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        Ok(Exported {
            manifest: self.document(MANIFEST, &manifest)?,
            config: blob_path(config["digest"].as_str().unwrap_or_default()),
            layers: paths,
        })
    }

    /// Packs a layer; its digest and size.
    fn layer(&mut self, name: &str) -> io::Result<(String, u64)> {
        let directory = self.store.layer_directory(name);
        let packed = Draft(self.store.temporary());
        let mut out = Hashing {
            inner: BufWriter::new(File::create(&packed.0)?),
            hash: Sha256::new(),
            size: 0,
        };
        pack::pack(&directory, &mut out)?;
        out.flush()?;
        let (digest, size) = (format!("sha256:{}", id::hex(&out.hash.finalize())), out.size);
        if let Some(tell) = self.progress {
            tell(Progress {
                layer: digest.clone(),
                phase: Phase::Done,
                current: size,
                total: size,
            });
        }
        if self.blobs.insert(digest.clone()) {
            self.tar
                .append_data(&mut header(size), blob_path(&digest), File::open(&packed.0)?)?;
        }
        Ok((digest, size))
    }

    /// Adds a document; its descriptor.
    fn document(&mut self, kind: &str, value: &Value) -> io::Result<Value> {
        let bytes = serde_json::to_vec(value)?;
        let digest = format!("sha256:{}", id::hex(&Sha256::digest(&bytes)));
        if self.blobs.insert(digest.clone()) {
            self.file(&blob_path(&digest), &bytes)?;
        }
        Ok(json!({"mediaType": kind, "digest": digest, "size": bytes.len()}))
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.tar.append_data(&mut header(bytes.len() as u64), name, bytes)
    }

    fn finish(mut self, index: &[Value], docker: &[Value]) -> io::Result<()> {
        let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": index});
        self.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        self.file("index.json", index.to_string().as_bytes())?;
        self.file("manifest.json", Value::from(docker.to_vec()).to_string().as_bytes())?;
        self.tar.into_inner()?.flush()
    }
}

fn header(size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

/// Counts and hashes what is written.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
