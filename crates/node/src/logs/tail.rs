//! The end of a log: where the last lines begin, and the last words for a termination message.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::line::Line;

const BLOCK: u64 = 16 * 1024;

/// The offset at which the last `lines` lines of the log begin. A line that was written in parts is one line.
pub(super) fn offset_of_last(file: &File, length: u64, lines: u64) -> io::Result<u64> {
    if lines == 0 {
        return Ok(length);
    }
    let mut seen = 0;
    let mut end = length;
    let mut carry: Vec<u8> = Vec::new();
    let mut start_of_known = length;
    // Backwards, block by block; `carry` is the beginning of a line whose head is in an earlier block.
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        let mut block = vec![0; usize::try_from(end - begin).unwrap_or(0)];
        file.read_exact_at(&mut block, begin)?;
        block.extend_from_slice(&carry);
        let mut cut = block.len();
        if end == length && block.last() == Some(&b'\n') {
            cut -= 1;
        }
        while let Some(at) = block[..cut].iter().rposition(|b| *b == b'\n') {
            if is_whole(&block[at + 1..cut]) {
                if seen == lines {
                    return Ok(start_of_known);
                }
                seen += 1;
            }
            start_of_known = begin + at as u64 + 1;
            cut = at;
        }
        if begin == 0 {
            if is_whole(&block[..cut]) && seen == lines {
                return Ok(start_of_known);
            }
            return Ok(0);
        }
        carry = block[..cut].to_vec();
        // What is left unread ends where this block began; the carried head is kept in memory.
        end = begin;
        if carry.len() > 1 << 20 {
            return Ok(start_of_known);
        }
    }
    Ok(0)
}

/// The last part of a line, which ends it.
fn is_whole(line: &[u8]) -> bool {
    Line::parse(line).is_none_or(|l| !l.partial)
}

/// The last lines of a log as text, at most `most` bytes.
pub(crate) fn tail(path: &Path, lines: usize, most: usize) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(offset_of_last(&file, length, lines as u64)?))?;
        let mut bytes = Vec::new();
        file.take(1 << 20).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let mut out = Vec::new();
    for line in read().unwrap_or_default().split_inclusive(|b| *b == b'\n') {
        if let Some(line) = Line::parse(line.strip_suffix(b"\n").unwrap_or(line)) {
            out.extend_from_slice(line.text);
            if !line.partial {
                out.push(b'\n');
            }
        }
    }
    let from = out.len().saturating_sub(most);
    String::from_utf8_lossy(&out[from..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_found_across_blocks_and_parts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut text = String::new();
        for n in 0..2000 {
            text.push_str(&format!(
                "2026-01-01T00:00:00Z stdout P a{n}-\n2026-01-01T00:00:00Z stdout F b{n}\n"
            ));
        }
        std::fs::write(&path, &text).unwrap();
        let file = File::open(&path).unwrap();
        for lines in [0, 1, 2, 400, 1999, 2000, 5000] {
            let offset = offset_of_last(&file, text.len() as u64, lines).unwrap();
            let count = text[usize::try_from(offset).unwrap()..].matches(" F ").count() as u64;
            assert_eq!(count, lines.min(2000), "{lines}");
            assert!(
                text[usize::try_from(offset).unwrap()..].is_empty()
                    || text[usize::try_from(offset).unwrap()..].contains("stdout P a")
            );
        }
        assert_eq!(tail(&path, 2, 100), "a1998-b1998\na1999-b1999\n");
        assert_eq!(tail(&path, 2, 4), "999\n");
        assert_eq!(tail(&dir.path().join("none"), 2, 4), "");
    }
}
