//! Layers side by side: what comes out is what unpacking one on another gives.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};

use coracle_runtime::{Archive, ContainerConfig, Error, Phase, PodRuntime, Progress};
use parking_lot::Mutex;
use serde_json::json;

use crate::image_build::{Compression, Image, Layer, compress, digest};
use crate::node::Node;
use crate::registry::{Proxy, Registry};

fn six_layers() -> Image {
    let layer = |index: u8| Layer::new().file(&format!("f{index}"), 0o644, &[index; 5000]).build();
    Image::new((0..6).map(layer).collect(), json!({}))
}

fn blob_of(layer: &[u8]) -> String {
    digest(&compress(layer, Compression::Gzip))
}

#[tokio::test]
async fn three_layers_are_downloaded_at_a_time() {
    let (node, registry) = (Node::empty().await, Registry::start(None));
    let image = six_layers();
    registry.push(&image, "six:1", &[]);
    let layers: Vec<String> = image.layers.iter().map(|layer| blob_of(layer)).collect();
    let most = Arc::new(AtomicUsize::new(0));
    let (seen, current, three) = (most.clone(), AtomicUsize::new(0), Barrier::new(3));
    let proxy = Proxy::before(&registry, move |request, _| {
        if layers.iter().any(|layer| request.contains(layer)) {
            seen.fetch_max(current.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            three.wait();
            current.fetch_sub(1, Ordering::SeqCst);
        }
    });
    let reference = format!("{}/six:1", proxy.address);
    let id = node.engine.pull_image(&reference, None, None).await.unwrap();
    assert_eq!(id.as_str(), image.id());
    assert_eq!(most.load(Ordering::SeqCst), 3);
    node.finish().await;
}

#[tokio::test]
async fn a_layer_is_unpacked_while_another_is_still_on_its_way() {
    let (node, registry) = (Node::empty().await, Registry::start(None));
    let image = six_layers();
    registry.push(&image, "six:1", &[]);
    let (first, second) = (blob_of(&image.layers[0]), blob_of(&image.layers[1]));
    let (unpacking, begun) = mpsc::channel();
    let begun = Mutex::new(begun);
    let proxy = Proxy::before(&registry, move |request, _| {
        if request.contains(&first) {
            begun.lock().recv().unwrap();
        }
    });
    let sink = move |progress: Progress| {
        if progress.layer == second && progress.phase == Phase::Unpacking {
            let _ = unpacking.send(());
        }
    };
    let reference = format!("{}/six:1", proxy.address);
    let id = node
        .engine
        .pull_image(&reference, None, Some(Arc::new(sink)))
        .await
        .unwrap();
    assert_eq!(id.as_str(), image.id());
    node.finish().await;
}

/// Tells when the last of those who report progress is gone.
struct Gone(mpsc::Sender<()>);

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[tokio::test]
async fn a_pull_that_nobody_waits_for_any_more_leaves_only_what_the_next_one_continues() {
    let (node, registry) = (Node::empty().await, Registry::start(None));
    let reference = registry.push(&Image::busybox(), "app:1", &[]);
    let (started, unpacking) = tokio::sync::oneshot::channel();
    let (end, ended) = mpsc::channel();
    let (started, dropped) = (Mutex::new(Some(started)), Arc::new(Barrier::new(2)));
    let (gone, wait) = (Gone(end), dropped.clone());
    let sink = move |progress: Progress| {
        let _gone = &gone;
        if progress.phase == Phase::Unpacking
            && let Some(started) = started.lock().take()
        {
            started.send(()).unwrap();
            wait.wait();
        }
    };
    {
        let pull = node.engine.pull_image(&reference, None, Some(Arc::new(sink)));
        tokio::select! {
            biased;
            _ = unpacking => {}
            _ = pull => panic!("the pull waits for its unpacking"),
        }
    }
    dropped.wait();
    tokio::task::spawn_blocking(move || ended.recv().unwrap())
        .await
        .unwrap();
    let count = |directory: &str| fs::read_dir(node.root().join(directory)).unwrap().count();
    assert_eq!((count("tmp"), count("layers"), count("images")), (0, 0, 0));
    assert_eq!(count("downloads"), 1);

    node.engine.pull_image(&reference, None, None).await.unwrap();
    assert_eq!((count("tmp"), count("layers"), count("downloads")), (0, 1, 0));
    node.finish().await;
}

#[tokio::test]
async fn one_corrupt_layer_of_many_ends_the_whole_pull() {
    let registry = Registry::start(None);
    for corrupt in [0, 3] {
        // What a failed pull has downloaded whole is kept for the next, which therefore may ask for less.
        let node = Node::empty().await;
        let image = six_layers();
        registry.push(&image, "six:1", &[]);
        let blob = blob_of(&image.layers[corrupt]);
        let proxy = Proxy::before(&registry, move |request, answer| {
            if request.contains(&blob) {
                let middle = answer.len() - 20;
                answer[middle] ^= 0xff;
            }
        });
        let reference = format!("{}/six:1", proxy.address);
        let error = node.engine.pull_image(&reference, None, None).await.unwrap_err();
        assert!(matches!(error, Error::CorruptImage { .. }), "{error:?}");
        let count = |directory: &str| fs::read_dir(node.root().join(directory)).unwrap().count();
        assert_eq!((count("tmp"), count("layers"), count("images")), (0, 0, 0));
        node.finish().await;
    }
}

/// Numbers that look like chance, the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    /// A path of one to three names, whose first ones are mostly directories and the last `last`.
    fn path(&mut self, last: &str) -> String {
        let mut path = String::new();
        for _ in 0..self.below(3) {
            let kind = ["d", "d", "d", "d", "d", "d", "l"][self.below(7) as usize];
            path += &format!("{kind}{}/", self.below(2));
        }
        // Now and then it was something else before.
        let last = if self.below(12) == 0 { "d" } else { last };
        path + &format!("{last}{}", self.below(3))
    }

    /// A layer of entries in any order: what they name may be in the layers below, in this one or nowhere.
    fn layer(&mut self) -> Layer {
        let mut layer = Layer::new();
        for _ in 0..4 + self.below(8) {
            layer = match self.below(16) {
                0..=4 => {
                    let text = self.below(1000).to_string();
                    layer.file(&self.path("f"), 0o600 + self.below(64) as u32, text.as_bytes())
                }
                5..=7 => layer.dir(&(self.path("d") + "/"), 0o700 + self.below(64) as u32),
                8 => layer
                    .pax(&[("SCHILY.xattr.user.color", self.below(9).to_string().as_bytes())])
                    .dir(&(self.path("d") + "/"), 0o755),
                9 => layer.symlink(&self.path("l"), &format!("d{}", self.below(2))),
                10 => {
                    let target = self.path("f");
                    layer.file(&target, 0o644, b"linked").link(&self.path("h"), &target)
                }
                11..=13 => {
                    let last = ["f", "d"][self.below(2) as usize];
                    let path = self.path(last);
                    let (parent, name) = path.rsplit_once('/').map_or(("", &*path), |(p, n)| (p, n));
                    layer.file(
                        Path::new(parent).join(format!(".wh.{name}")).to_str().unwrap(),
                        0o644,
                        b"",
                    )
                }
                _ => layer.file(&(self.path("d") + "/.wh..wh..opq"), 0o644, b""),
            };
        }
        layer
    }
}

/// What can be seen of a tree. A directory that a layer only passes through has no time of its own.
fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let kind = metadata.file_type();
            let content = if kind.is_symlink() {
                format!("to {}", fs::read_link(&path).unwrap().display())
            } else if kind.is_dir() {
                open.push(path.clone());
                format!("{:?}", crate::images::xattr(&path, "user.color"))
            } else {
                format!("{:?} at {}", fs::read_to_string(&path), metadata.mtime())
            };
            let text = format!("{:o} {}:{} {content}", metadata.mode(), metadata.uid(), metadata.gid());
            found.insert(path.strip_prefix(root).unwrap().display().to_string(), text);
        }
    }
    found
}

#[tokio::test]
async fn layers_unpacked_by_themselves_and_one_on_another_give_the_same_tree() {
    let node = Node::empty().await;
    let pod = node.engine.run_sandbox(node.sandbox_config("trees")).await.unwrap().id;
    let mut compared = 0;
    for seed in 1..=40 {
        let mut trees = Vec::new();
        for on_another in [false, true] {
            let mut chance = Chance(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
            let mut layers = vec![chance.layer().file("anchor", 0o644, b"anchor").build()];
            for index in 0..3 {
                let mut layer = chance.layer();
                if on_another {
                    // A link into what is below can only be made on what is below.
                    layer = layer.link(&format!("held{index}"), "anchor");
                }
                layers.push(layer.build());
            }
            let tag = format!("tree/{on_another}:{seed}");
            let archive = node.directory.path().join("image.tar");
            Image::new(layers, json!({})).docker_archive(&archive, &[&tag]);
            match node.engine.import_archive(Archive::Path(archive), None).await {
                Ok(_) => {
                    let config = ContainerConfig {
                        name: format!("{seed}-{on_another}"),
                        image: tag,
                        command: vec!["/x".into()],
                        ..ContainerConfig::default()
                    };
                    let id = node.create(&pod, config).await;
                    let root = node.root().join("containers").join(id.as_str()).join("rootfs");
                    let mut tree = tree(&root);
                    tree.retain(|path, _| !path.starts_with("held"));
                    node.engine.remove_container(&id).await.unwrap();
                    trees.push(Some(tree));
                }
                // Such as a file in a file, or a directory in one that a link leads to nowhere.
                Err(Error::CorruptImage { .. }) => trees.push(None),
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!(trees[0], trees[1], "seed {seed}");
        compared += usize::from(trees[0].is_some());
    }
    assert!(compared > 15, "only {compared} could be unpacked");
    node.finish().await;
}
