//! A registry on this machine, with an image as large as real ones: `docker-registry` and `skopeo` of the distribution.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use anyhow::Context;
use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::process::said;

const NAME: &str = "bench/many:1";
const LAYERS: u64 = 6;

/// Ends with this.
pub struct Registry {
    _child: Child,
    /// What the image is called there.
    pub reference: String,
    /// Of the image, unpacked.
    pub files: u64,
    pub bytes: u64,
}

impl Registry {
    /// With an image of so many MiB.
    pub async fn start(directory: &TempDir, mebibytes: u64) -> anyhow::Result<Self> {
        let directory = directory.path();
        let config = directory.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: info, formatter: json}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n",
            directory.join("registry").display()
        );
        std::fs::write(&config, text)?;
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot run docker-registry")?;
        let log = child.stderr.take().context("the registry has no output")?;
        let mut lines = BufReader::new(log).lines();
        let address = loop {
            let line = lines.next_line().await?.context("the registry ended")?;
            if let Some((_, rest)) = line.split_once("listening on ") {
                break rest.split('"').next().unwrap_or_default().to_owned();
            }
        };
        // Somebody has to go on reading.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });

        let archive = directory.join("many.tar");
        let making = archive.clone();
        let files = tokio::task::spawn_blocking(move || make(&making, mebibytes)).await??;
        let reference = format!("{address}/{NAME}");
        let copy = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"])
            .arg(format!("docker-archive:{}", archive.display()))
            .arg(format!("docker://{reference}"))
            .output()
            .await;
        said("skopeo", copy)?;
        std::fs::remove_file(archive)?;
        Ok(Self {
            _child: child,
            reference,
            files,
            bytes: mebibytes << 20,
        })
    }
}

/// An archive of an image of so many MiB in layers of many files, half of them text; returns how many.
fn make(archive: &Path, mebibytes: u64) -> anyhow::Result<u64> {
    let mut archive = tar::Builder::new(std::io::BufWriter::new(std::fs::File::create(archive)?));
    let (mut chance, mut files) = (Chance(0x9e37_79b9_7f4a_7c15), 0);
    let (mut names, mut digests) = (Vec::new(), Vec::new());
    for layer in 0..LAYERS {
        let mut content = tar::Builder::new(Vec::new());
        let (mut left, mut number) = ((mebibytes << 20) / LAYERS, 0);
        while left > 0 {
            // Between 1 and 64 KiB, most of them small.
            let most = 1 << (10 + chance.below(7));
            let size = (most / 2 + chance.below(most / 2)).min(left);
            let path = format!("usr/lib/{layer}/{}/{number}", number / 100);
            entry(&mut content, &path, &chance.file(usize::try_from(size)?))?;
            (left, number) = (left - size, number + 1);
        }
        files += number;
        let content = content.into_inner()?;
        let digest = Sha256::digest(&content);
        digests.push(format!("sha256:{}", hex(&digest)));
        names.push(format!("{layer}.tar"));
        entry(&mut archive, &format!("{layer}.tar"), &content)?;
    }
    let architecture = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let config = json!({"architecture": architecture, "os": "linux", "config": {"Cmd": ["/none"]},
        "rootfs": {"type": "layers", "diff_ids": digests}});
    entry(&mut archive, "config.json", config.to_string().as_bytes())?;
    let manifest = json!([{"Config": "config.json", "RepoTags": [NAME], "Layers": names}]);
    entry(&mut archive, "manifest.json", manifest.to_string().as_bytes())?;
    archive.into_inner()?.flush()?;
    Ok(files)
}

fn entry(archive: &mut tar::Builder<impl Write>, path: &str, data: &[u8]) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(data.len() as u64);
    archive.append_data(&mut header, path, data)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Numbers that look like chance, the same in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }

    /// What can be compressed to about half.
    fn file(&mut self, size: usize) -> Vec<u8> {
        let mut data = Vec::with_capacity(size + 512);
        while data.len() < size {
            for _ in 0..32 {
                data.extend(self.next().to_le_bytes());
            }
            data.extend_from_slice(&TEXT.as_bytes()[..256]);
        }
        data.truncate(size);
        data
    }
}

const TEXT: &str = "The quick brown fox jumps over the lazy dog, and the dog, which has seen many a fox in its days, does not so much \
     as lift its head; for there is a time to run and a time to lie in the sun, and the sun, which has seen many a dog, shines \
     on all of them alike, as it has always done.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_as_many_bytes_as_were_asked_for_in_many_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.tar");
        let files = make(&path, 1).unwrap();
        let mut archive = tar::Archive::new(std::fs::File::open(&path).unwrap());
        let (mut layers, mut bytes, mut seen) = (0, 0, 0);
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            if entry.path().unwrap().extension().is_some_and(|e| e == "tar") {
                layers += 1;
                let mut layer = tar::Archive::new(entry);
                for file in layer.entries().unwrap() {
                    bytes += file.unwrap().size();
                    seen += 1;
                }
            }
        }
        assert_eq!((layers, seen), (LAYERS, files));
        assert_eq!(bytes, (1 << 20) / LAYERS * LAYERS);
        assert!(files > 30);
    }
}
