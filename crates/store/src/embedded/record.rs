//! How one change lies on the disk: a row under its revision and place, with a checksum over both. What does not
//! check out is reported by name and never handed on.

use std::sync::Arc;

use bytes::Bytes;

use super::state::RowId;
use crate::{Event, EventKind, KeyValue};

const PUT: u8 = 1;
const DELETE: u8 = 2;
/// Checksum, kind, create revision, version, length of the key.
const HEADER: usize = 4 + 1 + 8 + 8 + 4;

/// The change that a row holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record {
    Put(Arc<KeyValue>),
    Delete(Arc<str>),
}

/// How many bytes the row of an event takes.
pub(super) fn size(event: &Event) -> usize {
    HEADER + event.kv.key.len() + stored_value(event).len()
}

fn stored_value(event: &Event) -> &[u8] {
    match event.kind {
        EventKind::Put => &event.kv.value,
        EventKind::Delete => &[],
    }
}

/// Writes the row of an event into `out`, which has exactly [`size`] bytes.
pub(super) fn encode(row: RowId, event: &Event, out: &mut [u8]) {
    let kv = &event.kv;
    let kind = match event.kind {
        EventKind::Put => PUT,
        EventKind::Delete => DELETE,
    };
    let mut at = 4;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&[kind]);
    put(&kv.create_revision.to_le_bytes());
    put(&kv.version.to_le_bytes());
    put(&(kv.key.len() as u32).to_le_bytes());
    put(kv.key.as_bytes());
    put(stored_value(event));
    let sum = checksum(row, &out[4..]);
    out[..4].copy_from_slice(&sum.to_le_bytes());
}

/// Reads a row back; the error says what is wrong with it.
pub(super) fn decode(row: RowId, bytes: &[u8]) -> Result<Record, String> {
    let name = |key: Option<&[u8]>| match key.map(String::from_utf8_lossy) {
        Some(key) => format!("value of {key} at revision {}", row.0),
        None => format!("value at revision {}", row.0),
    };
    let Some((sum, body)) = bytes.split_first_chunk::<4>() else {
        return Err(name(None));
    };
    let fields = split(body);
    if u32::from_le_bytes(*sum) != checksum(row, body) {
        return Err(name(fields.map(|fields| fields.key)));
    }
    let fields = fields.ok_or_else(|| name(None))?;
    let key: Arc<str> = std::str::from_utf8(fields.key)
        .map_err(|_| name(Some(fields.key)))?
        .into();
    match fields.kind {
        PUT => Ok(Record::Put(Arc::new(KeyValue {
            key,
            value: Bytes::copy_from_slice(fields.value),
            create_revision: fields.create_revision,
            mod_revision: row.0,
            version: fields.version,
        }))),
        DELETE => Ok(Record::Delete(key)),
        _ => Err(name(Some(fields.key))),
    }
}

struct Fields<'a> {
    kind: u8,
    create_revision: u64,
    version: u64,
    key: &'a [u8],
    value: &'a [u8],
}

fn split(body: &[u8]) -> Option<Fields<'_>> {
    let (kind, rest) = body.split_first()?;
    let (create_revision, rest) = rest.split_first_chunk::<8>()?;
    let (version, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (key, value) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some(Fields {
        kind: *kind,
        create_revision: u64::from_le_bytes(*create_revision),
        version: u64::from_le_bytes(*version),
        key,
        value,
    })
}

fn checksum(row: RowId, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&row.0.to_le_bytes());
    hasher.update(&row.1.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: EventKind) -> Vec<u8> {
        let kv = Arc::new(KeyValue {
            key: "/registry/pods/a/b".into(),
            value: Bytes::from_static(b"some value"),
            create_revision: 5,
            mod_revision: 9,
            version: 3,
        });
        let event = Event {
            kind,
            kv,
            previous: None,
        };
        let mut bytes = vec![0; size(&event)];
        encode((9, 2), &event, &mut bytes);
        bytes
    }

    #[test]
    fn a_row_reads_back_as_it_was_written() {
        let Record::Put(kv) = decode((9, 2), &row(EventKind::Put)).unwrap() else {
            panic!("a put")
        };
        assert_eq!((&*kv.key, &kv.value[..]), ("/registry/pods/a/b", &b"some value"[..]));
        assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (5, 9, 3));
        assert_eq!(
            decode((9, 2), &row(EventKind::Delete)).unwrap(),
            Record::Delete("/registry/pods/a/b".into())
        );
    }

    #[test]
    fn any_changed_byte_and_any_truncation_is_an_error() {
        let good = row(EventKind::Put);
        for at in 0..good.len() {
            for flip in [1, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= flip;
                assert!(decode((9, 2), &bad).is_err(), "byte {at} xor {flip:x}");
            }
            assert!(decode((9, 2), &good[..at]).is_err());
        }
    }

    #[test]
    fn a_row_under_another_revision_is_an_error_that_names_the_key() {
        let error = decode((8, 2), &row(EventKind::Put)).unwrap_err();
        assert!(error.contains("/registry/pods/a/b"), "{error}");
    }
}
