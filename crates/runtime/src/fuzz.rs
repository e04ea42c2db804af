//! What the fuzzers of `fuzz/` call in the runtime: image references, manifests, layers. Compiled for tests and for the
//! fuzzers only. Each takes any bytes and must not panic.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::image::config::{ConfigFile, parse_signal};
use crate::image::unpack::{Below, unpack};
use crate::image::{as_image_id, layer, manifest, parse_reference};

/// The name of an image.
pub fn image_reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    as_image_id(text);
    parse_signal(text);
    if let Ok(reference) = parse_reference(text) {
        let whole = reference.whole();
        let again = parse_reference(&whole);
        assert_eq!(again.ok().map(|r| r.whole()), Some(whole));
    }
}

/// Manifest, index and configuration.
pub fn image_manifest(bytes: &[u8]) {
    if let Ok(manifest::Document::Index(index)) = manifest::parse(bytes, "fuzz") {
        let _ = manifest::choose(&index, "fuzz");
    }
    let _ = ConfigFile::parse(bytes, "fuzz");
}

/// A layer, perhaps compressed, is unpacked inside its directory and nowhere else.
pub fn layer_archive(bytes: &[u8]) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let place: PathBuf = std::env::temp_dir().join(format!("coracle-fuzz-{}-{number}", std::process::id()));
    let root = place.join("root");
    let lower = place.join("lower");
    if fs::create_dir_all(&root).is_err()
        || fs::create_dir(&lower).is_err()
        || fs::write(place.join("beside"), "untouched").is_err()
    {
        return;
    }
    for below in [Below::Shown, Below::Unknown] {
        if let Ok(plain) = layer::decompress(std::io::Cursor::new(bytes)) {
            // Longer ones are a matter of disk space, not of reading.
            let assumed = unpack(std::io::Read::take(plain, 1 << 20), &root, below);
            let _ = assumed.and_then(|assumed| assumed.settle(&root, &lower));
        }
    }
    let mut names: Vec<_> = fs::read_dir(&place)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["beside", "lower", "root"]);
    assert_eq!(fs::read(place.join("beside")).ok().as_deref(), Some(&b"untouched"[..]));
    let _ = fs::remove_dir_all(&place);
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::replay::replay;
    use super::*;

    #[test]
    fn every_input_of_the_corpora_and_what_is_near_it_holds() {
        replay("image_reference", image_reference);
        replay("image_manifest", image_manifest);
        replay("layer_archive", layer_archive);
    }
}
