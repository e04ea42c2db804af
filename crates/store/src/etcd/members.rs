//! The members of an etcd cluster, and which of them is asked. Each has a connection of its own, made when it is first
//! needed; one that cannot be reached hands the turn to the next.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coracle_clock::Clock;
use etcd_client::{
    Certificate, Client, ConnectOptions, GetOptions, GetResponse, Identity, KvClient, StatusResponse, TlsOptions,
    WatchClient,
};

use super::EtcdOptions;
use super::convert::{self, Failure};
use crate::{Error, Revision};

/// A list of many large objects is one message.
const LARGEST_MESSAGE: usize = 1 << 30;
/// A connection whose other end is gone without a word is noticed after these.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Members {
    members: Vec<Member>,
    /// Whose turn it is.
    turn: AtomicUsize,
    timeout: Duration,
    pub(super) clock: Clock,
}

struct Member {
    endpoint: String,
    /// For requests.
    client: Client,
    /// For watches: a reader that does not keep up may stop its own connection, never that of requests.
    watching: Client,
}

impl Members {
    pub async fn new(options: &EtcdOptions) -> Result<Self, Error> {
        if options.endpoints.is_empty() {
            return Err(Error::Invalid {
                what: "no etcd endpoint is given".into(),
            });
        }
        let mut members = Vec::new();
        for endpoint in &options.endpoints {
            members.push(Member {
                client: connect(endpoint, options).await?,
                watching: connect(endpoint, options).await?,
                endpoint: endpoint.clone(),
            });
        }
        Ok(Self {
            members,
            turn: AtomicUsize::new(0),
            timeout: options.timeout,
            clock: options.clock,
        })
    }

    /// Asks a member, and the others in turn while one cannot be reached or does not answer.
    async fn read<T, F>(&self, ask: impl Fn(KvClient) -> F + Send + Sync) -> Result<T, Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        self.ask(true, ask).await
    }

    /// The same for what must not happen twice: only a request that was never sent goes to another member.
    async fn write<T, F>(&self, ask: impl Fn(KvClient) -> F + Send + Sync) -> Result<T, Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        self.ask(false, ask).await
    }

    async fn ask<T, F>(&self, repeatable: bool, ask: impl Fn(KvClient) -> F + Send + Sync) -> Result<T, Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        let mut last = Error::Closed;
        for _ in 0..self.members.len() {
            let (turn, member) = self.current();
            let kv = member.client.kv_client().max_decoding_message_size(LARGEST_MESSAGE);
            let answer = self.clock.timeout(self.timeout, ask(kv)).await;
            let failure = match answer {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => convert::failure(error, &member.endpoint),
                Err(_) => {
                    let cause = format!("no answer within {} s", self.timeout.as_secs());
                    Failure::Unanswered(convert::unavailable(&member.endpoint, cause))
                }
            };
            match failure {
                Failure::Final(error) => return Err(error),
                Failure::Unsent(error) => last = error,
                Failure::Unanswered(error) if repeatable => last = error,
                Failure::Unanswered(error) => {
                    self.pass_on(turn);
                    return Err(error);
                }
            }
            self.pass_on(turn);
        }
        Err(match last {
            Error::Unavailable { cause, hint, .. } => Error::Unavailable {
                endpoints: self.endpoints(),
                cause,
                hint,
            },
            other => other,
        })
    }

    fn current(&self) -> (usize, &Member) {
        let turn = self.turn.load(Ordering::Relaxed);
        (turn, &self.members[turn % self.members.len()])
    }

    /// The next member's turn, unless somebody else has already passed it on.
    pub fn pass_on(&self, turn: usize) {
        let _ = self
            .turn
            .compare_exchange(turn, turn.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed);
    }

    fn endpoints(&self) -> String {
        let names: Vec<&str> = self.members.iter().map(|m| m.endpoint.as_str()).collect();
        names.join(", ")
    }

    /// Reads a key or a range.
    pub async fn get(&self, key: impl Into<Vec<u8>>, options: GetOptions) -> Result<GetResponse, Error> {
        let key = key.into();
        self.read(|mut kv| {
            let (key, options) = (key.clone(), options.clone());
            async move { kv.get(key, Some(options)).await }
        })
        .await
    }

    /// Makes history begin at a revision. Whoever has compacted further has done it too.
    pub async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let compact = self.read(|mut kv| async move { kv.compact(convert::signed(revision), None).await });
        match compact.await {
            Ok(_) | Err(Error::Compacted { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub async fn txn(&self, txn: &etcd_client::Txn) -> Result<etcd_client::TxnResponse, Error> {
        self.write(|mut kv| {
            let txn = txn.clone();
            async move { kv.txn(txn).await }
        })
        .await
    }

    /// The latest revision that the cluster agrees on.
    pub async fn revision(&self) -> Result<Revision, Error> {
        let options = GetOptions::new().with_count_only();
        let answer = self.get("\0", options).await?;
        convert::revision(answer.header())
    }

    pub async fn status(&self) -> Result<StatusResponse, Error> {
        let (_, member) = self.current();
        let status = member.client.clone().status().await;
        status.map_err(|error| match convert::failure(error, &member.endpoint) {
            Failure::Final(error) | Failure::Unsent(error) | Failure::Unanswered(error) => error,
        })
    }

    /// A client for a watch on the member whose turn it is, and that turn, to [`pass_on`](Self::pass_on) if it fails.
    pub fn watching(&self) -> (usize, WatchClient) {
        let (turn, member) = self.current();
        let client = member.watching.watch_client();
        (turn, client.max_decoding_message_size(LARGEST_MESSAGE))
    }
}

async fn connect(endpoint: &str, options: &EtcdOptions) -> Result<Client, Error> {
    let client = Client::connect([endpoint], Some(connect_options(endpoint, options)?));
    client.await.map_err(|error| Error::Invalid {
        what: format!("etcd endpoint {endpoint}: {error}"),
    })
}

fn connect_options(endpoint: &str, options: &EtcdOptions) -> Result<ConnectOptions, Error> {
    let connect = ConnectOptions::new()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_keep_alive(KEEP_ALIVE, KEEP_ALIVE_TIMEOUT)
        .with_keep_alive_while_idle(true)
        // A member cut off from the others ends its watches instead of leaving them silent.
        .with_require_leader(true);
    if endpoint.starts_with("http://") {
        return Ok(connect);
    }
    let pem = |what: &[u8], flag: &str| {
        let begins = what.windows(5).any(|window| window == b"-----");
        let what = format!("etcd at {endpoint}: what {flag} names is not in PEM");
        if begins { Ok(()) } else { Err(Error::Invalid { what }) }
    };
    let Some(ca) = &options.ca else {
        return Err(Error::Invalid {
            what: format!(
                "etcd at {endpoint} needs the certificate of the authority that signed its own: give --store-ca"
            ),
        });
    };
    pem(ca, "--store-ca")?;
    let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(ca));
    if let Some((certificate, key)) = &options.identity {
        pem(certificate, "--store-cert")?;
        pem(key, "--store-key")?;
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    Ok(connect.with_tls(tls))
}
