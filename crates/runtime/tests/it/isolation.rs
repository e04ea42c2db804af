//! What a container sees, shares and may do.

use std::fs;

use coracle_runtime::{Archive, Device, ExecConfig, Mount, PodRuntime, Propagation, SeccompProfile};
use tokio::io::AsyncReadExt;

use crate::image_build::{Image, Layer};
use crate::node::{HANG, Node, labels, shell, sleeper};

#[tokio::test]
async fn a_pods_containers_share_network_memory_and_name_but_not_processes() {
    let node = Node::new().await;
    let pod = node.sandbox().await;
    let server = node.start(&pod, shell("exec nc -ll -p 8080 -e echo hello")).await;
    let client = node.start(&pod, sleeper()).await;
    // 1F90 is 8080, 0A listens.
    let fetch = "until grep -q ':1F90 .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done; nc 127.0.0.1 8080 </dev/null";
    assert_eq!(node.sh(&client, fetch).await, "hello");
    node.sh(&server, "echo shared > /dev/shm/file").await;
    assert_eq!(node.sh(&client, "cat /dev/shm/file").await, "shared");
    assert_eq!(node.sh(&client, "hostname").await, "pod");
    assert_eq!(
        node.sh(&client, "readlink /proc/self/ns/ipc").await,
        node.sh(&server, "readlink /proc/self/ns/ipc").await
    );
    assert!(!node.sh(&client, "ps").await.contains("8080"));
    assert_ne!(
        node.sh(&client, "readlink /proc/self/ns/net").await,
        link("/proc/self/ns/net")
    );
    node.finish().await;
}

#[tokio::test]
async fn a_shared_process_namespace_shows_the_pods_processes_and_ends_with_each() {
    let node = Node::new().await;
    let mut config = node.sandbox_config("pod");
    config.share_process_namespace = true;
    let pod = node.engine.run_sandbox(config).await.unwrap().id;
    let two = node.start(&pod, sleeper()).await;
    node.sh(&two, "mknod /dev/shm/alive p").await;
    let script = "exec 9>/dev/shm/alive; sleep 4321 & echo begun >&9; sleep 1234";
    let one = node.start(&pod, shell(script)).await;
    let config = ExecConfig {
        command: ["cat", "/dev/shm/alive"].map(str::to_owned).to_vec(),
        stdout: true,
        ..ExecConfig::default()
    };
    let mut alive = node.engine.exec(&two, config).await.unwrap().stdout.unwrap();
    let mut said = [0; 6];
    alive.read_exact(&mut said).await.unwrap();
    let processes = node.sh(&two, "ps").await;
    assert!(
        processes.contains("sleep 4321") && processes.contains("coracle-pause"),
        "{processes}"
    );
    node.engine.kill_container(&one, 9).await.unwrap();
    node.ended(&one).await;
    // What its first process left running goes with it: the pipe ends with the last who has it open.
    let mut rest = Vec::new();
    let left = alive.read_to_end(&mut rest);
    tokio::time::timeout(HANG, left)
        .await
        .expect("a process outlived its container")
        .unwrap();
    assert!(!node.sh(&two, "ps").await.contains("sleep 4321"));
    node.finish().await;
}

#[tokio::test]
async fn host_namespaces_are_the_hosts() {
    let node = Node::new().await;
    let mut config = node.sandbox_config("pod");
    (config.host_network, config.host_pid, config.host_ipc) = (true, true, true);
    let pod = node.engine.run_sandbox(config).await.unwrap().id;
    let id = node.start(&pod, sleeper()).await;
    for kind in ["net", "pid", "ipc", "uts"] {
        assert_eq!(
            node.sh(&id, &format!("readlink /proc/self/ns/{kind}")).await,
            link(&format!("/proc/self/ns/{kind}"))
        );
    }
    assert_ne!(
        node.sh(&id, "readlink /proc/self/ns/mnt").await,
        link("/proc/self/ns/mnt")
    );
    node.engine.remove_container(&id).await.unwrap();
    node.finish().await;
}

#[tokio::test]
async fn sysctls_are_the_pods_own() {
    let node = Node::new().await;
    let mut config = node.sandbox_config("pod");
    config.sysctls = labels(&[
        ("net.ipv4.ip_unprivileged_port_start", "7"),
        ("kernel.shm_rmid_forced", "1"),
    ]);
    let pod = node.engine.run_sandbox(config).await.unwrap().id;
    let id = node.start(&pod, sleeper()).await;
    assert_eq!(
        node.sh(&id, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start").await,
        "7"
    );
    assert_eq!(node.sh(&id, "cat /proc/sys/kernel/shm_rmid_forced").await, "1");
    assert_ne!(
        fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
            .unwrap()
            .trim(),
        "7"
    );
    node.finish().await;
}

#[tokio::test]
async fn users_and_groups_come_from_the_container_or_the_image() {
    let node = Node::new().await;
    let pod = node.sandbox().await;
    let (_, log) = node.run(&pod, shell("id -u; id -g; echo $HOME")).await;
    assert_eq!(log, "0\n0\n/root\n");
    let mut config = shell("id -u; id -g; id -G; echo $HOME; touch /etc/x || echo denied");
    config.security.username = Some("app".into());
    config.security.supplemental_groups = vec![77];
    let (status, log) = node.run(&pod, config).await;
    assert!(
        log.contains("1000\n1001\n1001 50 77\n/home/app\n") && log.contains("denied"),
        "{log}"
    );
    assert_eq!((status.user, status.group), (1000, 1001));
    node.finish().await;
}

#[tokio::test]
async fn capabilities_are_few_and_follow_what_is_asked() {
    let node = Node::new().await;
    let pod = node.sandbox().await;
    let caps = "grep CapEff /proc/self/status | cut -f2";
    let (_, usual) = node.run(&pod, shell(caps)).await;
    assert_eq!(usual, "00000000a80425fb\n");
    let mut config = shell(caps);
    config.security.drop_capabilities = vec!["ALL".into()];
    config.security.add_capabilities = vec!["NET_ADMIN".into()];
    assert_eq!(node.run(&pod, config).await.1, "0000000000001000\n");
    let mut config = shell("mknod /dev/x b 8 0 && head -c1 /dev/x");
    config.security.no_new_privileges = true;
    let (status, log) = node.run(&pod, config).await;
    assert!(
        status.exit_code != Some(0) && log.contains("Operation not permitted"),
        "{log}"
    );
    node.finish().await;
}

#[tokio::test]
async fn a_privileged_container_may_what_the_node_may() {
    let node = Node::new().await;
    let pod = node.sandbox().await;
    let mut config = shell(
        "mount -t tmpfs none /tmp && echo mounted; ls /dev | grep -c loop-control; \
                            echo 1 > /proc/sys/net/ipv4/ip_forward && echo wrote; grep CapEff /proc/self/status | cut -f2",
    );
    config.security.privileged = true;
    let (_, log) = node.run(&pod, config).await;
    assert!(log.contains("mounted") && log.contains("wrote"), "{log}");
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .unwrap()
        .trim()
        .to_owned();
    assert!(log.contains(&own), "{log} {own}");
    let (_, log) = node
        .run(
            &pod,
            shell("mount -t tmpfs none /tmp; echo 1 > /proc/sys/net/ipv4/ip_forward"),
        )
        .await;
    assert!(log.contains("denied") && log.contains("Read-only"), "{log}");
    node.finish().await;
}

#[tokio::test]
async fn the_root_file_system_is_the_containers_own_and_may_be_read_only() {
    let node = Node::new().await;
    let pod = node.sandbox().await;
    let writer = node
        .start(&pod, shell("echo mine > /file; rm /etc/plain; sleep 1000"))
        .await;
    let (_, log) = node.run(&pod, shell("cat /file; cat /etc/plain")).await;
    assert!(log.contains("No such file") && log.contains("not a program"), "{log}");
    assert_eq!(node.sh(&writer, "cat /file").await, "mine");
    let mut config = shell("touch /file; touch /dev/shm/ok && echo shm");
    config.security.readonly_rootfs = true;
    let (_, log) = node.run(&pod, config).await;
    assert!(log.contains("Read-only file system") && log.contains("shm"), "{log}");
    node.finish().await;
}

#[tokio::test]
async fn mounts_are_where_they_should_be_and_as_writable_as_they_should_be() {
    let node = Node::new().await;
    let pod = node.sandbox().await;
    let data = node.directory.path().join("data");
    fs::create_dir_all(data.join("sub")).unwrap();
    fs::write(data.join("hosts"), "1.2.3.4 example\n").unwrap();
    let mut config =
        shell("echo x > /data/new && echo wrote; echo x > /ro/new; cat /etc/hosts; ls /ro/inner; ls /made");
    let mount = |host: &str, container: &str, readonly: bool| Mount {
        host_path: data.join(host),
        container_path: container.into(),
        readonly,
        ..Mount::default()
    };
    config.mounts = vec![
        mount("sub", "/ro/inner", false),
        mount("", "/data", false),
        mount("", "/ro", true),
        mount("hosts", "/etc/hosts", true),
        mount("not-there-yet", "/made", false),
    ];
    // A read-only parent needs the mount point to be there.
    fs::create_dir_all(data.join("inner")).unwrap();
    fs::write(data.join("sub/deep"), "").unwrap();
    let (_, log) = node.run(&pod, config).await;
    for expected in ["wrote", "Read-only", "1.2.3.4 example", "deep"] {
        assert!(log.contains(expected), "{expected}: {log}");
    }
    assert_eq!(fs::read_to_string(data.join("new")).unwrap(), "x\n");
    assert!(data.join("not-there-yet").is_dir());
    node.finish().await;
}

#[tokio::test]
async fn a_mount_is_read_only_with_what_is_below_it_if_so_asked() {
    let node = Node::new().await;
    let pod = node.sandbox().await;
    let data = node.directory.path().join("data");
    fs::create_dir_all(data.join("below")).unwrap();
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("none"), &data.join("below"), Some("tmpfs"), flags, None::<&str>).unwrap();
    let with = |recursive_readonly: bool| {
        let mut config =
            shell("touch /data/x 2>/dev/null && echo top; touch /data/below/x 2>/dev/null && echo below; true");
        config.mounts = vec![Mount {
            host_path: data.clone(),
            container_path: "/data".into(),
            readonly: true,
            recursive_readonly,
            ..Mount::default()
        }];
        config
    };
    assert_eq!(node.run(&pod, with(false)).await.1, "below\n");
    assert_eq!(node.run(&pod, with(true)).await.1, "");
    nix::mount::umount2(&data.join("below"), nix::mount::MntFlags::MNT_DETACH).unwrap();
    node.finish().await;
}

#[tokio::test]
async fn an_image_can_be_mounted_to_be_read_and_is_kept_meanwhile() {
    let node = Node::new().await;
    let base = Layer::new()
        .dir("models/", 0o755)
        .file("models/old", 0o644, b"old")
        .file("models/tool", 0o755, b"#!/bin/sh\n");
    let top = Layer::new()
        .file("models/new", 0o644, b"new")
        .file("models/.wh.old", 0o644, b"")
        .symlink("out", "/etc");
    let archive = node.directory.path().join("data.tar");
    Image::new(vec![base.build(), top.build()], serde_json::json!({})).docker_archive(&archive, &["localhost/data:1"]);
    node.engine.import_archive(Archive::Path(archive), None).await.unwrap();
    let image = node.engine.image("localhost/data:1").await.unwrap().id.clone();
    fs::set_permissions(
        node.directory.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o711),
    )
    .unwrap();
    for own_users in [false, true] {
        let mut config = node.sandbox_config(if own_users { "own" } else { "host" });
        config.user_namespace = own_users.then_some(coracle_runtime::UserNamespace {
            host_id: 1_000_000,
            length: 65_536,
        });
        let pod = node.engine.run_sandbox(config).await.unwrap().id;
        let mount = |inside: &str, part: &str| Mount {
            image: Some(image.clone()),
            image_sub_path: part.into(),
            container_path: inside.into(),
            readonly: true,
            ..Mount::default()
        };
        let mut config = sleeper();
        config.mounts = vec![
            mount("/data", ""),
            mount("/models", "models"),
            mount("/one", "models/new"),
        ];
        let id = node.start(&pod, config).await;
        assert_eq!(
            node.sh(&id, "ls /data/models /models; cat /one; stat -c %u /one").await,
            "/data/models:\nnew\ntool\n\n/models:\nnew\ntool\nnew0"
        );
        let refused = "touch /data/x 2>&1; /models/tool 2>&1; true";
        let said = node.sh(&id, refused).await;
        assert!(said.contains("Read-only") && said.contains("denied"), "{said}");
        let error = node.engine.remove_image("localhost/data:1").await.unwrap_err();
        assert!(matches!(error, coracle_runtime::Error::ImageInUse { .. }), "{error:?}");
        for part in ["absent", "../../etc"] {
            let mut config = sleeper();
            config.mounts = vec![mount("/x", part)];
            assert!(node.engine.create_container(&pod, config).await.is_err(), "{part}");
        }
        let mut config = sleeper();
        config.mounts = vec![mount("/x", "out")];
        // The link points at the image's own /etc, which it does not have.
        assert!(node.engine.create_container(&pod, config).await.is_err());
        node.engine.remove_sandbox(&pod).await.unwrap();
    }
    node.engine.remove_image("localhost/data:1").await.unwrap();
    node.finish().await;
}

#[tokio::test]
async fn mounts_propagate_only_as_asked() {
    let node = Node::new().await;
    let pod = node.sandbox().await;
    let shared = node.directory.path().join("shared");
    fs::create_dir(&shared).unwrap();
    let mount = |source: &std::path::Path, flags| {
        nix::mount::mount(Some(source), source, None::<&str>, flags, None::<&str>).unwrap();
    };
    use nix::mount::MsFlags;
    mount(&shared, MsFlags::MS_BIND);
    mount(&shared, MsFlags::MS_SHARED);
    for name in ["late", "inside"] {
        fs::create_dir(shared.join(name)).unwrap();
    }
    let with = |propagation: Propagation| {
        let mut config = sleeper();
        config.security.privileged = propagation == Propagation::Bidirectional;
        let mount = Mount {
            host_path: shared.clone(),
            container_path: "/m".into(),
            propagation,
            ..Mount::default()
        };
        config.mounts = vec![mount];
        config
    };
    let private = node.start(&pod, with(Propagation::Private)).await;
    let slave = node.start(&pod, with(Propagation::HostToContainer)).await;
    let both = node.start(&pod, with(Propagation::Bidirectional)).await;
    nix::mount::mount(
        Some("none"),
        &shared.join("late"),
        Some("tmpfs"),
        MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
    fs::write(shared.join("late/file"), "").unwrap();
    node.sh(&both, "mount -t tmpfs none /m/inside && touch /m/inside/file")
        .await;
    assert_eq!(
        node.sh(&private, "ls /m/late /m/inside").await,
        "/m/inside:\n\n/m/late:"
    );
    assert_eq!(
        node.sh(&slave, "ls /m/late /m/inside").await,
        "/m/inside:\nfile\n\n/m/late:\nfile"
    );
    assert!(shared.join("inside/file").exists());
    let unshared = node.directory.path().join("plain");
    fs::create_dir(&unshared).unwrap();
    let mut config = with(Propagation::Bidirectional);
    config.mounts[0].host_path = unshared;
    if !fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .lines()
        .any(|l| l.contains(" / / ") && l.contains("shared:"))
    {
        let error = node
            .engine
            .create_container(&pod, config)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("not a shared mount"), "{error}");
    }
    for point in ["inside", "late", ""] {
        nix::mount::umount2(&shared.join(point), nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
    node.finish().await;
}

#[tokio::test]
async fn devices_are_there_only_when_asked_for() {
    let node = Node::new().await;
    let pod = node.sandbox().await;
    let (_, log) = node
        .run(
            &pod,
            shell("ls -l /dev/null /dev/zero /dev/full /dev/tty /dev/urandom /dev/ptmx /dev/kmsg"),
        )
        .await;
    assert!(
        log.contains("/dev/urandom") && log.contains("/dev/kmsg: No such"),
        "{log}"
    );
    let mut config = shell("head -c 2 /dev/z | wc -c");
    config.devices = vec![Device {
        host_path: "/dev/zero".into(),
        container_path: "/dev/z".into(),
        ..Device::default()
    }];
    assert_eq!(node.run(&pod, config).await.1.trim(), "2");
    node.finish().await;
}

#[tokio::test]
async fn seccomp_profiles_are_applied() {
    let node = Node::new().await;
    let pod = node.sandbox().await;
    let mut config = shell("grep Seccomp: /proc/self/status; unshare -m true; echo $?");
    config.security.seccomp = SeccompProfile::RuntimeDefault;
    config.security.add_capabilities = vec![];
    let (_, log) = node.run(&pod, config).await;
    assert!(log.contains("Seccomp:\t2") && log.contains("not permitted"), "{log}");
    let profile = node.directory.path().join("profile.json");
    fs::write(
        &profile,
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#,
    )
    .unwrap();
    let mut config = shell("mkdir /tmp/x");
    config.security.seccomp = SeccompProfile::Localhost(profile);
    let (status, log) = node.run(&pod, config).await;
    assert!(status.exit_code != Some(0) && log.contains("not permitted"), "{log}");
    assert!(
        node.run(&pod, shell("grep Seccomp: /proc/self/status"))
            .await
            .1
            .contains("Seccomp:\t0")
    );
    node.finish().await;
}

#[tokio::test]
async fn signals_have_their_usual_meaning_in_a_container() {
    let node = Node::new().await;
    let pod = node.sandbox().await;
    // Were the pipe signal ignored, as it is in this program, `yes` would complain instead.
    assert_eq!(node.run(&pod, shell("yes | head -1")).await.1, "y\n");
    let command = ["grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"]
        .map(str::to_owned)
        .to_vec();
    let config = coracle_runtime::ContainerConfig { command, ..shell("") };
    let (_, log) = node.run(&pod, config).await;
    assert_eq!(log, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    node.finish().await;
}

#[tokio::test]
async fn no_descriptor_of_the_shims_is_open_in_a_container() {
    let node = Node::new().await;
    let pod = node.sandbox().await;
    let (_, log) = node
        .run(&pod, shell("ls /proc/self/fd | grep -vE '^[0-3]$'; echo none"))
        .await;
    assert_eq!(log, "none\n");
    node.finish().await;
}

fn link(path: &str) -> String {
    fs::read_link(path).unwrap().to_string_lossy().into_owned()
}
