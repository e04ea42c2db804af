//! The plain table.

use std::fmt::Write;

use super::line::{Line, lines};
use super::number;
use crate::figure::Figure;
use crate::record::{Outcome, Record};
use crate::row::ROWS;

/// The whole run.
pub fn run(record: &Record) -> String {
    let mut out = String::new();
    for target in &record.targets {
        let _ = writeln!(out, "{}: {}", target.label, target.version);
    }
    let _ = writeln!(out, "machine: {}", record.machine.describe());
    let rows = record.row_names().into_iter();
    let mut table: Vec<Vec<String>> = vec![heading(record)];
    let (mut met, mut missed) = (0, Vec::new());
    let mut remarks = String::new();
    for row in rows {
        table.push(vec![row.to_uppercase()]);
        for line in lines(record, row) {
            match &line.judged {
                Some(judged) if judged.met => met += 1,
                Some(_) => missed.push(line.name.to_owned()),
                None => {}
            }
            table.push(cells(&line));
        }
        for one in record.rows.iter().filter(|r| r.row == row) {
            let why = match &one.outcome {
                Outcome::Measured(measured) => {
                    for (part, load) in &measured.loads {
                        let _ = writeln!(remarks, "  {part} on {}: {}", one.target, load.describe());
                    }
                    for note in &measured.notes {
                        let _ = writeln!(remarks, "  {row} on {}: {note}", one.target);
                    }
                    continue;
                }
                Outcome::Skipped(why) => format!("  not measured on {}: {why}", one.target),
                Outcome::Failed(why) => format!("  FAILED on {}: {why}", one.target),
            };
            table.push(vec![why]);
        }
    }
    out.push('\n');
    out.push_str(&align(&table));
    if !remarks.is_empty() {
        let _ = write!(out, "\nprocessors in use, and remarks:\n{remarks}");
    }
    let _ = write!(out, "\nbudgets: {met} met, {} missed", missed.len());
    if !missed.is_empty() {
        let _ = write!(out, ": {}", missed.join("; "));
    }
    out.push('\n');
    out
}

fn heading(record: &Record) -> Vec<String> {
    let mut cells = vec!["figure".to_owned()];
    cells.extend(record.targets.iter().map(|t| t.label.clone()));
    if record.targets.len() > 1 {
        cells.push("× better".into());
    }
    cells.extend(["unit".into(), "verdict".into(), "budget".into()]);
    cells
}

fn cells(line: &Line<'_>) -> Vec<String> {
    let mut cells = vec![format!("  {}", line.name)];
    cells.extend(line.figures.iter().map(|f| f.map_or_else(|| "–".to_owned(), value)));
    if line.figures.len() > 1 {
        cells.push(line.ratio.map_or_else(String::new, |r| format!("{} ×", number(r))));
    }
    cells.push(line.unit.to_owned());
    match &line.judged {
        Some(judged) => {
            cells.push(if judged.met { "met" } else { "MISSED" }.into());
            let limit = number(judged.limit);
            cells.push(match judged.basis.as_str() {
                "" => line.budget.clone(),
                basis => format!("{} ({limit}: {basis})", line.budget),
            });
        }
        None => cells.push(line.budget.clone()),
    }
    cells
}

fn value(figure: &Figure) -> String {
    let spread = figure.spread().map(|s| format!(" ±{:.0} %", s * 50.0));
    format!("{}{}", number(figure.value()), spread.unwrap_or_default())
}

/// The first column to the left, figures to the right. A row of one cell goes across.
pub fn align(table: &[Vec<String>]) -> String {
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    let wide = |at: usize| {
        let cells = table.iter().filter(|r| r.len() > 1).filter_map(|r| r.get(at));
        cells.map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(wide).collect();
    let mut out = String::new();
    for row in table {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            let room = if row.len() == 1 { 0 } else { widths[at] };
            let pad = " ".repeat(room.saturating_sub(cell.chars().count()));
            let numeric = cell.starts_with(|c: char| c.is_ascii_digit() || c == '–' || c == '-');
            if at > 0 {
                line.push_str("  ");
            }
            if at > 0 && numeric {
                line.push_str(&pad);
                line.push_str(cell);
            } else {
                line.push_str(cell);
                line.push_str(&pad);
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// What there is to run, with every budget.
pub fn contents() -> String {
    let mut out = String::new();
    for row in ROWS {
        let _ = writeln!(out, "{:<16}{}", row.name, row.about);
        for (figure, budget) in row.budgets {
            let had = budget.recorded().map(|r| format!("  (the peer once had {r})"));
            let _ = writeln!(
                out,
                "{:<16}· {figure}: {}{}",
                "",
                budget.short(),
                had.unwrap_or_default()
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::example;

    #[test]
    fn the_table_says_what_was_met_missed_skipped_and_what_failed() {
        let text = run(&example(8.0, 2.0));
        assert!(text.contains("create ConfigMaps           8.0"), "{text}");
        assert!(text.contains("MISSED"), "{text}");
        assert!(text.contains("≥ 5 × the peer (10.0: 5 × 2.0 the peer's)"), "{text}");
        assert!(text.contains("FAILED on coracle: it broke"), "{text}");
        assert!(
            text.contains("not measured on peer: needs --peer-start-command"),
            "{text}"
        );
        assert!(text.contains("budgets: 1 met, 1 missed: create ConfigMaps"), "{text}");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: &[&str]| cells.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
        let text = align(&[
            row(&["a", "1"]),
            row(&["across all columns"]),
            row(&["bcd", "234", "x"]),
        ]);
        assert_eq!(text, "a      1\nacross all columns\nbcd  234  x\n");
    }

    #[test]
    fn every_row_is_in_the_contents() {
        let text = contents();
        assert!(ROWS.iter().all(|r| text.contains(r.name) && text.contains(r.about)));
    }
}
