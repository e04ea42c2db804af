//! exec and attach: a command's streams, or a container's own, joined to a client's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use coracle_clock::Clock;
use coracle_runtime::{AttachConfig, ContainerId, ContainerState, ContainerStatus, ExecConfig, PodRuntime};
use coracle_runtime::{Reader, Writer};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::task::AbortOnDropHandle;

use super::channels::{self, Channels, Input, Outcome, Output, Sizes, Streams, Wanted};
use super::{PIECE, upgrade};
use crate::pod::start::sandbox::uid_of;
use crate::server::{Api, Body, Query, plain};

/// What a command left running in the background may keep its output open; when nothing more comes of it for so long
/// after the command's end, the output is over.
const DRAIN_PAUSE: Duration = Duration::from_millis(500);

fn wanted(query: &Query) -> Wanted {
    let tty = query.flag("tty");
    Wanted {
        stdin: query.flag("input") || query.flag("stdin"),
        stdout: query.flag("output") || query.flag("stdout"),
        // A terminal has one output.
        stderr: (query.flag("error") || query.flag("stderr")) && !tty,
        tty,
    }
}

/// The pod of a path, if it is this node's and has the uid that may be asked for.
pub(super) fn find_pod(
    api: &Api,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
) -> Result<Arc<Pod>, Box<Response<Body>>> {
    let pod = api.pods.find(namespace, name);
    pod.filter(|pod| uid.is_none_or(|uid| pod.metadata.uid.as_deref() == Some(uid)))
        .ok_or_else(|| Box::new(plain(StatusCode::NOT_FOUND, "pod does not exist")))
}

/// The container's newest instance, which must run.
async fn find(
    api: &Api,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
    container: &str,
) -> Result<ContainerStatus, Box<Response<Body>>> {
    let pod = find_pod(api, namespace, name, uid)?;
    let uid = crate::mirror::runtime_uid(&pod);
    let all = api.cx.runtime.containers().await;
    let own = all
        .into_iter()
        .filter(|c| c.name == container && uid_of(&c.sandbox) == uid);
    let newest = own.max_by_key(|c| (c.attempt, c.created_at));
    let refused = |text: String| Box::new(plain(StatusCode::INTERNAL_SERVER_ERROR, text));
    match newest {
        Some(found) if found.state == ContainerState::Running => Ok(found),
        Some(found) => Err(refused(format!(
            "container is in CONTAINER_{} state",
            format!("{:?}", found.state).to_uppercase()
        ))),
        None => Err(refused(format!("container not found ({container:?})"))),
    }
}

/// `/exec/{namespace}/{pod}/{container}`
pub(crate) async fn exec(
    api: &Api,
    request: Request<Incoming>,
    [namespace, pod, container]: [&str; 3],
    uid: Option<&str>,
    query: &Query,
) -> Response<Body> {
    let wanted = wanted(query);
    if wanted == Wanted::default() {
        let text = "you must specify at least 1 of stdin, stdout, stderr";
        return plain(StatusCode::BAD_REQUEST, text);
    }
    let found = match find(api, namespace, pod, uid, container).await {
        Ok(found) => found,
        Err(refusal) => return *refusal,
    };
    let config = ExecConfig {
        command: query.all("command").map(str::to_owned).collect(),
        tty: wanted.tty,
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
    };
    let (runtime, clock) = (api.cx.runtime.clone(), api.cx.clock);
    serve(api, request, wanted, move |streams| async move {
        run(runtime, found.id, config, streams, clock).await
    })
}

/// `/attach/{namespace}/{pod}/{container}`
pub(crate) async fn attach(
    api: &Api,
    request: Request<Incoming>,
    [namespace, pod, container]: [&str; 3],
    uid: Option<&str>,
    query: &Query,
) -> Response<Body> {
    let wanted = wanted(query);
    if wanted == Wanted::default() {
        let text = "you must specify at least 1 of stdin, stdout, stderr";
        return plain(StatusCode::BAD_REQUEST, text);
    }
    let found = match find(api, namespace, pod, uid, container).await {
        Ok(found) => found,
        Err(refusal) => return *refusal,
    };
    let config = AttachConfig {
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
    };
    let (runtime, clock) = (api.cx.runtime.clone(), api.cx.clock);
    serve(api, request, wanted, move |streams| async move {
        join(runtime, found.id, config, streams, clock).await
    })
}

/// Upgrades the connection, and has `work` done with its streams.
fn serve<W, F>(api: &Api, request: Request<Incoming>, wanted: Wanted, work: W) -> Response<Body>
where
    W: FnOnce(Streams) -> F + Send + 'static,
    F: Future<Output = Option<(Outcome, Vec<Output>)>> + Send + 'static,
{
    let agreed = match upgrade::agree(request.headers(), &channels::WEB_SOCKET, &channels::SPDY) {
        Ok(agreed) => agreed,
        Err(refusal) => return *refusal,
    };
    let (response, connection) = upgrade::accept(request, &agreed);
    let clock = api.cx.clock;
    let stop = api.shutdown.clone();
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        let io = match connection.await {
            Ok(io) => io,
            Err(error) => return tracing::debug!(%error, "a stream was not upgraded"),
        };
        let channels = match Channels::open(io, &agreed, wanted, clock).await {
            Ok(channels) => channels,
            Err(error) => return tracing::debug!(%error, "a client did not open its streams"),
        };
        let (streams, end) = channels.split();
        // Without an outcome there is nobody to tell it to.
        if let Some((outcome, outputs)) = work(streams).await {
            end.tell(&outcome, outputs, clock).await;
        }
    }));
    response
}

/// Runs a command to its end, or until the client is gone.
async fn run(
    runtime: Arc<dyn PodRuntime>,
    id: ContainerId,
    config: ExecConfig,
    streams: Streams,
    clock: Clock,
) -> Option<(Outcome, Vec<Output>)> {
    let mut command = match runtime.exec(&id, config).await {
        Ok(command) => command,
        Err(error) => {
            let outputs = streams.stdout.into_iter().chain(streams.stderr).collect();
            let why = format!("error executing command in container: {}", error.chain());
            return Some((Outcome::Failed(why), outputs));
        }
    };
    let resize = command.control.resizer();
    let _input = feed(streams.stdin, command.stdin.take());
    let _sizes = follow_sizes(streams.resize, move |width, height| {
        let done = resize(width, height);
        async move { done }
    });
    let progress = Progress::default();
    let output = both(
        (command.stdout.take(), streams.stdout.as_ref()),
        (command.stderr.take(), streams.stderr.as_ref()),
        &progress,
    );
    let ended = async {
        let mut output = std::pin::pin!(output);
        let mut exit = std::pin::pin!(command.control.wait());
        let mut over = false;
        let code = loop {
            tokio::select! {
                code = &mut exit => break code,
                () = &mut output, if !over => over = true,
            }
        };
        if !over {
            drain(output, &progress, clock).await;
        }
        code
    };
    let outcome = tokio::select! {
        // Dropping the command kills it.
        () = streams.gone.cancelled() => return None,
        code = ended => match code {
            Ok(0) => Outcome::Success,
            Ok(code) => Outcome::Exit(code),
            Err(error) => Outcome::Failed(format!("error executing command in container: {}", error.chain())),
        },
    };
    Some((outcome, streams.stdout.into_iter().chain(streams.stderr).collect()))
}

/// Joins a client to a container's own streams until the container ends or the client goes.
async fn join(
    runtime: Arc<dyn PodRuntime>,
    id: ContainerId,
    config: AttachConfig,
    streams: Streams,
    clock: Clock,
) -> Option<(Outcome, Vec<Output>)> {
    let mut attached = match runtime.attach(&id, config).await {
        Ok(attached) => attached,
        Err(error) => {
            let outputs = streams.stdout.into_iter().chain(streams.stderr).collect();
            let why = format!("error attaching to container: {}", error.chain());
            return Some((Outcome::Failed(why), outputs));
        }
    };
    let control = attached.control.clone();
    let _input = feed(streams.stdin, attached.stdin.take());
    let _sizes = follow_sizes(streams.resize, move |width, height| {
        let control = control.clone();
        async move { control.resize(width, height).await }
    });
    let progress = Progress::default();
    let output = both(
        (attached.stdout.take(), streams.stdout.as_ref()),
        (attached.stderr.take(), streams.stderr.as_ref()),
        &progress,
    );
    let ended = async {
        let mut output = std::pin::pin!(output);
        let mut over = false;
        let mut end = std::pin::pin!(runtime.wait_container(&id));
        loop {
            tokio::select! {
                // Removed is ended too.
                _ = &mut end => break,
                () = &mut output, if !over => over = true,
            }
        }
        if !over {
            drain(output, &progress, clock).await;
        }
    };
    tokio::select! {
        () = streams.gone.cancelled() => return None,
        () = ended => {}
    }
    let outputs = streams.stdout.into_iter().chain(streams.stderr).collect();
    Some((Outcome::Success, outputs))
}

/// Hands the client's input on, and its end.
fn feed(input: Option<Input>, to: Option<Writer>) -> Option<AbortOnDropHandle<()>> {
    let (mut input, mut to) = input.zip(to)?;
    Some(AbortOnDropHandle::new(tokio::spawn(async move {
        while let Some(bytes) = input.recv().await {
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    })))
}

fn follow_sizes<F, R>(input: Option<Input>, resize: F) -> Option<AbortOnDropHandle<()>>
where
    F: Fn(u16, u16) -> R + Send + 'static,
    R: Future<Output = coracle_runtime::Result<()>> + Send + 'static,
{
    let mut input = input?;
    Some(AbortOnDropHandle::new(tokio::spawn(async move {
        let mut sizes = Sizes::default();
        while let Some(bytes) = input.recv().await {
            // Only the newest counts, and no terminal is nothing wide.
            let newest = sizes.feed(&bytes).pop().filter(|s| s.width > 0 && s.height > 0);
            if let Some(size) = newest
                && let Err(error) = resize(size.width, size.height).await
            {
                tracing::debug!(error = %error.chain(), "a terminal was not resized");
            }
        }
    })))
}

/// What output is doing.
#[derive(Default)]
struct Progress {
    pieces: AtomicU64,
    writing: AtomicUsize,
}

async fn both(
    stdout: (Option<Reader>, Option<&Output>),
    stderr: (Option<Reader>, Option<&Output>),
    progress: &Progress,
) {
    tokio::join!(pump(stdout, progress), pump(stderr, progress));
}

async fn pump((from, to): (Option<Reader>, Option<&Output>), progress: &Progress) {
    let (Some(mut from), Some(to)) = (from, to) else { return };
    let mut piece = vec![0; PIECE];
    while let Ok(count) = from.read(&mut piece).await {
        if count == 0 {
            return;
        }
        progress.writing.fetch_add(1, Ordering::Relaxed);
        let written = to.write(&piece[..count]).await;
        progress.writing.fetch_sub(1, Ordering::Relaxed);
        progress.pieces.fetch_add(1, Ordering::Relaxed);
        if written.is_err() {
            return;
        }
    }
}

/// Waits for the end of the output, or until nothing more comes.
async fn drain(mut output: std::pin::Pin<&mut impl Future<Output = ()>>, progress: &Progress, clock: Clock) {
    loop {
        let before = progress.pieces.load(Ordering::Relaxed);
        if clock.timeout(DRAIN_PAUSE, output.as_mut()).await.is_ok() {
            return;
        }
        let slow_client = progress.writing.load(Ordering::Relaxed) > 0;
        if !slow_client && progress.pieces.load(Ordering::Relaxed) == before {
            return;
        }
    }
}
