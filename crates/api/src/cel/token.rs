//! The words of an expression: identifiers, literals and signs, each with where it begins.

/// One word.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Ident(String),
    /// The magnitude; a minus is a sign of its own.
    Int(u64),
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    Sign(&'static str),
    End,
}

/// What could not be read, and where (in characters).
pub(super) struct Mistake {
    pub at: usize,
    pub message: String,
}

const SIGNS: [&str; 28] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")", "[", "]",
    "{", "}", "=", "&", "|", ";",
];

/// All words of a text, and the end.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Mistake> {
    let chars: Vec<char> = text.chars().collect();
    let mut reader = Reader { chars: &chars, at: 0 };
    let mut all = Vec::new();
    loop {
        reader.skip_blank();
        let at = reader.at;
        if at >= chars.len() {
            all.push((at, Token::End));
            return Ok(all);
        }
        all.push((at, reader.token()?));
    }
}

struct Reader<'a> {
    chars: &'a [char],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn mistake<T>(&self, at: usize, message: impl Into<String>) -> Result<T, Mistake> {
        Err(Mistake {
            at,
            message: format!("Syntax error: {}", message.into()),
        })
    }

    fn skip_blank(&mut self) {
        while let Some(c) = self.peek(0) {
            if c == '/' && self.peek(1) == Some('/') {
                while self.peek(0).is_some_and(|c| c != '\n') {
                    self.at += 1;
                }
            } else if c.is_whitespace() {
                self.at += 1;
            } else {
                return;
            }
        }
    }

    fn token(&mut self) -> Result<Token, Mistake> {
        let start = self.at;
        let Some(c) = self.peek(0) else { return Ok(Token::End) };
        if let Some(text) = self.literal_text()? {
            return Ok(text);
        }
        if c.is_ascii_digit() || (c == '.' && self.peek(1).is_some_and(|c| c.is_ascii_digit())) {
            return self.number();
        }
        if c.is_ascii_alphabetic() || c == '_' {
            while self.peek(0).is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
                self.at += 1;
            }
            return Ok(Token::Ident(self.chars[start..self.at].iter().collect()));
        }
        for sign in SIGNS {
            if sign.chars().enumerate().all(|(i, s)| self.peek(i) == Some(s)) {
                self.at += sign.len();
                return Ok(Token::Sign(sign));
            }
        }
        self.mistake(start, format!("token recognition error at: '{c}'"))
    }

    fn number(&mut self) -> Result<Token, Mistake> {
        let start = self.at;
        if self.peek(0) == Some('0') && matches!(self.peek(1), Some('x' | 'X')) {
            self.at += 2;
            let from = self.at;
            while self.peek(0).is_some_and(|c| c.is_ascii_hexdigit()) {
                self.at += 1;
            }
            let digits: String = self.chars[from..self.at].iter().collect();
            return match u64::from_str_radix(&digits, 16) {
                Ok(n) => Ok(self.whole(n)),
                Err(_) => self.mistake(start, "invalid int literal"),
            };
        }
        let mut fraction = false;
        while let Some(c) = self.peek(0) {
            match c {
                '0'..='9' => {}
                '.' if !fraction && self.peek(1).is_some_and(|c| c.is_ascii_digit()) => fraction = true,
                'e' | 'E' => {
                    let signed = matches!(self.peek(1), Some('+' | '-'));
                    if !self.peek(1 + usize::from(signed)).is_some_and(|c| c.is_ascii_digit()) {
                        break;
                    }
                    fraction = true;
                    self.at += usize::from(signed);
                }
                _ => break,
            }
            self.at += 1;
        }
        let digits: String = self.chars[start..self.at].iter().collect();
        if fraction {
            return match digits.parse::<f64>() {
                Ok(n) if n.is_finite() => Ok(Token::Double(n)),
                _ => self.mistake(start, "invalid double literal"),
            };
        }
        match digits.parse::<u64>() {
            Ok(n) => Ok(self.whole(n)),
            Err(_) => self.mistake(start, "invalid int literal"),
        }
    }

    fn whole(&mut self, n: u64) -> Token {
        if matches!(self.peek(0), Some('u' | 'U')) {
            self.at += 1;
            return Token::Uint(n);
        }
        Token::Int(n)
    }

    /// A string or bytes, if one begins here: with its prefixes and quotes.
    fn literal_text(&mut self) -> Result<Option<Token>, Mistake> {
        let start = self.at;
        let (mut raw, mut bytes, mut ahead) = (false, false, 0);
        while let Some(c) = self.peek(ahead) {
            match c {
                'r' | 'R' if !raw => raw = true,
                'b' | 'B' if !bytes => bytes = true,
                '"' | '\'' => break,
                _ => return Ok(None),
            }
            ahead += 1;
        }
        let Some(quote) = self.peek(ahead) else { return Ok(None) };
        self.at += ahead;
        let triple = self.peek(1) == Some(quote) && self.peek(2) == Some(quote);
        let width = if triple { 3 } else { 1 };
        self.at += width;
        let mut text = String::new();
        let mut raw_bytes = Vec::new();
        loop {
            let Some(c) = self.peek(0) else {
                return self.mistake(start, "unterminated string literal");
            };
            if (0..width).all(|i| self.peek(i) == Some(quote)) {
                self.at += width;
                break;
            }
            if !triple && matches!(c, '\n' | '\r') {
                return self.mistake(start, "unterminated string literal");
            }
            self.at += 1;
            if c != '\\' || raw {
                push(c, &mut text, &mut raw_bytes);
                continue;
            }
            self.escape(bytes, &mut text, &mut raw_bytes)?;
        }
        Ok(Some(if bytes {
            Token::Bytes(raw_bytes)
        } else {
            Token::Text(text)
        }))
    }

    fn escape(&mut self, bytes: bool, text: &mut String, raw: &mut Vec<u8>) -> Result<(), Mistake> {
        let start = self.at;
        let Some(c) = self.peek(0) else {
            return self.mistake(start, "unterminated escape");
        };
        self.at += 1;
        let simple = match c {
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            '\\' | '?' | '\'' | '"' | '`' => c,
            'x' | 'X' => return self.coded(2, 16, bytes, text, raw),
            'u' if !bytes => return self.coded(4, 16, false, text, raw),
            'U' if !bytes => return self.coded(8, 16, false, text, raw),
            '0'..='3' => {
                self.at -= 1;
                return self.coded(3, 8, bytes, text, raw);
            }
            _ => return self.mistake(start, format!("unable to unescape '\\{c}'")),
        };
        push(simple, text, raw);
        Ok(())
    }

    fn coded(
        &mut self,
        digits: usize,
        radix: u32,
        byte: bool,
        text: &mut String,
        raw: &mut Vec<u8>,
    ) -> Result<(), Mistake> {
        let start = self.at;
        let mut code = 0;
        for _ in 0..digits {
            let Some(digit) = self.peek(0).and_then(|c| c.to_digit(radix)) else {
                return self.mistake(start, "invalid escape in literal");
            };
            code = code * radix + digit;
            self.at += 1;
        }
        match char::from_u32(code) {
            Some(_) if byte => raw.push(code as u8),
            Some(c) => push(c, text, raw),
            None => return self.mistake(start, "invalid unicode code point in literal"),
        }
        Ok(())
    }
}

fn push(c: char, text: &mut String, raw: &mut Vec<u8>) {
    text.push(c);
    raw.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}
