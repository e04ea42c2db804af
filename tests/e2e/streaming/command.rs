//! Commands in containers, and containers' own streams.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use super::super::harness::{Cluster, Kubectl, Said};
use super::{ALL, exec, idle, ready};

#[test]
fn exec_carries_every_stream_and_the_exit_code() {
    exec_carries(&Cluster::with_node());
}

/// What a command says, is told and comes to.
pub fn exec_carries(cluster: &Cluster) {
    idle(cluster, "p");
    for which in ALL {
        let (code, said) = exec(
            cluster,
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
        let (code, said) = exec(cluster, which, &["exec", "-i", "p", "--", "cat"], b"hello\n");
        assert_eq!((code, said.out.as_str()), (Some(0), "hello\n"), "{which:?}");
        let (code, said) = exec(cluster, which, &["exec", "p", "--", "no-such-program"], b"");
        assert_ne!(code, Some(0));
        assert!(
            said.err.contains("error executing command in container") && said.err.contains("no-such-program"),
            "{which:?} {said:?}"
        );
    }
}

#[test]
fn input_that_nobody_reads_does_not_keep_a_command_from_ending() {
    let cluster = Cluster::with_node();
    idle(&cluster, "p");
    let much = vec![b'x'; 4 << 20];
    for which in ALL {
        let (code, _) = exec(&cluster, which, &["exec", "-i", "p", "--", "true"], &much);
        assert_eq!(code, Some(0), "{which:?}");
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
    has_a_terminal(&Cluster::with_node());
}

/// A command with a terminal.
pub fn has_a_terminal(cluster: &Cluster) {
    idle(cluster, "p");
    for which in ALL {
        // The size comes on a stream of its own, so it may come a moment after the command began.
        let script = "until [ \"$(stty size)\" = \"33 111\" ]; do :; done; tty; echo both >&2; exit 5";
        let said = in_terminal(
            cluster,
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
    attaches(&Cluster::with_node());
}

/// A container's own streams.
pub fn attaches(cluster: &Cluster) {
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
        let (code, said) = exec(cluster, which, &run, b"one\ntwo\n");
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
        ready(cluster, &talker);
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
