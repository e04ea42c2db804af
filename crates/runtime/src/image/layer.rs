//! Turns layer files into layer directories: decompressing, verifying, unpacking in order.
//!
//! A layer is unpacked on a mounted view of the layers below it, so that links into them, directories that it only
//! passes through and whiteouts mean what they mean in the image. The mounts live in a mount namespace of the
//! unpacking thread's own and vanish with it, however it ends.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use sha2::{Digest, Sha256};

use super::{Phase, Progress, ProgressSink};
use crate::error::{Error, Result};
use crate::id;

/// One layer of an image: where its tar stream is and what it must hash to.
#[derive(Clone, Debug)]
pub(crate) struct LayerSource {
    /// Of the file as stored; `None` where the format names only the unpacked digest.
    pub(crate) digest: Option<String>,
    /// Of the uncompressed stream.
    pub(crate) diff_id: String,
    pub(crate) file: PathBuf,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// The names of a stack of layers: the first 96 bits of each one's chain id.
pub(crate) fn chain_names(diff_ids: &[String]) -> Vec<String> {
    let mut chain = String::new();
    let mut names = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        chain = if chain.is_empty() {
            diff_id.clone()
        } else {
            format!("sha256:{}", id::hex(&Sha256::digest(format!("{chain} {diff_id}"))))
        };
        let digits = chain.strip_prefix("sha256:").unwrap_or(&chain);
        // Short, because overlayfs takes the names of up to 127 layers in one page.
        names.push(digits.chars().take(24).collect());
    }
    names
}

/// Unpacks whichever of the layers are not there yet. `sources[i]` may be `None` for a layer that is.
pub(crate) fn unpack_all(
    layers: &Path,
    names: &[String],
    sources: &[Option<LayerSource>],
    what: &str,
    progress: &ProgressSink,
) -> Result<()> {
    if names.iter().all(|name| layers.join(name).is_dir()) {
        return Ok(());
    }
    let work = || {
        private_mounts(layers).map_err(Error::io("prepare mounts to unpack in", layers))?;
        for (index, name) in names.iter().enumerate() {
            if layers.join(name).is_dir() {
                continue;
            }
            let Some(source) = &sources[index] else {
                return Err(Error::corrupt(what, format!("layer {name} is missing")));
            };
            unpack_one(layers, &names[..index], name, source, what, progress)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("unpack".to_owned())
            .spawn_scoped(scope, work);
        let thread = thread.map_err(Error::io("start thread to unpack", layers))?;
        thread
            .join()
            .unwrap_or_else(|_| Err(Error::Failed(format!("unpacking {what} panicked"))))
    })
}

/// Gives the calling thread mounts and a working directory of its own.
fn private_mounts(directory: &Path) -> io::Result<()> {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )?;
    nix::unistd::chdir(directory)?;
    Ok(())
}

fn unpack_one(
    layers: &Path,
    below: &[String],
    name: &str,
    source: &LayerSource,
    what: &str,
    progress: &ProgressSink,
) -> Result<()> {
    let temporary = TemporaryLayer::create(layers)?;
    let upper = layers.join(&temporary.upper);
    report(progress, source, Phase::Unpacking, 0);
    if below.is_empty() {
        read_layer(source, what, |stream| super::unpack::unpack(stream, &upper, false))?;
    } else {
        let lower: Vec<&str> = below.iter().rev().map(String::as_str).collect();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}{}",
            lower.join(":"),
            temporary.upper,
            temporary.work,
            crate::snapshot::stable_options()
        );
        let target = layers.join(&temporary.target);
        mount(
            Some("overlay"),
            &target,
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .map_err(Error::io("mount the layers below at", &target))?;
        let result = read_layer(source, what, |stream| super::unpack::unpack(stream, &target, true));
        let unmounted = umount2(&target, MntFlags::MNT_DETACH).map_err(Error::io("unmount", &target));
        result.and(unmounted)?;
    }
    let directory = layers.join(name);
    match fs::rename(&upper, &directory) {
        Ok(()) => {}
        // Someone else unpacked the same layer meanwhile: theirs is as good.
        Err(_) if directory.is_dir() => {}
        Err(error) => return Err(Error::io("move layer to", directory)(error)),
    }
    report(progress, source, Phase::Done, source.length);
    Ok(())
}

/// Feeds a layer's uncompressed stream to `consume`, and checks both digests to the last byte.
fn read_layer(source: &LayerSource, what: &str, consume: impl FnOnce(&mut dyn Read) -> io::Result<()>) -> Result<()> {
    let corrupt = |reason: String| Error::corrupt(format!("layer {} of {what}", source.diff_id), reason);
    let mut file = File::open(&source.file).map_err(Error::io("open layer", &source.file))?;
    file.seek(SeekFrom::Start(source.offset))
        .map_err(Error::io("read layer", &source.file))?;
    let stored = Hashing::new(file.take(source.length));
    let mut plain = Hashing::new(decompress(stored).map_err(|error| corrupt(error.to_string()))?);
    match consume(&mut plain) {
        Ok(()) => {}
        // The disk's own failures are not the image's fault.
        Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            return Err(Error::io("unpack layer of", &source.file)(error));
        }
        Err(error) => return Err(corrupt(error.to_string())),
    }
    io::copy(&mut plain, &mut io::sink()).map_err(|error| corrupt(error.to_string()))?;
    let (mut decoder, diff_id) = plain.finish();
    if diff_id != source.diff_id {
        return Err(corrupt(format!("its content hashes to {diff_id}")));
    }
    // Bytes after the compressed stream count for the digest of the file.
    let stored = decoder.stored();
    io::copy(stored, &mut io::sink()).map_err(|error| corrupt(error.to_string()))?;
    if let Some(expected) = &source.digest {
        let actual = stored.digest();
        if actual != *expected {
            return Err(corrupt(format!(
                "its file should hash to {expected} but hashes to {actual}"
            )));
        }
    }
    Ok(())
}

pub(crate) enum Decoder<R: Read> {
    Plain(BufReader<R>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<R>>>),
}

impl<R: Read> Decoder<R> {
    fn stored(&mut self) -> &mut R {
        match self {
            Self::Plain(reader) => reader.get_mut(),
            Self::Gzip(reader) => reader.get_mut().get_mut(),
            Self::Zstd(reader) => reader.get_mut().get_mut(),
        }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buffer),
            Self::Gzip(reader) => reader.read(buffer),
            Self::Zstd(reader) => reader.read(buffer),
        }
    }
}

/// Which compression the first bytes of a file tell of.
pub(crate) fn decompress<R: Read>(stored: R) -> io::Result<Decoder<R>> {
    use std::io::BufRead;
    let mut reader = BufReader::with_capacity(1 << 17, stored);
    let start = reader.fill_buf()?;
    Ok(if start.starts_with(&[0x1f, 0x8b]) {
        Decoder::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(reader)))
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Decoder::Zstd(Box::new(zstd::stream::read::Decoder::with_buffer(reader)?))
    } else {
        Decoder::Plain(reader)
    })
}

/// Decompresses a whole file, for archives that are compressed as such. `None` when it is not.
pub(crate) fn decompress_archive(file: &Path, into: &Path) -> io::Result<Option<File>> {
    let mut decoder = decompress(File::open(file)?)?;
    if matches!(decoder, Decoder::Plain(_)) {
        return Ok(None);
    }
    let mut plain = File::options().read(true).write(true).create_new(true).open(into)?;
    io::copy(&mut decoder, &mut plain)?;
    Ok(Some(plain))
}

/// Hashes what is read through it.
struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Hashing<R> {
    fn new(inner: R) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
        }
    }

    fn digest(&self) -> String {
        format!("sha256:{}", id::hex(&self.hash.clone().finalize()))
    }

    fn finish(self) -> (R, String) {
        let digest = self.digest();
        (self.inner, digest)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

/// Directories for one unpacking, gone when it is over.
struct TemporaryLayer {
    layers: PathBuf,
    upper: String,
    work: String,
    target: String,
}

impl TemporaryLayer {
    fn create(layers: &Path) -> Result<Self> {
        let name: String = id::random().chars().take(12).collect();
        let temporary = Self {
            layers: layers.to_owned(),
            upper: format!(".tmp-{name}"),
            work: format!(".tmp-{name}-w"),
            target: format!(".tmp-{name}-m"),
        };
        for directory in [&temporary.upper, &temporary.work, &temporary.target] {
            let path = layers.join(directory);
            fs::create_dir(&path).map_err(Error::io("create", &path))?;
        }
        // The root of an image is open to all unless it says otherwise; the umask must not have a say.
        let upper = layers.join(&temporary.upper);
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o755)).map_err(Error::io("set mode of", &upper))?;
        Ok(temporary)
    }
}

impl Drop for TemporaryLayer {
    fn drop(&mut self) {
        for directory in [&self.target, &self.work, &self.upper] {
            let _ = fs::remove_dir_all(self.layers.join(directory));
        }
    }
}

/// Makes everything in the file system of `directory` durable.
pub(crate) fn sync_filesystem(directory: &Path) -> Result<()> {
    let file = File::open(directory).map_err(Error::io("open", directory))?;
    nix::unistd::syncfs(file.as_raw_fd()).map_err(Error::io("sync", directory))
}

fn report(progress: &ProgressSink, source: &LayerSource, phase: Phase, current: u64) {
    if let Some(progress) = progress {
        let layer = source.digest.clone().unwrap_or_else(|| source.diff_id.clone());
        progress(Progress {
            layer,
            phase,
            current,
            total: source.length,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layers_name_depends_on_all_layers_below_it() {
        let one = chain_names(&["sha256:aa".into(), "sha256:bb".into()]);
        let two = chain_names(&["sha256:cc".into(), "sha256:bb".into()]);
        assert_eq!(one[0], "aa");
        assert_ne!(one[1], two[1]);
        assert_eq!(one[1].len(), 24);
    }
}
