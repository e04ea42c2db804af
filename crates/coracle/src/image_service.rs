//! How `coracle image` reaches the container runtime of a running server.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use coracle_informer::CancellationToken;
use coracle_runtime::{Archive, PodRuntime};
use serde::{Deserialize, Serialize};

use crate::cluster::Cluster;
use crate::local_socket::{self, Tell};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    Import(PathBuf),
    Export(Vec<String>, PathBuf),
    Pull(String),
    List,
    Remove(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// What is being done.
    Progress(String),
    /// The end: names of images, or the images.
    Names(Vec<String>),
    Images(Vec<Listed>),
    /// The end: it failed.
    Failed(String),
}

/// An image as `coracle image ls` shows it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    pub names: Vec<String>,
    pub id: String,
    pub size: u64,
}

fn socket(cluster: &Cluster) -> PathBuf {
    cluster.dir.join("images.sock")
}

/// Listens; the future works until `shutdown`.
pub fn serve(
    cluster: &Cluster,
    runtime: Arc<dyn PodRuntime>,
    shutdown: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()> + use<>> {
    local_socket::serve(socket(cluster), shutdown, move |request, tell: Tell<Reply>| {
        let runtime = runtime.clone();
        async move {
            let tell = move |text| drop(tell.try_send(Reply::Progress(text)));
            perform(runtime.as_ref(), request, tell).await
        }
    })
}

/// Does it, telling how far it is.
async fn perform(runtime: &dyn PodRuntime, request: Request, tell: impl Fn(String) + Send + Sync + 'static) -> Reply {
    let progress = Some(Arc::new(move |p: coracle_runtime::Progress| tell(format!("{p:?}"))) as Arc<_>);
    let result = match request {
        Request::Import(path) => runtime
            .import_archive(Archive::Path(path), progress)
            .await
            .map(Reply::Names),
        Request::Export(references, path) => runtime
            .export_archive(&references, path, progress)
            .await
            .map(|()| Reply::Names(references)),
        Request::Pull(reference) => runtime
            .pull_image(&reference, None, progress)
            .await
            .map(|_| Reply::Names(vec![reference])),
        Request::Remove(reference) => match runtime.image(&reference).await {
            None => Ok(Reply::Failed(format!(
                "there is no image {reference:?}; see `coracle image ls`"
            ))),
            Some(_) => runtime
                .remove_image(&reference)
                .await
                .map(|()| Reply::Names(vec![reference])),
        },
        Request::List => {
            let images = runtime.images().await;
            let listed = images.iter().map(|image| Listed {
                names: image.repo_tags.iter().chain(&image.repo_digests).cloned().collect(),
                id: image.id.to_string(),
                size: image.size,
            });
            Ok(Reply::Images(listed.collect()))
        }
    };
    result.unwrap_or_else(|error| Reply::Failed(format!("{:#}", anyhow::Error::from(error))))
}

/// Asks the running server, or the container runtime itself when none runs.
pub async fn ask(
    cluster: &Cluster,
    request: Request,
    tell: impl Fn(String) + Send + Sync + 'static,
) -> anyhow::Result<Reply> {
    if cluster.running()?.is_none() {
        let runtime = crate::command::container::open_for_images(cluster).await?;
        return Ok(perform(runtime.as_ref(), request, tell).await);
    }
    let read = |reply| match reply {
        Reply::Progress(text) => {
            tell(text);
            None
        }
        last => Some(last),
    };
    local_socket::ask(&socket(cluster), &request, read)
        .await
        .context("does the cluster have a node?")
}
