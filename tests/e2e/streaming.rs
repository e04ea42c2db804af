//! exec, attach, port-forward, cp, logs and top, by kubectl from the oldest to the newest that is supported: 1.27 and 1.30
//! speak SPDY, 1.33 and 1.37 WebSockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use super::harness::{Cluster, Kubectl, Said};

const ALL: [Kubectl; 4] = [Kubectl::V27, Kubectl::V30, Kubectl::V33, Kubectl::V37];

/// A pod that does nothing, and ends at once when told to.
fn idle(cluster: &Cluster, name: &str) {
    cluster.k(&[
        "run",
        name,
        "--image=demo/web:v1",
        "--",
        "sh",
        "-c",
        "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done",
    ]);
    ready(cluster, name);
}

fn ready(cluster: &Cluster, name: &str) {
    cluster.k(&["wait", &format!("pod/{name}"), "--for=condition=Ready", "--timeout=60s"]);
}

/// kubectl's exit code besides what it said.
fn exec(cluster: &Cluster, which: Kubectl, args: &[&str], input: &[u8]) -> (Option<i32>, Said) {
    let mut child = cluster
        .kubectl_command(which, args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    (output.status.code(), output.into())
}

#[test]
fn exec_carries_every_stream_and_the_exit_code() {
    let cluster = Cluster::with_node();
    idle(&cluster, "p");
    for which in ALL {
        let (code, said) = exec(
            &cluster,
            which,
            &["exec", "p", "--", "sh", "-c", "echo out; echo err >&2; exit 3"],
            b"",
        );
        assert_eq!(code, Some(3), "{which:?} {said:?}");
        assert_eq!(said.out, "out\n", "{which:?}");
        assert!(said.err.starts_with("err\n"), "{which:?} {said:?}");
        assert!(
            said.err.contains("command terminated with exit code 3"),
            "{which:?} {said:?}"
        );
        // `cat` ends because its input does.
        let (code, said) = exec(&cluster, which, &["exec", "-i", "p", "--", "cat"], b"hello\n");
        assert_eq!((code, said.out.as_str()), (Some(0), "hello\n"), "{which:?}");
        // Input that nobody reads does not keep a command from ending.
        let much = vec![b'x'; 4 << 20];
        let (code, _) = exec(&cluster, which, &["exec", "-i", "p", "--", "true"], &much);
        assert_eq!(code, Some(0), "{which:?}");
        let (code, said) = exec(&cluster, which, &["exec", "p", "--", "no-such-program"], b"");
        assert_ne!(code, Some(0));
        assert!(
            said.err.contains("error executing command in container") && said.err.contains("no-such-program"),
            "{which:?} {said:?}"
        );
    }
}

#[test]
fn what_cannot_be_executed_is_refused_in_upstream_s_words() {
    let cluster = Cluster::with_node();
    cluster.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: two, annotations: {kubectl.kubernetes.io/default-container: b}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: a, image: "demo/web:v1", command: [sleep, "1000"], env: [{name: WHO, value: a}]}
  - {name: b, image: "demo/web:v1", command: [sleep, "1000"], env: [{name: WHO, value: b}]}
---
apiVersion: v1
kind: Pod
metadata: {name: waiting}
spec:
  terminationGracePeriodSeconds: 0
  initContainers: [{name: first, image: "demo/web:v1", command: [sleep, "1000"]}]
  containers: [{name: main, image: "demo/web:v1"}]
---
apiVersion: v1
kind: Pod
metadata: {name: done}
spec:
  restartPolicy: Never
  containers: [{name: main, image: "demo/web:v1", command: ["true"]}]
"#,
    );
    ready(&cluster, "two");
    let begun = "--for=jsonpath={.status.initContainerStatuses[0].state.running.startedAt}";
    cluster.k(&["wait", "pod/waiting", begun, "--timeout=60s"]);
    cluster.wait_for("pod/done", ".status.phase", "Succeeded");
    for which in ALL {
        let who = |more: &[&str]| {
            let mut args = vec!["exec", "two"];
            args.extend(more);
            args.extend(["--", "sh", "-c", "echo $WHO"]);
            cluster.kubectl(which, &args)
        };
        assert_eq!(who(&[]).expect_ok(), "b\n", "the annotation names the container");
        assert_eq!(who(&["-c", "a"]).expect_ok(), "a\n");
        let error = who(&["-c", "z"]).expect_error();
        assert!(error.contains("container z is not valid for pod two"), "{error}");
        let error = cluster
            .kubectl(which, &["exec", "waiting", "-c", "main", "--", "true"])
            .expect_error();
        assert!(error.contains("container not found (\"main\")"), "{which:?} {error}");
        let error = cluster.kubectl(which, &["exec", "done", "--", "true"]).expect_error();
        assert!(
            error.contains("completed pod; current phase is Succeeded"),
            "{which:?} {error}"
        );
        let error = cluster.kubectl(which, &["exec", "none", "--", "true"]).expect_error();
        assert!(error.contains("pods \"none\" not found"), "{which:?} {error}");
        let error = cluster
            .kubectl(which, &["logs", "waiting", "-c", "main"])
            .expect_error();
        assert!(
            error.contains("container \"main\" in pod \"waiting\" is waiting to start: PodInitializing"),
            "{which:?} {error}"
        );
    }
}

/// Runs kubectl in a terminal of its own, by `script`.
fn in_terminal(cluster: &Cluster, which: Kubectl, before: &str, args: &[&str]) -> Said {
    let plain = cluster.kubectl_command(which, args);
    let mut words = vec![plain.get_program().to_string_lossy().into_owned()];
    words.extend(plain.get_args().map(|a| format!("'{}'", a.to_string_lossy())));
    let mut command = Command::new("script");
    command.args(["-qec", &format!("{before}; {}", words.join(" ")), "/dev/null"]);
    for (name, value) in plain.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command.stdin(Stdio::null()).output().unwrap().into()
}

#[test]
fn a_terminal_has_the_client_s_size_and_one_output() {
    let cluster = Cluster::with_node();
    idle(&cluster, "p");
    for which in ALL {
        // The size comes on a stream of its own, so it may come a moment after the command began.
        let script = "until [ \"$(stty size)\" = \"33 111\" ]; do :; done; tty; echo both >&2; exit 5";
        let said = in_terminal(
            &cluster,
            which,
            "stty rows 33 cols 111",
            &["exec", "-it", "p", "--", "sh", "-c", script],
        );
        assert!(
            said.out.contains("/dev/pts/") || said.out.contains("/dev/console"),
            "{which:?} {said:?}"
        );
        assert!(said.out.contains("both"), "{which:?} {said:?}");
        assert!(said.out.contains("exit code 5"), "{which:?} {said:?}");
    }
}

#[test]
fn run_attaches_to_the_container_s_own_streams() {
    let cluster = Cluster::with_node();
    for (index, which) in ALL.into_iter().enumerate() {
        let name = format!("a{index}");
        let run = [
            "run",
            "-i",
            "--rm",
            "--quiet",
            "--restart=Never",
            "--image=demo/web:v1",
            &name,
            "--",
            "sh",
            "-c",
            "read line; echo got $line; cat; echo end >&2; exit 4",
        ];
        let (code, said) = exec(&cluster, which, &run, b"one\ntwo\n");
        assert!(said.out.contains("got one\ntwo\n"), "{which:?} {said:?}");
        assert_eq!(code, Some(4), "{which:?} {said:?}");
        // Nobody's input: what is said while someone listens is heard.
        let talker = format!("t{index}");
        cluster.k(&[
            "run",
            &talker,
            "--image=demo/web:v1",
            "--restart=Never",
            "--",
            "sh",
            "-c",
            "until [ -e /tmp/go ]; do echo tick; usleep 50000; done; echo heard",
        ]);
        ready(&cluster, &talker);
        let mut attached = cluster
            .kubectl_command(which, &["attach", &talker])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(attached.stdout.take().unwrap());
        let mut said = String::new();
        out.read_line(&mut said).unwrap();
        assert_eq!(said, "tick\n", "{which:?}");
        cluster.k(&["exec", &talker, "--", "touch", "/tmp/go"]);
        out.read_to_string(&mut said).unwrap();
        assert!(attached.wait().unwrap().success());
        assert!(said.ends_with("tick\nheard\n"), "{which:?} {said}");
    }
}

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
    let cluster = Cluster::with_node();
    cluster.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: demo/web:v1
    command: [sh, -c, "echo index > /www/index.html; dd if=/dev/zero of=/www/big bs=1M count=8 2>/dev/null; exec httpd -f -p 127.0.0.1:8080 -h /www"]
    ports: [{containerPort: 8080}]
    readinessProbe: {exec: {command: [wget, -qO-, "http://127.0.0.1:8080/"]}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"#,
    );
    ready(&cluster, "web");
    for which in ALL {
        let forward = Forward::start(&cluster, which, "pod/web", ":8080");
        assert!(forward.get("/").ends_with("index\n"), "{which:?}");
        std::thread::scope(|scope| {
            let gets: Vec<_> = (0..8).map(|_| scope.spawn(|| forward.get("/big").len())).collect();
            for get in gets {
                assert!(get.join().unwrap() > 8 << 20, "{which:?}");
            }
        });
        drop(forward);
        let forward = Forward::start(&cluster, which, "service/web", ":80");
        assert!(forward.get("/").ends_with("index\n"), "{which:?}");
        drop(forward);
        // Nobody listens there: the connection ends, and kubectl says why.
        let mut forward = Forward::start(&cluster, which, "pod/web", ":81");
        assert_eq!(forward.get("/"), "", "{which:?}");
        let mut error = String::new();
        let mut stderr = BufReader::new(forward.child.stderr.take().unwrap());
        while !error.contains("error forwarding port 81 to pod") {
            assert!(stderr.read_line(&mut error).unwrap() > 0, "{which:?} {error}");
        }
        assert!(error.contains("onnection refused"), "{which:?} {error}");
    }
}

fn sha256(bytes: &mut dyn Read) -> String {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::copy(bytes, child.stdin.as_mut().unwrap()).unwrap();
    let out = child.wait_with_output().unwrap().stdout;
    String::from_utf8(out).unwrap().split(' ').next().unwrap().to_owned()
}

/// A process's resident memory in KiB: now, or at most so far.
fn memory(pid: i32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix(field));
    line.unwrap().trim_matches([':', ' ', '\t', 'k', 'B']).parse().unwrap()
}

#[test]
fn a_gibibyte_comes_through_intact_and_in_little_memory() {
    let cluster = Cluster::with_node();
    idle(&cluster, "p");
    let script = "head -c 1073741824 /dev/urandom > /tmp/big; sha256sum < /tmp/big";
    let expected = cluster.k(&["exec", "p", "--", "sh", "-c", script]);
    let expected = expected.split(' ').next().unwrap();
    let before = memory(cluster.pid(), "VmRSS");
    for which in [Kubectl::V27, Kubectl::V37] {
        let mut cat = cluster
            .kubectl_command(which, &["exec", "p", "--", "cat", "/tmp/big"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        assert_eq!(sha256(cat.stdout.as_mut().unwrap()), expected, "{which:?}");
        assert!(cat.wait().unwrap().success());
    }
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy");
    cluster.k(&["cp", "p:/tmp/big", copy.to_str().unwrap()]);
    assert_eq!(sha256(&mut std::fs::File::open(&copy).unwrap()), expected);
    cluster.k(&["exec", "p", "--", "rm", "/tmp/big"]);
    cluster.k(&["cp", copy.to_str().unwrap(), "p:/tmp/back"]);
    let back = cluster.k(&["exec", "p", "--", "sha256sum", "/tmp/back"]);
    assert!(back.starts_with(expected), "{back}");
    let most = memory(cluster.pid(), "VmHWM");
    println!("resident before {before} KiB, at most {most} KiB");
    assert!(most < before + (48 << 10), "{before} KiB before, {most} KiB at most");
}

#[test]
fn logs_are_cut_marked_and_joined_as_kubectl_asks() {
    let cluster = Cluster::with_node();
    cluster.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: p}}
spec:
  terminationGracePeriodSeconds: 0
  restartPolicy: OnFailure
  initContainers: [{name: first, image: "demo/web:v1", command: [echo, before]}]
  containers:
  - {name: a, image: "demo/web:v1", command: [sh, -c, "for i in 1 2 3 4 5; do echo a $i; done; sleep 1000"]}
  - {name: b, image: "demo/web:v1", command: [sh, -c, "echo b out; echo b err >&2"]}
---
apiVersion: v1
kind: Pod
metadata: {name: q, labels: {app: p}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: demo/web:v1
    command: [sh, -c, "if [ -e /data/x ]; then echo second; sleep 1000; else echo first; touch /data/x; exit 1; fi"]
    volumeMounts: [{name: d, mountPath: /data}]
  volumes: [{name: d, emptyDir: {}}]
"#,
    );
    cluster.wait_for("pod/q", ".status.containerStatuses[0].restartCount", "1");
    ready(&cluster, "q");
    cluster.wait_for(
        "pod/p",
        r#".status.containerStatuses[?(@.name=="b")].state.terminated.reason"#,
        "Completed",
    );
    for which in ALL {
        let logs = |args: &[&str]| {
            let mut all = vec!["logs"];
            all.extend(args);
            cluster.kubectl(which, &all).expect_ok()
        };
        assert_eq!(logs(&["p", "-c", "a", "--tail=2"]), "a 4\na 5\n");
        assert_eq!(logs(&["p", "-c", "a", "--limit-bytes=6"]), "a 1\na ");
        assert_eq!(logs(&["p", "-c", "first"]), "before\n");
        assert_eq!(logs(&["p", "-c", "a", "--since=1h"]).lines().count(), 5);
        assert_eq!(logs(&["p", "-c", "a", "--since-time=2100-01-01T00:00:00Z"]), "");
        let stamped = logs(&["p", "-c", "a", "--timestamps", "--tail=1"]);
        assert!(stamped.ends_with("Z a 5\n") && stamped.starts_with("20"), "{stamped}");
        let all = logs(&["p", "--all-containers", "--prefix"]);
        for line in [
            "[pod/p/first] before",
            "[pod/p/a] a 1",
            "[pod/p/b] b out",
            "[pod/p/b] b err",
        ] {
            assert!(all.lines().any(|l| l == line), "{line} is missing in {all}");
        }
        assert_eq!(logs(&["q", "-p"]), "first\n");
        assert_eq!(logs(&["q"]), "second\n");
        let joined = logs(&["-l", "app=p", "--all-containers", "--tail=-1"]);
        assert!(joined.contains("a 5") && joined.contains("second"), "{joined}");
        let error = cluster
            .kubectl(
                which,
                &["logs", "-f", "-l", "app=p", "--all-containers", "--max-log-requests=2"],
            )
            .expect_error();
        assert!(error.contains("maximum allowed concurrency is 2"), "{error}");
        let error = cluster.kubectl(which, &["logs", "p", "-c", "a", "-p"]).expect_error();
        assert!(
            error.contains("previous terminated container \"a\" in pod \"p\" not found"),
            "{error}"
        );
    }
}

#[test]
fn a_log_that_is_rotated_while_it_is_followed_loses_and_doubles_nothing() {
    let cluster = Cluster::with_node();
    // About 35 MB, so that it is put aside three times.
    cluster.k(&[
        "run",
        "p",
        "--image=demo/web:v1",
        "--restart=Never",
        "--",
        "sh",
        "-c",
        "until [ -e /tmp/go ]; do usleep 10000; done; awk 'BEGIN { for (i = 1; i <= 600000; i++) printf \"line %09d and some more to make it longer\\n\", i }'",
    ]);
    ready(&cluster, "p");
    let mut followed = cluster
        .kubectl_command(Kubectl::V37, &["logs", "-f", "p"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    cluster.k(&["exec", "p", "--", "touch", "/tmp/go"]);
    let mut next = 1;
    for line in BufReader::new(followed.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        assert!(
            line.starts_with(&format!("line {next:09} ")),
            "{line} instead of {next}"
        );
        next += 1;
    }
    assert!(followed.wait().unwrap().success());
    assert_eq!(next, 600_001);
    let logs = cluster.data_dir().join("node/logs");
    let pod = std::fs::read_dir(logs).unwrap().next().unwrap().unwrap().path();
    let files: Vec<_> = std::fs::read_dir(pod.join("p")).unwrap().flatten().collect();
    assert!(files.len() > 2 && files.len() <= 5, "{files:?}");
    assert!(files.iter().all(|f| f.metadata().unwrap().len() < 11 << 20));
    // All of it is still there to be read from its beginning, and its end is found across files.
    let all = cluster.k(&["logs", "p"]);
    assert_eq!(all.lines().count(), 600_000);
    let tail = cluster.k(&["logs", "p", "--tail=300000"]);
    assert_eq!(tail.lines().count(), 300_000);
    assert!(tail.starts_with("line 000300001 "));
}

#[test]
fn usage_is_shown_by_top_and_by_the_node_s_own_pages() {
    let cluster = Cluster::with_node();
    cluster.k(&[
        "run",
        "busy",
        "--image=demo/web:v1",
        "--labels=app=busy",
        "--",
        "sh",
        "-c",
        "trap 'exit 0' TERM; while :; do :; done",
    ]);
    idle(&cluster, "quiet");
    ready(&cluster, "busy");
    for which in ALL {
        let top = cluster.kubectl(which, &["top", "pod", "--no-headers"]).expect_ok();
        let millicores = |name: &str| -> u64 {
            let line = top
                .lines()
                .find(|l| l.starts_with(name))
                .unwrap_or_else(|| panic!("{name}: {top}"));
            line.split_whitespace()
                .nth(1)
                .unwrap()
                .trim_end_matches('m')
                .parse()
                .unwrap()
        };
        assert!(millicores("busy") >= 100, "{top}");
        assert!(millicores("quiet") <= 20, "{top}");
        let node = cluster.kubectl(which, &["top", "node"]).expect_ok();
        assert!(node.contains("CPU(cores)") && node.lines().count() == 2, "{node}");
        let one = cluster
            .kubectl(which, &["top", "pod", "-l", "app=busy", "--containers", "--no-headers"])
            .expect_ok();
        assert_eq!(one.lines().count(), 1, "{one}");
    }
    let node = cluster.field("nodes", ".items[0].metadata.name");
    let page = |path: &str| cluster.k(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/{path}")]);
    let summary = page("stats/summary");
    for key in [
        "usageNanoCores",
        "workingSetBytes",
        "ephemeral-storage",
        "imageFs",
        "rxBytes",
    ] {
        assert!(summary.contains(key), "{key} is missing in {summary}");
    }
    for (path, line) in [
        (
            "metrics/resource",
            "container_cpu_usage_seconds_total{container=\"busy\",namespace=\"default\",pod=\"busy\"}",
        ),
        (
            "metrics/cadvisor",
            "container_memory_working_set_bytes{container=\"busy\"",
        ),
        ("metrics", "kubelet_running_pods 2"),
        ("configz", "containerLogMaxSize"),
        ("pods", "\"PodList\""),
        ("healthz", "ok"),
    ] {
        assert!(page(path).contains(line), "{line} is missing in {path}");
    }
    let resources = cluster.k(&["api-resources", "--api-group=metrics.k8s.io"]);
    assert!(
        resources.contains("NodeMetrics") && resources.contains("PodMetrics"),
        "{resources}"
    );
    // Who may view may see it; who may not, may not.
    cluster.k(&["create", "serviceaccount", "viewer"]);
    cluster.k(&[
        "create",
        "rolebinding",
        "v",
        "--clusterrole=view",
        "--serviceaccount=default:viewer",
    ]);
    let can = |what: &str| {
        let asked = [
            "auth",
            "can-i",
            "list",
            what,
            "--as=system:serviceaccount:default:viewer",
        ];
        cluster.kubectl(Kubectl::V37, &asked).out.trim().to_owned()
    };
    assert_eq!(
        (can("pods.metrics.k8s.io").as_str(), can("secrets").as_str()),
        ("yes", "no")
    );
}

#[test]
fn pods_and_services_are_reached_through_the_server() {
    let cluster = Cluster::with_node();
    cluster.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: "demo/web:v1", command: [sh, -c, "mkdir -p /www/a; echo page > /www/a/page; exec httpd -f -p 8080 -h /www"], ports: [{name: http, containerPort: 8080}], readinessProbe: {httpGet: {path: /a/page, port: http}, periodSeconds: 1}}
"#,
    );
    ready(&cluster, "web");
    for path in [
        "pods/web/proxy/a/page",
        "pods/web:8080/proxy/a/page",
        "pods/http:web:8080/proxy/a/page",
    ] {
        let raw = cluster.k(&["get", "--raw", &format!("/api/v1/namespaces/default/{path}")]);
        assert_eq!(raw, "page\n", "{path}");
    }
    // Without a selector the endpoints are the user's own.
    let ip = cluster.field("pod/web", ".status.podIP");
    cluster.apply(&format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{ports: [{{name: main, port: 80, targetPort: 8080}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-own, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{name: main, port: 8080, protocol: TCP}}]
endpoints: [{{addresses: ["{ip}"], conditions: {{ready: true}}}}]
"#
    ));
    for name in ["web", "web:main", "web:80"] {
        let path = format!("/api/v1/namespaces/default/services/{name}/proxy/a/page");
        assert_eq!(cluster.k(&["get", "--raw", &path]), "page\n", "{path}");
    }
}

/// The status code and the body that the node's agent answers with.
fn ask_agent(cluster: &Cluster, path: &str, token: Option<&str>) -> String {
    let node = cluster.field("nodes", ".items[0].metadata.name");
    let node = format!("node/{node}");
    let ip = cluster.field(&node, ".status.addresses[0].address");
    let port = cluster.field(&node, ".status.daemonEndpoints.kubeletEndpoint.Port");
    let mut curl = Command::new("curl");
    curl.args(["-sk", "-o", "-", "-w", " %{http_code}"]);
    if let Some(token) = token {
        curl.args(["-H", &format!("Authorization: Bearer {token}")]);
    }
    let said: Said = curl.arg(format!("https://{ip}:{port}{path}")).output().unwrap().into();
    said.expect_ok()
}

#[test]
fn the_agent_answers_nobody_without_a_name_and_a_right() {
    let cluster = Cluster::with_node();
    assert_eq!(ask_agent(&cluster, "/pods", None), "Unauthorized 401");
    assert_eq!(ask_agent(&cluster, "/healthz", Some("nonsense")), "Unauthorized 401");
    cluster.k(&["create", "serviceaccount", "reader"]);
    let token = cluster.k(&["create", "token", "reader"]);
    let token = Some(token.trim());
    let refused = ask_agent(&cluster, "/stats/summary", token);
    assert!(
        refused.ends_with("403") && refused.contains("subresource=stats"),
        "{refused}"
    );
    cluster.k(&[
        "create",
        "clusterrole",
        "stats",
        "--verb=get",
        "--resource=nodes/stats,nodes/proxy",
    ]);
    cluster.k(&[
        "create",
        "clusterrolebinding",
        "s",
        "--clusterrole=stats",
        "--serviceaccount=default:other",
    ]);
    cluster.k(&["create", "serviceaccount", "other"]);
    let token = cluster.k(&["create", "token", "other"]);
    let token = Some(token.trim());
    assert!(ask_agent(&cluster, "/stats/summary", token).ends_with("200"));
    assert!(ask_agent(&cluster, "/metrics", token).ends_with("403"));
    // What only reads must not run commands, though WebSockets ask by GET.
    assert!(ask_agent(&cluster, "/exec/default/p/c?command=id&output=1", token).ends_with("403"));
    assert!(ask_agent(&cluster, "/pods", token).ends_with("200"));
}

#[test]
fn a_node_that_joined_serves_logs_and_commands_with_a_certificate_of_its_own() {
    let cluster = Cluster::without_node();
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Command::new(env!("CARGO_BIN_EXE_coracle"))
        .args([
            "agent",
            "--node-name=far",
            "--pod-cidr=10.77.3.0/24",
            "--listen=127.0.0.1:0",
            "--kubeconfig",
        ])
        .arg(cluster.kubeconfig())
        .env("CORACLE_DATA_DIR", dir.path())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let work = || {
        cluster.k(&["wait", "--for=create", "node/far", "--timeout=30s"]);
        cluster.k(&["wait", "node/far", "--for=condition=Ready", "--timeout=30s"]);
        let archive = super::harness::image_archive("v1");
        let import: Said = Command::new(env!("CARGO_BIN_EXE_coracle"))
            .args(["image", "import", archive.to_str().unwrap()])
            .env("CORACLE_DATA_DIR", dir.path())
            .output()
            .unwrap()
            .into();
        import.expect_ok();
        cluster.k(&[
            "run",
            "p",
            "--image=demo/web:v1",
            "--",
            "sh",
            "-c",
            "echo said; trap 'exit 0' TERM; sleep 1000 & wait",
        ]);
        ready(&cluster, "p");
        assert_eq!(cluster.k(&["logs", "p"]), "said\n");
        assert_eq!(cluster.k(&["exec", "p", "--", "echo", "done"]), "done\n");
        let published = cluster.field(
            "node/far",
            r".metadata.annotations.node\.coracle\.io/serving-certificate",
        );
        assert!(published.starts_with("sha256:"), "{published}");
        // Another certificate than the published one is not trusted.
        cluster.k(&[
            "annotate",
            "--overwrite",
            "node/far",
            "node.coracle.io/serving-certificate=sha256:00",
        ]);
        let error = cluster.kubectl(Kubectl::V37, &["logs", "p"]).expect_error();
        assert!(error.contains("not the one that the node has published"), "{error}");
        let annotation = format!("node.coracle.io/serving-certificate={published}");
        cluster.k(&["annotate", "--overwrite", "node/far", &annotation]);
        cluster.k(&["delete", "pod", "p"]);
    };
    let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(agent.id()).unwrap()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    agent.wait().unwrap();
    let gone: Said = Command::new(env!("CARGO_BIN_EXE_coracle"))
        .args(["down", "--delete"])
        .env("CORACLE_DATA_DIR", dir.path())
        .output()
        .unwrap()
        .into();
    gone.expect_ok();
    if let Err(panic) = worked {
        std::panic::resume_unwind(panic);
    }
}
