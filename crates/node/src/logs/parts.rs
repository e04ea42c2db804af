//! The files of one log: those put aside, oldest first, and the one that is written. The runtime may put a file aside at
//! any moment, so files are told by what they are and not by their names.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// An open file of a log.
pub(super) struct Part {
    pub(super) file: File,
    inode: u64,
}

impl Part {
    /// `None` when there is none of that name any more.
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let inode = file.metadata()?.ino();
        Ok(Some(Self { file, inode }))
    }
}

/// All that there are, oldest first; each once, and none left out between two of them.
pub(super) fn all(path: &Path) -> io::Result<Vec<Part>> {
    // What is written now is opened first: if it is put aside meanwhile, it is found again among the others.
    let newest = Part::open(path)?;
    let mut parts = Vec::new();
    for path in put_aside(path)? {
        parts.extend(Part::open(&path)?);
    }
    if let Some(newest) = newest
        && parts.iter().all(|p| p.inode != newest.inode)
    {
        parts.push(newest);
    }
    Ok(parts)
}

/// What follows the part; `None` while nothing does.
pub(super) fn after(path: &Path, part: &Part) -> io::Result<Option<Part>> {
    // Nearly always.
    if std::fs::metadata(path).is_ok_and(|now| now.ino() == part.inode) {
        return Ok(None);
    }
    let mut parts = all(path)?;
    let next = match parts.iter().position(|p| p.inode == part.inode) {
        Some(at) => at + 1,
        // It was the oldest once and is removed: all that is there is newer.
        None => 0,
    };
    Ok((next < parts.len()).then(|| parts.swap_remove(next)))
}

fn put_aside(path: &Path) -> io::Result<Vec<PathBuf>> {
    let Some((dir, name)) = path.parent().zip(path.file_name().and_then(|n| n.to_str())) else {
        return Ok(Vec::new());
    };
    let prefix = format!("{name}.");
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|e| e.path())
        .filter(|p| {
            p.file_name()
                .and_then(|n| n.to_str())
                .is_some_and(|n| n.starts_with(&prefix) && !n.ends_with(".gz") && !n.ends_with(".tmp"))
        })
        .collect();
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn text(part: &Part) -> String {
        let mut text = String::new();
        (&part.file).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn parts_follow_each_other_however_often_they_are_renamed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let aside = |n: u32| dir.path().join(format!("0.log.20260101-00000{n}"));
        std::fs::write(&path, "a").unwrap();
        let first = all(&path).unwrap().remove(0);
        assert!(after(&path, &first).unwrap().is_none());
        for (n, content) in [(1, "b"), (2, "c"), (3, "d"), (4, "e")] {
            std::fs::rename(&path, aside(n)).unwrap();
            std::fs::write(&path, content).unwrap();
        }
        let second = after(&path, &first).unwrap().unwrap();
        assert_eq!((text(&first), text(&second)), ("a".into(), "b".into()));
        std::fs::remove_file(aside(1)).unwrap();
        std::fs::remove_file(aside(2)).unwrap();
        let next = after(&path, &second).unwrap().unwrap();
        assert_eq!(text(&next), "c", "what is left is newer");
        std::fs::rename(&path, aside(5)).unwrap();
        assert_eq!(all(&path).unwrap().iter().map(text).collect::<String>(), "cde");
    }
}
