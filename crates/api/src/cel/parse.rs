//! From words to steps: operators by how tightly they bind, macros where they are called.

use super::ast::{Each, Expr, Field, Item, Kind, Macro};
use super::token::{Mistake, Token, tokens};
use super::value::Value;

/// Deeper expressions are refused: what walks them recurses.
const MOST_DEPTH: usize = 160;

const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "namespace",
    "package",
    "return",
    "var",
    "void",
    "while",
];

/// Whether a variable or a field may be called this.
pub(super) fn is_identifier(name: &str) -> bool {
    let is_word = !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    is_word && !matches!(name, "true" | "false" | "null" | "in") && !RESERVED.contains(&name)
}

/// Reads a whole expression.
pub(super) fn parse(text: &str) -> Result<Expr, Mistake> {
    let tokens = tokens(text)?;
    let mut parser = Parser {
        tokens,
        next: 0,
        depth: 0,
    };
    let expr = parser.expr()?;
    match parser.peek() {
        Token::End => Ok(expr),
        _ => parser.unexpected("<EOF>"),
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

type Parsed<T = Expr> = Result<T, Mistake>;

/// Operators with two sides and how tightly they bind.
fn binary(token: &Token) -> Option<(u8, &'static str)> {
    Some(match token {
        Token::Ident(word) if word == "in" => (3, "@in"),
        Token::Sign(sign) => match *sign {
            "||" => (1, "_||_"),
            "&&" => (2, "_&&_"),
            "==" => (3, "_==_"),
            "!=" => (3, "_!=_"),
            "<" => (3, "_<_"),
            "<=" => (3, "_<=_"),
            ">" => (3, "_>_"),
            ">=" => (3, "_>=_"),
            "+" => (4, "_+_"),
            "-" => (4, "_-_"),
            "*" => (5, "_*_"),
            "/" => (5, "_/_"),
            "%" => (5, "_%_"),
            _ => return None,
        },
        _ => return None,
    })
}

pub(super) fn call(name: &str, args: Vec<Expr>, receiver: bool) -> Kind {
    Kind::Call {
        name: name.to_owned(),
        receiver,
        args,
        entry: None,
    }
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(_, t)| t)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(0, |(at, _)| *at)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn accept(&mut self, sign: &str) -> bool {
        let is = matches!(self.peek(), Token::Sign(s) if *s == sign);
        self.next += usize::from(is);
        is
    }

    fn expect(&mut self, sign: &'static str) -> Parsed<()> {
        if self.accept(sign) {
            Ok(())
        } else {
            self.unexpected(sign)
        }
    }

    fn fail<T>(&self, at: usize, message: impl Into<String>) -> Parsed<T> {
        Err(Mistake {
            at,
            message: message.into(),
        })
    }

    fn unexpected<T>(&self, expected: &str) -> Parsed<T> {
        let found = match self.peek() {
            Token::Ident(word) => word.clone(),
            Token::Sign(sign) => (*sign).to_owned(),
            Token::Int(n) => n.to_string(),
            Token::Uint(n) => format!("{n}u"),
            Token::Double(n) => n.to_string(),
            Token::Text(text) => format!("{text:?}"),
            Token::Bytes(_) => "bytes".into(),
            Token::End => "<EOF>".into(),
        };
        self.fail(
            self.at(),
            format!("Syntax error: mismatched input '{found}' expecting '{expected}'"),
        )
    }

    fn made(&self, at: usize, kind: Kind) -> Parsed {
        let expr = Expr::new(at, kind);
        if expr.depth > MOST_DEPTH {
            return self.fail(at, format!("expression recursion limit exceeded: {MOST_DEPTH}"));
        }
        Ok(expr)
    }

    fn expr(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > MOST_DEPTH {
            return self.fail(self.at(), format!("expression recursion limit exceeded: {MOST_DEPTH}"));
        }
        let condition = self.binary(1)?;
        let at = self.at();
        let made = if self.accept("?") {
            let yes = self.binary(1)?;
            self.expect(":")?;
            let no = self.expr()?;
            self.made(at, Kind::If(Box::new([condition, yes, no])))
        } else {
            Ok(condition)
        };
        self.depth -= 1;
        made
    }

    fn binary(&mut self, least: u8) -> Parsed {
        let mut left = self.unary()?;
        while let Some((power, name)) = binary(self.peek()).filter(|(power, _)| *power >= least) {
            let at = self.at();
            self.next += 1;
            let right = self.binary(power + 1)?;
            // Chains of && and || are one step however long.
            let kind = match (power, left.kind) {
                (1, Kind::Or(mut parts)) => {
                    parts.push(right);
                    Kind::Or(parts)
                }
                (2, Kind::And(mut parts)) => {
                    parts.push(right);
                    Kind::And(parts)
                }
                (power, kind) => {
                    let left = Expr { kind, ..left };
                    match power {
                        1 => Kind::Or(vec![left, right]),
                        2 => Kind::And(vec![left, right]),
                        _ => call(name, vec![left, right], false),
                    }
                }
            };
            left = self.made(at, kind)?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parsed {
        let at = self.at();
        if self.accept("!") {
            let mut odd = true;
            while self.accept("!") {
                odd = !odd;
            }
            let of = self.member()?;
            return if odd {
                self.made(at, call("!_", vec![of], false))
            } else {
                Ok(of)
            };
        }
        if self.accept("-") {
            let mut odd = true;
            while self.accept("-") {
                odd = !odd;
            }
            let number = match *self.peek() {
                Token::Int(n) if odd => 0i64.checked_sub_unsigned(n).map(Value::Int),
                Token::Double(n) if odd => Some(Value::Double(-n)),
                _ => None,
            };
            if let Some(number) = number {
                self.next += 1;
                let literal = Expr::new(at, Kind::Literal(number));
                return self.members(literal);
            }
            let of = self.member()?;
            return if odd {
                self.made(at, call("-_", vec![of], false))
            } else {
                Ok(of)
            };
        }
        self.member()
    }

    fn member(&mut self) -> Parsed {
        let primary = self.primary()?;
        self.members(primary)
    }

    fn members(&mut self, mut of: Expr) -> Parsed {
        loop {
            let at = self.at();
            if self.accept(".") {
                let optional = self.accept("?");
                let Token::Ident(name) = self.take() else {
                    self.next -= 1;
                    return self.unexpected("IDENTIFIER");
                };
                if !optional && self.accept("(") {
                    let args = self.arguments(")")?;
                    of = self.receiver_call(at, of, name, args)?;
                } else {
                    let of_box = Box::new(of);
                    of = self.made(
                        at,
                        Kind::Select {
                            of: of_box,
                            field: name,
                            optional,
                        },
                    )?;
                }
            } else if self.accept("[") {
                let optional = self.accept("?");
                let index = Box::new(self.expr()?);
                self.expect("]")?;
                let of_box = Box::new(of);
                of = self.made(
                    at,
                    Kind::Index {
                        of: of_box,
                        index,
                        optional,
                    },
                )?;
            } else if matches!(self.peek(), Token::Sign("{"))
                && let Some(name) = of.type_name()
            {
                self.next += 1;
                let fields = self.fields()?;
                of = self.made(at, Kind::Message { name, fields })?;
            } else {
                return Ok(of);
            }
        }
    }

    /// The fields of a message, up to the bracket that closes it.
    fn fields(&mut self) -> Parsed<Vec<Field>> {
        let mut fields = Vec::new();
        while !self.accept("}") {
            let optional = self.accept("?");
            let Token::Ident(name) = self.take() else {
                self.next -= 1;
                return self.unexpected("IDENTIFIER");
            };
            self.expect(":")?;
            let value = self.expr()?;
            fields.push(Field { name, optional, value });
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(fields)
    }

    fn arguments(&mut self, end: &'static str) -> Parsed<Vec<Expr>> {
        let mut args = Vec::new();
        if self.accept(end) {
            return Ok(args);
        }
        loop {
            args.push(self.expr()?);
            if self.accept(end) {
                return Ok(args);
            }
            self.expect(",")?;
        }
    }

    fn primary(&mut self) -> Parsed {
        let at = self.at();
        match self.take() {
            Token::Sign("(") => {
                let inner = self.expr()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Sign("[") => {
                let mut items = Vec::new();
                while !self.accept("]") {
                    let optional = self.accept("?");
                    let expr = self.expr()?;
                    items.push(Item { expr, optional });
                    if !self.accept(",") {
                        self.expect("]")?;
                        break;
                    }
                }
                self.made(at, Kind::List(items))
            }
            Token::Sign("{") => {
                let mut entries = Vec::new();
                while !self.accept("}") {
                    let optional = self.accept("?");
                    let expr = self.expr()?;
                    self.expect(":")?;
                    entries.push((Item { expr, optional }, self.expr()?));
                    if !self.accept(",") {
                        self.expect("}")?;
                        break;
                    }
                }
                self.made(at, Kind::Map(entries))
            }
            Token::Sign(".") => match self.take() {
                Token::Ident(name) => self.named(at, name),
                _ => {
                    self.next -= 1;
                    self.unexpected("IDENTIFIER")
                }
            },
            Token::Ident(word) => match word.as_str() {
                "true" => self.made(at, Kind::Literal(Value::Bool(true))),
                "false" => self.made(at, Kind::Literal(Value::Bool(false))),
                "null" => self.made(at, Kind::Literal(Value::Null)),
                "in" => {
                    self.next -= 1;
                    self.unexpected("IDENTIFIER")
                }
                _ => self.named(at, word),
            },
            Token::Int(n) => match i64::try_from(n) {
                Ok(n) => self.made(at, Kind::Literal(Value::Int(n))),
                Err(_) => self.fail(at, "invalid int literal"),
            },
            Token::Uint(n) => self.made(at, Kind::Literal(Value::Uint(n))),
            Token::Double(n) => self.made(at, Kind::Literal(Value::Double(n))),
            Token::Text(text) => self.made(at, Kind::Literal(Value::from(text))),
            Token::Bytes(bytes) => self.made(at, Kind::Literal(Value::Bytes(bytes.into()))),
            Token::Sign(_) | Token::End => {
                self.next -= 1;
                self.unexpected("IDENTIFIER")
            }
        }
    }

    fn named(&mut self, at: usize, name: String) -> Parsed {
        if RESERVED.contains(&name.as_str()) {
            return self.fail(at, format!("reserved identifier: {name}"));
        }
        if !self.accept("(") {
            return self.made(at, Kind::Ident { name, slot: 0 });
        }
        let args = self.arguments(")")?;
        if name == "has" && args.len() == 1 {
            return match args.into_iter().next().map(|e| e.kind) {
                Some(Kind::Select {
                    of,
                    field,
                    optional: false,
                }) => self.made(at, Kind::Has { of, field }),
                _ => self.fail(at, "invalid argument to has() macro"),
            };
        }
        self.made(at, call(&name, args, false))
    }

    fn receiver_call(&mut self, at: usize, of: Expr, name: String, mut args: Vec<Expr>) -> Parsed {
        if matches!(name.as_str(), "optMap" | "optFlatMap") && args.len() == 2 {
            let body = Box::new(args.remove(1));
            let kind = Kind::IfValue {
                name: self.variable(args.remove(0))?,
                of: Box::new(of),
                body,
                flat: name == "optFlatMap",
            };
            return self.made(at, kind);
        }
        if name == "bind" && args.len() == 3 && matches!(&of.kind, Kind::Ident { name, .. } if name == "cel") {
            let body = Box::new(args.remove(2));
            let kind = Kind::Bind {
                value: Box::new(args.remove(1)),
                name: self.variable(args.remove(0))?,
                body,
            };
            return self.made(at, kind);
        }
        // Names, then perhaps a filter, then the body.
        let (what, names, filter) = match (name.as_str(), args.len()) {
            ("all", 2) => (Macro::All, 1, false),
            ("all", 3) => (Macro::All, 2, false),
            ("exists", 2) => (Macro::Exists, 1, false),
            ("exists", 3) => (Macro::Exists, 2, false),
            ("exists_one" | "existsOne", 2) => (Macro::ExistsOne, 1, false),
            ("exists_one" | "existsOne", 3) => (Macro::ExistsOne, 2, false),
            ("filter", 2) => (Macro::Filter, 1, false),
            ("map", 2) => (Macro::Map, 1, false),
            ("map", 3) => (Macro::Map, 1, true),
            ("transformList", 3) => (Macro::TransformList, 2, false),
            ("transformList", 4) => (Macro::TransformList, 2, true),
            ("transformMap", 3) => (Macro::TransformMap, 2, false),
            ("transformMap", 4) => (Macro::TransformMap, 2, true),
            ("transformMapEntry", 3) => (Macro::TransformMapEntry, 2, false),
            ("transformMapEntry", 4) => (Macro::TransformMapEntry, 2, true),
            _ => {
                args.insert(0, of);
                return self.made(at, call(&name, args, true));
            }
        };
        let mut args = args.into_iter();
        let mut variable = |parser: &Self| match args.next() {
            Some(arg) => parser.variable(arg),
            None => parser.fail(at, "argument must be a simple name"),
        };
        let first = variable(self)?;
        let second = if names == 2 { Some(variable(self)?) } else { None };
        if second.as_ref() == Some(&first) {
            return self.fail(at, format!("duplicate variable name: {first}"));
        }
        let filter = if filter { args.next() } else { None };
        let Some(body) = args.next() else {
            return self.fail(at, "a macro needs a body");
        };
        let each = Each {
            what,
            range: of,
            first,
            second,
            filter,
            body,
        };
        self.made(at, Kind::Each(Box::new(each)))
    }

    fn variable(&self, expr: Expr) -> Parsed<String> {
        match expr.kind {
            Kind::Ident { name, .. } => Ok(name),
            _ => self.fail(expr.at, "argument must be a simple name"),
        }
    }
}
