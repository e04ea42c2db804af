//! The checker itself: right histories pass, wrong ones are found, and on small ones it agrees with trying every order.

use proptest::prelude::*;

use super::*;

/// An operation between two moments.
fn timed(began: u64, ended: u64, operation: Operation) -> Timed<Operation> {
    let ended = (ended < u64::MAX).then_some(ended);
    Timed {
        began,
        ended,
        operation,
    }
}

const NEVER: u64 = u64::MAX;

fn put(key: &str, value: &str, revision: Revision) -> Operation {
    Operation::Txn(Txn::put(key, value.to_owned()), Outcome::Committed(revision))
}

fn update(key: &str, from: Revision, value: &str, revision: Revision) -> Operation {
    Operation::Txn(Txn::update(key, from, value.to_owned()), Outcome::Committed(revision))
}

fn unanswered(key: &str, value: &str) -> Operation {
    Operation::Txn(Txn::put(key, value.to_owned()), Outcome::Unknown)
}

fn get(key: &str, found: Option<(Revision, &str)>, revision: Revision) -> Operation {
    Operation::Get {
        key: key.to_owned(),
        found: found.map(|(revision, value)| (revision, value.into())),
        revision,
    }
}

fn list(items: &[(&str, Revision, &str)], revision: Revision) -> Operation {
    let item = |(key, revision, value): &(&str, Revision, &str)| ((*key).to_owned(), (*revision, (*value).into()));
    Operation::List {
        prefix: String::new(),
        items: items.iter().map(item).collect(),
        revision,
    }
}

fn watch(after: Revision, upto: Revision, events: &[(Revision, &str, Option<&str>)]) -> Operation {
    let event =
        |(revision, key, value): &(Revision, &str, Option<&str>)| (*revision, (*key).to_owned(), value.map(Into::into));
    Operation::Watch {
        prefix: String::new(),
        after,
        upto,
        events: events.iter().map(event).collect(),
    }
}

#[track_caller]
fn right(history: &[Timed<Operation>]) {
    if let Err(why) = check(Ideal::new(1), history) {
        panic!("{why}");
    }
}

#[track_caller]
fn wrong(history: &[Timed<Operation>]) {
    assert!(check(Ideal::new(1), history).is_err(), "a wrong history passed");
}

#[test]
fn operations_at_the_same_time_may_come_in_either_order() {
    right(&[
        timed(0, 5, put("a", "1", 3)),
        timed(1, 4, put("b", "1", 2)),
        timed(2, 3, get("a", None, 2)),
        timed(6, 7, list(&[("a", 3, "1"), ("b", 2, "1")], 3)),
    ]);
}

#[test]
fn a_stale_read_is_found() {
    wrong(&[timed(0, 1, put("a", "1", 2)), timed(2, 3, get("a", None, 1))]);
    wrong(&[timed(0, 1, put("a", "1", 2)), timed(2, 3, get("a", None, 2))]);
    wrong(&[
        timed(0, 1, put("a", "1", 2)),
        timed(2, 3, put("b", "1", 3)),
        timed(4, 5, list(&[("a", 2, "1")], 2)),
    ]);
}

#[test]
fn a_lost_update_is_found() {
    // Both replace what revision 2 left.
    wrong(&[
        timed(0, 1, put("a", "1", 2)),
        timed(2, 5, update("a", 2, "2", 3)),
        timed(3, 4, update("a", 2, "3", 4)),
    ]);
    // The second is gone again.
    wrong(&[
        timed(0, 1, put("a", "1", 2)),
        timed(2, 3, put("a", "2", 3)),
        timed(4, 5, get("a", Some((2, "1")), 3)),
    ]);
}

#[test]
fn a_revision_given_twice_or_left_out_is_found() {
    wrong(&[timed(0, 1, put("a", "1", 2)), timed(2, 3, put("b", "1", 2))]);
    wrong(&[timed(0, 1, put("a", "1", 2)), timed(2, 3, put("b", "1", 4))]);
}

#[test]
fn a_list_of_two_moments_is_found() {
    wrong(&[
        timed(0, 1, put("a", "1", 2)),
        timed(2, 3, put("b", "1", 3)),
        timed(4, 7, put("a", "2", 4)),
        timed(5, 8, put("b", "2", 5)),
        timed(6, 9, list(&[("a", 2, "1"), ("b", 5, "2")], 5)),
    ]);
}

#[test]
fn a_conflict_without_a_reason_is_found() {
    let conflict = |found: Option<(Revision, &str)>| {
        let found = found.map(|(revision, value)| (revision, value.into()));
        let (index, revision) = (0, 2);
        Operation::Txn(Txn::create("a", "2"), Outcome::Conflict { index, found, revision })
    };
    right(&[timed(0, 1, put("a", "1", 2)), timed(2, 3, conflict(Some((2, "1"))))]);
    wrong(&[timed(0, 1, put("b", "1", 2)), timed(2, 3, conflict(None))]);
    wrong(&[timed(0, 1, put("a", "1", 2)), timed(2, 3, conflict(Some((2, "9"))))]);
}

#[test]
fn what_was_not_answered_may_have_happened_or_not_but_not_come_and_go() {
    let asked = timed(0, NEVER, unanswered("a", "1"));
    right(&[
        asked.clone(),
        timed(1, 2, get("a", None, 1)),
        timed(3, 4, put("b", "1", 2)),
    ]);
    right(&[
        asked.clone(),
        timed(1, 2, get("a", None, 1)),
        timed(3, 4, get("a", Some((2, "1")), 2)),
    ]);
    wrong(&[
        asked,
        timed(1, 2, get("a", Some((2, "1")), 2)),
        timed(3, 4, get("a", None, 2)),
    ]);
}

#[test]
fn a_watch_of_everything_settles_what_was_not_answered() {
    let unanswered_delete = Operation::Txn(Txn::delete("b", None), Outcome::Unknown);
    let history = settled(vec![
        timed(0, NEVER, unanswered("a", "1")),
        timed(1, NEVER, unanswered("a", "2")),
        timed(2, NEVER, unanswered_delete.clone()),
        timed(3, 4, put("b", "3", 3)),
        timed(
            5,
            6,
            watch(1, 4, &[(2, "a", Some("1")), (3, "b", Some("3")), (4, "b", None)]),
        ),
        timed(7, NEVER, Operation::Txn(Txn::delete("a", None), Outcome::Unknown)),
    ]);
    assert_eq!(
        history.iter().map(|timed| &timed.operation).collect::<Vec<_>>()[..3],
        [&put("a", "1", 2), &unanswered_delete, &put("b", "3", 3)],
        "the rest of the writes had not happened"
    );
    assert_eq!(history.len(), 4);
    right(&history);
}

#[test]
fn what_was_under_way_at_a_crash_does_not_happen_after_it() {
    let asked = timed(0, 1, unanswered("a", "1"));
    right(&[asked.clone(), timed(2, 3, get("a", Some((2, "1")), 2))]);
    wrong(&[
        asked,
        timed(2, 3, get("a", None, 1)),
        timed(4, 5, get("a", Some((2, "1")), 2)),
    ]);
}

#[test]
fn a_watch_that_misses_repeats_or_foresees_an_event_is_found() {
    let history = |seen: Operation| {
        [
            timed(0, 1, put("a", "1", 2)),
            timed(2, 3, put("b", "1", 3)),
            timed(4, 5, put("a", "2", 4)),
            timed(6, 7, seen),
        ]
    };
    let all = [(2, "a", Some("1")), (3, "b", Some("1")), (4, "a", Some("2"))];
    right(&history(watch(1, 4, &all)));
    right(&history(watch(1, 3, &all[..2])));
    wrong(&history(watch(1, 4, &all[1..])));
    wrong(&history(watch(1, 4, &[all[0], all[2]])));
    wrong(&history(watch(1, 4, &[all[0], all[0], all[1], all[2]])));
    wrong(&history(watch(1, 4, &[all[0], all[2], all[1]])));
    wrong(&history(watch(1, 4, &[all[0], (3, "b", None), all[2]])));
    wrong(&history(watch(1, 3, &all)));
    wrong(&history(watch(1, 5, &all)));
    // It tells of what has not begun.
    wrong(&[timed(0, 1, watch(1, 2, &all[..1])), timed(2, 3, put("a", "1", 2))]);
}

#[test]
fn the_explanation_shows_what_cannot_follow() {
    let why = check(
        Ideal::new(1),
        &[timed(0, 1, put("a", "1", 2)), timed(2, 3, get("a", None, 2))],
    );
    let why = why.err().unwrap();
    assert!(why.contains("the longest is of 1") && why.contains("Get"), "{why}");
}

#[test]
fn a_long_history_of_many_clients_is_checked_in_no_time() {
    let history: Vec<_> = (0..5000)
        .map(|n| timed(10 * n, 10 * n + 95, put(&format!("{}", n % 7), &n.to_string(), n + 2)))
        .collect();
    right(&history);
    let mut bad = history;
    bad[4000].operation = put("0", "other", 4003);
    wrong(&bad);
}

/// Whether any order at all is possible, by trying all of them.
fn any_order(state: &Ideal, history: &[Timed<Operation>], left: &mut Vec<usize>) -> bool {
    if left.iter().all(|index| history[*index].ended.is_none()) {
        return true;
    }
    for position in 0..left.len() {
        let index = left[position];
        let ended_before = |other: &usize| history[*other].ended.is_some_and(|ended| ended < history[index].began);
        if left.iter().any(ended_before) {
            continue;
        }
        left.remove(position);
        for next in Sequence.step(state, &history[index].operation) {
            if any_order(&next, history, left) {
                return true;
            }
        }
        left.insert(position, index);
    }
    false
}

fn operation() -> impl Strategy<Value = Operation> {
    let key = || prop::sample::select(vec!["a", "b"]);
    let value = || prop::sample::select(vec!["1", "2"]);
    let held = || prop::option::of((2..4_u64, value()));
    prop_oneof![
        3 => (key(), value(), 2..5_u64).prop_map(|(key, value, revision)| put(key, value, revision)),
        2 => (key(), 1..4_u64, value(), 2..5_u64).prop_map(|(key, from, value, at)| update(key, from, value, at)),
        1 => (key(), value()).prop_map(|(key, value)| unanswered(key, value)),
        3 => (key(), held(), 1..5_u64).prop_map(|(key, found, revision)| get(key, found, revision)),
        1 => (1..4_u64, key(), value()).prop_map(|(at, key, value)| watch(at, at + 1, &[(at + 1, key, Some(value))])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn it_agrees_with_trying_every_order(operations in prop::collection::vec((0..20_u64, 0..12_u64, any::<bool>(), operation()), 1..6)) {
        let history: Vec<_> = operations
            .into_iter()
            .enumerate()
            .map(|(n, (began, length, answered, operation))| {
                // No two moments are the same.
                let (began, ended) = (began * 16 + n as u64, (began + length) * 16 + 8 + n as u64);
                let open = matches!(operation, Operation::Txn(_, Outcome::Unknown)) && !answered;
                timed(began, if open { NEVER } else { ended }, operation)
            })
            .collect();
        let mut left = (0..history.len()).collect();
        let expected = any_order(&Ideal::new(1), &history, &mut left);
        prop_assert_eq!(check(Ideal::new(1), &history).is_ok(), expected);
    }
}
