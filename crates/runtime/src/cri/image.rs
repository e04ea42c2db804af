//! Images, which the runtime has.

use std::sync::Arc;

use super::Inner;
use super::message::Empty;
use super::message::{
    AuthConfig, Image, ImageSpec, ImageStatusRequest, ImageStatusResponse, ListImagesRequest, ListImagesResponse,
    PullImageRequest, PullImageResponse, RemoveImageRequest,
};
use super::rpc::Failure;
use crate::error::{Error, Result};
use crate::id::ImageId;
use crate::image::{Auth, ImageConfig, ImageInfo};

fn named(reference: &str) -> Option<ImageSpec> {
    Some(ImageSpec {
        image: reference.to_owned(),
    })
}

impl Inner {
    pub(super) async fn pull(&self, reference: &str, auth: Option<Auth>) -> Result<ImageId> {
        let request = PullImageRequest {
            image: named(reference),
            auth: auth.map(|auth| match auth {
                Auth::Basic { username, password } => AuthConfig {
                    username,
                    password,
                    registry_token: String::new(),
                },
                Auth::Bearer(registry_token) => AuthConfig {
                    registry_token,
                    ..AuthConfig::default()
                },
            }),
        };
        let answer: Result<PullImageResponse, Failure> = self.rpc.images("PullImage", request).await;
        let answer = answer.map_err(|failure| pull_error(reference, failure))?;
        Ok(ImageId::new(answer.image_ref))
    }

    pub(super) async fn list_images(&self) -> Vec<Arc<ImageInfo>> {
        let answer: Result<ListImagesResponse, Failure> = self.rpc.images("ListImages", ListImagesRequest {}).await;
        match answer {
            Ok(answer) => answer.images.into_iter().map(|i| self.info(i)).collect(),
            Err(error) => {
                tracing::warn!(%error, "the container runtime does not tell its images");
                Vec::new()
            }
        }
    }

    pub(super) async fn find_image(&self, reference: &str) -> Option<Arc<ImageInfo>> {
        let request = ImageStatusRequest {
            image: named(reference),
        };
        let answer: Result<ImageStatusResponse, Failure> = self.rpc.images("ImageStatus", request).await;
        match answer {
            Ok(answer) => answer.image.map(|image| self.info(image)),
            Err(error) => {
                tracing::warn!(image = reference, %error, "the container runtime does not tell about an image");
                None
            }
        }
    }

    pub(super) async fn remove_image(&self, reference: &str) -> Result<()> {
        let request = RemoveImageRequest {
            image: named(reference),
        };
        let answer: Result<Empty, Failure> = self.rpc.images("RemoveImage", request).await;
        match answer {
            Err(failure) if failure.is_missing() => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    fn info(&self, image: Image) -> Arc<ImageInfo> {
        let own = |name: &String| Some(name) == self.sandbox_image.as_ref();
        Arc::new(ImageInfo {
            id: ImageId::new(image.id),
            pinned: image.pinned || image.repo_tags.iter().any(own),
            repo_tags: image.repo_tags,
            repo_digests: image.repo_digests,
            size: image.size,
            config: ImageConfig {
                user: image.uid.map_or(image.username, |uid| uid.value.to_string()),
                ..ImageConfig::default()
            },
            layers: Vec::new(),
        })
    }
}

/// Which of the ways to fail it was, by the words of the runtimes' common library.
fn pull_error(reference: &str, failure: Failure) -> Error {
    let text = failure.to_string();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let reference = reference.to_owned();
    let source = text.clone().into();
    if has(&[
        "401 Unauthorized",
        "403 Forbidden",
        "authorization failed",
        "access denied",
        "no basic auth",
    ]) {
        Error::RegistryUnauthorized { reference, source }
    } else if has(&[": not found", "manifest unknown", "404 Not Found"]) {
        Error::RegistryNotFound { reference, source }
    } else if !failure.is_unavailable() && has(&["dial tcp", "failed to do request", "i/o timeout"]) {
        let registry = crate::image::parse_reference(&reference).map(|r| r.registry().to_owned());
        Error::RegistryUnavailable {
            registry: registry.unwrap_or_default(),
            reference,
            source,
        }
    } else {
        Error::Failed(text)
    }
}
