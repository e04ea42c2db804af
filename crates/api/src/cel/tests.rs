//! The language by tables: what compiles, what comes out, what is refused and in which words.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::*;

fn object(name: &str, fields: &[(&str, Type)]) -> Type {
    let fields: BTreeMap<String, Type> = fields.iter().map(|(n, t)| ((*n).to_owned(), t.clone())).collect();
    Type::Object(Arc::new(ObjectType {
        open: false,
        name: name.to_owned(),
        fields,
    }))
}

fn env() -> Env {
    let port = object("self.ports", &[("name", Type::String), ("port", Type::Int)]);
    let fields = [
        ("replicas", Type::Int),
        ("min", Type::Int),
        ("name", Type::String),
        ("ports", Type::list(port)),
        ("labels", Type::map(Type::String, Type::String)),
        ("any", Type::Dyn),
        ("ratio", Type::Double),
    ];
    Env::new().variable("self", object("self", &fields))
}

fn value() -> Value {
    Value::from_json(&json!({
        "replicas": 3, "min": 1, "name": "web-1", "any": "50%", "ratio": 0.5,
        "ports": [{"name": "http", "port": 80}, {"name": "https", "port": 443}],
        "labels": {"a": "1", "b": "2"},
    }))
}

fn run(text: &str) -> Result<Value, String> {
    let program = env().compile(text)?;
    program.run(vec![value()], CALL_LIMIT).0.map_err(|f| f.to_string())
}

#[test]
fn expressions_come_out_as_they_should() {
    for text in [
        "self.replicas >= self.min",
        "self.replicas + 2 * 3 == 9 && 7 / 2 == 3 && -7 % 3 == -1",
        "has(self.name) && !has(self.labels.zzz)",
        "self.ports.all(p, p.port > 0 && p.port < 65536)",
        "self.ports.exists(p, p.name == 'http')",
        "self.ports.exists_one(p, p.port == 443)",
        "self.ports.map(p, p.port) == [80, 443]",
        "self.ports.map(p, p.port > 100, p.name) == ['https']",
        "self.ports.filter(p, p.port > 100).size() == 1",
        "self.labels.all(k, self.labels[k] != '')",
        "self.labels.exists(k, v, k == 'a' && v == '1')",
        "self.labels.transformMap(k, v, v + '!')['b'] == '2!'",
        "[1, 2, 3].transformList(i, v, i > 0, v * i) == [2, 6]",
        "'a' in self.labels && 2 in [1, 2]",
        "self.name.startsWith('web') && self.name.matches('^[a-z]+-[0-9]+$')",
        "self.name.split('-')[1] == '1' && self.name.replace('web', 'w') == 'w-1'",
        "self.name.substring(0, 3).upperAscii() == 'WEB'",
        "self.name.indexOf('-') == 3 && 'abcabc'.lastIndexOf('b') == 4 && 'abc'.indexOf('z') == -1",
        "'%s has %d (%.2f)'.format([self.name, self.replicas, self.ratio]) == 'web-1 has 3 (0.50)'",
        "['a', 'b'].join('/') == 'a/b' && ' x '.trim() == 'x' && 'abc'.charAt(1) == 'b'",
        "'abc123'.find('[0-9]+') == '123' && 'a1b2'.findAll('[0-9]') == ['1', '2']",
        "self.any == '50%' && type(self.any) == string",
        "self.?labels.?zzz.orValue('none') == 'none'",
        "self.labels[?'a'].hasValue() && optional.none().or(optional.of(3)).value() == 3",
        "optional.of(4).optMap(x, x + 1).orValue(0) == 5",
        "[1, ?optional.none(), 3].size() == 2",
        "[3, 1, 2].max() == 3 && [3, 1, 2].min() == 1 && [1, 2].sum() == 3 && [1, 2, 2].isSorted()",
        "sets.contains([1, 2, 3], [2]) && sets.equivalent([1, 1], [1]) && !sets.intersects([1], [2])",
        "quantity('1.5Gi').isGreaterThan(quantity('1G')) && isQuantity('100m') && !isQuantity('x')",
        "quantity('500m').add(quantity('1')).compareTo(quantity('1500m')) == 0",
        "url('https://a.example:8443/x?k=v').getPort() == '8443' && isURL('/a') && !isURL('a b')",
        "url('https://a.example/x?k=v&k=w').getQuery()['k'] == ['v', 'w']",
        "ip('10.0.0.1').family() == 4 && cidr('10.0.0.0/8').containsIP('10.2.3.4') && !isIP('10.0.0.01')",
        "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && cidr('10.1.2.3/16').masked() == cidr('10.1.0.0/16')",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('v1.2', true).minor() == 2 && !isSemver('1.2')",
        "!format.dns1123Label().validate('a-b').hasValue() && format.named('uuid').value().validate('x').hasValue()",
        "duration('90m') == duration('1h30m') && duration('90m').getMinutes() == 90",
        "timestamp('2026-01-02T03:04:05Z').getFullYear() == 2026 && timestamp('2026-01-02T00:00:00Z').getMonth() == 0",
        "timestamp('2026-01-02T03:00:00Z') + duration('1h') == timestamp('2026-01-02T04:00:00Z')",
        "timestamp('2026-01-02T23:30:00Z').getHours('+02:00') == 1",
        "1 < 2.5 && 2u > 1 && int('7') == 7 && string(7) == '7' && double('1.5') == 1.5",
        "{'a': 1}['a'] == 1 && {'a': 1, 'b': 2} == {'b': 2, 'a': 1}",
        "false || true || 1 / 0 > 0",
        "!(false && 1 / 0 > 0)",
        "[1, 0].exists(x, 1 / x == 1)",
        "true ? 'a' == 'a' : false",
        "r'\\d' == '\\\\d' && \"\\u00e9\" == 'é' && b'a' == bytes('a')",
        "cidr('::/0').prefixLength() == 0 && string(ip('::1')) == '::1'",
        "dyn(1) == dyn(1.0) && dyn('a') != dyn(1)",
    ] {
        assert_eq!(run(text), Ok(Value::Bool(true)), "{text}");
    }
}

#[test]
fn what_goes_wrong_is_told_as_upstream_tells_it() {
    for (text, message) in [
        ("1 / 0 == 1", "division by zero"),
        ("[1][2] == 1", "index out of bounds: 2"),
        ("self.labels['zzz'] == ''", "no such key: zzz"),
        ("9223372036854775807 + 1 > 0", "integer overflow"),
        (
            "quantity('x').isInteger()",
            "quantities must match the regular expression",
        ),
        ("[1, 0].all(x, 1 / x == 1)", "division by zero"),
    ] {
        let error = run(text).unwrap_err();
        assert!(error.contains(message), "{text}: {error}");
    }
}

#[test]
fn mistakes_are_found_before_anything_runs() {
    for (text, message) in [
        (
            "self.nmae == 'x'",
            "ERROR: <input>:1:5: undefined field 'nmae'\n | self.nmae == 'x'\n | ....^",
        ),
        ("other == 1", "undeclared reference to 'other' (in container '')"),
        (
            "self.replicas == 'x'",
            "found no matching overload for '_==_' applied to '(int, string)'",
        ),
        ("self.name.frob()", "undeclared reference to 'frob'"),
        (
            "self.name.startsWith(1)",
            "found no matching overload for 'startsWith' applied to 'string.(int)'",
        ),
        ("self.replicas.x", "type 'int' does not support field selection"),
        ("self.replicas.all(x, true)", "cannot be range of a comprehension"),
        ("[1, 'a'].size() == 2", "expected type 'int' but found 'string'"),
        ("self.name && true", "expected type 'bool' but found 'string'"),
        ("self.name.matches('(')", "error parsing regexp"),
        ("self.name ==", "Syntax error: mismatched input '<EOF>'"),
        ("self.namespace @ 1", "token recognition error at: '@'"),
        ("namespace == 1", "reserved identifier: namespace"),
    ] {
        let error = env().compile(text).map(|_| ()).unwrap_err();
        assert!(error.contains(message), "{text}: {error}");
    }
}

#[test]
fn nothing_runs_longer_than_it_may() {
    let list: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    let list = format!("[{}]", list.join(","));
    let text = format!("{list}.all(a, {list}.all(b, {list}.all(c, {list}.all(d, a + b + c + d >= 0))))");
    let program = env().compile(&text).unwrap();
    let (outcome, cost) = program.run(vec![value()], CALL_LIMIT);
    assert_eq!(outcome, Err(Fault::TooCostly));
    assert!(cost > CALL_LIMIT);
    // The limit is no failure that || could hide.
    let text = format!("true == ({text}) || true");
    assert_eq!(
        env().compile(&text).unwrap().run(vec![value()], 1000).0,
        Err(Fault::TooCostly)
    );
}

#[test]
fn deep_and_long_expressions_are_no_danger() {
    let nested = format!("{}1{} == 1", "(".repeat(100_000), ")".repeat(100_000));
    assert!(env().compile(&nested).unwrap_err().contains("recursion limit"));
    let sum = format!("{} > 0", vec!["1"; 100_000].join(" + "));
    assert!(env().compile(&sum).unwrap_err().contains("recursion limit"));
    let lists = format!("{}{} == []", "[".repeat(100_000), "]".repeat(100_000));
    assert!(env().compile(&lists).unwrap_err().contains("recursion limit"));
    let negated = format!("{}true", "!".repeat(100_000));
    assert!(env().compile(&negated).is_ok());
    let chain = vec!["true"; 10_000].join(" && ");
    assert_eq!(run(&chain), Ok(Value::Bool(true)));
}

#[test]
fn names_that_the_language_has_no_room_for_are_escaped() {
    for (name, escaped) in [
        ("namespace", Some("__namespace__")),
        ("a.b", Some("a__dot__b")),
        ("a-b/c", Some("a__dash__b__slash__c")),
        ("a__b", Some("a__underscores__b")),
        ("plain", Some("plain")),
        ("1a", None),
        ("ä", None),
    ] {
        assert_eq!(escape(name).as_deref(), escaped, "{name}");
    }
}

#[test]
fn lists_that_merge_compare_and_add_as_they_merge() {
    let of = |items: &[i64], merge: Merge| {
        Value::List(Arc::new(List {
            items: items.iter().map(|n| Value::Int(*n)).collect(),
            merge,
        }))
    };
    let env = Env::new()
        .variable("a", Type::list(Type::Int))
        .variable("b", Type::list(Type::Int));
    let run = |text: &str, merge: Merge| {
        let program = env.compile(text).unwrap();
        program
            .run(vec![of(&[1, 2], merge.clone()), of(&[2, 1], merge)], 10_000)
            .0
    };
    assert_eq!(run("a == b", Merge::Set), Ok(Value::Bool(true)));
    assert_eq!(run("a == b", Merge::Atomic), Ok(Value::Bool(false)));
    assert_eq!(run("(a + b).size() == 2", Merge::Set), Ok(Value::Bool(true)));
}

/// `Object` with any fields, and `Point` with two.
fn messages() -> Env {
    env().binding().messages(|name| match name {
        "Point" => Some(object("Point", &[("x", Type::Int), ("note", Type::String)])),
        _ if name == "Object" || name.starts_with("Object.") => Some(Type::Object(Arc::new(ObjectType {
            open: true,
            name: name.to_owned(),
            fields: BTreeMap::new(),
        }))),
        _ => None,
    })
}

#[test]
fn messages_are_typed_by_their_fields() {
    for (text, result) in [
        ("Object{}", "Object"),
        (
            "Object{spec: Object.spec{replicas: self.replicas + 1, ?paused: optional.none()},}",
            "Object",
        ),
        (
            "self.replicas > 1 ? Object{metadata: Object.metadata{labels: {'a': 'b'}}} : Object{}",
            "Object",
        ),
        ("[Point{x: 1}, Point{x: self.min, note: 'n'}]", "list(Point)"),
        ("Point{x: 1}.x", "int"),
        ("jsonpatch.escapeKey('a/b~c')", "string"),
        ("cel.bind(n, self.replicas, n * n)", "int"),
    ] {
        let program = messages().compile(text);
        assert_eq!(program.map(|p| p.result().to_string()), Ok(result.to_owned()), "{text}");
    }
    for (text, told) in [
        ("Point{y: 1}", "undefined field 'y'"),
        (
            "Point{x: 'a'}",
            "expected type of field 'x' is 'int' but provided type is 'string'",
        ),
        ("Circle{}", "undeclared reference to 'Circle' (in container '')"),
        ("Point{x 1}", "Syntax error: mismatched input '1' expecting ':'"),
    ] {
        let error = messages().compile(text).unwrap_err();
        assert!(error.contains(told), "{text}: {error}");
    }
    // Elsewhere there are neither messages nor names for what is computed.
    for text in ["Object{}", "jsonpatch.escapeKey('a')", "cel.bind(n, 1, n)"] {
        assert!(
            env().compile(text).unwrap_err().contains("undeclared reference"),
            "{text}"
        );
    }
    let run = |text: &str| {
        messages()
            .compile(text)
            .unwrap()
            .run(vec![value()], CALL_LIMIT)
            .0
            .unwrap()
    };
    assert_eq!(run("cel.bind(n, self.replicas, n * n) == 9"), Value::Bool(true));
    assert_eq!(run("jsonpatch.escapeKey('a/b~c') == 'a~1b~0c'"), Value::Bool(true));
    assert_eq!(run("Point{x: 1, note: 'n'}.note == 'n'"), Value::Bool(true));
}
