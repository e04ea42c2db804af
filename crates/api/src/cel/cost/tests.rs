//! Costs that upstream's validator gave for the same expressions.

use super::*;
use crate::cel::{Env, ObjectType, Type};

/// A list of strings.
fn texts(items: u64, length: u64) -> (Type, Bound) {
    let item = Bound {
        most: length,
        within: Within::Nothing,
    };
    let bound = Bound {
        most: items,
        within: Within::Items(Box::new(item)),
    };
    (Type::list(Type::String), bound)
}

fn most(of: &Type, bound: &Bound, text: &str) -> u64 {
    Env::new()
        .variable("self", of.clone())
        .compile(text)
        .unwrap()
        .most_cost(bound)
}

#[test]
fn a_rule_for_each_element_is_accepted_up_to_as_many_elements_as_upstream_accepts() {
    const LIMIT: u64 = 10_000_000;
    // The longest list that is accepted, by the length of its strings (four bytes a character).
    for (length, items) in [(16, 909_090), (63, 333_333), (253, 94_339), (1024, 24_154)] {
        let rule = "self.all(x, x.contains('gpu'))";
        let (of, bound) = texts(items, 4 * length);
        assert!(most(&of, &bound, rule) <= LIMIT, "{length}");
        let (of, bound) = texts(items + 1, 4 * length);
        assert!(most(&of, &bound, rule) > LIMIT, "{length}");
    }
}

#[test]
fn steps_cost_what_they_cost_upstream() {
    let fields = [
        ("n", Type::Int),
        ("s", Type::String),
        ("m", Type::map(Type::String, Type::Int)),
        ("l", Type::list(Type::Int)),
    ];
    let of = Type::Object(std::sync::Arc::new(ObjectType {
        open: false,
        name: "self".into(),
        fields: fields.iter().map(|(n, t)| ((*n).to_owned(), t.clone())).collect(),
    }));
    let plain = |most| Bound {
        most,
        within: Within::Nothing,
    };
    let bounds = [
        ("n", plain(0)),
        ("s", plain(100)),
        (
            "m",
            Bound {
                most: 10,
                within: Within::Map(Box::new(plain(0))),
            },
        ),
        (
            "l",
            Bound {
                most: 10,
                within: Within::Items(Box::new(plain(0))),
            },
        ),
    ];
    let bound = Bound {
        most: 0,
        within: Within::Fields(bounds.into_iter().map(|(n, b)| (n.to_owned(), b)).collect()),
    };
    for (text, expected) in [
        ("true", 0),
        ("self.n > 0", 3),
        // Numbers have no size in the schema: comparing them for equality is free beside reading them.
        ("self.n == 5", 2),
        ("self.s == 'abc'", 2 + 1),
        ("self.s == self.s", 4 + 10),
        ("has(self.s)", 1),
        ("size(self.l) == 3", 3 + 1),
        ("self.n in [1, 2, 3]", 2 + 10 + 3),
        ("self.n in self.l", 4 + 10),
        ("self.s.startsWith('abcdefghijk')", 2 + 2),
        ("self.s.matches('^[a-z]+$')", 2 + 11 * 2),
        ("self.s.contains('x')", 2 + 10),
        ("self.l.all(i, i > 0)", 2 + 1 + 10 * (3 + 2)),
        ("self.l.exists(i, i > 0)", 2 + 1 + 10 * (4 + 2)),
        ("self.l.exists_one(i, i > 0)", 2 + 2 + 10 * (2 + 2)),
        ("self.l.map(i, i + 1) == self.l", 2 + 11 + 10 * (12 + 2) + 2 + 1),
        ("self.l.filter(i, i > 1).size() == 1", 2 + 11 + 10 * (13 + 2) + 1 + 1),
        ("self.m.all(k, self.m[k] > 0)", 2 + 1 + 10 * (3 + 2 + 1 + 1 + 1)),
        ("self.n > 0 ? self.s == 'a' : true", 3 + 3),
        ("self.n > 0 && self.n < 9", 6),
    ] {
        assert_eq!(most(&of, &bound, text), expected, "{text}");
    }
    // Of what is made on the way nothing is known: the worst is assumed.
    assert!(most(&of, &bound, "string(self.n) + 'x' == 'abc'") > 1_000_000_000);
    assert!(most(&of, &bound, "'%d'.format([self.n]) == 'abc'") < 30);
}
