//! The record of images on this node: one file per image, all of them in memory.
//!
//! It owns names, layers' directories and their removal; it does not fetch or unpack. A name belongs to one image: giving
//! it to another takes it from the first.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::config::ConfigFile;
use super::layer::{self, LayerSource};
use super::{ImageInfo, ProgressSink, as_image_id, parse_reference};
use crate::error::{Error, Result};
use crate::id::{self, ImageId};
use crate::sys;

pub(crate) struct ImageStore {
    root: PathBuf,
    images: RwLock<BTreeMap<ImageId, Arc<ImageInfo>>>,
    /// One change of the record at a time.
    change: Mutex<()>,
    /// Shared while layers are added that no image names yet, exclusive while layers that none names are removed.
    layers: RwLock<()>,
    /// Layers that are being downloaded, each to its own file.
    downloading: Arc<Mutex<HashSet<String>>>,
}

/// A layer's own file, for one download at a time.
pub(crate) struct PartGuard {
    digest: String,
    downloading: Arc<Mutex<HashSet<String>>>,
}

impl Drop for PartGuard {
    fn drop(&mut self) {
        self.downloading.lock().remove(&self.digest);
    }
}

/// What was begun and not continued for so long is not going to be.
const PART_LIFE: SignedDuration = SignedDuration::from_hours(24);

/// An image whose files are at hand, about to be unpacked and recorded.
pub(crate) struct NewImage {
    pub(crate) id: ImageId,
    pub(crate) config: ConfigFile,
    pub(crate) config_size: u64,
    /// `None` for layers that are unpacked already.
    pub(crate) layers: Vec<Option<LayerSource>>,
    pub(crate) layers_size: u64,
    pub(crate) tags: Vec<String>,
    pub(crate) digests: Vec<String>,
}

impl ImageStore {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        for directory in ["images", "layers", "tmp", "downloads"] {
            let path = root.join(directory);
            fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        }
        remove_children(&root.join("tmp"), |_| true);
        remove_children(&root.join("images"), |name| !name.ends_with(".json"));
        let mut images = BTreeMap::new();
        let directory = root.join("images");
        for entry in fs::read_dir(&directory)
            .map_err(Error::io("list", &directory))?
            .flatten()
        {
            let path = entry.path();
            let info = fs::read(&path)
                .ok()
                .and_then(|bytes| serde_json::from_slice::<ImageInfo>(&bytes).ok());
            match info {
                Some(info) if info.layers.iter().all(|layer| root.join("layers").join(layer).is_dir()) => {
                    images.insert(info.id.clone(), Arc::new(info));
                }
                _ => {
                    tracing::warn!(path = %path.display(), "removing the record of an incomplete image");
                    let _ = fs::remove_file(&path);
                }
            }
        }
        Ok(Self {
            root: root.to_owned(),
            images: RwLock::new(images),
            change: Mutex::new(()),
            layers: RwLock::new(()),
            downloading: Arc::default(),
        })
    }

    pub(crate) fn layers_directory(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// A new path for a temporary file.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.root.join("tmp").join(id::random())
    }

    /// The file to download a layer to, with what an interrupted download left in it. `None` while another download has it.
    pub(crate) fn part(&self, digest: &str) -> Option<(PathBuf, PartGuard)> {
        let digits = digest.strip_prefix("sha256:")?;
        if !id::is_valid(digits) || !self.downloading.lock().insert(digest.to_owned()) {
            return None;
        }
        let guard = PartGuard {
            digest: digest.to_owned(),
            downloading: self.downloading.clone(),
        };
        Some((self.root.join("downloads").join(digits), guard))
    }

    /// Removes what was begun and never continued.
    pub(crate) fn collect_parts(&self, now: Timestamp) {
        let parts = fs::read_dir(self.root.join("downloads"))
            .into_iter()
            .flatten()
            .flatten();
        for part in parts {
            let changed = part.metadata().and_then(|m| m.modified()).ok();
            let changed = changed.and_then(|time| Timestamp::try_from(time).ok());
            if changed.is_none_or(|changed| now.duration_since(changed) > PART_LIFE) {
                let _ = fs::remove_file(part.path());
            }
        }
    }

    pub(crate) fn list(&self) -> Vec<Arc<ImageInfo>> {
        self.images.read().values().cloned().collect()
    }

    /// By image id, tag or digest.
    pub(crate) fn find(&self, reference: &str) -> Option<Arc<ImageInfo>> {
        let images = self.images.read();
        if let Some(id) = as_image_id(reference)
            && let Some(info) = images.get(&id)
        {
            return Some(info.clone());
        }
        let wanted = parse_reference(reference).ok()?;
        if let Some(digest) = wanted.digest() {
            let name = format!("{}/{}@{digest}", wanted.registry(), wanted.repository());
            return images
                .values()
                .find(|image| image.repo_digests.contains(&name))
                .cloned();
        }
        let name = wanted.whole();
        images.values().find(|image| image.repo_tags.contains(&name)).cloned()
    }

    /// Whether a layer need not be fetched.
    pub(crate) fn has_layer(&self, name: &str) -> bool {
        self.root.join("layers").join(name).is_dir()
    }

    /// Unpacks what is missing and records the image under its names. Blocking.
    pub(crate) fn add(&self, new: NewImage, progress: &ProgressSink) -> Result<Arc<ImageInfo>> {
        if !matches!(new.config.os.as_str(), "" | "linux") {
            return Err(Error::PlatformNotFound {
                reference: new.tags.first().cloned().unwrap_or_else(|| new.id.to_string()),
                platform: format!("linux/{}", super::manifest::host_architecture()),
                available: new.config.os,
            });
        }
        let diff_ids = &new.config.rootfs.diff_ids;
        if diff_ids.len() != new.layers.len() {
            let reason = format!("{} layers but {} digests of them", new.layers.len(), diff_ids.len());
            return Err(Error::corrupt(format!("image {}", new.id), reason));
        }
        let layers = layer::chain_names(diff_ids);
        let directory = self.layers_directory();
        let _adding = self.layers.read();
        let temporary = || self.temporary();
        layer::unpack_all(&directory, &temporary, &layers, new.layers, new.id.as_str(), progress)?;
        layer::sync_filesystem(&directory)?;

        let _change = self.change.lock();
        let mut info = ImageInfo {
            id: new.id.clone(),
            repo_tags: Vec::new(),
            repo_digests: Vec::new(),
            size: new.layers_size + new.config_size,
            config: new.config.config,
            pinned: false,
            layers,
        };
        if let Some(known) = self.images.read().get(&new.id) {
            info.repo_tags = known.repo_tags.clone();
            info.repo_digests = known.repo_digests.clone();
            info.size = known.size;
        }
        add_names(&mut info.repo_tags, &new.tags);
        add_names(&mut info.repo_digests, &new.digests);
        // First the new owner of a name, then the old one: a crash between leaves two, never none.
        let info = self.save(info)?;
        let losers: Vec<ImageInfo> = self
            .images
            .read()
            .values()
            .filter(|image| image.id != info.id && image.repo_tags.iter().any(|tag| new.tags.contains(tag)))
            .map(|image| ImageInfo::clone(image))
            .collect();
        for mut loser in losers {
            loser.repo_tags.retain(|tag| !new.tags.contains(tag));
            self.save(loser)?;
        }
        Ok(info)
    }

    /// While this is held no layer is removed.
    pub(crate) fn keep_layers(&self) -> RwLockReadGuard<'_, ()> {
        self.layers.read()
    }

    pub(crate) fn layer_directory(&self, name: &str) -> PathBuf {
        self.layers_directory().join(name)
    }

    /// Takes a name away; with the last name, or by id, the image. `used_by` tells who still runs it.
    pub(crate) fn remove(&self, reference: &str, used_by: impl Fn(&ImageId) -> Option<String>) -> Result<bool> {
        let _change = self.change.lock();
        let Some(image) = self.find(reference) else {
            return Ok(false);
        };
        if as_image_id(reference).is_none() {
            let mut rest = ImageInfo::clone(&image);
            if let Ok(wanted) = parse_reference(reference) {
                match wanted.digest() {
                    Some(digest) => {
                        let name = format!("{}/{}@{digest}", wanted.registry(), wanted.repository());
                        rest.repo_digests.retain(|known| *known != name);
                    }
                    None => rest.repo_tags.retain(|known| *known != wanted.whole()),
                }
            }
            if !rest.repo_tags.is_empty() {
                self.save(rest)?;
                return Ok(false);
            }
        }
        if let Some(container) = used_by(&image.id) {
            return Err(Error::ImageInUse {
                reference: reference.to_owned(),
                container,
            });
        }
        let path = self.record_path(&image.id);
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        self.images.write().remove(&image.id);
        Ok(true)
    }

    /// Removes layers that neither an image nor `pinned` names.
    pub(crate) fn collect_layers(&self, pinned: &HashSet<String>) {
        // Someone is unpacking: what is garbage will still be so next time.
        let Some(_exclusive) = self.layers.try_write() else {
            return;
        };
        let images = self.images.read();
        let used: HashSet<&str> = images
            .values()
            .flat_map(|image| image.layers.iter())
            .chain(pinned.iter())
            .map(String::as_str)
            .collect();
        remove_children(&self.layers_directory(), |name| !used.contains(name));
    }

    fn save(&self, info: ImageInfo) -> Result<Arc<ImageInfo>> {
        let path = self.record_path(&info.id);
        let content = serde_json::to_vec(&info).map_err(|error| Error::Failed(error.to_string()))?;
        sys::write_durable(&path, &content).map_err(Error::io("write", &path))?;
        let info = Arc::new(info);
        self.images.write().insert(info.id.clone(), info.clone());
        Ok(info)
    }

    fn record_path(&self, id: &ImageId) -> PathBuf {
        let digits = id.as_str().strip_prefix("sha256:").unwrap_or(id.as_str());
        self.root.join("images").join(format!("{digits}.json"))
    }
}

fn add_names(names: &mut Vec<String>, more: &[String]) {
    for name in more {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
}

fn remove_children(directory: &Path, which: impl Fn(&str) -> bool) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(|name| !which(name)) {
            continue;
        }
        let path = entry.path();
        let removed = if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        if let Err(error) = removed {
            tracing::warn!(path = %path.display(), %error, "cannot remove");
        }
    }
}
