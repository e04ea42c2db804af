//! Selectors of devices: expressions over one device, typed and bounded in cost when they are stored.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use super::at_most;
use crate::cel::{Bound, Env, ObjectType, Type, Within};
use crate::field::{Cursor, ErrorList};

const MOST: usize = 32;
/// Bytes.
const LONGEST: usize = 10 * 1024;
const MOST_COST: u64 = 1_000_000;

const MOST_ATTRIBUTES: u64 = 32;
const LONGEST_ATTRIBUTE: u64 = 64;
const LONGEST_DRIVER: u64 = 63;

static ENV: LazyLock<Env> = LazyLock::new(|| {
    let by_domain = |of| Type::map(Type::String, Type::map(Type::String, of));
    let fields = [
        ("driver", Type::String),
        ("attributes", by_domain(Type::Dyn)),
        ("capacity", by_domain(Type::Opaque("kubernetes.Quantity"))),
        ("allowMultipleAllocations", Type::Bool),
    ];
    let device = ObjectType {
        open: false,
        name: "kubernetes.DRADevice".to_owned(),
        fields: fields.map(|(name, of)| (name.to_owned(), of)).into(),
    };
    Env::new().binding().variable("device", Type::Object(Arc::new(device)))
});

static BOUND: LazyLock<Bound> = LazyLock::new(|| {
    let leaf = |most| Bound {
        most,
        within: Within::Nothing,
    };
    let map = |within| Bound {
        most: MOST_ATTRIBUTES,
        within: Within::Map(Box::new(within)),
    };
    let fields = |fields: Vec<(&str, Bound)>| Bound {
        most: 0,
        within: Within::Fields(
            fields
                .into_iter()
                .map(|(n, b)| (n.to_owned(), b))
                .collect::<BTreeMap<_, _>>(),
        ),
    };
    let device = fields(vec![
        ("driver", leaf(LONGEST_DRIVER)),
        ("attributes", map(map(leaf(LONGEST_ATTRIBUTE)))),
        ("capacity", map(map(leaf(0)))),
        ("allowMultipleAllocations", leaf(0)),
    ]);
    fields(vec![("device", device)])
});

/// The list of selectors; the expressions of one that is stored were fine when they were.
pub(in crate::kinds) fn validate(list: &Cursor<'_>, stored: bool, errors: &mut ErrorList) {
    for selector in at_most(list, MOST, errors) {
        let cel = selector.at("cel");
        if !cel.is_set() {
            errors.required(&cel, "");
        } else if !stored {
            expression(&cel.at("expression"), errors);
        }
    }
}

fn expression(at: &Cursor<'_>, errors: &mut ErrorList) {
    let text = at.str();
    if text.len() > LONGEST {
        return errors.too_long(at, LONGEST);
    }
    let mut refuse = |detail| errors.invalid_value(at, &text.into(), detail);
    match ENV.compile(text) {
        Err(report) => refuse(format!("compilation failed: {report}")),
        Ok(program) => match program.result() {
            Type::Bool | Type::Dyn if program.most_cost(&BOUND) > MOST_COST => {
                errors.forbidden(at, "too complex, exceeds cost limit");
            }
            Type::Bool | Type::Dyn => {}
            other => refuse(format!("must evaluate to bool or the unknown type, not {other}")),
        },
    }
}
