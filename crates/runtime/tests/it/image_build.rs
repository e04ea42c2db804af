//! Builds images for tests: layers entry by entry, archives in both formats.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A layer's tar stream in the making.
pub struct Layer(tar::Builder<Vec<u8>>);

impl Layer {
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn header(kind: EntryType, mode: u32, size: u64) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header
    }

    /// Writes the name as it is, which the library would refuse for the evil ones.
    fn append(mut self, mut header: Header, name: &str, data: &[u8]) -> Self {
        let field = &mut header.as_old_mut().name;
        field.fill(0);
        field[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    pub fn dir(self, name: &str, mode: u32) -> Self {
        self.append(Self::header(EntryType::Directory, mode, 0), name, b"")
    }

    pub fn file(self, name: &str, mode: u32, data: &[u8]) -> Self {
        self.append(Self::header(EntryType::Regular, mode, data.len() as u64), name, data)
    }

    pub fn owned(self, name: &str, uid: u64, gid: u64, mode: u32, data: &[u8]) -> Self {
        let mut header = Self::header(EntryType::Regular, mode, data.len() as u64);
        header.set_uid(uid);
        header.set_gid(gid);
        self.append(header, name, data)
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        let mut header = Self::header(EntryType::Symlink, 0o777, 0);
        header.set_link_name_literal(target).unwrap();
        self.append(header, name, b"")
    }

    pub fn link(self, name: &str, target: &str) -> Self {
        let mut header = Self::header(EntryType::Link, 0o644, 0);
        header.set_link_name_literal(target).unwrap();
        self.append(header, name, b"")
    }

    pub fn device(self, name: &str, major: u32, minor: u32) -> Self {
        let mut header = Self::header(EntryType::Char, 0o666, 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.append(header, name, b"")
    }

    /// PAX records for the entry that follows.
    pub fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    pub fn build(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

#[derive(Clone, Copy, PartialEq)]
pub enum Compression {
    Plain,
    Gzip,
    Zstd,
}

pub fn compress(data: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::Plain => data.to_vec(),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(data, 1).unwrap(),
    }
}

#[derive(Clone)]
pub struct Image {
    pub layers: Vec<Vec<u8>>,
    pub config: Value,
}

impl Image {
    pub fn new(layers: Vec<Vec<u8>>, config: Value) -> Self {
        Self { layers, config }
    }

    /// The host's static busybox with its usual names, users and directories.
    pub fn busybox() -> Self {
        let binary = fs::read("/bin/busybox").expect("busybox-static is installed");
        let mut layer = Layer::new()
            .dir("bin/", 0o755)
            .dir("etc/", 0o755)
            .dir("tmp/", 0o1777)
            .dir("root/", 0o700)
            .dir("proc/", 0o555)
            .dir("sys/", 0o555)
            .dir("dev/", 0o755)
            .file("bin/busybox", 0o755, &binary)
            .file(
                "etc/passwd",
                0o644,
                b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:app:/home/app:/bin/sh\n",
            )
            .file("etc/group", 0o644, b"root:x:0:\napp:x:1001:\nextra:x:50:app\n")
            .file("etc/plain", 0o644, b"not a program\n");
        for name in [
            "sh", "cat", "sleep", "echo", "ls", "id", "stat", "mount", "ip", "nc", "hostname", "kill", "ps",
            "readlink", "dd", "head", "tail", "touch", "mkdir", "rm", "grep", "env", "pwd", "chmod", "ping", "wc",
            "true", "false", "tty", "stty", "test", "yes", "mknod", "unshare", "sysctl", "seq", "chown", "umount",
            "df", "printf", "cut",
        ] {
            layer = layer.symlink(&format!("bin/{name}"), "busybox");
        }
        let config = json!({ "Env": ["PATH=/bin", "FROM_IMAGE=yes"], "Cmd": ["sh"] });
        Self::new(vec![layer.build()], config)
    }

    pub fn config_file(&self) -> Vec<u8> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| digest(layer)).collect();
        serde_json::to_vec(&json!({
            "architecture": architecture, "os": "linux", "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        }))
        .unwrap()
    }

    pub fn id(&self) -> String {
        digest(&self.config_file())
    }

    /// As `docker save` writes it.
    pub fn docker_archive(&self, path: &Path, tags: &[&str]) {
        let config = self.config_file();
        let config_name = format!("{}.json", digest(&config).trim_start_matches("sha256:"));
        let names: Vec<String> = (0..self.layers.len())
            .map(|index| format!("{index}/layer.tar"))
            .collect();
        let manifest = json!([{ "Config": config_name, "RepoTags": tags, "Layers": names }]);
        let mut files: Vec<(String, Vec<u8>)> = vec![(config_name, config)];
        files.extend(names.into_iter().zip(self.layers.iter().cloned()));
        files.push(("manifest.json".into(), serde_json::to_vec(&manifest).unwrap()));
        write_archive(path, &files);
    }

    /// The blobs of an OCI layout and its manifest's descriptor.
    pub fn oci_blobs(&self, compression: Compression) -> (Vec<(String, Vec<u8>)>, Value) {
        let config = self.config_file();
        let kind = match compression {
            Compression::Plain => "application/vnd.oci.image.layer.v1.tar",
            Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        };
        let layers: Vec<Vec<u8>> = self.layers.iter().map(|layer| compress(layer, compression)).collect();
        let describe =
            |kind: &str, blob: &[u8]| json!({ "mediaType": kind, "digest": digest(blob), "size": blob.len() });
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": describe("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers.iter().map(|layer| describe(kind, layer)).collect::<Vec<_>>(),
        }))
        .unwrap();
        let descriptor = describe("application/vnd.oci.image.manifest.v1+json", &manifest);
        let blobs = layers.into_iter().chain([config, manifest]);
        (blobs.map(|blob| (blob_path(&blob), blob)).collect(), descriptor)
    }

    pub fn oci_archive(&self, path: &Path, name: &str, compression: Compression) {
        let (mut files, mut descriptor) = self.oci_blobs(compression);
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        let index = json!({ "schemaVersion": 2, "manifests": [descriptor] });
        files.push(("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
        files.push(("index.json".into(), serde_json::to_vec(&index).unwrap()));
        write_archive(path, &files);
    }
}

pub fn blob_path(blob: &[u8]) -> String {
    format!("blobs/sha256/{}", digest(blob).trim_start_matches("sha256:"))
}

pub fn write_archive(path: &Path, files: &[(String, Vec<u8>)]) {
    let mut archive = tar::Builder::new(File::create(path).unwrap());
    for (name, data) in files {
        let mut header = Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &data[..]).unwrap();
    }
    archive.finish().unwrap();
}
