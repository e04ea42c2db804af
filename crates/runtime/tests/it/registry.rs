//! Pulls from a real registry on this machine.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use coracle_runtime::{Auth, Error, Phase, PodRuntime, Progress, RegistryConfig};
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::image_build::{Compression, Image, Layer};
use crate::node::{Node, shell};

/// Nobody listens there, and nobody is given this port.
const DEAD: &str = "127.0.0.1:1";

/// An address of this machine that no other test has, so that nobody answers there when this one's registry is gone.
fn own_address() -> Ipv4Addr {
    static TAKEN: AtomicU8 = AtomicU8::new(1);
    let [.., a, b] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, a | 1, b, TAKEN.fetch_add(1, Ordering::Relaxed))
}

/// `docker-registry serve` on a free port; ended with the test.
pub struct Registry {
    process: Child,
    pub address: String,
    directory: TempDir,
}

impl Registry {
    pub fn start(users: Option<&str>) -> Self {
        let directory = TempDir::new().unwrap();
        let storage = directory.path().join("storage");
        let mut config = format!(
            "version: 0.1\nlog:\n  level: info\n  formatter: json\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {}:0\n",
            storage.display(),
            own_address()
        );
        if let Some(users) = users {
            let path = directory.path().join("htpasswd");
            fs::write(&path, users).unwrap();
            config += &format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", path.display());
        }
        let path = directory.path().join("config.yml");
        fs::write(&path, config).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry is installed");
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "the registry ended");
            if let Some((_, rest)) = line.split_once("listening on ") {
                break rest.split('"').next().unwrap().to_owned();
            }
        };
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self {
            process,
            address,
            directory,
        }
    }

    /// Puts an image there by a foreign tool; returns its reference.
    pub fn push(&self, image: &Image, name: &str, options: &[&str]) -> String {
        let archive = self.directory.path().join("push.tar");
        image.oci_archive(&archive, "localhost/push:1", Compression::Gzip);
        let reference = format!("{}/{name}", self.address);
        let done = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--dest-tls-verify=false"])
            .args(options)
            .arg(format!("oci-archive:{}", archive.display()))
            .arg(format!("docker://{reference}"))
            .output()
            .expect("skopeo is installed");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        reference
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn an_image_is_pulled_with_progress_and_runs() {
    let (node, registry) = (Node::empty().await, Registry::start(None));
    let mut image = Image::busybox();
    image.layers.push(Layer::new().file("pulled", 0o644, b"yes").build());
    let reference = registry.push(&image, "team/app:v1", &[]);
    let seen: Arc<Mutex<Vec<Progress>>> = Arc::default();
    let sink = seen.clone();
    let id = node
        .engine
        .pull_image(
            &reference,
            None,
            Some(Arc::new(move |progress| sink.lock().push(progress))),
        )
        .await
        .unwrap();
    assert_eq!(id.as_str(), image.id());
    for phase in [Phase::Downloading, Phase::Unpacking, Phase::Done] {
        assert!(seen.lock().iter().any(|progress| progress.phase == phase), "{phase:?}");
    }
    let info = node.engine.image(&reference).await.unwrap();
    assert_eq!(info.repo_tags, std::slice::from_ref(&reference));
    assert!(info.size > 100_000);
    let digest = info.repo_digests[0].clone();
    assert!(digest.contains("team/app@sha256:"));
    let pod = node.sandbox().await;
    let config = coracle_runtime::ContainerConfig {
        image: reference.clone(),
        ..shell("cat /pulled")
    };
    assert_eq!(node.run(&pod, config).await.1, "yes");

    // By its digest, from nothing; then by the same with the registry gone.
    node.engine.remove_sandbox(&pod).await.unwrap();
    node.engine.remove_image(id.as_str()).await.unwrap();
    assert_eq!(node.engine.pull_image(&digest, None, None).await.unwrap(), id);
    drop(registry);
    assert_eq!(node.engine.pull_image(&digest, None, None).await.unwrap(), id);
    let error = node.engine.pull_image(&reference, None, None).await.unwrap_err();
    assert!(matches!(error, Error::RegistryUnavailable { .. }), "{error:?}");
    node.finish().await;
}

#[tokio::test]
async fn a_second_pull_fetches_only_what_is_new() {
    let (node, registry) = (Node::empty().await, Registry::start(None));
    let mut image = Image::busybox();
    let reference = registry.push(&image, "app:v1", &[]);
    node.engine.pull_image(&reference, None, None).await.unwrap();
    image.layers.push(Layer::new().file("more", 0o644, b"more").build());
    registry.push(&image, "app:v1", &[]);
    let fetched: Arc<Mutex<std::collections::BTreeSet<String>>> = Arc::default();
    let sink = fetched.clone();
    let engine = &node.engine;
    let pull = || {
        let sink = sink.clone();
        engine.pull_image(
            &reference,
            None,
            Some(Arc::new(move |p: Progress| {
                sink.lock().insert(p.layer);
            })),
        )
    };
    // At once, which must not disturb each other.
    let (a, b, c) = tokio::join!(pull(), pull(), pull());
    assert_eq!(
        (a.unwrap().as_str(), b.unwrap().as_str(), c.unwrap().as_str()),
        (&*image.id(), &*image.id(), &*image.id())
    );
    assert_eq!(fetched.lock().len(), 1);
    let tagged = node.engine.image(&reference).await.unwrap();
    assert_eq!(tagged.id.as_str(), image.id());
    node.finish().await;
}

#[tokio::test]
async fn an_index_of_many_platforms_gives_the_hosts() {
    let (node, registry) = (Node::empty().await, Registry::start(None));
    let image = Image::busybox();
    let reference = registry.push(&image, "multi:1", &[]);
    let raw = Command::new("skopeo")
        .args([
            "inspect",
            "--raw",
            "--tls-verify=false",
            &format!("docker://{reference}"),
        ])
        .output()
        .unwrap()
        .stdout;
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let entry = |os: &str, arch: &str, digest: &str| {
        serde_json::json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": raw.len(),
            "digest": digest, "platform": { "os": os, "architecture": arch } })
    };
    let digest = crate::image_build::digest(&raw);
    let index = serde_json::json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry("linux", architecture, &digest)] });
    put(
        &registry,
        "multi/manifests/all",
        "application/vnd.oci.image.index.v1+json",
        &index.to_string(),
    );
    let all = format!("{}/multi:all", registry.address);
    assert_eq!(
        node.engine.pull_image(&all, None, None).await.unwrap().as_str(),
        image.id()
    );

    let foreign = serde_json::json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry("linux", "s390x", &digest)] });
    put(
        &registry,
        "multi/manifests/foreign",
        "application/vnd.oci.image.index.v1+json",
        &foreign.to_string(),
    );
    let foreign = format!("{}/multi:foreign", registry.address);
    let error = node.engine.pull_image(&foreign, None, None).await.unwrap_err();
    assert!(
        matches!(error, Error::PlatformNotFound { .. }) && error.to_string().contains("s390x"),
        "{error:?}"
    );
    node.finish().await;
}

fn put(registry: &Registry, path: &str, kind: &str, body: &str) {
    let mut stream = std::net::TcpStream::connect(&registry.address).unwrap();
    write!(
        stream,
        "PUT /v2/{path} HTTP/1.1\r\nHost: {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        registry.address,
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

#[tokio::test]
async fn what_a_registry_refuses_is_told_in_its_kind() {
    // user "user", password "secret"
    let users = "user:$2y$05$hdbqlyJsvYZHZjL7MGkHkODdJYKBS63HlWmmJMdCXTcJwyxMQcYHi\n";
    let (node, registry) = (Node::empty().await, Registry::start(None));
    let absent = format!("{}/absent:1", registry.address);
    let error = node.engine.pull_image(&absent, None, None).await.unwrap_err();
    assert!(matches!(error, Error::RegistryNotFound { .. }), "{error:?}");
    let error = node.engine.pull_image("Bad Name", None, None).await.unwrap_err();
    assert!(matches!(error, Error::InvalidImageReference { .. }), "{error:?}");

    let guarded = Registry::start(Some(users));
    let private = format!("{}/private:1", guarded.address);
    for auth in [
        None,
        Some(Auth::Basic {
            username: "user".into(),
            password: "wrong".into(),
        }),
    ] {
        let error = node.engine.pull_image(&private, auth, None).await.unwrap_err();
        assert!(matches!(error, Error::RegistryUnauthorized { .. }), "{error:?}");
    }
    node.finish().await;
}

#[tokio::test]
async fn a_corrupt_blob_in_a_registry_is_noticed() {
    let (node, registry) = (Node::empty().await, Registry::start(None));
    let image = Image::new(
        vec![Layer::new().file("f", 0o644, &[1; 9000]).build()],
        serde_json::json!({}),
    );
    let reference = registry.push(&image, "damaged:1", &[]);
    let blobs = registry
        .directory
        .path()
        .join("storage/docker/registry/v2/blobs/sha256");
    let mut largest = (0, std::path::PathBuf::new());
    for two in fs::read_dir(blobs).unwrap().flatten() {
        for blob in fs::read_dir(two.path()).unwrap().flatten() {
            let data = blob.path().join("data");
            let bytes = fs::read(&data).unwrap();
            if bytes.starts_with(&[0x1f, 0x8b]) {
                largest = (bytes.len(), data);
            }
        }
    }
    let mut bytes = fs::read(&largest.1).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&largest.1, bytes).unwrap();
    let error = node.engine.pull_image(&reference, None, None).await.unwrap_err();
    assert!(matches!(error, Error::CorruptImage { .. }), "{error:?}");
    assert!(node.engine.images().await.is_empty());
    assert_eq!(fs::read_dir(node.root().join("layers")).unwrap().count(), 0);
    node.finish().await;
}

#[tokio::test]
async fn mirrors_are_tried_in_order_and_never_get_the_registrys_own_credentials() {
    let registry = Registry::start(None);
    let image = Image::busybox();
    registry.push(&image, "team/app:1", &[]);
    let document = serde_json::json!({ "mirrors": {
        "registry.invalid": { "endpoint": [format!("http://{DEAD}"), format!("http://{}", registry.address)] } } });
    let node = Node::with(|config| config.registries = RegistryConfig::from_document(document).unwrap()).await;
    let auth = Auth::Basic {
        username: "for".into(),
        password: "the registry".into(),
    };
    let pulled = node
        .engine
        .pull_image("registry.invalid/team/app:1", Some(auth), None)
        .await
        .unwrap();
    assert_eq!(pulled.as_str(), image.id());
    let info = node.engine.image("registry.invalid/team/app:1").await.unwrap();
    assert_eq!(info.repo_tags, ["registry.invalid/team/app:1"]);
    assert!(
        info.repo_digests[0].starts_with("registry.invalid/team/app@sha256:"),
        "{info:?}"
    );
    let error = node
        .engine
        .pull_image("registry.invalid/team/absent:1", None, None)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::RegistryUnavailable { .. }), "{error:?}");
    node.finish().await;
}

/// Passes connections on to a registry. What it serves of a blob is up to the test.
pub struct Proxy {
    pub address: String,
}

impl Proxy {
    /// `blob` gets the request for each and the registry's answer, which it may change or hold back.
    pub fn before(registry: &Registry, blob: impl Fn(&str, &mut Vec<u8>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, behind) = (listener.local_addr().unwrap().to_string(), registry.address.clone());
        let blob = Arc::new(blob);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (behind, blob) = (behind.clone(), blob.clone());
                std::thread::spawn(move || pass(client, &behind, &*blob));
            }
        });
        Self { address }
    }
}

fn pass(mut client: TcpStream, behind: &str, blob: &dyn Fn(&str, &mut Vec<u8>)) {
    let mut head = BufReader::new(client.try_clone().unwrap());
    let (mut request, mut line) = (String::new(), String::new());
    while head.read_line(&mut line).unwrap_or(0) > 2 {
        // One request a connection keeps this simple.
        if !line.to_lowercase().starts_with("connection:") {
            request.push_str(&line);
        }
        line.clear();
    }
    if request.is_empty() {
        return;
    }
    let mut server = TcpStream::connect(behind).unwrap();
    write!(server, "{request}connection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).unwrap();
    if request.contains("/blobs/") {
        blob(&request, &mut answer);
    }
    let _ = client.write_all(&answer);
}

/// Cuts off the first answers that are long.
struct Cutting {
    proxy: Proxy,
    /// The `Range` of every request for a blob.
    ranges: Arc<Mutex<Vec<String>>>,
}

impl Cutting {
    fn before(registry: &Registry, cuts: usize, after: usize) -> Self {
        let ranges: Arc<Mutex<Vec<String>>> = Arc::default();
        let (seen, left) = (ranges.clone(), Mutex::new(cuts));
        let proxy = Proxy::before(registry, move |request, answer| {
            let range = request
                .lines()
                .find_map(|l| l.to_lowercase().strip_prefix("range: ").map(str::to_owned));
            seen.lock().push(range.unwrap_or_default());
            let mut left = left.lock();
            if answer.len() > after && *left > 0 {
                *left -= 1;
                answer.truncate(after);
            }
        });
        Self { proxy, ranges }
    }
}

#[tokio::test]
async fn an_interrupted_download_goes_on_where_it_was_cut_off() {
    let registry = Registry::start(None);
    // Nothing that gzip could make small.
    let mut state = 1_u64;
    let noise: Vec<u8> = (0..1_500_000)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect();
    let image = Image::new(
        vec![Layer::new().file("noise", 0o644, &noise).build()],
        serde_json::json!({}),
    );
    registry.push(&image, "large:1", &[]);
    let cutting = Cutting::before(&registry, 2, 300_000);
    let node = Node::empty().await;
    let pulled = node
        .engine
        .pull_image(&format!("{}/large:1", cutting.proxy.address), None, None)
        .await
        .unwrap();
    assert_eq!(pulled.as_str(), image.id());
    let ranges = cutting.ranges.lock().clone();
    assert!(
        ranges.iter().filter(|r| !r.is_empty() && *r != "bytes=0-").count() >= 2,
        "{ranges:?}"
    );

    assert_eq!(fs::read_dir(node.root().join("downloads")).unwrap().count(), 0);
    node.finish().await;
}

#[tokio::test]
async fn a_download_that_an_agents_end_cut_off_is_continued_by_the_next_pull() {
    let (node, registry) = (Node::empty().await, Registry::start(None));
    let image = Image::new(
        vec![Layer::new().file("f", 0o644, &[7; 90_000]).build()],
        serde_json::json!({}),
    );
    let reference = registry.push(&image, "begun:1", &[]);
    let blob = layer_of(&registry);
    let name = crate::image_build::digest(&blob)
        .trim_start_matches("sha256:")
        .to_owned();
    let downloads = node.root().join("downloads");
    fs::write(downloads.join(&name), &blob[..blob.len() / 2]).unwrap();
    let cutting = Cutting::before(&registry, 0, usize::MAX);
    let through = reference.replace(&registry.address, &cutting.proxy.address);
    node.engine.pull_image(&through, None, None).await.unwrap();
    let expected = format!("bytes={}-", blob.len() / 2);
    assert!(cutting.ranges.lock().contains(&expected), "{:?}", cutting.ranges.lock());
    assert_eq!(fs::read_dir(&downloads).unwrap().count(), 0);

    // What is there may be wrong: that is noticed, and does not stay in the way.
    node.engine.remove_image(&through).await.unwrap();
    fs::write(downloads.join(&name), vec![0; blob.len()]).unwrap();
    let error = node.engine.pull_image(&through, None, None).await.unwrap_err();
    assert!(matches!(error, Error::CorruptImage { .. }), "{error:?}");
    node.engine.pull_image(&through, None, None).await.unwrap();
    node.finish().await;
}

/// The one layer in a registry.
fn layer_of(registry: &Registry) -> Vec<u8> {
    let blobs = registry
        .directory
        .path()
        .join("storage/docker/registry/v2/blobs/sha256");
    let two = fs::read_dir(blobs).unwrap().flatten();
    let all = two.flat_map(|two| fs::read_dir(two.path()).unwrap().flatten());
    let mut bytes = all.map(|blob| fs::read(blob.path().join("data")).unwrap());
    bytes.find(|bytes| bytes.starts_with(&[0x1f, 0x8b])).unwrap()
}
