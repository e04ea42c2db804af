//! Packs an unpacked layer into a tar stream: the reverse of [`unpack`](super::unpack). What overlayfs writes down about
//! removals becomes whiteouts again.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};
use tar::{Builder, EntryType, Header};

use crate::sys;

const OPAQUE: &[u8] = b"trusted.overlay.opaque";

/// Packs everything below `root`.
pub(super) fn pack(root: &Path, out: &mut impl Write) -> io::Result<()> {
    let mut packer = Packer {
        tar: Builder::new(out),
        links: HashMap::new(),
    };
    packer.directory(root, Path::new(""))?;
    packer.tar.into_inner()?;
    Ok(())
}

struct Packer<W: Write> {
    tar: Builder<W>,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Packer<W> {
    fn directory(&mut self, directory: &Path, name: &Path) -> io::Result<()> {
        let mut children: Vec<_> = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
        children.sort_by_key(fs::DirEntry::file_name);
        for child in children {
            self.entry(&child.path(), &name.join(child.file_name()))?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, name: &Path) -> io::Result<()> {
        let metadata = fs::symlink_metadata(path)?;
        let kind = metadata.file_type();
        if kind.is_char_device() && metadata.rdev() == 0 {
            return self.whiteout(name);
        }
        if kind.is_socket() {
            return Ok(());
        }
        let mut header = header_of(&metadata);
        if !kind.is_dir() && metadata.nlink() > 1 {
            match self.links.get(&(metadata.dev(), metadata.ino())) {
                Some(first) => {
                    header.set_entry_type(EntryType::Link);
                    return self.tar.append_link(&mut header, name, first);
                }
                None => drop(self.links.insert((metadata.dev(), metadata.ino()), name.to_owned())),
            }
        }
        let xattrs = if kind.is_symlink() {
            Vec::new()
        } else {
            sys::xattrs(path)?
        };
        self.extensions(&metadata, &xattrs)?;
        if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
            self.tar.append_data(&mut header, name.join(""), io::empty())?;
            if xattrs
                .iter()
                .any(|(key, value)| key.as_bytes() == OPAQUE && value == b"y")
            {
                self.empty(&name.join(".wh..wh..opq"))?;
            }
            return self.directory(path, name);
        }
        if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            return self.tar.append_link(&mut header, name, fs::read_link(path)?);
        }
        if kind.is_file() {
            header.set_entry_type(EntryType::Regular);
            header.set_size(metadata.len());
            return self.tar.append_data(&mut header, name, File::open(path)?);
        }
        header.set_entry_type(if kind.is_fifo() {
            EntryType::Fifo
        } else if kind.is_char_device() {
            EntryType::Char
        } else {
            EntryType::Block
        });
        if !kind.is_fifo() {
            let part = |number: u64| u32::try_from(number).map_err(io::Error::other);
            header.set_device_major(part(major(metadata.rdev()))?)?;
            header.set_device_minor(part(minor(metadata.rdev()))?)?;
        }
        self.tar.append_data(&mut header, name, io::empty())
    }

    /// What the header of the entry that follows cannot say.
    fn extensions(&mut self, metadata: &Metadata, xattrs: &[(std::ffi::CString, Vec<u8>)]) -> io::Result<()> {
        let mut records: Vec<(String, Vec<u8>)> = Vec::new();
        if metadata.mtime_nsec() != 0 {
            let time = format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec());
            records.push(("mtime".to_owned(), time.into_bytes()));
        }
        for (key, value) in xattrs {
            // Overlayfs's own state is of this host.
            if let Ok(key) = key.to_str()
                && !key.starts_with("trusted.overlay.")
                && !key.starts_with("user.overlay.")
            {
                records.push((format!("SCHILY.xattr.{key}"), value.clone()));
            }
        }
        if records.is_empty() {
            return Ok(());
        }
        let all = records.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        self.tar.append_pax_extensions(all)
    }

    fn whiteout(&mut self, name: &Path) -> io::Result<()> {
        let mut hidden = b".wh.".to_vec();
        hidden.extend_from_slice(name.file_name().unwrap_or_default().as_bytes());
        self.empty(&name.with_file_name(std::ffi::OsStr::from_bytes(&hidden)))
    }

    fn empty(&mut self, name: &Path) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        self.tar.append_data(&mut header, name, io::empty())
    }
}

fn header_of(metadata: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(metadata.mode() & 0o7777);
    header.set_uid(metadata.uid().into());
    header.set_gid(metadata.gid().into());
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header.set_size(0);
    header
}
