//! Connections to a pod's ports.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use super::super::harness::{Cluster, Kubectl};
use super::{ALL, web};

/// A port-forward that runs until it is dropped.
struct Forward {
    child: Child,
    port: u16,
    rest: BufReader<std::process::ChildStdout>,
}

impl Forward {
    fn start(cluster: &Cluster, which: Kubectl, what: &str, port: &str) -> Self {
        let mut child = cluster
            .kubectl_command(which, &["port-forward", "--address=127.0.0.1", what, port])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut rest = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        rest.read_line(&mut line).unwrap();
        let port = line
            .split_once("127.0.0.1:")
            .and_then(|(_, r)| r.split_whitespace().next()?.parse().ok());
        Self {
            port: port.unwrap_or_else(|| panic!("no port in {line:?}")),
            child,
            rest,
        }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mut rest = String::new();
        let _ = self.rest.read_to_string(&mut rest);
    }
}

#[test]
fn port_forward_joins_many_connections_at_once() {
    joins_many(&Cluster::with_node());
}

/// Connections to a port and to none.
pub fn joins_many(cluster: &Cluster) {
    cluster.apply(
        r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"#,
    );
    let script = "echo index > /www/index.html; dd if=/dev/zero of=/www/big bs=1M count=8 2>/dev/null";
    web(cluster, script, "127.0.0.1:8080", "");
    for which in ALL {
        let forward = Forward::start(cluster, which, "pod/web", ":8080");
        assert!(forward.get("/").ends_with("index\n"), "{which:?}");
        std::thread::scope(|scope| {
            let gets: Vec<_> = (0..8).map(|_| scope.spawn(|| forward.get("/big").len())).collect();
            for get in gets {
                assert!(get.join().unwrap() > 8 << 20, "{which:?}");
            }
        });
        drop(forward);
        let forward = Forward::start(cluster, which, "service/web", ":80");
        assert!(forward.get("/").ends_with("index\n"), "{which:?}");
        drop(forward);
        // Nobody listens there: the connection ends, and kubectl says why.
        let mut forward = Forward::start(cluster, which, "pod/web", ":81");
        // Nothing is asked, for a request that nobody reads would reset the connection instead.
        let mut answer = String::new();
        let mut stream = TcpStream::connect(("127.0.0.1", forward.port)).unwrap();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "", "{which:?}");
        let mut error = String::new();
        let mut stderr = BufReader::new(forward.child.stderr.take().unwrap());
        while !error.contains("error forwarding port 81 to pod") {
            assert!(stderr.read_line(&mut error).unwrap() > 0, "{which:?} {error}");
        }
        assert!(error.contains("onnection refused"), "{which:?} {error}");
    }
}
