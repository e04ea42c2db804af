//! Texts as messages show them.

use std::fmt::Write as _;

/// A text as Go's `%q` shows it: what cannot be printed is escaped.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        let escaped = match c {
            '"' | '\\' => c,
            '\x07' => 'a',
            '\x08' => 'b',
            '\t' => 't',
            '\n' => 'n',
            '\x0b' => 'v',
            '\x0c' => 'f',
            '\r' => 'r',
            _ if is_printed(c) => {
                out.push(c);
                continue;
            }
            _ => {
                let _ = match u32::from(c) {
                    code @ (0..0x20 | 0x7f) => write!(out, "\\x{code:02x}"),
                    code @ 0..0x1_0000 => write!(out, "\\u{code:04x}"),
                    code => write!(out, "\\U{code:08x}"),
                };
                continue;
            }
        };
        out.push('\\');
        out.push(escaped);
    }
    out.push('"');
    out
}

/// Letters, marks, numbers, signs, and the space. Marks are told by where they are: Rust escapes them, Go does not.
fn is_printed(c: char) -> bool {
    c == '\'' || c.escape_debug().len() == 1 || matches!(c, '\u{300}'..='\u{36f}' | '\u{fe00}'..='\u{fe0f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_as_go_quotes_them() {
        for (text, expected) in [
            ("a b", r#""a b""#),
            ("it's", r#""it's""#),
            ("\"\\", r#""\"\\""#),
            ("\0\x07\x08\t\n\x0b\x0c\r\x1b\x7f", r#""\x00\a\b\t\n\v\f\r\x1b\x7f""#),
            ("ä€😀e\u{301}", "\"ä€😀e\u{301}\""),
            (
                "\u{85}\u{a0}\u{200b}\u{feff}\u{e000}\u{e0001}",
                r#""\u0085\u00a0\u200b\ufeff\ue000\U000e0001""#,
            ),
        ] {
            assert_eq!(quoted(text), expected, "{text:?}");
        }
    }
}
