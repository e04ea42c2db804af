//! Images: what is on this node, by which names, made of which layers.
//!
//! An image is its configuration's digest. Its layers are directories named by chain id, each unpacked once and shared
//! by every image that starts with the same layers. Start reading at [`store`]; [`archive`] and [`pull`] fill it.

pub(crate) mod archive;
pub(crate) mod config;
mod download;
pub(crate) mod export;
pub(crate) mod layer;
pub(crate) mod manifest;
mod pack;
pub(crate) mod pull;
mod registries;
pub(crate) mod store;
pub(crate) mod unpack;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use config::ImageConfig;
pub use registries::RegistryConfig;

use crate::error::{Error, Result};
use crate::id::ImageId;

/// An image that is on this node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageInfo {
    pub id: ImageId,
    /// Full names with tags: `docker.io/library/busybox:1.36`.
    pub repo_tags: Vec<String>,
    /// Full names with the digest of the manifest (or index) they were pulled by.
    pub repo_digests: Vec<String>,
    /// Bytes of its layers and configuration as they were fetched.
    pub size: u64,
    pub config: ImageConfig,
    /// Not to be removed to save space: the runtime itself needs it.
    #[serde(default)]
    pub pinned: bool,
    /// Names of its unpacked layers, lowest first.
    pub(crate) layers: Vec<String>,
}

impl ImageInfo {
    /// The user to run as, as the image says it: numeric, or by name.
    pub fn user(&self) -> (Option<u32>, Option<&str>) {
        let user = self.config.user.split(':').next().unwrap_or_default();
        match user.parse() {
            Ok(uid) => (Some(uid), None),
            Err(_) if user.is_empty() => (None, None),
            Err(_) => (None, Some(user)),
        }
    }
}

/// How to identify to a registry.
#[derive(Clone)]
pub enum Auth {
    Basic { username: String, password: String },
    Bearer(String),
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic",
            Self::Bearer(_) => "Bearer",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Downloading,
    Unpacking,
    Done,
}

/// How far one layer is.
#[derive(Clone, Debug)]
pub struct Progress {
    pub layer: String,
    pub phase: Phase,
    pub current: u64,
    pub total: u64,
}

/// Told about progress, from any thread. `None` when nobody looks.
pub type ProgressSink = Option<Arc<dyn Fn(Progress) + Send + Sync>>;

/// Whether it names an image as it must be written.
pub fn check_reference(reference: &str) -> Result<()> {
    parse_reference(reference).map(drop)
}

/// A name in full: `busybox` is `docker.io/library/busybox:latest`.
pub(crate) fn parse_reference(reference: &str) -> Result<oci_client::Reference> {
    let invalid = |reason: String| Error::InvalidImageReference {
        reference: reference.to_owned(),
        reason,
    };
    if reference.is_empty() {
        return Err(invalid("it is empty".to_owned()));
    }
    let parse = |text: &str| {
        text.parse::<oci_client::Reference>()
            .map_err(|error| invalid(error.to_string()))
    };
    let parsed = parse(reference)?;
    // The parser completes some names to what it would not take as a whole: those with capitals.
    parse(&parsed.whole())?;
    Ok(parsed)
}

/// The hexadecimal digits of an image id given as `sha256:...` or bare.
pub(crate) fn as_image_id(reference: &str) -> Option<ImageId> {
    let digits = reference.strip_prefix("sha256:").unwrap_or(reference);
    (digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| ImageId::new(format!("sha256:{}", digits.to_ascii_lowercase())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_none_once_it_is_completed_is_refused() {
        let error = parse_reference("besYb/x").unwrap_err();
        assert!(matches!(error, Error::InvalidImageReference { .. }), "{error}");
    }

    #[test]
    fn short_names_are_completed() {
        assert_eq!(
            parse_reference("busybox").unwrap().whole(),
            "docker.io/library/busybox:latest"
        );
        assert_eq!(parse_reference("a/b:1").unwrap().whole(), "docker.io/a/b:1");
        assert_eq!(
            parse_reference("localhost:5000/b").unwrap().whole(),
            "localhost:5000/b:latest"
        );
        assert!(matches!(
            parse_reference("Not Valid"),
            Err(Error::InvalidImageReference { .. })
        ));
        assert!(parse_reference("").is_err());
    }

    #[test]
    fn an_image_id_is_known_with_and_without_its_algorithm() {
        let digits = "a".repeat(64);
        assert_eq!(as_image_id(&digits), Some(ImageId::new(format!("sha256:{digits}"))));
        assert_eq!(as_image_id(&format!("sha256:{digits}")), as_image_id(&digits));
        assert_eq!(as_image_id("busybox"), None);
    }
}
