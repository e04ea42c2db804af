//! Writes the files of a volume so that readers see the old ones or the new ones and never a mixture: a new directory,
//! then the `..data` link turned to it by one rename. The same layout as upstream, which programs watch.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::Path;

use coracle_clock::Timestamp;

use super::payload::Payload;

const DATA: &str = "..data";
const DATA_NEXT: &str = "..data_tmp";

/// Publishes the payload in `dir`. Nothing is written when it is there already.
pub(crate) fn write(dir: &Path, payload: &Payload, group: Option<u32>, now: Timestamp) -> io::Result<()> {
    let previous = match fs::read_link(dir.join(DATA)) {
        Ok(target) => Some(target),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if let Some(previous) = &previous
        && holds(&dir.join(previous), payload)
    {
        return links(dir, payload);
    }
    let version = new_version(dir, now)?;
    let path = dir.join(&version);
    own(&path, None, group, 0o755)?;
    for (name, file) in &payload.files {
        let target = path.join(name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
            for between in parent.ancestors().take_while(|a| *a != path) {
                own(between, None, group, 0o755)?;
            }
        }
        let mut out = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&target)?;
        out.write_all(&file.bytes)?;
        own(&target, file.owner, group, file.mode)?;
    }
    let next = dir.join(DATA_NEXT);
    match fs::remove_file(&next) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => symlink(&version, &next)?,
    }
    fs::rename(&next, dir.join(DATA))?;
    own(dir, None, group, 0o777)?;
    links(dir, payload)?;
    sweep(dir, &version)
}

fn own(path: &Path, user: Option<u32>, group: Option<u32>, mode: u32) -> io::Result<()> {
    if user.is_some() || group.is_some() {
        chown(path, user, group)?;
    }
    let setgid = if group.is_some() && path.is_dir() { 0o2000 } else { 0 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode | setgid))
}

fn new_version(dir: &Path, now: Timestamp) -> io::Result<String> {
    let stamp = now.strftime("%Y_%m_%d_%H_%M_%S").to_string();
    for n in now.subsec_nanosecond().unsigned_abs().. {
        let name = format!("..{stamp}.{n}");
        match fs::create_dir(dir.join(&name)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            result => return result.map(|()| name),
        }
    }
    Err(io::Error::other("no free name for a new version"))
}

/// Whether the version at `path` is this payload.
fn holds(path: &Path, payload: &Payload) -> bool {
    let mut found = BTreeSet::new();
    if files_below(path, "", &mut found).is_err() || !found.iter().eq(payload.files.keys()) {
        return false;
    }
    payload.files.iter().all(|(name, file)| {
        let at = path.join(name);
        let same_mode = fs::metadata(&at).is_ok_and(|m| m.permissions().mode() & 0o777 == file.mode);
        same_mode && fs::read(&at).is_ok_and(|bytes| bytes == file.bytes)
    })
}

fn files_below(path: &Path, prefix: &str, found: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            files_below(&entry.path(), &format!("{name}/"), found)?;
        } else {
            found.insert(name);
        }
    }
    Ok(())
}

/// One link per first component, through `..data`; links to what is gone are removed.
fn links(dir: &Path, payload: &Payload) -> io::Result<()> {
    let wanted: BTreeSet<&str> = payload.files.keys().filter_map(|name| name.split('/').next()).collect();
    for name in &wanted {
        match symlink(Path::new(DATA).join(name), dir.join(name)) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !wanted.contains(name.as_ref()) && entry.file_type()?.is_symlink() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Removes every version but `current`: older ones, and what a crash left.
fn sweep(dir: &Path, current: &str) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("..") && name != *current && entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str, i32)]) -> Payload {
        let mut payload = Payload::default();
        for (path, text, mode) in files {
            payload
                .insert(path, text.as_bytes().to_vec(), Some(*mode), None)
                .unwrap();
        }
        payload
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn readers_go_through_the_data_link_and_updates_turn_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        write(
            dir.path(),
            &payload(&[("a", "1", 0o640), ("d/b", "2", 0o600)]),
            None,
            now(),
        )
        .unwrap();
        assert_eq!(fs::read_to_string(at("a")).unwrap(), "1");
        assert_eq!(fs::read_to_string(at("d/b")).unwrap(), "2");
        assert_eq!(fs::metadata(at("a")).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_link(at("a")).unwrap(), Path::new("..data/a"));
        let first = fs::read_link(at(DATA)).unwrap();

        write(
            dir.path(),
            &payload(&[("a", "1", 0o640), ("d/b", "2", 0o600)]),
            None,
            now(),
        )
        .unwrap();
        assert_eq!(
            fs::read_link(at(DATA)).unwrap(),
            first,
            "nothing changed, nothing written"
        );

        write(
            dir.path(),
            &payload(&[("a", "new", 0o640), ("c", "3", 0o644)]),
            None,
            now(),
        )
        .unwrap();
        assert_ne!(fs::read_link(at(DATA)).unwrap(), first);
        assert_eq!(fs::read_to_string(at("a")).unwrap(), "new");
        assert_eq!(fs::read_to_string(at("c")).unwrap(), "3");
        assert!(!at("d").exists());
        assert!(!dir.path().join(first).exists(), "old versions go away");
    }

    #[test]
    fn paths_cannot_leave_the_volume() {
        for path in ["", "/a", "../a", "a/../b", "..data", "a//b"] {
            assert!(Payload::default().insert(path, vec![], None, None).is_err(), "{path}");
        }
    }
}
