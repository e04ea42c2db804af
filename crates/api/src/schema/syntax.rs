//! What is wrong with a text that should be JSON, as Go's `encoding/json` says it: clients know these words.

/// The first fault of the text; nothing if it is one value of JSON.
pub(crate) fn fault(text: &[u8]) -> Option<String> {
    let mut scan = Scan {
        rest: text,
        has_ended: false,
    };
    scan.document().err().map(|fault| match fault {
        Fault::End => "unexpected end of JSON input".to_owned(),
        Fault::At(byte, what) => format!("invalid character {} {what}", quoted(byte)),
    })
}

/// A text with what is no character replaced, as Go reads it: bytes that are not UTF-8, and halves of surrogate pairs.
pub(super) fn repaired(text: &[u8]) -> String {
    let mut whole = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        whole.push_str(chunk.valid());
        whole.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    let mut out = String::with_capacity(whole.len());
    let mut rest = whole.as_str();
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        // An escape is two characters, or six.
        let (kept, length) = match (unit(escape), escape.get(6..).and_then(unit)) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => (escape.get(..12), 12),
            (Some(0xd800..0xe000), _) => (Some("\\ufffd"), 6),
            _ => (None, escape.char_indices().nth(2).map_or(escape.len(), |(i, _)| i)),
        };
        out.push_str(kept.or(escape.get(..length)).unwrap_or_default());
        rest = escape.get(length..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// The number of an escape `\u1234` that a text begins with.
fn unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u32::from_str_radix(digits, 16).ok()
}

enum Fault {
    /// There should be more.
    End,
    /// A byte that should be another, and where it stands.
    At(u8, String),
}

fn at(byte: u8, what: &str) -> Fault {
    Fault::At(byte, what.to_owned())
}

/// A byte as Go shows a character.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        7 => r"'\a'".to_owned(),
        8 => r"'\b'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        11 => r"'\v'".to_owned(),
        12 => r"'\f'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        0..0x20 | 0x7f => format!("'\\x{byte:02x}'"),
        0x80..=0xa0 | 0xad => format!("'\\u{byte:04x}'"),
        other => format!("'{}'", char::from(other)),
    }
}

/// What is open.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    List,
    Map,
}

struct Scan<'t> {
    rest: &'t [u8],
    /// Behind the text stands a space, and then nothing: Go ends what may be a number by it, and tells of it elsewhere.
    has_ended: bool,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn next(&mut self) -> Result<u8, Fault> {
        if let Some((first, rest)) = self.rest.split_first() {
            self.rest = rest;
            return Ok(*first);
        }
        if std::mem::replace(&mut self.has_ended, true) {
            return Err(Fault::End);
        }
        Ok(b' ')
    }

    fn next_behind_space(&mut self) -> Result<u8, Fault> {
        loop {
            match self.next()? {
                b' ' | b'\t' | b'\r' | b'\n' => {}
                byte => return Ok(byte),
            }
        }
    }

    fn document(&mut self) -> Result<(), Fault> {
        let mut open = Vec::new();
        let mut first = self.next_behind_space()?;
        loop {
            let opened = self.begin(first)?;
            if let Some(inside) = opened {
                open.push(inside);
                let next = self.next_behind_space()?;
                let is_empty = next == if inside == Inside::List { b']' } else { b'}' };
                if !is_empty {
                    first = self.member(inside, next)?;
                    continue;
                }
                open.pop();
            }
            // A value has ended; so may what it is in.
            first = loop {
                let Some(inside) = open.last().copied() else {
                    return match self.next_behind_space() {
                        Ok(byte) => Err(at(byte, "after top-level value")),
                        Err(_) => Ok(()),
                    };
                };
                match (inside, self.next_behind_space()?) {
                    (_, b',') => {
                        let next = self.next_behind_space()?;
                        break self.member(inside, next)?;
                    }
                    (Inside::List, b']') | (Inside::Map, b'}') => {
                        open.pop();
                    }
                    (Inside::List, byte) => return Err(at(byte, "after array element")),
                    (Inside::Map, byte) => return Err(at(byte, "after object key:value pair")),
                }
            };
        }
    }

    /// Past the key of a member; with which byte its value begins.
    fn member(&mut self, inside: Inside, first: u8) -> Result<u8, Fault> {
        if inside == Inside::List {
            return Ok(first);
        }
        if first != b'"' {
            return Err(at(first, "looking for beginning of object key string"));
        }
        self.string()?;
        match self.next_behind_space()? {
            b':' => self.next_behind_space(),
            byte => Err(at(byte, "after object key")),
        }
    }

    /// A whole scalar, or the beginning of a list or a map.
    fn begin(&mut self, first: u8) -> Result<Option<Inside>, Fault> {
        match first {
            b'{' => return Ok(Some(Inside::Map)),
            b'[' => return Ok(Some(Inside::List)),
            b'"' => self.string()?,
            b't' => self.literal("true")?,
            b'f' => self.literal("false")?,
            b'n' => self.literal("null")?,
            b'-' | b'0'..=b'9' => self.number(first)?,
            byte => return Err(at(byte, "looking for beginning of value")),
        }
        Ok(None)
    }

    fn literal(&mut self, word: &str) -> Result<(), Fault> {
        for expected in word.bytes().skip(1) {
            let byte = self.next()?;
            if byte != expected {
                let what = format!("in literal {word} (expecting {})", quoted(expected));
                return Err(Fault::At(byte, what));
            }
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), Fault> {
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => match self.next()? {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                    b'u' => {
                        for _ in 0..4 {
                            let byte = self.next()?;
                            if !byte.is_ascii_hexdigit() {
                                return Err(at(byte, "in \\u hexadecimal character escape"));
                            }
                        }
                    }
                    byte => return Err(at(byte, "in string escape code")),
                },
                byte if byte < 0x20 => return Err(at(byte, "in string literal")),
                _ => {}
            }
        }
    }

    fn number(&mut self, first: u8) -> Result<(), Fault> {
        let mut first = first;
        if first == b'-' {
            first = self.next()?;
            if !first.is_ascii_digit() {
                return Err(at(first, "in numeric literal"));
            }
        }
        if first != b'0' {
            self.digits();
        }
        if self.peek() == Some(b'.') {
            self.next()?;
            self.digit("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.next()?;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.next()?;
            }
            self.digit("in exponent of numeric literal")?;
        }
        Ok(())
    }

    /// One digit, and those behind it.
    fn digit(&mut self, what: &str) -> Result<(), Fault> {
        let byte = self.next()?;
        if !byte.is_ascii_digit() {
            return Err(at(byte, what));
        }
        self.digits();
        Ok(())
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.rest = self.rest.get(1..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_character_is_replaced() {
        for (text, expected) in [
            (&b"\"a\xff\xfeb\""[..], "\"a\u{fffd}\u{fffd}b\""),
            (br#""\ud800""#, r#""\ufffd""#),
            (br#""\udc00\ud800\ud83d\ude00""#, r#""\ufffd\ufffd\ud83d\ude00""#),
            (br#""\\ud800\n\u00e4""#, r#""\\ud800\n\u00e4""#),
            ("\"ä\\ä".as_bytes(), "\"ä\\ä"),
            (b"\\", "\\"),
        ] {
            assert_eq!(repaired(text), expected);
        }
    }

    #[test]
    fn faults_are_told_in_go_s_words() {
        let end = "unexpected end of JSON input";
        for (text, expected) in [
            ("", end),
            (" ", end),
            ("{", end),
            ("{\"a\"", end),
            ("[1,", end),
            ("\"a", end),
            ("tru", "invalid character ' ' in literal true (expecting 'e')"),
            ("-", "invalid character ' ' in numeric literal"),
            ("1.", "invalid character ' ' after decimal point in numeric literal"),
            ("\"\\", "invalid character ' ' in string escape code"),
            ("x", "invalid character 'x' looking for beginning of value"),
            ("'a'", r"invalid character '\'' looking for beginning of value"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("{\"a\":}", "invalid character '}' looking for beginning of value"),
            ("{a", "invalid character 'a' looking for beginning of object key string"),
            (
                "{\"a\":1,}",
                "invalid character '}' looking for beginning of object key string",
            ),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\"", "invalid character '\"' after object key:value pair"),
            ("{\"a\":[1}", "invalid character '}' after array element"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("01", "invalid character '1' after top-level value"),
            ("trie", "invalid character 'i' in literal true (expecting 'u')"),
            ("nul\n", r"invalid character '\n' in literal null (expecting 'l')"),
            ("\"a\nb\"", r"invalid character '\n' in string literal"),
            (r#""\x""#, "invalid character 'x' in string escape code"),
            (
                r#""\u12g""#,
                r"invalid character 'g' in \u hexadecimal character escape",
            ),
            ("-a", "invalid character 'a' in numeric literal"),
            ("1.a", "invalid character 'a' after decimal point in numeric literal"),
            ("1e+a", "invalid character 'a' in exponent of numeric literal"),
            ("\u{0}", r"invalid character '\x00' looking for beginning of value"),
            ("ä", "invalid character 'Ã' looking for beginning of value"),
            ("\u{feff}{}", "invalid character 'ï' looking for beginning of value"),
        ] {
            assert_eq!(fault(text.as_bytes()).as_deref(), Some(expected), "{text:?}");
        }
        for fine in [
            "1",
            "{}",
            " [ ] ",
            "[[],{},\"\\u00e4\\n\",true,false,null,-0.5e-3,10]",
            "{\"a\":{\"b\":[1,2]},\"c\":0}\n",
        ] {
            assert_eq!(fault(fine.as_bytes()), None, "{fine}");
        }
    }
}
