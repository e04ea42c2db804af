//! Bytes into values: JSON and YAML, with the paths of keys that are there twice. Bounded in depth and in what aliases
//! may expand to; knows nothing of schemas.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::syntax;

/// Text that is not what it should be, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// Of JSON that is none in Go's words, which do not say where. Else it ends in the place (`at line 2 column 5`) where
    /// that is known.
    pub message: String,
    pub line: usize,
    pub column: usize,
}

/// A value and the paths of the keys it had more than once (the last one won).
pub type Parsed = (Value, Vec<String>);

/// More than this many duplicates are not worth naming.
const MOST_DUPLICATES: usize = 100;
/// Containers within containers, as serde_json has it too.
const MOST_DEPTH: usize = 128;
/// As much for YAML, whose reader takes far more stack a level.
const MOST_YAML_DEPTH: usize = 80;
/// What one YAML document may expand to.
const MOST_YAML_NODES: usize = 1_000_000;
const MOST_YAML_BYTES: usize = 8 << 20;

/// One JSON value and nothing behind it. What is no character is replaced, as Go does it.
pub fn parse_json(bytes: &[u8]) -> Result<Parsed, ParseError> {
    exact_json(bytes).or_else(|error| match syntax::fault(bytes) {
        Some(message) => Err(ParseError { message, ..error }),
        None => exact_json(syntax::repaired(bytes).as_bytes()),
    })
}

fn exact_json(bytes: &[u8]) -> Result<Parsed, ParseError> {
    let failed = |error: serde_json::Error| ParseError {
        message: error.to_string(),
        line: error.line(),
        column: error.column(),
    };
    let mut build = Build::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Seed(&mut build).deserialize(&mut deserializer).map_err(failed)?;
    deserializer.end().map_err(failed)?;
    Ok((value, build.duplicates))
}

/// One YAML document; JSON is YAML too, and is tried first.
pub fn parse_yaml(bytes: &[u8]) -> Result<Parsed, ParseError> {
    if bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{')
        && let Ok(parsed) = exact_json(bytes)
    {
        return Ok(parsed);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| ParseError {
        message: "yaml: the text is not UTF-8".into(),
        line: 0,
        column: 0,
    })?;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MOST_YAML_DEPTH,
            flow_nesting_limit: MOST_YAML_DEPTH,
            max_documents: 1,
            max_inclusion_depth: 0,
            max_nodes: MOST_YAML_NODES,
            max_total_scalar_bytes: MOST_YAML_BYTES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 64,
        },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough,
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    let mut build = Build::default();
    let value = serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
        Seed(&mut build).deserialize(deserializer)
    });
    let value = value.map_err(|error| {
        let place = error.location().map(|l| (l.line() as usize, l.column() as usize));
        let (line, column) = place.unwrap_or_default();
        let mut message = format!("yaml: {error}");
        if place.is_some() && !message.contains("line") {
            let _ = write!(message, " at line {line} column {column}");
        }
        ParseError { message, line, column }
    })?;
    Ok((value, build.duplicates))
}

/// Where the parser is and what it noticed.
#[derive(Default)]
struct Build {
    path: String,
    depth: usize,
    /// Bytes of text taken, aliases counted each time.
    taken: usize,
    duplicates: Vec<String>,
}

struct Seed<'b>(&'b mut Build);

impl Build {
    fn deeper<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.depth += 1;
        if self.depth > MOST_DEPTH {
            return Err(E::custom(format_args!("exceeded max depth {MOST_DEPTH}")));
        }
        Ok(())
    }

    fn take<E: serde::de::Error>(&mut self, text: &str) -> Result<(), E> {
        self.taken += text.len() + 8;
        if self.taken > 64 << 20 {
            return Err(E::custom("the document expands to too much"));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number must be finite"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.0.take(value)?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        self.0.take(&value)?;
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let build = self.0;
        build.deeper()?;
        let mut list = Vec::new();
        let length = build.path.len();
        loop {
            let _ = write!(build.path, "[{}]", list.len());
            let item = items.next_element_seed(Seed(build))?;
            build.path.truncate(length);
            match item {
                Some(item) => list.push(item),
                None => break,
            }
        }
        build.depth -= 1;
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let build = self.0;
        build.deeper()?;
        let mut map = Map::new();
        let length = build.path.len();
        while let Some(key) = entries.next_key_seed(Key)? {
            build.take(&key)?;
            if length > 0 {
                build.path.push('.');
            }
            build.path.push_str(&key);
            let value = entries.next_value_seed(Seed(build))?;
            if map.insert(key.into_owned(), value).is_some() && build.duplicates.len() < MOST_DUPLICATES {
                build.duplicates.push(build.path.clone());
            }
            build.path.truncate(length);
        }
        build.depth -= 1;
        Ok(Value::Object(map))
    }
}

/// A map's key; YAML may write it as a number or a boolean.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }

    fn visit_string<E>(self, key: String) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn duplicate_keys_are_named_by_path_and_the_last_one_wins() {
        let text = br#"{"a":1,"spec":{"list":[{},{"b":1,"b":2}],"c":1,"c":3},"a":9}"#;
        let (value, duplicates) = parse_json(text).unwrap();
        assert_eq!(value, json!({"a": 9, "spec": {"list": [{}, {"b": 2}], "c": 3}}));
        assert_eq!(duplicates, ["spec.list[1].b", "spec.c", "a"]);
        let (value, duplicates) = parse_yaml(b"a: 1\nb:\n  c: v\n  c: w\n").unwrap();
        assert_eq!(
            (value, duplicates),
            (json!({"a": 1, "b": {"c": "w"}}), vec!["b.c".to_owned()])
        );
    }

    #[test]
    fn errors_say_where() {
        let error = parse_json(b"{\"a\":\n  x}").unwrap_err();
        assert_eq!((error.line, error.column), (2, 3));
        assert_eq!(error.message, "invalid character 'x' looking for beginning of value");
        let error = parse_yaml(b"a: b\n  c: [\n").unwrap_err();
        assert!(error.line > 0 && error.message.starts_with("yaml: "), "{error:?}");
        assert!(parse_json(b"{} x").is_err());
        assert!(parse_json(b"").is_err());
        assert_eq!(parse_json(b"\"\xff\"").unwrap().0, "\u{fffd}");
        assert!(parse_yaml(b"{\"a\": \"\xff\"}").is_err());
    }

    #[test]
    fn yaml_scalars_are_what_kubernetes_takes_them_for() {
        let text = b"yes: on\n1: '1'\nnothing: ~\nmode: 0644\nfloat: 1.5\nport: 80\ntext: |\n  a\n  b\n";
        let (value, _) = parse_yaml(text).unwrap();
        let expected =
            json!({"yes": true, "1": "1", "nothing": null, "mode": 420, "float": 1.5, "port": 80, "text": "a\nb\n"});
        assert_eq!(value, expected);
    }

    #[test]
    fn a_fraction_keeps_its_last_bit() {
        // The first ones are read one bit off by a parser that is fast rather than exact.
        let known = "122.416294033786585 31.245270191439438 1.7976931348623157e308 5e-324 -0.1 9007199254740993.0";
        let mut numbers: Vec<f64> = known.split(' ').map(|text| text.parse().unwrap()).collect();
        // And a walk over all exponents.
        let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
        numbers.extend(
            std::iter::repeat_with(|| {
                bits = bits.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                f64::from_bits(bits)
            })
            .take(20_000)
            .filter(|f| f.is_finite()),
        );
        for number in numbers {
            for text in [format!("{number:e}"), json!(number).to_string()] {
                for parse in [parse_json, parse_yaml] {
                    let (value, _) = parse(format!("{{\"a\": {text}}}").as_bytes()).unwrap();
                    assert_eq!(value["a"].as_f64().map(f64::to_bits), Some(number.to_bits()), "{text}");
                }
                let value: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(value.as_f64().map(f64::to_bits), Some(number.to_bits()), "{text}");
            }
        }
    }

    #[test]
    fn depth_and_bombs_are_refused() {
        assert!(parse_json("[".repeat(100_000).as_bytes()).is_err());
        assert!(parse_yaml("[".repeat(100_000).as_bytes()).is_err());
        assert!(parse_yaml("- ".repeat(50_000).as_bytes()).is_err());
        let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
        for (previous, name) in ('a'..='i').zip('b'..='j') {
            let row = vec![format!("*{previous}"); 9].join(",");
            bomb.push_str(&format!("{name}: &{name} [{row}]\n"));
        }
        assert!(parse_yaml(bomb.as_bytes()).is_err());
        assert!(parse_yaml(b"a: 1\n---\nb: 2\n").is_err());
    }
}
