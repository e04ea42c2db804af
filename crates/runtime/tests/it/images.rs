//! Archives, layers and names of images.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use coracle_runtime::{Archive, ContainerConfig, Error, PodRuntime};
use serde_json::json;

use crate::image_build::{Compression, Image, Layer, compress, write_archive};
use crate::node::{BUSYBOX, Node, shell};

impl Node {
    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn import(&self, image: &Image, tag: &str) -> Result<Vec<String>, Error> {
        let path = self.file("image.tar");
        image.docker_archive(&path, &[tag]);
        self.engine.import_archive(Archive::Path(path), None).await
    }

    async fn export(&self, image: &str, path: &Path) -> Result<(), Error> {
        let images = [image.to_owned()];
        self.engine.export_archive(&images, path.to_owned(), None).await
    }

    /// The merged root file system of a container of that image.
    async fn rootfs(&self, tag: &str) -> PathBuf {
        let pod = self.engine.run_sandbox(self.sandbox_config("rootfs")).await.unwrap().id;
        let config = ContainerConfig {
            image: tag.into(),
            command: vec!["/x".into()],
            ..ContainerConfig::default()
        };
        let id = self.create(&pod, config).await;
        self.root().join("containers").join(id.as_str()).join("rootfs")
    }

    fn layer_count(&self) -> usize {
        fs::read_dir(self.root().join("layers")).unwrap().count()
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[tokio::test]
async fn archives_of_both_formats_and_all_compressions_give_the_same_image() {
    let node = Node::empty().await;
    let image = Image::busybox();
    image.docker_archive(&node.file("docker.tar"), &["shop.example/a:docker"]);
    let names = node
        .engine
        .import_archive(Archive::Path(node.file("docker.tar")), None)
        .await
        .unwrap();
    assert_eq!(names, ["shop.example/a:docker"]);
    for (name, compression) in [
        ("plain", Compression::Plain),
        ("gzip", Compression::Gzip),
        ("zstd", Compression::Zstd),
    ] {
        let path = node.file(name);
        image.oci_archive(&path, &format!("shop.example/a:{name}"), compression);
        let names = node.engine.import_archive(Archive::Path(path), None).await.unwrap();
        assert_eq!(names, [format!("shop.example/a:{name}")]);
    }
    // A compressed archive by a stream.
    let zipped = compress(&fs::read(node.file("docker.tar")).unwrap(), Compression::Gzip);
    let reader = Box::new(std::io::Cursor::new(zipped));
    node.engine.import_archive(Archive::Reader(reader), None).await.unwrap();
    let images = node.engine.images().await;
    assert_eq!((images.len(), images[0].repo_tags.len(), node.layer_count()), (1, 4, 1));
    assert_eq!(images[0].id.as_str(), image.id());
    for name in [
        "shop.example/a:zstd",
        image.id().as_str(),
        image.id().trim_start_matches("sha256:"),
    ] {
        assert_eq!(node.engine.image(name).await.unwrap().id.as_str(), image.id(), "{name}");
    }
    let by_digest = node.engine.image(&images[0].repo_digests[0]).await.unwrap();
    assert_eq!(by_digest.id, images[0].id);
    node.finish().await;
}

#[tokio::test]
async fn an_archive_that_a_foreign_tool_wrote_is_understood() {
    let node = Node::empty().await;
    Image::busybox().docker_archive(&node.file("docker.tar"), &[BUSYBOX]);
    let source = format!("docker-archive:{}", node.file("docker.tar").display());
    for (target, expected) in [
        (
            format!("oci-archive:{}:localhost/again:1", node.file("oci.tar").display()),
            "localhost/again:1",
        ),
        (
            format!("docker-archive:{}:localhost/twice:2", node.file("d2.tar").display()),
            "localhost/twice:2",
        ),
    ] {
        let done = std::process::Command::new("skopeo")
            .args(["--insecure-policy", "copy", &source, &target])
            .output()
            .expect("skopeo is installed");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let path = PathBuf::from(target.split(':').nth(1).unwrap());
        let names = node.engine.import_archive(Archive::Path(path), None).await.unwrap();
        assert_eq!(names, [expected]);
    }
    let pod = node.sandbox().await;
    let (status, log) = node
        .run(
            &pod,
            ContainerConfig {
                image: "localhost/again:1".into(),
                ..shell("echo ran")
            },
        )
        .await;
    assert_eq!((status.exit_code, log.as_str()), (Some(0), "ran\n"));
    node.finish().await;
}

#[tokio::test]
async fn files_keep_their_attributes() {
    let node = Node::empty().await;
    let layer = Layer::new()
        .dir("d/", 0o1770)
        .owned("d/f", 12, 34, 0o4755, b"data")
        .link("d/hard", "d/f")
        .symlink("d/soft", "f")
        .symlink("d/absolute", "/etc/passwd")
        .device("d/null", 1, 3)
        .pax(&[
            ("SCHILY.xattr.user.color", b"blue"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ])
        .dir("d/colored/", 0o755)
        .pax(&[
            ("mtime", b"1500000000.25"),
            ("uid", b"3000000"),
            ("SCHILY.xattr.security.capability", CAP_NET_RAW),
        ])
        .file("d/precise", 0o644, b"")
        .build();
    node.import(&Image::new(vec![layer], json!({})), "test/attributes:1")
        .await
        .unwrap();
    let root = node.rootfs("test/attributes:1").await;
    let file = fs::metadata(root.join("d/f")).unwrap();
    assert_eq!(
        (file.uid(), file.gid(), file.mode() & 0o7777, file.nlink()),
        (12, 34, 0o4755, 2)
    );
    assert_eq!(file.mtime(), 1_600_000_000);
    let directory = fs::metadata(root.join("d")).unwrap();
    assert_eq!((directory.mode() & 0o7777, directory.mtime()), (0o1770, 1_600_000_000));
    assert_eq!(fs::read_link(root.join("d/soft")).unwrap(), Path::new("f"));
    assert_eq!(
        fs::read_link(root.join("d/absolute")).unwrap(),
        Path::new("/etc/passwd")
    );
    let device = fs::metadata(root.join("d/null")).unwrap();
    assert!(device.file_type().is_char_device());
    assert_eq!(device.rdev(), nix::sys::stat::makedev(1, 3));
    let precise = fs::metadata(root.join("d/precise")).unwrap();
    assert_eq!(
        (precise.mtime(), precise.mtime_nsec(), precise.uid()),
        (1_500_000_000, 250_000_000, 3_000_000)
    );
    assert_eq!(
        xattr(&root.join("d/colored"), "user.color").as_deref(),
        Some(&b"blue"[..])
    );
    assert_eq!(
        xattr(&root.join("d/precise"), "security.capability").as_deref(),
        Some(CAP_NET_RAW)
    );
    let layer = fs::read_dir(node.root().join("layers"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    assert_eq!(xattr(&layer.join("d/colored"), "trusted.overlay.opaque"), None);
    node.finish().await;
}

#[tokio::test]
async fn what_a_header_leaves_blank_is_zero() {
    let node = Node::empty().await;
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    layer.append_data(&mut header, "bare", &b"text"[..]).unwrap();
    let image = Image::new(vec![layer.into_inner().unwrap()], json!({}));
    node.import(&image, "test/bare:1").await.unwrap();
    let root = node.rootfs("test/bare:1").await;
    let file = fs::metadata(root.join("bare")).unwrap();
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (0, 0, 0));
    assert_eq!(read(&root.join("bare")), "text");
    node.finish().await;
}

/// Version 2, effective, permitted: CAP_NET_RAW.
const CAP_NET_RAW: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[allow(unsafe_code)]
pub fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    let name = std::ffi::CString::new(name).unwrap();
    let mut value = vec![0; 256];
    // SAFETY: both strings end in NUL and the buffer is as long as it says.
    let length = unsafe { nix::libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(usize::try_from(length).ok()?);
    Some(value)
}

#[tokio::test]
async fn later_layers_hide_replace_and_link_what_is_below() {
    let node = Node::empty().await;
    let below = Layer::new()
        .dir("./", 0o755)
        .dir("keep/", 0o1777)
        .file("keep/old", 0o644, b"old")
        .file("keep/gone", 0o644, b"gone")
        .dir("opaque/", 0o755)
        .file("opaque/below", 0o644, b"below")
        .dir("opaque/deep/", 0o755)
        .file("opaque/deep/below", 0o644, b"below")
        .dir("usr/lib/", 0o755)
        .symlink("lib", "usr/lib")
        .dir("becomes-file/", 0o755)
        .file("becomes-file/x", 0o644, b"x")
        .file("becomes-dir", 0o644, b"x")
        .build();
    let above = Layer::new()
        .file("keep/new", 0o644, b"new")
        .file("keep/.wh.gone", 0o644, b"")
        .link("keep/link-below", "keep/old")
        .file("opaque/above", 0o644, b"above")
        .dir("opaque/deep/", 0o700)
        .file("opaque/.wh..wh..opq", 0o644, b"")
        .file("lib/through-link", 0o644, b"lib")
        .file("becomes-file", 0o644, b"file")
        .dir("becomes-dir/", 0o755)
        .file(".wh.not-there", 0o644, b"")
        .build();
    let image = Image::new(vec![below, above], json!({}));
    node.import(&image, "test/layers:1").await.unwrap();
    let root = node.rootfs("test/layers:1").await;
    assert_eq!(
        (read(&root.join("keep/old")), read(&root.join("keep/new"))),
        ("old".into(), "new".into())
    );
    assert_eq!(
        fs::metadata(root.join("keep")).unwrap().mode() & 0o7777,
        0o1777,
        "a directory passed through keeps its mode"
    );
    assert!(!root.join("keep/gone").exists());
    assert_eq!(read(&root.join("keep/link-below")), "old");
    assert_eq!(names(&root.join("opaque")), ["above", "deep"]);
    assert!(names(&root.join("opaque/deep")).is_empty());
    assert_eq!(read(&root.join("usr/lib/through-link")), "lib");
    assert!(fs::symlink_metadata(root.join("lib")).unwrap().is_symlink());
    assert_eq!(read(&root.join("becomes-file")), "file");
    assert!(root.join("becomes-dir").is_dir());
    node.finish().await;
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn an_exported_image_is_imported_again_with_all_that_is_in_it() {
    let store = Node::empty().await;
    let below = Layer::new()
        .dir("d/", 0o755)
        .file("d/hidden", 0o644, b"x")
        .file("gone", 0o644, b"x")
        .dir("opaque/", 0o755)
        .file("opaque/old", 0o644, b"x")
        .build();
    let name = "n".repeat(80);
    let above = Layer::new()
        .file("d/.wh.hidden", 0o644, b"")
        .file(".wh.gone", 0o644, b"")
        .dir("opaque/", 0o711)
        .file("opaque/.wh..wh..opq", 0o644, b"")
        .file("opaque/new", 0o600, b"new")
        .owned("file", 1000, 2_000_000_000, 0o4750, b"text")
        .link("link", "file")
        .symlink("sym", "/d/../file")
        .device("null", 1, 3)
        .pax(&[("SCHILY.xattr.user.note", b"a value"), ("mtime", b"1600000001.25")])
        .file("noted", 0o644, b"")
        .file(&name, 0o644, b"long")
        .build();
    let image = Image::new(vec![below, above], json!({"Cmd": ["x"], "User": "7", "Env": ["A=b"]}));
    store.import(&image, "demo/a:1").await.unwrap();
    let first = store.file("first.tar");
    store.export("demo/a:1", &first).await.unwrap();
    let before = store.engine.image("demo/a:1").await.unwrap();

    let other = Node::empty().await;
    let archive = Archive::Path(first.clone());
    let names = other.engine.import_archive(archive, None).await.unwrap();
    assert_eq!(names, ["docker.io/demo/a:1"]);
    let after = other.engine.image("demo/a:1").await.unwrap();
    assert_eq!(after.config, before.config);
    let root = other.rootfs("demo/a:1").await;
    for (path, there) in [
        ("d", true),
        ("d/hidden", false),
        ("gone", false),
        ("opaque/old", false),
        ("opaque/new", true),
        (name.as_str(), true),
    ] {
        assert_eq!(root.join(path).exists(), there, "{path}");
    }
    let file = fs::symlink_metadata(root.join("file")).unwrap();
    assert_eq!(
        (file.uid(), file.gid(), file.mode() & 0o7777),
        (1000, 2_000_000_000, 0o4750)
    );
    assert_eq!(file.ino(), fs::symlink_metadata(root.join("link")).unwrap().ino());
    assert_eq!(fs::read_link(root.join("sym")).unwrap(), Path::new("/d/../file"));
    assert_eq!(
        fs::symlink_metadata(root.join("null")).unwrap().rdev(),
        nix::sys::stat::makedev(1, 3)
    );
    let noted = fs::symlink_metadata(root.join("noted")).unwrap();
    assert_eq!((noted.mtime(), noted.mtime_nsec()), (1_600_000_001, 250_000_000));
    assert_eq!(
        xattr(&root.join("noted"), "user.note").as_deref(),
        Some(&b"a value"[..])
    );
    // What is packed again is the same, to the last bit.
    let second = other.file("second.tar");
    other.export("demo/a:1", &second).await.unwrap();
    assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
    let error = store.export("demo/a:1", Path::new("/no/such/a.tar")).await.unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    let missing = store.export("absent:1", &store.file("x.tar")).await;
    assert!(matches!(missing, Err(Error::ImageNotFound { .. })));
    assert!(!store.file("x.tar").exists() && !store.file("x.tar.part").exists());
    other.finish().await;
    store.finish().await;
}

#[tokio::test]
async fn no_layer_reaches_outside_its_directory() {
    let node = Node::empty().await;
    let victim = node.file("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("secret"), "secret").unwrap();
    let outside = victim.to_str().unwrap();
    let up = "../".repeat(12);
    let refused = [
        Layer::new().file("../escaped", 0o644, b"evil").build(),
        Layer::new().file("a/../../escaped", 0o644, b"evil").build(),
        Layer::new().link("steal", &format!("{up}{outside}/secret")).build(),
        Layer::new().dir("d/", 0o755).file("d/.wh...", 0o644, b"").build(),
    ];
    for (index, layer) in refused.into_iter().enumerate() {
        // On a base as well, where the whiteouts count.
        let base = Layer::new().dir("base/", 0o755).build();
        let result = node
            .import(&Image::new(vec![base, layer], json!({})), &format!("test/evil:{index}"))
            .await;
        assert!(matches!(result, Err(Error::CorruptImage { .. })), "{index}: {result:?}");
    }
    assert_eq!(node.layer_count(), 0, "nothing is left of a refused image");

    // These resolve inside the image, whatever they point to outside.
    let inside = Layer::new()
        .symlink("out", outside)
        .dir(&format!("{}/", outside.trim_start_matches('/')), 0o755)
        .file("out/planted", 0o644, b"x")
        .symlink("up", &up)
        .file("up/planted-up", 0o644, b"x")
        .file("/absolute", 0o644, b"x")
        .symlink("chown", &format!("{outside}/secret"))
        .owned("chown", 77, 77, 0o777, b"replaced")
        .build();
    node.import(&Image::new(vec![inside], json!({})), "test/inside:1")
        .await
        .unwrap();
    let root = node.rootfs("test/inside:1").await;
    assert_eq!(names(&victim), ["secret"]);
    assert_eq!(
        (
            read(&victim.join("secret")),
            fs::metadata(victim.join("secret")).unwrap().uid()
        ),
        ("secret".into(), 0)
    );
    assert!(root.join(outside.trim_start_matches('/')).join("planted").exists());
    assert!(root.join("planted-up").exists() && root.join("absolute").exists());
    assert_eq!(read(&root.join("chown")), "replaced");
    node.finish().await;
}

#[tokio::test]
async fn a_corrupt_archive_is_told_and_leaves_nothing_behind() {
    let node = Node::empty().await;
    let image = Image::new(vec![Layer::new().file("f", 0o644, &[7; 5000]).build()], json!({}));
    let path = node.file("corrupt.tar");

    // A layer that is not what its digest says, in both formats.
    let mut lying = image.clone();
    lying.layers[0] = Layer::new().file("g", 0o644, &[8; 5000]).build();
    let (mut files, mut descriptor) = image.oci_blobs(Compression::Gzip);
    files[0].1 = lying.oci_blobs(Compression::Gzip).0[0].1.clone();
    descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": "test/x:1" });
    files.push((
        "index.json".into(),
        json!({ "manifests": [descriptor] }).to_string().into_bytes(),
    ));
    write_archive(&path, &files);
    let error = node
        .engine
        .import_archive(Archive::Path(path.clone()), None)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::CorruptImage { .. }) && error.to_string().contains("hashes to"),
        "{error}"
    );

    // A manifest that is not what the index says.
    let (mut files, descriptor) = image.oci_blobs(Compression::Plain);
    files.last_mut().unwrap().1.push(b' ');
    files.push((
        "index.json".into(),
        json!({ "manifests": [descriptor] }).to_string().into_bytes(),
    ));
    write_archive(&path, &files);
    assert!(matches!(
        node.engine.import_archive(Archive::Path(path.clone()), None).await,
        Err(Error::CorruptImage { .. })
    ));

    // Cut off at every interesting place.
    image.oci_archive(&path, "test/x:1", Compression::Gzip);
    let whole = fs::read(&path).unwrap();
    for length in [0, 100, 512, 700, whole.len() / 2, whole.len() - 4096] {
        fs::write(&path, &whole[..length]).unwrap();
        let result = node.engine.import_archive(Archive::Path(path.clone()), None).await;
        assert!(
            matches!(result, Err(Error::CorruptImage { .. })),
            "{length}: {result:?}"
        );
    }
    fs::write(&path, "this is no archive").unwrap();
    assert!(
        node.engine
            .import_archive(Archive::Path(path.clone()), None)
            .await
            .is_err()
    );
    let missing = node
        .engine
        .import_archive(Archive::Path("/no/such.tar".into()), None)
        .await
        .unwrap_err();
    assert!(!matches!(missing, Error::CorruptImage { .. }), "{missing}");
    assert!(node.engine.images().await.is_empty());
    assert_eq!(node.layer_count(), 0);
    node.finish().await;
}

#[tokio::test]
async fn names_move_and_the_last_one_takes_the_image_with_it() {
    let node = Node::empty().await;
    let image = |content: &[u8]| Image::new(vec![Layer::new().file("f", 0o644, content).build()], json!({}));
    let (one, two) = (image(b"1"), image(b"2"));
    node.import(&one, "test/a:latest").await.unwrap();
    node.import(&one, "test/b:1").await.unwrap();
    node.import(&two, "test/a").await.unwrap();
    assert_eq!(node.engine.image("test/a").await.unwrap().id.as_str(), two.id());
    assert_eq!(
        node.engine.image(&one.id()).await.unwrap().repo_tags,
        ["docker.io/test/b:1"]
    );
    assert_eq!(node.layer_count(), 2);
    node.engine.remove_image("test/b:1").await.unwrap();
    assert!(node.engine.image(&one.id()).await.is_none());
    assert_eq!(node.layer_count(), 1);
    node.engine.remove_image("test/b:1").await.unwrap();
    node.engine.remove_image(&two.id()).await.unwrap();
    assert_eq!((node.engine.images().await.len(), node.layer_count()), (0, 0));
    node.finish().await;
}

#[tokio::test]
async fn an_image_in_use_is_not_removed() {
    let node = Node::new().await;
    let pod = node.sandbox().await;
    let id = node.create(&pod, shell("true")).await;
    assert!(matches!(
        node.engine.remove_image(BUSYBOX).await,
        Err(Error::ImageInUse { .. })
    ));
    node.engine.remove_container(&id).await.unwrap();
    node.engine.remove_image(BUSYBOX).await.unwrap();
    node.finish().await;
}

#[tokio::test]
async fn shared_layers_are_kept_once_and_survive_a_restart() {
    let node = Node::empty().await;
    let base = Layer::new().file("base", 0o644, b"base").build();
    let with = |name: &str| {
        Image::new(
            vec![base.clone(), Layer::new().file(name, 0o644, b"x").build()],
            json!({}),
        )
    };
    node.import(&with("a"), "test/a:1").await.unwrap();
    node.import(&with("b"), "test/b:1").await.unwrap();
    assert_eq!(node.layer_count(), 3);
    node.engine.remove_image("test/a:1").await.unwrap();
    assert_eq!(node.layer_count(), 2);
    let root = node.rootfs("test/b:1").await;
    assert_eq!(
        (read(&root.join("base")), read(&root.join("b"))),
        ("base".into(), "x".into())
    );
    node.finish().await;
}

#[tokio::test]
async fn the_images_configuration_is_merged_with_the_containers() {
    let node = Node::empty().await;
    let mut image = Image::busybox();
    image.config = json!({
        "Env": ["PATH=/bin", "A=image", "B=image"], "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["echo $A $B $C; pwd; id -u"],
        "WorkingDir": "/made/by/image", "User": "app", "StopSignal": "SIGINT", "Volumes": { "/volume": {} },
    });
    node.import(&image, BUSYBOX).await.unwrap();
    let info = node.engine.image(BUSYBOX).await.unwrap();
    assert_eq!(info.user(), (None, Some("app")));
    let pod = node.sandbox().await;
    let plain = ContainerConfig {
        command: vec![],
        log_path: "a.log".into(),
        ..shell("")
    };
    let mut own = plain.clone();
    own.env = vec![("B".into(), "own".into()), ("C".into(), "own".into())];
    let (status, log) = node.run(&pod, own).await;
    assert_eq!(log, "image own own\n/made/by/image\n1000\n");
    assert_eq!(status.stop_signal, 2);
    let args = ContainerConfig {
        args: vec!["echo args; ls -d /volume".into()],
        log_path: "b.log".into(),
        ..plain.clone()
    };
    assert_eq!(node.run(&pod, args).await.1, "args\n/volume\n");
    let command = ContainerConfig {
        command: vec!["echo".into()],
        args: vec!["x".into()],
        log_path: "c.log".into(),
        ..plain
    };
    assert_eq!(node.run(&pod, command).await.1, "x\n");
    node.finish().await;
}

#[tokio::test]
async fn an_image_of_many_layers_can_be_mounted() {
    let node = Node::empty().await;
    let layers = (0..120).map(|n| {
        Layer::new()
            .file(&format!("f{n}"), 0o644, n.to_string().as_bytes())
            .build()
    });
    node.import(&Image::new(layers.collect(), json!({})), "test/deep:1")
        .await
        .unwrap();
    let root = node.rootfs("test/deep:1").await;
    assert_eq!(
        (read(&root.join("f0")), read(&root.join("f119"))),
        ("0".into(), "119".into())
    );
    node.finish().await;
}
