//! Reads image archives: an OCI layout in a tar (`skopeo copy oci-archive:`), or Docker's (`docker save`), or both in one.
//!
//! The archive is read in place: an index of its entries gives each blob's offset, so that nothing is copied but what is
//! unpacked. Blocking.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::config::ConfigFile;
use super::layer::{LayerSource, decompress_archive};
use super::manifest::{self, Descriptor, Document};
use super::store::{ImageStore, NewImage};
use super::{ProgressSink, parse_reference};
use crate::error::{Error, Result};
use crate::id::{self, ImageId};

/// Manifests and configurations are kilobytes; more than this is no image.
const DOCUMENT_LIMIT: u64 = 16 << 20;

/// Imports every image of the archive; returns their names, or ids for those without one.
pub(crate) fn import(store: &ImageStore, path: &Path, progress: &ProgressSink) -> Result<Vec<String>> {
    File::open(path).map_err(Error::io("open archive", path))?;
    let plain = Temporary(store.temporary());
    let decompressed = decompress_archive(path, &plain.0)
        .map_err(|error| Error::corrupt(format!("archive {}", path.display()), error))?;
    let path = if decompressed.is_some() { &plain.0 } else { path };
    drop(decompressed);

    let mut archive = ArchiveFile::open(path)?;
    let mut images = if archive.entries.contains_key("index.json") {
        archive.oci_images()?
    } else {
        Vec::new()
    };
    if archive.entries.contains_key("manifest.json") {
        let docker = archive.docker_images()?;
        if images.is_empty() {
            images = docker;
        } else {
            // Both descriptions of the same images: Docker's knows the names where the other has none.
            for image in &mut images {
                if let Some(named) = docker.iter().find(|d| d.id == image.id)
                    && image.tags.is_empty()
                {
                    image.tags.clone_from(&named.tags);
                }
            }
        }
    }
    if images.is_empty() {
        return Err(archive.corrupt("it holds neither index.json nor manifest.json with an image in it"));
    }
    let mut names = Vec::new();
    for image in images {
        let tags = image.tags.clone();
        let info = store.add(image, progress)?;
        if tags.is_empty() {
            names.push(info.id.to_string());
        }
        names.extend(tags);
    }
    Ok(names)
}

/// Removes its file.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

struct ArchiveFile {
    path: PathBuf,
    file: File,
    /// Offset and length of every file; links are resolved.
    entries: HashMap<String, (u64, u64)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

impl ArchiveFile {
    fn open(path: &Path) -> Result<Self> {
        let corrupt = |error: std::io::Error| Error::corrupt(format!("archive {}", path.display()), error);
        let file = File::open(path).map_err(Error::io("open archive", path))?;
        let mut entries = HashMap::new();
        let mut links = Vec::new();
        let mut archive = tar::Archive::new(&file);
        for entry in archive.entries_with_seek().map_err(corrupt)? {
            let entry = entry.map_err(corrupt)?;
            let name = entry_name(&entry.path_bytes());
            match entry.header().entry_type() {
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    entries.insert(name, (entry.raw_file_position(), entry.size()));
                }
                tar::EntryType::Symlink | tar::EntryType::Link => {
                    let target = entry.link_name_bytes().unwrap_or_default();
                    let target = String::from_utf8_lossy(&target).into_owned();
                    let target = if entry.header().entry_type().is_symlink() {
                        resolve(&name, &target)
                    } else {
                        entry_name(target.as_bytes())
                    };
                    links.push((name, target));
                }
                _ => {}
            }
        }
        // `docker save` of old stored a layer once and linked to it from other images.
        for (name, target) in links {
            if let Some(place) = entries.get(&target).copied() {
                entries.insert(name, place);
            }
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            entries,
        })
    }

    fn corrupt(&self, reason: impl std::fmt::Display) -> Error {
        Error::corrupt(format!("archive {}", self.path.display()), reason)
    }

    fn place(&self, name: &str) -> Result<(u64, u64)> {
        self.entries
            .get(name)
            .copied()
            .ok_or_else(|| self.corrupt(format!("{name} is missing from it")))
    }

    fn read(&mut self, name: &str) -> Result<Vec<u8>> {
        let (offset, length) = self.place(name)?;
        if length > DOCUMENT_LIMIT {
            return Err(self.corrupt(format!("{name} is too large")));
        }
        let mut bytes = Vec::new();
        self.file
            .seek(SeekFrom::Start(offset))
            .map_err(Error::io("read archive", &self.path))?;
        (&self.file)
            .take(length)
            .read_to_end(&mut bytes)
            .map_err(Error::io("read archive", &self.path))?;
        if bytes.len() as u64 != length {
            return Err(self.corrupt(format!("it ends in the middle of {name}")));
        }
        Ok(bytes)
    }

    /// A blob of the OCI layout, checked against its digest.
    fn blob(&mut self, digest: &str) -> Result<Vec<u8>> {
        let bytes = self.read(&blob_name(digest).ok_or_else(|| self.corrupt(format!("digest {digest:?}")))?)?;
        let actual = sha256(&bytes);
        if actual != digest {
            return Err(self.corrupt(format!("blob {digest} hashes to {actual}")));
        }
        Ok(bytes)
    }

    fn oci_images(&mut self) -> Result<Vec<NewImage>> {
        let index = self.read("index.json")?;
        let Document::Index(index) = manifest::parse(&index, "archive")? else {
            return Err(self.corrupt("index.json is no index"));
        };
        let mut images = Vec::new();
        for entry in &index.manifests {
            let mut chosen = entry.clone();
            let image = loop {
                let bytes = self.blob(&chosen.digest)?;
                match manifest::parse(&bytes, &chosen.digest)? {
                    Document::Manifest(manifest) => break manifest,
                    Document::Index(inner) => chosen = manifest::choose(&inner, &chosen.digest)?.clone(),
                }
            };
            let config = self.blob(&image.config.digest)?;
            let parsed = ConfigFile::parse(&config, &image.config.digest)?;
            if parsed.rootfs.diff_ids.len() != image.layers.len() {
                return Err(self.corrupt("its manifest and configuration name different numbers of layers"));
            }
            let mut layers = Vec::new();
            for (layer, diff_id) in image.layers.iter().zip(&parsed.rootfs.diff_ids) {
                let name = blob_name(&layer.digest).ok_or_else(|| self.corrupt(format!("digest {}", layer.digest)))?;
                let (offset, length) = self.place(&name)?;
                layers.push(Some(LayerSource {
                    digest: Some(layer.digest.clone()),
                    diff_id: diff_id.clone(),
                    file: self.path.clone(),
                    offset,
                    length,
                    apart: None,
                }));
            }
            let tags = image_name(entry)?.into_iter().collect::<Vec<_>>();
            let digests = tags.iter().filter_map(|tag| digest_name(tag, &entry.digest)).collect();
            images.push(NewImage {
                id: ImageId::new(image.config.digest.clone()),
                config_size: config.len() as u64,
                layers_size: layers.iter().flatten().map(|layer| layer.length).sum(),
                config: parsed,
                layers,
                tags,
                digests,
            });
        }
        // One image under several names has one entry each.
        let mut merged: Vec<NewImage> = Vec::new();
        for image in images {
            match merged.iter_mut().find(|known| known.id == image.id) {
                Some(known) => {
                    known.tags.extend(image.tags);
                    known.digests.extend(image.digests);
                }
                None => merged.push(image),
            }
        }
        Ok(merged)
    }

    fn docker_images(&mut self) -> Result<Vec<NewImage>> {
        let bytes = self.read("manifest.json")?;
        let entries: Vec<DockerImage> =
            serde_json::from_slice(&bytes).map_err(|error| self.corrupt(format!("manifest.json: {error}")))?;
        let mut images = Vec::new();
        for entry in entries {
            let config = self.read(&entry.config)?;
            let id = sha256(&config);
            let stem = entry
                .config
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .trim_end_matches(".json");
            let named = stem.len() == 64 && stem.bytes().all(|b| b.is_ascii_hexdigit());
            if named && id != format!("sha256:{stem}") {
                return Err(self.corrupt(format!("configuration {} hashes to {id}", entry.config)));
            }
            let parsed = ConfigFile::parse(&config, &entry.config)?;
            if parsed.rootfs.diff_ids.len() != entry.layers.len() {
                return Err(self.corrupt("manifest.json and the configuration name different numbers of layers"));
            }
            let mut layers = Vec::new();
            for (name, diff_id) in entry.layers.iter().zip(&parsed.rootfs.diff_ids) {
                let (offset, length) = self.place(name)?;
                let (file, diff_id) = (self.path.clone(), diff_id.clone());
                layers.push(Some(LayerSource {
                    digest: None,
                    diff_id,
                    file,
                    offset,
                    length,
                    apart: None,
                }));
            }
            let mut tags = Vec::new();
            for tag in entry.repo_tags.unwrap_or_default() {
                tags.push(parse_reference(&tag)?.whole());
            }
            images.push(NewImage {
                id: ImageId::new(id),
                config_size: config.len() as u64,
                layers_size: layers.iter().flatten().map(|layer| layer.length).sum(),
                config: parsed,
                layers,
                tags,
                digests: Vec::new(),
            });
        }
        Ok(images)
    }
}

/// The full name that an index entry gives its image. A bare tag (`latest`, `1.36`) names nothing by itself.
fn image_name(entry: &Descriptor) -> Result<Option<String>> {
    let Some(annotations) = &entry.annotations else {
        return Ok(None);
    };
    if let Some(name) = annotations.get("io.containerd.image.name") {
        return Ok(Some(parse_reference(name)?.whole()));
    }
    match annotations.get("org.opencontainers.image.ref.name") {
        Some(name) if name.contains(['/', ':']) => Ok(Some(parse_reference(name)?.whole())),
        _ => Ok(None),
    }
}

fn digest_name(tag: &str, digest: &str) -> Option<String> {
    let reference = parse_reference(tag).ok()?;
    Some(format!("{}/{}@{digest}", reference.registry(), reference.repository()))
}

fn blob_name(digest: &str) -> Option<String> {
    let (algorithm, digits) = digest.split_once(':')?;
    (algorithm == "sha256" && digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| format!("blobs/sha256/{digits}"))
}

fn entry_name(bytes: &[u8]) -> String {
    let name = String::from_utf8_lossy(bytes);
    let parts: Vec<&str> = name
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    parts.join("/")
}

/// A symbolic link's target as a name in the archive.
fn resolve(name: &str, target: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts.join("/")
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", id::hex(&Sha256::digest(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_resolved_from_where_it_stands() {
        assert_eq!(resolve("abc/layer.tar", "../def/layer.tar"), "def/layer.tar");
        assert_eq!(entry_name(b"./blobs//sha256/aa"), "blobs/sha256/aa");
    }

    #[test]
    fn only_a_full_name_names_an_image() {
        let entry = |name: &str| Descriptor {
            media_type: String::new(),
            digest: String::new(),
            size: 0,
            annotations: Some([("org.opencontainers.image.ref.name".to_owned(), name.to_owned())].into()),
            platform: None,
        };
        assert_eq!(image_name(&entry("latest")).unwrap(), None);
        assert_eq!(
            image_name(&entry("busybox:1")).unwrap().as_deref(),
            Some("docker.io/library/busybox:1")
        );
    }
}
