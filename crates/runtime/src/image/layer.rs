//! Turns layer files into layer directories: decompressing, verifying, unpacking.
//!
//! Layers are unpacked side by side, each to a directory of its own, and settled with the layers below them in order. One
//! that cannot be understood by itself (it has links into lower layers, or leads through their links) is unpacked once
//! more on a mounted view of the layers below, where all of it means what it means in the image. The mounts live in a
//! mount namespace of the unpacking thread's own and vanish with it, however it ends.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::unpack::{Assumed, Below, unpack};
use super::{Phase, Progress, ProgressSink};
use crate::error::{Error, Result};
use crate::id;

/// How many layers of an image are downloaded at a time, and how many are unpacked.
pub(crate) const PARALLEL: u8 = 3;

/// One layer of an image: where its tar stream is and what it must hash to.
pub(crate) struct LayerSource {
    /// Of the file as stored; `None` where the format names only the unpacked digest.
    pub(crate) digest: Option<String>,
    /// Of the uncompressed stream.
    pub(crate) diff_id: String,
    pub(crate) file: PathBuf,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// When it is unpacked already, but not in its place.
    pub(crate) apart: Option<Apart>,
}

/// A layer that was verified and unpacked by itself, in a temporary directory that goes with this.
pub(crate) struct Apart {
    directory: Temporary,
    /// Of the lowest layer there is nothing to assume.
    assumed: Option<Assumed>,
}

struct Temporary(PathBuf);

impl Temporary {
    /// The root of an image is open to all unless it says otherwise; the umask must not have a say.
    fn create(directory: PathBuf) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        fs::create_dir(&directory).map_err(Error::io("create", &directory))?;
        let temporary = Self(directory);
        fs::set_permissions(&temporary.0, fs::Permissions::from_mode(0o755))
            .map_err(Error::io("set mode of", &temporary.0))?;
        Ok(temporary)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Unpacks a layer by itself to a new `directory`, until it is told to stop. `None` when it takes the layers below.
pub(crate) fn unpack_apart(
    directory: PathBuf,
    lowest: bool,
    source: &LayerSource,
    what: &str,
    progress: &ProgressSink,
    stopped: &AtomicBool,
) -> Result<Option<Apart>> {
    let directory = Temporary::create(directory)?;
    report(progress, source, Phase::Unpacking, 0);
    let below = if lowest { Below::Nothing } else { Below::Unknown };
    let mut understood = true;
    let read = read_layer(source, what, |stream| {
        let unpacked = unpack(Stoppable { stream, stopped }, &directory.0, below);
        understood = unpacked.is_ok();
        unpacked
    });
    match read {
        Ok(assumed) => Ok(Some(Apart {
            directory,
            assumed: (!lowest).then_some(assumed),
        })),
        // Whether it is corrupt is seen on the layers below.
        Err(Error::CorruptImage { .. }) if !lowest && !understood => Ok(None),
        Err(error) => Err(error),
    }
}

/// A stream that ends with an error once nobody wants it any more.
struct Stoppable<'a> {
    stream: &'a mut dyn Read,
    stopped: &'a AtomicBool,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(io::Error::other("nobody waits for it any more"));
        }
        self.stream.read(buffer)
    }
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
    temporary: &(dyn Fn() -> PathBuf + Sync),
    names: &[String],
    mut sources: Vec<Option<LayerSource>>,
    what: &str,
    progress: &ProgressSink,
) -> Result<()> {
    if names.iter().all(|name| layers.join(name).is_dir()) {
        return Ok(());
    }
    let mut absent = Vec::new();
    for (index, source) in sources.iter_mut().enumerate().rev() {
        if let Some(source) = source
            && source.apart.is_none()
            && !layers.join(&names[index]).is_dir()
        {
            absent.push((index, source));
        }
    }
    let waiting = Mutex::new(absent);
    let threads = waiting.lock().len().min(PARALLEL.into());
    let each = || {
        loop {
            // Two statements, so that the lock is not held while one is unpacked.
            let next = waiting.lock().pop();
            let Some((index, source)) = next else { return Ok(()) };
            source.apart = unpack_apart(temporary(), index == 0, source, what, progress, &AtomicBool::new(false))?;
        }
    };
    in_threads(layers, what, threads, each)?;
    drop(waiting);
    let sources = Mutex::new(sources);
    in_threads(layers, what, 1, || {
        private_mounts(layers).map_err(Error::io("prepare mounts to unpack in", layers))?;
        let mut sources = sources.lock();
        for (index, name) in names.iter().enumerate() {
            if layers.join(name).is_dir() {
                continue;
            }
            let Some(source) = &mut sources[index] else {
                return Err(Error::corrupt(what, format!("layer {name} is missing")));
            };
            let apart = source.apart.take();
            if !place(layers, &names[..index], name, apart)? {
                unpack_one(layers, &names[..index], name, source, what, progress)?;
            }
            report(progress, source, Phase::Done, source.length);
        }
        Ok(())
    })
}

/// Runs `work` in threads of its own, and has the first failure.
fn in_threads(layers: &Path, what: &str, count: usize, work: impl Fn() -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let start = || {
            let thread = std::thread::Builder::new().name("unpack".to_owned());
            thread
                .spawn_scoped(scope, &work)
                .map_err(Error::io("start thread to unpack", layers))
        };
        let threads: Vec<_> = (0..count).map(|_| start()).collect();
        threads.into_iter().try_for_each(|thread| {
            let joined = thread?.join();
            joined.unwrap_or_else(|_| Err(Error::Failed(format!("unpacking {what} panicked"))))
        })
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

/// Brings a layer that was unpacked by itself to its place. `false` when it has to be unpacked on the layers below.
fn place(layers: &Path, below: &[String], name: &str, apart: Option<Apart>) -> Result<bool> {
    let Some(Apart { directory, assumed }) = apart else {
        return Ok(false);
    };
    if let Some(assumed) = assumed {
        let settle = |lower: &Path| {
            let settled = assumed.settle(&directory.0, lower);
            settled.map_err(Error::io("settle a layer with those below it in", &directory.0))
        };
        let settled = match below {
            [only] => settle(&layers.join(only))?,
            _ => {
                let target = Temporary::create(layers.join(temporary_name()))?;
                shown(&target.0, &stack(below), || settle(&target.0))?
            }
        };
        if !settled {
            return Ok(false);
        }
    }
    move_to_place(&directory.0, &layers.join(name))?;
    Ok(true)
}

/// Unpacks a layer on a mounted view of those below it.
fn unpack_one(
    layers: &Path,
    below: &[String],
    name: &str,
    source: &LayerSource,
    what: &str,
    progress: &ProgressSink,
) -> Result<()> {
    let prefix = temporary_name();
    let (upper, work) = (prefix.clone(), format!("{prefix}-w"));
    let directory = Temporary::create(layers.join(&upper))?;
    report(progress, source, Phase::Unpacking, 0);
    if below.is_empty() {
        read_layer(source, what, |stream| unpack(stream, &directory.0, Below::Nothing))?;
    } else {
        let _work = Temporary::create(layers.join(&work))?;
        let target = Temporary::create(layers.join(format!("{prefix}-m")))?;
        let options = format!("{},upperdir={upper},workdir={work}", stack(below));
        shown(&target.0, &options, || {
            read_layer(source, what, |stream| unpack(stream, &target.0, Below::Shown))
        })?;
    }
    move_to_place(&directory.0, &layers.join(name))
}

fn temporary_name() -> String {
    let name: String = id::random().chars().take(12).collect();
    format!(".tmp-{name}")
}

/// The option of overlayfs that names a stack of layers, by names in the working directory.
fn stack(below: &[String]) -> String {
    let lower: Vec<&str> = below.iter().rev().map(String::as_str).collect();
    format!("lowerdir={}", lower.join(":"))
}

/// Does something while an overlay is mounted at `target`.
fn shown<T>(target: &Path, options: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let options = format!("{options}{}", crate::snapshot::stable_options());
    let kind = Some("overlay");
    mount(kind, target, kind, MsFlags::empty(), Some(options.as_str()))
        .map_err(Error::io("mount the layers below at", target))?;
    let result = work();
    let unmounted = umount2(target, MntFlags::MNT_DETACH).map_err(Error::io("unmount", target));
    result.and_then(|value| unmounted.map(|()| value))
}

fn move_to_place(from: &Path, directory: &Path) -> Result<()> {
    match fs::rename(from, directory) {
        Ok(()) => Ok(()),
        // Someone else unpacked the same layer meanwhile: theirs is as good.
        Err(_) if directory.is_dir() => Ok(()),
        Err(error) => Err(Error::io("move layer to", directory)(error)),
    }
}

/// Feeds a layer's uncompressed stream to `consume`, and checks both digests to the last byte.
fn read_layer<T>(source: &LayerSource, what: &str, consume: impl FnOnce(&mut dyn Read) -> io::Result<T>) -> Result<T> {
    let corrupt = |reason: String| Error::corrupt(format!("layer {} of {what}", source.diff_id), reason);
    let mut file = File::open(&source.file).map_err(Error::io("open layer", &source.file))?;
    file.seek(SeekFrom::Start(source.offset))
        .map_err(Error::io("read layer", &source.file))?;
    let stored = Hashing::new(file.take(source.length));
    let mut plain = Hashing::new(decompress(stored).map_err(|error| corrupt(error.to_string()))?);
    let consumed = match consume(&mut plain) {
        Ok(consumed) => consumed,
        // The disk's own failures are not the image's fault.
        Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            return Err(Error::io("unpack layer of", &source.file)(error));
        }
        Err(error) => return Err(corrupt(error.to_string())),
    };
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
    Ok(consumed)
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
