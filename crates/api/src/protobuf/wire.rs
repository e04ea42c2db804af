//! Tags, variable-length numbers and length-delimited fields. Knows nothing of objects.

use super::ProtobufError;

pub(crate) const VARINT: u8 = 0;
pub(crate) const FIXED64: u8 = 1;
pub(crate) const BYTES: u8 = 2;
pub(crate) const FIXED32: u8 = 5;

/// Fields of one message, in the order they come.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

/// One field as it is on the wire.
#[derive(Clone, Copy)]
pub(crate) struct RawField<'a> {
    pub number: u32,
    pub wire: u8,
    /// A number's value.
    value: u64,
    /// A length-delimited field's content.
    content: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0_u64;
        for at in 0..10 {
            let byte = *self.rest.get(at).ok_or(ProtobufError::UnexpectedEnd)?;
            if at == 9 && byte > 1 {
                return Err(ProtobufError::Overflow);
            }
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        Err(ProtobufError::Overflow)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtobufError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(ProtobufError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn fixed64(&mut self) -> Result<u64, ProtobufError> {
        let bytes = self.take(8)?.try_into().map_err(|_| ProtobufError::UnexpectedEnd)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The next field, or nothing at the end of the message.
    pub fn field(&mut self) -> Result<Option<RawField<'a>>, ProtobufError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let wire = (tag & 7) as u8;
        let number = match u32::try_from(tag >> 3) {
            Ok(number) if number > 0 && number < 1 << 29 => number,
            _ => return Err(ProtobufError::IllegalTag(tag)),
        };
        let (mut value, mut content) = (0, &[][..]);
        match wire {
            VARINT => value = self.varint()?,
            FIXED64 => value = self.fixed64()?,
            FIXED32 => content = self.take(4)?,
            BYTES => {
                let length = usize::try_from(self.varint()?).map_err(|_| ProtobufError::UnexpectedEnd)?;
                content = self.take(length)?;
            }
            // Groups are in none of the messages.
            _ => return Err(ProtobufError::IllegalTag(tag)),
        }
        Ok(Some(RawField {
            number,
            wire,
            value,
            content,
        }))
    }
}

impl<'a> RawField<'a> {
    fn expect(&self, wire: u8, name: &str) -> Result<(), ProtobufError> {
        if self.wire == wire {
            return Ok(());
        }
        Err(ProtobufError::WrongType {
            field: name.to_owned(),
            found: self.wire,
        })
    }

    pub fn varint(&self, name: &str) -> Result<u64, ProtobufError> {
        self.expect(VARINT, name)?;
        Ok(self.value)
    }

    pub fn double(&self, name: &str) -> Result<f64, ProtobufError> {
        self.expect(FIXED64, name)?;
        Ok(f64::from_bits(self.value))
    }

    pub fn bytes(&self, name: &str) -> Result<&'a [u8], ProtobufError> {
        self.expect(BYTES, name)?;
        Ok(self.content)
    }

    pub fn str(&self, name: &str) -> Result<&'a str, ProtobufError> {
        std::str::from_utf8(self.bytes(name)?).map_err(|_| ProtobufError::Malformed {
            field: name.to_owned(),
            why: "the string is not UTF-8".into(),
        })
    }

    pub fn string(&self, name: &str) -> Result<String, ProtobufError> {
        self.str(name).map(str::to_owned)
    }
}

/// A message being written.
#[derive(Default)]
pub(crate) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            out: Vec::with_capacity(capacity),
        }
    }

    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    fn tag(&mut self, number: u32, wire: u8) {
        self.varint(u64::from(number) << 3 | u64::from(wire));
    }

    pub fn varint_field(&mut self, number: u32, value: u64) {
        self.tag(number, VARINT);
        self.varint(value);
    }

    pub fn double_field(&mut self, number: u32, value: f64) {
        self.tag(number, FIXED64);
        self.raw(&value.to_bits().to_le_bytes());
    }

    pub fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.tag(number, BYTES);
        self.varint(bytes.len() as u64);
        self.raw(bytes);
    }

    /// A message within this one. Its length is put before it when it is known.
    pub fn nested(&mut self, number: u32, inside: impl FnOnce(&mut Self)) {
        self.tag(number, BYTES);
        let start = self.out.len();
        // One byte is enough for most.
        self.out.push(0);
        inside(self);
        let length = self.out.len() - start - 1;
        if length < 0x80 {
            self.out[start] = length as u8;
        } else {
            let mut prefix = Writer::default();
            prefix.varint(length as u64);
            self.out.splice(start..=start, prefix.out);
        }
    }
}
