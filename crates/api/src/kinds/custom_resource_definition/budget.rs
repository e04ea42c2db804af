//! What the rules of one schema may cost: each by itself and all together, by upstream's numbers and in its words.

use super::Faults;

/// One expression.
const EACH: u64 = 10_000_000;
/// All of a schema.
const ALL: u64 = 100_000_000;
/// So many of the most expensive ones are named when all together cost too much.
const NAMED: usize = 4;

#[derive(Default)]
pub(super) struct Budget {
    spent: u64,
    /// Those that take a hundredth of it or more, the most expensive first.
    greedy: Vec<(String, u64)>,
}

impl Budget {
    /// A rule, for as many values as it may be run for.
    pub fn rule(&mut self, path: &str, cost: u64, is_new: bool, faults: &mut Faults<'_>) {
        self.take("estimated rule cost", path, cost, is_new, faults);
    }

    pub fn message(&mut self, path: &str, cost: u64, is_new: bool, faults: &mut Faults<'_>) {
        self.take("estimated messageExpression cost", path, cost, is_new, faults);
    }

    fn take(&mut self, what: &str, path: &str, cost: u64, is_new: bool, faults: &mut Faults<'_>) {
        if !is_new {
            return;
        }
        if cost > EACH {
            faults.forbidden(path, exceeded(what, cost, EACH));
        }
        self.spent = self.spent.saturating_add(cost);
        if cost >= ALL / 100 {
            self.greedy.push((path.to_owned(), cost));
        }
    }

    /// Says whether all together cost too much.
    pub fn report(mut self, root: &str, faults: &mut Faults<'_>) {
        if self.spent <= ALL {
            return;
        }
        self.greedy.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
        for (path, _) in self.greedy.iter().take(NAMED) {
            let detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            faults.forbidden(path, detail);
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        faults.forbidden(root, exceeded(what, self.spent, ALL));
    }
}

fn exceeded(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}
