//! etcd processes of one cluster, on this machine or each in a network namespace of its own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::super::{Etcd, EtcdOptions};
use crate::Error;

/// Killed when dropped.
pub struct Cluster {
    pub members: Vec<Member>,
    /// More arguments of every member.
    arguments: Vec<String>,
    pub options: EtcdOptions,
    directory: TempDir,
}

pub struct Member {
    pub client_url: String,
    peer_url: String,
    /// The network namespace that it runs in.
    namespace: Option<String>,
    process: Option<Child>,
}

impl Member {
    pub fn new(client_url: String, peer_url: String, namespace: Option<String>) -> Self {
        Self {
            client_url,
            peer_url,
            namespace,
            process: None,
        }
    }
}

/// Ports of this machine that nobody uses.
pub fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|held| held.local_addr().unwrap().port()).collect()
}

impl Cluster {
    /// So many members on this machine.
    pub fn of(count: usize) -> Self {
        Self::with("http", count, Vec::new())
    }

    /// The same with a scheme for clients and more arguments.
    pub fn with(scheme: &str, count: usize, arguments: Vec<String>) -> Self {
        let ports = free_ports(2 * count);
        let member = |pair: &[u16]| {
            let client = format!("{scheme}://127.0.0.1:{}", pair[0]);
            Member::new(client, format!("http://127.0.0.1:{}", pair[1]), None)
        };
        Self::start_all(ports.chunks(2).map(member).collect(), arguments)
    }

    pub fn start_all(members: Vec<Member>, arguments: Vec<String>) -> Self {
        let urls = members.iter().map(|member| member.client_url.clone()).collect();
        let mut cluster = Self {
            members,
            arguments,
            options: EtcdOptions::new(urls),
            directory: tempfile::tempdir().unwrap(),
        };
        (0..cluster.members.len()).for_each(|index| cluster.start(index));
        cluster
    }

    pub fn start(&mut self, index: usize) {
        let peers = self.members.iter().enumerate();
        let peers: Vec<_> = peers.map(|(n, member)| format!("m{n}={}", member.peer_url)).collect();
        let member = &mut self.members[index];
        let mut command = match &member.namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace, "etcd"]);
                command
            }
            None => Command::new("etcd"),
        };
        let name = format!("m{index}");
        command
            .args(["--name", &name, "--initial-cluster", &peers.join(",")])
            .arg("--data-dir")
            .arg(self.directory.path().join(&name))
            .args(["--listen-client-urls", &member.client_url])
            .args(["--advertise-client-urls", &member.client_url])
            .args(["--listen-peer-urls", &member.peer_url])
            .args(["--initial-advertise-peer-urls", &member.peer_url])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .arg("--unsafe-no-fsync")
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = command
            .spawn()
            .expect("etcd is not installed: apt-get install etcd-server");
        member.process = Some(process);
    }

    pub fn kill(&mut self, index: usize) {
        if let Some(mut process) = self.members[index].process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn signal(&self, index: usize, signal: Signal) {
        let process = self.members[index].process.as_ref().unwrap();
        kill(Pid::from_raw(process.id() as i32), signal).unwrap();
    }

    /// A member says nothing any more, and its connections stay.
    pub fn freeze(&self, index: usize) {
        self.signal(index, Signal::SIGSTOP);
    }

    pub fn thaw(&self, index: usize) {
        self.signal(index, Signal::SIGCONT);
    }

    /// A store, as soon as the cluster answers.
    pub async fn connect(&self) -> Etcd {
        self.connect_with(self.options.clone()).await
    }

    pub async fn connect_with(&self, options: EtcdOptions) -> Etcd {
        let ready = async {
            loop {
                match Etcd::connect(options.clone()).await {
                    Ok(store) => return store,
                    Err(Error::Unavailable { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ready)
            .await
            .expect("etcd did not start")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|index| self.kill(index));
    }
}
