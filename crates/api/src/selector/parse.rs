//! The text of a label selector, read with upstream's grammar and its complaints:
//! `a=b, c!=d, e in (f,g), !h, i, j>5`.

use super::label::{Operator, Requirement, key_fault};
use super::{MAX_SELECTOR_BYTES, SelectorError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    End,
    Open,
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    NotEquals,
    Greater,
    Less,
    In,
    NotIn,
    Word,
    Unknown,
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

const SPECIAL: &[u8] = b"=!(),><";
const SPACE: &[u8] = b" \t\r\n";

impl<'t> Lexer<'t> {
    fn next(&mut self) -> (Token, &'t str) {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).is_some_and(|b| SPACE.contains(b)) {
            self.at += 1;
        }
        let start = self.at;
        let Some(first) = bytes.get(start) else {
            return (Token::End, "");
        };
        if !SPECIAL.contains(first) {
            let rest = &bytes[start..];
            let length = rest.iter().position(|b| SPECIAL.contains(b) || SPACE.contains(b));
            self.at = length.map_or(bytes.len(), |l| start + l);
            let word = &self.text[start..self.at];
            let token = match word {
                "in" => Token::In,
                "notin" => Token::NotIn,
                _ => Token::Word,
            };
            return (token, word);
        }
        let second = bytes.get(start + 1);
        let (token, length) = match (first, second) {
            (b'=', Some(b'=')) => (Token::DoubleEquals, 2),
            (b'!', Some(b'=')) => (Token::NotEquals, 2),
            (b'=', _) => (Token::Equals, 1),
            (b'!', _) => (Token::Not, 1),
            (b'(', _) => (Token::Open, 1),
            (b')', _) => (Token::Close, 1),
            (b',', _) => (Token::Comma, 1),
            (b'>', _) => (Token::Greater, 1),
            (b'<', _) => (Token::Less, 1),
            _ => (Token::Unknown, 1),
        };
        self.at += length;
        (token, &self.text[start..self.at])
    }
}

/// One token ahead of the lexer.
struct Parser<'t> {
    lexer: Lexer<'t>,
    ahead: (Token, &'t str),
}

/// `in` and `notin` are words wherever an operator cannot stand.
fn as_word((token, text): (Token, &str)) -> (Token, &str) {
    match token {
        Token::In | Token::NotIn => (Token::Word, text),
        _ => (token, text),
    }
}

impl<'t> Parser<'t> {
    fn peek(&self) -> (Token, &'t str) {
        as_word(self.ahead)
    }

    fn take_raw(&mut self) -> (Token, &'t str) {
        std::mem::replace(&mut self.ahead, self.lexer.next())
    }

    fn take(&mut self) -> (Token, &'t str) {
        as_word(self.take_raw())
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let (mut token, mut key) = self.take();
        let negated = token == Token::Not;
        if negated {
            (token, key) = self.take();
        }
        if token != Token::Word {
            return Err(SelectorError(format!("found '{key}', expected: identifier")));
        }
        if let Some(fault) = key_fault("<nil>", key) {
            return Err(SelectorError(fault));
        }
        if negated {
            // What follows, if not the end, is for the caller to refuse.
            return Requirement::new::<&str>(key, Operator::DoesNotExist, []);
        }
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Requirement::new::<&str>(key, Operator::Exists, []);
        }
        let operator = match self.take_raw() {
            (Token::In, _) => Operator::In,
            (Token::NotIn, _) => Operator::NotIn,
            (Token::Equals, _) => Operator::Equals,
            (Token::DoubleEquals, _) => Operator::DoubleEquals,
            (Token::NotEquals, _) => Operator::NotEquals,
            (Token::Greater, _) => Operator::GreaterThan,
            (Token::Less, _) => Operator::LessThan,
            (_, text) => {
                return Err(SelectorError(format!(
                    "found '{text}', expected: in, notin, =, ==, !=, gt, lt"
                )));
            }
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.value()?],
        };
        Requirement::new(key, operator, values)
    }

    fn value(&mut self) -> Result<&'t str, SelectorError> {
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok("");
        }
        match self.take() {
            (Token::Word, text) => Ok(text),
            (_, text) => Err(SelectorError(format!("found '{text}', expected: identifier"))),
        }
    }

    /// `(a,,b)`: an empty place between commas is the empty value.
    fn values(&mut self) -> Result<Vec<&'t str>, SelectorError> {
        let (token, text) = self.take();
        if token != Token::Open {
            return Err(SelectorError(format!("found '{text}' expected: '('")));
        }
        match self.peek() {
            (Token::Word | Token::Comma, _) => {}
            (Token::Close, _) => {
                self.take();
                return Ok(vec![""]);
            }
            (_, text) => {
                return Err(SelectorError(format!(
                    "found '{text}', expected: ',', ')' or identifier"
                )));
            }
        }
        let mut values = Vec::new();
        loop {
            match self.take() {
                (Token::Word, text) => {
                    values.push(text);
                    match self.take() {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => return Ok(values),
                        (_, text) => return Err(SelectorError(format!("found '{text}', expected: ',' or ')'"))),
                    }
                    // `a,)` ends in an empty value; `a,,b` is seen on the next round.
                    if self.peek().0 == Token::Close {
                        self.take();
                        values.push("");
                        return Ok(values);
                    }
                }
                (Token::Comma, _) => {
                    values.push("");
                    if self.peek().0 == Token::Close {
                        self.take();
                        return Ok(values);
                    }
                }
                (_, text) => return Err(SelectorError(format!("found '{text}', expected: ',', or identifier"))),
            }
        }
    }
}

pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    if text.len() > MAX_SELECTOR_BYTES {
        return Err(SelectorError(format!(
            "a selector may not be longer than {MAX_SELECTOR_BYTES} bytes: select by fewer values"
        )));
    }
    let mut lexer = Lexer { text, at: 0 };
    let ahead = lexer.next();
    let mut parser = Parser { lexer, ahead };
    let mut requirements = Vec::new();
    loop {
        match parser.peek() {
            (Token::End, _) => return Ok(requirements),
            (Token::Word | Token::Not, _) => {}
            (_, text) => {
                return Err(SelectorError(format!(
                    "found '{text}', expected: !, identifier, or 'end of string'"
                )));
            }
        }
        let requirement = parser
            .requirement()
            .map_err(|e| SelectorError(format!("unable to parse requirement: {e}")))?;
        requirements.push(requirement);
        match parser.take() {
            (Token::End, _) => return Ok(requirements),
            (Token::Comma, _) => {}
            (_, text) => {
                return Err(SelectorError(format!(
                    "found '{text}', expected: ',' or 'end of string'"
                )));
            }
        }
        let (token, text) = parser.peek();
        if !matches!(token, Token::Word | Token::Not) {
            return Err(SelectorError(format!("found '{text}', expected: identifier after ','")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::LabelSelector;
    use proptest::prelude::*;

    #[test]
    fn mistakes_are_named_in_upstreams_words() {
        for (text, error) in [
            (
                "a b",
                "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
            ),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("a=b,", "found '', expected: identifier after ','"),
            ("=a", "found '=', expected: !, identifier, or 'end of string'"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            (
                "a in (=",
                "unable to parse requirement: found '=', expected: ',', ')' or identifier",
            ),
            ("a=(", "unable to parse requirement: found '(', expected: identifier"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            (
                "a>x",
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must \
                 be an integer",
            ),
        ] {
            assert_eq!(LabelSelector::parse(text).unwrap_err().0, error, "{text}");
        }
        let error = LabelSelector::parse("a_/b").unwrap_err().0;
        assert!(
            error.starts_with("unable to parse requirement: <nil>: Invalid value: \"a_/b\": prefix part a lowercase")
        );
        let error = LabelSelector::parse("a=-").unwrap_err().0;
        assert!(
            error.starts_with("unable to parse requirement: values[0][a]: Invalid value: \"-\": a valid label must")
        );
    }

    #[test]
    fn empty_places_in_a_set_are_empty_values() {
        for (text, shown) in [
            ("x in ()", "x in ()"),
            ("x in (,)", "x in ()"),
            ("x in (a,,b)", "x in (,a,b)"),
            ("x in (,a)", "x in (,a)"),
            ("x in (a,)", "x in (,a)"),
            ("x in (in,notin)", "x in (in,notin)"),
            ("in in (a)", "in in (a)"),
            (" x  = a , z,  y ", "x=a,y,z"),
            ("x==", "x=="),
        ] {
            assert_eq!(LabelSelector::parse(text).unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn a_giant_selector_is_read_in_linear_time_or_refused() {
        let many: Vec<String> = (0..20_000).map(|i| format!("v{i}")).collect();
        let selector = LabelSelector::parse(&format!("a in ({})", many.join(","))).unwrap();
        assert!(selector.matches(|_| Some("v19999")));
        assert!(LabelSelector::parse(&"a,".repeat(super::MAX_SELECTOR_BYTES)).is_err());
    }

    fn selectors() -> impl Strategy<Value = String> {
        let key = "([a-z]{1,5}\\.io/)?[a-zA-Z]([a-z._-]{0,5}[a-z0-9])?";
        let value = "([a-z0-9]([a-z._-]{0,4}[a-z0-9])?)?";
        let one = prop_oneof![
            (key, "=|==|!=", value).prop_map(|(k, o, v)| format!("{k}{o}{v}")),
            (key, " in | notin ", proptest::collection::vec(value, 0..4))
                .prop_map(|(k, o, v)| format!("{k}{o}({})", v.join(","))),
            (key, "[<>]", -9i64..99).prop_map(|(k, o, v)| format!("{k}{o}{}", v.max(0))),
            "!?".prop_flat_map(move |n| key.prop_map(move |k| format!("{n}{k}"))),
        ];
        proptest::collection::vec(one, 0..5).prop_map(|all| all.join(","))
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_the_same(text in selectors()) {
            let selector = LabelSelector::parse(&text).unwrap();
            prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
        }

        #[test]
        fn no_text_makes_the_parser_fail_otherwise_than_by_an_error(text in ".{0,60}") {
            let _ = LabelSelector::parse(&text);
        }
    }
}
