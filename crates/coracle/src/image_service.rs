//! How `coracle image` reaches the engine of a running server: a socket in the cluster's directory, root's alone. A request
//! is a line of JSON; answers are lines of JSON until one that is the last.

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use coracle_informer::CancellationToken;
use coracle_runtime::{Archive, Engine, PodRuntime};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::cluster::Cluster;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    Import(PathBuf),
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
    engine: Engine,
    shutdown: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()> + use<>> {
    let path = socket(cluster);
    // The cluster is held: a socket that is there was left behind.
    if let Err(error) = std::fs::remove_file(&path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error).with_context(|| format!("cannot replace {}", path.display()));
    }
    let listener = UnixListener::bind(&path).with_context(|| format!("cannot listen at {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(async move {
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let engine = engine.clone();
                    tokio::spawn(async move {
                        if let Err(error) = talk(stream, &engine).await {
                            tracing::debug!(%error, "an image request ended early");
                        }
                    });
                }
                Err(error) => tracing::warn!(%error, "an image request was not accepted"),
            }
        }
    })
}

async fn talk(stream: UnixStream, engine: &Engine) -> anyhow::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).await?;
    let request: Request = serde_json::from_str(&line).context("the request is not understood")?;
    let (sender, mut progress) = tokio::sync::mpsc::channel::<Reply>(64);
    let work = perform(engine, request, move |text| {
        // Progress that nobody reads fast enough is skipped.
        let _ = sender.try_send(Reply::Progress(text));
    });
    tokio::pin!(work);
    let last = loop {
        tokio::select! {
            reply = &mut work => break reply,
            Some(reply) = progress.recv() => send(&mut writer, &reply).await?,
        }
    };
    send(&mut writer, &last).await
}

async fn send(writer: &mut (impl tokio::io::AsyncWrite + Unpin), reply: &Reply) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    Ok(writer.write_all(&line).await?)
}

/// Does it, telling how far it is.
async fn perform(engine: &Engine, request: Request, tell: impl Fn(String) + Send + Sync + 'static) -> Reply {
    let progress = Some(Arc::new(move |p: coracle_runtime::Progress| tell(format!("{p:?}"))) as Arc<_>);
    let result = match request {
        Request::Import(path) => engine
            .import_archive(Archive::Path(path), progress)
            .await
            .map(Reply::Names),
        Request::Pull(reference) => engine
            .pull_image(&reference, None, progress)
            .await
            .map(|_| Reply::Names(vec![reference])),
        Request::Remove(reference) => match engine.image(&reference).await {
            None => Ok(Reply::Failed(format!(
                "there is no image {reference:?}; see `coracle image ls`"
            ))),
            Some(_) => engine
                .remove_image(&reference)
                .await
                .map(|()| Reply::Names(vec![reference])),
        },
        Request::List => {
            let images = engine.images().await;
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

/// Asks the running server, or opens the engine itself when none runs.
pub async fn ask(
    cluster: &Cluster,
    request: Request,
    tell: impl Fn(String) + Send + Sync + 'static,
) -> anyhow::Result<Reply> {
    if cluster.running()?.is_none() {
        let engine = Engine::open(coracle_runtime::EngineConfig::new(cluster.runtime_dir())).await?;
        return Ok(perform(&engine, request, tell).await);
    }
    let path = socket(cluster);
    let stream = UnixStream::connect(&path).await.with_context(|| {
        format!(
            "cannot reach the node at {}; does the cluster have one?",
            path.display()
        )
    })?;
    let (reader, mut writer) = stream.into_split();
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    writer.write_all(&line).await?;
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line)? {
            Reply::Progress(text) => tell(text),
            last => return Ok(last),
        }
    }
    anyhow::bail!(
        "the server ended before it answered; see {}",
        cluster.log_file().display()
    )
}
