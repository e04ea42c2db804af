//! Pods with users of their own: root inside, nobody outside.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use coracle_runtime::{ExecConfig, Mount, PodRuntime, SandboxConfig, SandboxId, SeccompProfile, UserNamespace};

use crate::node::{Node, labels, shell, sleeper};

const USERS: UserNamespace = UserNamespace {
    host_id: 1_000_000,
    length: 65_536,
};

async fn pod(node: &Node, change: impl FnOnce(&mut SandboxConfig)) -> SandboxId {
    // The pod's root has to pass through the directories above its root file system.
    fs::set_permissions(node.directory.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let mut config = node.sandbox_config("pod");
    config.user_namespace = Some(USERS);
    change(&mut config);
    node.engine.run_sandbox(config).await.unwrap().id
}

#[tokio::test]
async fn its_root_is_nobody_on_the_host_and_owns_the_image_and_its_volumes() {
    let node = Node::new().await;
    let pod = pod(&node, |_| {}).await;
    let data = node.directory.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "from the host\n").unwrap();
    fs::write(data.join("hosts"), "1.2.3.4 example\n").unwrap();
    let mut config = sleeper();
    let mount = |host: &str, inside: &str| Mount {
        host_path: data.join(host),
        container_path: inside.into(),
        ..Mount::default()
    };
    config.mounts = vec![mount("", "/data"), mount("hosts", "/etc/hosts")];
    config.working_dir = Some("/made/for/it".into());
    config.security.seccomp = SeccompProfile::RuntimeDefault;
    let id = node.start(&pod, config).await;

    let expected = format!("0 {} {}", USERS.host_id, USERS.length);
    let map = node.sh(&id, "cat /proc/self/uid_map").await;
    assert_eq!(map.split_whitespace().collect::<Vec<_>>().join(" "), expected);
    let pid = node.engine.container_status(&id).await.unwrap().pid.unwrap();
    assert_eq!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), USERS.host_id);

    assert_eq!(
        node.sh(&id, "stat -c %u:%g /etc/plain /data/file /etc/hosts /made/for")
            .await,
        "0:0\n0:0\n0:0\n0:0"
    );
    assert_eq!(
        node.sh(&id, "cat /data/file /etc/hosts").await,
        "from the host\n1.2.3.4 example"
    );
    let caps = "grep -E 'Cap(Eff|Bnd)|Seccomp:' /proc/self/status | cut -f2";
    assert_eq!(node.sh(&id, caps).await, "00000000a80425fb\n00000000a80425fb\n2");
    let mut config = sleeper();
    (config.security.user, config.security.group) = (Some(1000), Some(1001));
    config.security.supplemental_groups = vec![77];
    let other = node.start(&pod, config).await;
    assert_eq!(node.sh(&other, "id -u; id -G").await, "1000\n1001 50 77");
    assert_eq!(
        node.sh(&other, "grep CapEff /proc/self/status | cut -f2").await,
        "0000000000000000"
    );
    // Written through the mapped volume, the owner on the disk is as if there were no mapping.
    node.sh(
        &id,
        "echo in > /data/new; chown 5:6 /data/new; rm /data/file; echo x >> /etc/plain; touch /root/own",
    )
    .await;
    let new = fs::metadata(data.join("new")).unwrap();
    assert_eq!((new.uid(), new.gid()), (5, 6));
    assert!(!data.join("file").exists());
    let upper = node.root().join("containers").join(id.as_str()).join("upper");
    assert_eq!(fs::metadata(upper.join("root/own")).unwrap().uid(), USERS.host_id);
    assert_eq!(fs::metadata(upper.join("etc/plain")).unwrap().uid(), USERS.host_id);
    node.finish().await;
}

#[tokio::test]
async fn its_capabilities_hold_in_the_pod_and_nowhere_else() {
    let node = Node::new().await;
    let pod = pod(&node, |config| {
        config.sysctls = labels(&[
            ("net.ipv4.ip_unprivileged_port_start", "7"),
            ("kernel.shm_rmid_forced", "1"),
        ]);
    })
    .await;
    let mut config = sleeper();
    config.security.add_capabilities = vec!["NET_ADMIN".into(), "SYS_ADMIN".into(), "SYS_TIME".into()];
    let id = node.start(&pod, config).await;
    assert_eq!(
        node.sh(&id, "hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start")
            .await,
        "pod\n7"
    );
    assert_eq!(node.sh(&id, "cat /proc/sys/kernel/shm_rmid_forced").await, "1");
    assert_eq!(
        node.sh(&id, "ip link set lo down && ip link set lo up && echo own")
            .await,
        "own"
    );
    assert_eq!(
        node.sh(&id, "mount -t tmpfs none /tmp && echo mounted").await,
        "mounted"
    );
    for forbidden in [
        "echo 1 > /proc/sys/kernel/panic",
        "echo x > /proc/sysrq-trigger",
        "mknod /tmp/disk b 8 0",
    ] {
        let refused = node
            .sh(&id, &format!("({forbidden}) 2>/dev/null && echo done || echo refused"))
            .await;
        assert_eq!(refused, "refused", "{forbidden}");
    }
    assert_eq!(
        node.sh(&id, "echo x > /dev/shm/f; stat -c %u /dev/shm /dev/shm/f")
            .await,
        "0\n0"
    );
    node.finish().await;
}

#[tokio::test]
async fn it_may_see_the_whole_of_its_own_proc_and_share_its_processes() {
    let node = Node::new().await;
    let pod = pod(&node, |config| config.share_process_namespace = true).await;
    let one = node.start(&pod, shell("sleep 4321")).await;
    let mut config = sleeper();
    config.security.unmasked_proc = true;
    config.tty = true;
    let two = node.start(&pod, config).await;
    let processes = node.sh(&two, "ps").await;
    assert!(
        processes.contains("sleep 4321") && processes.contains("coracle-pause"),
        "{processes}"
    );
    // Masked, it is a device or an empty directory; unmasked, the kernel's own files.
    assert_eq!(
        node.sh(
            &one,
            "ls -A /proc/acpi /proc/scsi 2>/dev/null | wc -l; wc -c < /proc/timer_list"
        )
        .await
        .lines()
        .last(),
        Some("0")
    );
    assert_eq!(
        node.sh(
            &two,
            "mount -t proc proc /tmp 2>/dev/null; grep -c ' /proc' /proc/mounts"
        )
        .await,
        "1"
    );
    let command = ["sh", "-c", "id -u; tty"].map(str::to_owned).to_vec();
    let streams = node
        .engine
        .exec(
            &two,
            ExecConfig {
                command,
                tty: true,
                stdout: true,
                ..ExecConfig::default()
            },
        )
        .await
        .unwrap();
    let mut text = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut streams.stdout.unwrap(), &mut text)
        .await
        .unwrap();
    assert!(text.starts_with("0\r\n/dev/pts/"), "{text:?}");
    node.engine.remove_container(&one).await.unwrap();
    node.finish().await;
}

#[tokio::test]
async fn it_cannot_share_the_hosts_namespaces() {
    let node = Node::new().await;
    let mut config = node.sandbox_config("pod");
    (config.user_namespace, config.host_network) = (Some(USERS), true);
    let error = node.engine.run_sandbox(config).await.unwrap_err().to_string();
    assert!(error.contains("cannot share the host's network"), "{error}");
    node.finish().await;
}
