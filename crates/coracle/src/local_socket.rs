//! How a command reaches the running server beside the API: a socket in the cluster's directory, its owner's alone. A
//! request is a line of JSON; answers are lines of JSON, the last of which ends it.

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use coracle_informer::CancellationToken;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

/// Answers that are on their way while one is asked for more slowly than it works.
const WAITING: usize = 64;

/// Tells the one who asked how far the work is. What is not read fast enough is skipped.
pub type Tell<R> = mpsc::Sender<R>;

/// Listens at `path`; the future works until `shutdown`. `perform` does what is asked and returns the last answer.
pub fn serve<Q, R, F>(
    path: PathBuf,
    shutdown: CancellationToken,
    perform: impl Fn(Q, Tell<R>) -> F + Clone + Send + Sync + 'static,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static>
where
    Q: DeserializeOwned + Send + 'static,
    R: Serialize + Send + Sync + 'static,
    F: Future<Output = R> + Send + 'static,
{
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
                    let perform = perform.clone();
                    tokio::spawn(async move {
                        if let Err(error) = talk(stream, perform).await {
                            tracing::debug!(%error, "a request on the local socket ended early");
                        }
                    });
                }
                Err(error) => tracing::warn!(%error, "a request on the local socket was not accepted"),
            }
        }
    })
}

async fn talk<Q, R, F>(stream: UnixStream, perform: impl Fn(Q, Tell<R>) -> F) -> anyhow::Result<()>
where
    Q: DeserializeOwned,
    R: Serialize,
    F: Future<Output = R>,
{
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).await?;
    let request: Q = serde_json::from_str(&line).context("the request is not understood")?;
    let (sender, mut progress) = mpsc::channel(WAITING);
    let work = perform(request, sender);
    tokio::pin!(work);
    let last = loop {
        tokio::select! {
            reply = &mut work => break reply,
            Some(reply) = progress.recv() => send(&mut writer, &reply).await?,
        }
    };
    send(&mut writer, &last).await
}

async fn send<T: Serialize>(writer: &mut (impl tokio::io::AsyncWrite + Unpin), message: &T) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(writer.write_all(&line).await?)
}

/// Asks, and hands each answer to `read` until that returns one as the last.
pub async fn ask<Q: Serialize, R: DeserializeOwned>(
    path: &Path,
    request: &Q,
    mut read: impl FnMut(R) -> Option<R>,
) -> anyhow::Result<R> {
    let stream = UnixStream::connect(path)
        .await
        .with_context(|| format!("cannot reach the server at {}", path.display()))?;
    let (reader, mut writer) = stream.into_split();
    send(&mut writer, request).await?;
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = lines.next_line().await? {
        if let Some(last) = read(serde_json::from_str(&line)?) {
            return Ok(last);
        }
    }
    anyhow::bail!("the server ended before it answered; see its log")
}
