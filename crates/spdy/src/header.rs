//! Header blocks: names and values, compressed with one zlib stream per direction and connection.

use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::dictionary::dictionary;

/// A block that inflates to more is not one that a client of ours sends.
const BLOCK_LIMIT: usize = 64 << 10;

/// Names in lower case, with their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn of(pairs: &[(&str, &str)]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self(pairs.iter().map(own).collect())
    }

    fn parse(block: &[u8]) -> io::Result<Self> {
        let mut rest = block;
        let count = number(&mut rest)?;
        let mut headers = Self::default();
        for _ in 0..count {
            let name = text(&mut rest)?.to_ascii_lowercase();
            headers.0.push((name, text(&mut rest)?));
        }
        Ok(headers)
    }

    fn write(&self) -> Vec<u8> {
        let mut block = length(self.0.len()).to_vec();
        for part in self.0.iter().flat_map(|(name, value)| [name, value]) {
            block.extend_from_slice(&length(part.len()));
            block.extend_from_slice(part.as_bytes());
        }
        block
    }
}

fn length(count: usize) -> [u8; 4] {
    u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes()
}

fn number(rest: &mut &[u8]) -> io::Result<usize> {
    let (head, tail) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    *rest = tail;
    usize::try_from(u32::from_be_bytes(*head)).map_err(|_| short())
}

fn text(rest: &mut &[u8]) -> io::Result<String> {
    let length = number(rest)?;
    let (head, tail) = rest.split_at_checked(length).ok_or_else(short)?;
    *rest = tail;
    Ok(String::from_utf8_lossy(head).into_owned())
}

fn short() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a header block ends early")
}

/// Reads the blocks of one direction, all of them and in order.
pub(crate) struct Decoder(Decompress);

impl Decoder {
    pub(crate) fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub(crate) fn decode(&mut self, mut compressed: &[u8]) -> io::Result<Headers> {
        let mut block = vec![0; BLOCK_LIMIT];
        let mut filled = 0;
        while !compressed.is_empty() {
            let (read, written) = (self.0.total_in(), self.0.total_out());
            let result = self
                .0
                .decompress(compressed, &mut block[filled..], FlushDecompress::Sync);
            let taken = usize::try_from(self.0.total_in() - read).unwrap_or(usize::MAX);
            compressed = compressed.get(taken..).unwrap_or_default();
            filled += usize::try_from(self.0.total_out() - written).unwrap_or(0);
            match result {
                Ok(Status::StreamEnd) => break,
                Ok(_) if taken == 0 && !compressed.is_empty() => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a header block is too long"));
                }
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&dictionary()).map_err(io::Error::other)?;
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
        Headers::parse(&block[..filled])
    }
}

/// Writes the blocks of one direction.
pub(crate) struct Encoder(Compress);

impl Encoder {
    pub(crate) fn new() -> io::Result<Self> {
        let mut compress = Compress::new(Compression::fast(), true);
        compress.set_dictionary(&dictionary()).map_err(io::Error::other)?;
        Ok(Self(compress))
    }

    pub(crate) fn encode(&mut self, headers: &Headers) -> io::Result<Vec<u8>> {
        let block = headers.write();
        // What does not shrink grows by a few bytes a block.
        let mut out = Vec::with_capacity(block.len() + 128);
        let status = self
            .0
            .compress_vec(&block, &mut out, FlushCompress::Sync)
            .map_err(io::Error::other)?;
        if status == Status::BufError || out.len() == out.capacity() {
            return Err(io::Error::other("a header block did not fit"));
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_as_written_and_share_their_history() {
        let (mut encoder, mut decoder) = (Encoder::new().unwrap(), Decoder::new());
        let headers = Headers::of(&[("streamtype", "data"), ("port", "8080"), ("requestid", "0")]);
        let first = encoder.encode(&headers).unwrap();
        let second = encoder.encode(&headers).unwrap();
        assert!(second.len() < first.len());
        assert_eq!(decoder.decode(&first).unwrap(), headers);
        assert_eq!(decoder.decode(&second).unwrap(), headers);
        assert_eq!(headers.get("RequestID"), Some("0"));
        assert_eq!(
            decoder.decode(&encoder.encode(&Headers::default()).unwrap()).unwrap(),
            Headers::default()
        );
    }

    #[test]
    fn a_block_that_another_implementation_wrote_is_read() {
        // zlib.compressobj(zdict=dictionary) of {"Streamtype": "error"}, flushed.
        let block = [
            0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2, 0x02, 0xa6, 0x23, 0x46, 0x50, 0xca, 0x0a, 0x2e, 0x29, 0x4a, 0x4d, 0xcc,
            0x85, 0x16, 0x25, 0xac, 0xa9, 0xa0, 0x80, 0x06, 0x00, 0x00, 0x00, 0xff, 0xff,
        ];
        let headers = Decoder::new().decode(&block).unwrap();
        assert_eq!(headers.get("streamtype"), Some("error"));
    }

    #[test]
    fn damaged_and_endless_blocks_are_errors() {
        assert!(Decoder::new().decode(&[1, 2, 3, 4]).is_err());
        assert!(Headers::parse(&[0, 0, 0, 1, 0, 0, 0, 9, b'x']).is_err());
        assert!(Headers::parse(&[0xff; 4]).is_err());
        let mut encoder = Encoder::new().unwrap();
        let long = "x".repeat(2 * BLOCK_LIMIT);
        let bomb = encoder.encode(&Headers::of(&[("a", &long)]));
        assert!(bomb.is_err() || Decoder::new().decode(&bomb.unwrap()).is_err());
    }
}
