//! The part of JSONPath that printer columns use: fields, indexes, wildcards, and filters that compare one field.

use serde_json::Value;

/// A parsed path. What cannot be parsed finds nothing.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct JsonPath(Vec<Step>);

#[derive(Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    /// `?(@.type=="Ready")`
    Filter {
        path: Vec<String>,
        equal: bool,
        value: Value,
    },
    Never,
}

impl JsonPath {
    /// `.status.conditions[?(@.type=="Ready")].status`
    pub fn parse(text: &str) -> Self {
        let mut steps = Vec::new();
        let mut rest = text
            .trim()
            .trim_start_matches('{')
            .trim_end_matches('}')
            .trim_start_matches('$');
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('[') {
                let Some(end) = closing(after) else {
                    steps.push(Step::Never);
                    break;
                };
                steps.push(bracket(after[..end].trim()));
                rest = &after[end + 1..];
                continue;
            }
            let after = rest.strip_prefix('.').unwrap_or(rest);
            let (name, tail) = field(after);
            if name == "*" {
                steps.push(Step::All);
            } else if !name.is_empty() {
                steps.push(Step::Field(name));
            } else if tail.len() == rest.len() {
                steps.push(Step::Never);
                break;
            }
            rest = tail;
        }
        Self(steps)
    }

    pub fn find<'v>(&self, root: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![root];
        for step in &self.0 {
            found = found.into_iter().flat_map(|v| step.of(v)).collect();
        }
        found
    }
}

/// A field name up to the next `.` or `[`; a backslash takes the next character as it is.
fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => return (name, &text[i..]),
            c => name.push(c),
        }
    }
    (name, "")
}

/// Where the bracket ends that `text` is behind the beginning of; quotes hide what is in them.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut depth = 0;
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(i),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn unquote(text: &str) -> Option<&str> {
    let inner = |q: char| text.strip_prefix(q)?.strip_suffix(q);
    inner('\'').or_else(|| inner('"'))
}

fn bracket(inside: &str) -> Step {
    if inside == "*" {
        return Step::All;
    }
    if let Some(name) = unquote(inside) {
        return Step::Field(name.to_owned());
    }
    if let Ok(index) = inside.parse() {
        return Step::Index(index);
    }
    let filter = || {
        let condition = inside.strip_prefix("?(")?.strip_suffix(')')?.trim();
        let (left, right, equal) = match condition.split_once("==") {
            Some((l, r)) => (l, r, true),
            None => condition.split_once("!=").map(|(l, r)| (l, r, false))?,
        };
        let path = left.trim().strip_prefix("@.")?.split('.').map(str::to_owned).collect();
        let right = right.trim();
        let value = match unquote(right) {
            Some(text) => Value::from(text),
            None => serde_json::from_str(right).ok()?,
        };
        Some(Step::Filter { path, equal, value })
    };
    filter().unwrap_or(Step::Never)
}

impl Step {
    fn of<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match self {
            Self::Field(name) => value.get(name).into_iter().collect(),
            Self::Index(index) => {
                let Some(items) = value.as_array() else {
                    return Vec::new();
                };
                let at = if *index < 0 {
                    items.len().checked_sub(index.unsigned_abs() as usize)
                } else {
                    usize::try_from(*index).ok()
                };
                at.and_then(|i| items.get(i)).into_iter().collect()
            }
            Self::All => match value {
                Value::Array(items) => items.iter().collect(),
                Value::Object(map) => map.values().collect(),
                _ => Vec::new(),
            },
            Self::Filter {
                path,
                equal,
                value: wanted,
            } => {
                let items = value.as_array().map_or(&[][..], Vec::as_slice);
                let is = |item: &&Value| {
                    let found = path.iter().try_fold(*item, |v, step| v.get(step));
                    (found == Some(wanted)) == *equal
                };
                items.iter().filter(is).collect()
            }
            Self::Never => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_paths_that_columns_use_find_what_they_should() {
        let object = json!({
            "spec": {"a.b": 1, "list": [{"n": "x"}, {"n": "y"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]},
        });
        for (path, expected) in [
            (".spec.list[0].n", json!(["x"])),
            (".spec.list[-1].n", json!(["y"])),
            (".spec.list[*].n", json!(["x", "y"])),
            ("{.spec['a.b']}", json!([1])),
            (".spec.a\\.b", json!([1])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type=='Ready')].status", json!(["True"])),
            (".status.conditions[?(@.type!='Ready')].status", json!(["False"])),
            (".nothing.here", json!([])),
            (".spec.list[", json!([])),
            (".spec.list[?(odd)]", json!([])),
        ] {
            let found: Vec<Value> = JsonPath::parse(path).find(&object).into_iter().cloned().collect();
            assert_eq!(Value::from(found), expected, "{path}");
        }
    }
}
