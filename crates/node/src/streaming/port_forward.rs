//! Port-forward: connections into a pod's network namespace, joined to a client's streams.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_clock::Clock;
use coracle_runtime::SandboxState;
use coracle_spdy as spdy;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use nix::sched::{CloneFlags, setns};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::command::find_pod;
use super::upgrade::{self, Wire};
use super::{CLOSE_LIMIT, Duplex, PIECE, QUEUE, websocket};
use crate::pod::start::sandbox::uid_of;
use crate::server::{Api, Body, Query, plain};

const SPDY: [&str; 1] = ["portforward.k8s.io"];
/// SPDY inside a WebSocket; and the older way, with two channels for each port of the request.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const WEB_SOCKET: [&str; 3] = [TUNNEL, "v4.channel.k8s.io", ""];
const CONNECT: Duration = Duration::from_secs(10);

/// Where connections go.
#[derive(Clone, Debug)]
struct Target {
    pod: String,
    uid: String,
    netns: PathBuf,
}

/// `/portForward/{namespace}/{pod}`
pub(crate) async fn port_forward(
    api: &Api,
    request: Request<Incoming>,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
    query: &Query,
) -> Response<Body> {
    let pod = match find_pod(api, namespace, name, uid) {
        Ok(pod) => pod,
        Err(refusal) => return *refusal,
    };
    let uid = crate::mirror::runtime_uid(&pod).to_owned();
    let sandboxes = api.cx.runtime.sandboxes().await;
    let ready = sandboxes
        .into_iter()
        .filter(|s| uid_of(&s.id) == uid && s.state == SandboxState::Ready)
        .max_by_key(|s| s.created_at);
    let Some(netns) = ready.and_then(|s| s.netns) else {
        let text = format!("sandbox of pod {name:?} is not running");
        return plain(StatusCode::INTERNAL_SERVER_ERROR, text);
    };
    let agreed = match upgrade::agree(request.headers(), &WEB_SOCKET, &SPDY) {
        Ok(agreed) => agreed,
        Err(refusal) => return *refusal,
    };
    let channels = agreed.wire == Wire::WebSocket && agreed.protocol != TUNNEL;
    let ports = match ports(query) {
        Ok(ports) if channels && ports.is_empty() => {
            return plain(StatusCode::BAD_REQUEST, "query parameter \"port\" is required");
        }
        Ok(ports) => ports,
        Err(text) => return plain(StatusCode::BAD_REQUEST, text),
    };
    let target = Target {
        pod: name.to_owned(),
        uid,
        netns,
    };
    let (response, connection) = upgrade::accept(request, &agreed);
    let clock = api.cx.clock;
    let stop = api.shutdown.clone();
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        let served = async {
            let io = connection.await.map_err(io::Error::other)?;
            match agreed.wire {
                _ if channels => over_channels(io, target, &ports, clock).await,
                Wire::WebSocket => over_spdy(websocket::tunnel(io), target, clock).await,
                Wire::Spdy => over_spdy(io, target, clock).await,
            }
        };
        if let Err(error) = served.await {
            tracing::debug!(%error, "a port-forward broke");
        }
    }));
    response
}

/// The ports of a request, which may come in one parameter or in many.
fn ports(query: &Query) -> Result<Vec<u16>, String> {
    let words = query.all("port").flat_map(|v| v.split(',')).map(str::trim);
    words
        .filter(|w| !w.is_empty())
        .map(|word| match word.parse() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(format!("unable to parse {word:?} as a port")),
        })
        .collect()
}

/// A connection to the port, made inside the namespace: a socket belongs for good to the one it was made in, so one thread
/// enters, connects and ends.
async fn connect(target: &Target, port: u16) -> io::Result<TcpStream> {
    let netns = target.netns.clone();
    let (send, receive) = oneshot::channel();
    std::thread::Builder::new().name("port-forward".into()).spawn(move || {
        let _ = send.send(dial(&netns, port));
    })?;
    let stream = receive
        .await
        .map_err(|_| io::Error::other("the thread ended early"))??;
    stream.set_nonblocking(true)?;
    let stream = TcpStream::from_std(stream)?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

fn dial(netns: &std::path::Path, port: u16) -> io::Result<std::net::TcpStream> {
    setns(std::fs::File::open(netns)?, CloneFlags::CLONE_NEWNET)?;
    let to = |address: IpAddr| std::net::TcpStream::connect_timeout(&SocketAddr::new(address, port), CONNECT);
    to(Ipv4Addr::LOCALHOST.into()).or_else(|v4| {
        to(Ipv6Addr::LOCALHOST.into()).map_err(|v6| {
            io::Error::other(format!(
                "failed to connect to localhost:{port} inside namespace {:?}, IPv4: {v4} IPv6: {v6}",
                netns.display().to_string()
            ))
        })
    })
}

fn explain(target: &Target, port: u16, error: &io::Error) -> String {
    let Target { pod, uid, .. } = target;
    format!("error forwarding port {port} to pod {pod}, uid {uid}: {error}")
}

/// A pair of streams in the making, by the client's number for it.
#[derive(Default)]
struct Pair {
    data: Option<spdy::Stream>,
    error: Option<spdy::Stream>,
}

async fn over_spdy(io: Duplex, target: Target, clock: Clock) -> io::Result<()> {
    let mut session = spdy::Session::start(io)?;
    let target = Arc::new(target);
    let mut pairs: HashMap<String, Pair> = HashMap::new();
    let mut connections = JoinSet::new();
    while let Some(stream) = session.next().await {
        // What has ended need not be kept.
        while connections.try_join_next().is_some() {}
        let Some((request, port, is_error)) = purpose(&stream) else {
            stream.sink.refuse().await?;
            continue;
        };
        let pair = pairs.entry(request.clone()).or_default();
        let slot = if is_error { &mut pair.error } else { &mut pair.data };
        if slot.is_some() {
            stream.sink.refuse().await?;
            continue;
        }
        *slot = Some(stream);
        if pair.data.is_some()
            && pair.error.is_some()
            && let Some(Pair {
                data: Some(data),
                error: Some(error),
            }) = pairs.remove(&request)
        {
            connections.spawn(forward(target.clone(), port, data, error));
        }
    }
    drop(connections);
    let _ = clock.timeout(CLOSE_LIMIT, session.end()).await;
    Ok(())
}

/// Of a stream: which request it is of, for which port, and whether it is for errors.
fn purpose(stream: &spdy::Stream) -> Option<(String, u16, bool)> {
    let port = stream.headers.get("port")?.parse().ok().filter(|p| *p > 0)?;
    let is_error = match stream.headers.get("streamType")? {
        "error" => true,
        "data" => false,
        _ => return None,
    };
    let request = stream.headers.get("requestID").filter(|r| !r.is_empty());
    // Old clients number no requests, and open the two streams one after the other.
    let request = request.map_or_else(
        || (if is_error { stream.id } else { stream.id.wrapping_sub(2) }).to_string(),
        str::to_owned,
    );
    Some((request, port, is_error))
}

async fn forward(target: Arc<Target>, port: u16, data: spdy::Stream, error: spdy::Stream) {
    let joined = async {
        let socket = connect(&target, port).await?;
        let (mut read, write) = socket.into_split();
        // A client that has sent all still waits for the answer; a server that has closed ends it all.
        let up = async {
            feed(data.received, write).await;
            std::future::pending::<()>().await;
        };
        let down = async {
            let mut piece = vec![0; PIECE];
            loop {
                match read.read(&mut piece).await? {
                    0 => break,
                    count => data.sink.write(&piece[..count]).await?,
                }
            }
            data.sink.finish().await
        };
        tokio::select! {
            // Nothing more is wanted of it.
            () = data.reset.cancelled() => Ok(()),
            () = up => Ok(()),
            done = down => done,
        }
    };
    let ended = async {
        if let Err(why) = joined.await {
            error.sink.write(explain(&target, port, &why).as_bytes()).await?;
            data.sink.finish().await?;
        }
        error.sink.finish().await
    };
    if let Err(error) = ended.await {
        tracing::debug!(%error, port, "a forwarded connection's client is gone");
    }
}

/// Hands the client's bytes on, and their end.
async fn feed(mut received: mpsc::Receiver<Bytes>, mut to: tokio::net::tcp::OwnedWriteHalf) {
    while let Some(bytes) = received.recv().await {
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// The older way: port by port a channel for data and one for errors, each of which begins with the port's number.
async fn over_channels(io: Duplex, target: Target, ports: &[u16], clock: Clock) -> io::Result<()> {
    let (mut receiver, sender) = websocket::open(io);
    let gone = CancellationToken::new();
    let mut inputs = Vec::new();
    let mut connections = JoinSet::new();
    for (index, port) in ports.iter().enumerate() {
        let data = u8::try_from(2 * index).ok().filter(|n| *n < u8::MAX);
        let data = data.ok_or_else(|| io::Error::other("too many ports"))?;
        let (send, receive) = mpsc::channel(QUEUE);
        inputs.push(send);
        sender.message(&[&[data], &port.to_le_bytes()]).await?;
        sender.message(&[&[data + 1], &port.to_le_bytes()]).await?;
        let (target, sender, port) = (target.clone(), sender.clone(), *port);
        connections.spawn(async move {
            let joined = async {
                let (mut read, write) = connect(&target, port).await?.into_split();
                let down = async {
                    let mut piece = vec![0; PIECE];
                    loop {
                        match read.read(&mut piece).await? {
                            0 => return io::Result::Ok(()),
                            count => sender.message(&[&[data], &piece[..count]]).await?,
                        }
                    }
                };
                let up = async {
                    feed(receive, write).await;
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    done = down => done,
                    () = up => Ok(()),
                }
            };
            if let Err(why) = joined.await {
                let text = explain(&target, port, &why);
                let _ = sender.message(&[&[data + 1], text.as_bytes()]).await;
            }
        });
    }
    let reading = {
        let gone = gone.clone();
        async move {
            let _gone = gone.drop_guard();
            let mut channel = None;
            while let Some(piece) = receiver.next().await? {
                let mut bytes = piece.bytes;
                if piece.first {
                    channel = None;
                }
                if channel.is_none() && !bytes.is_empty() {
                    channel = Some(usize::from(bytes.split_to(1)[0]));
                }
                // Channels for errors are ours alone.
                let input = channel.filter(|c| c % 2 == 0).and_then(|c| inputs.get(c / 2));
                if let Some(input) = input.filter(|_| !bytes.is_empty()) {
                    let _ = input.send(bytes).await;
                }
            }
            io::Result::Ok(())
        }
    };
    let reader = tokio::spawn(reading);
    let all = async { while connections.join_next().await.is_some() {} };
    tokio::select! {
        () = all => {}
        () = gone.cancelled() => return Ok(()),
    }
    sender.close().await?;
    sender.shutdown().await?;
    let _ = clock.timeout(CLOSE_LIMIT, reader).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_in_one_parameter_or_in_many() {
        let of = |text: &str| ports(&Query::parse(text));
        assert_eq!(of("port=80&port=443").unwrap(), [80, 443]);
        assert_eq!(of("port=80%2C443").unwrap(), [80, 443]);
        assert!(of("").unwrap().is_empty());
        assert!(of("port=0").is_err() && of("port=65536").is_err() && of("port=http").is_err());
    }

    #[tokio::test]
    async fn a_port_is_reached_in_the_namespace_and_a_closed_one_is_told() {
        if !nix::unistd::geteuid().is_root() {
            return eprintln!("skipped: needs root to enter a namespace");
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Target {
            pod: "p".into(),
            uid: "u".into(),
            netns: "/proc/self/ns/net".into(),
        };
        let (connected, accepted) = tokio::join!(connect(&target, port), listener.accept());
        assert_eq!(
            connected.unwrap().local_addr().unwrap(),
            accepted.unwrap().0.peer_addr().unwrap()
        );
        // Nobody listens there, and nobody is given this port.
        let error = connect(&target, 1).await.unwrap_err();
        let text = explain(&target, 1, &error);
        assert!(text.starts_with("error forwarding port 1 to pod p, uid u: "), "{text}");
        assert!(text.contains("Connection refused"), "{text}");
    }
}
