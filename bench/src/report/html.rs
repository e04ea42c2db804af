//! The run as one page that needs nothing else: tables, plots, remarks.

use std::fmt::Write;

use super::line::{Line, lines};
use super::number;
use super::plot::{Standing, cores, distributions, escape, standings};
use crate::figure::{Better, Figure};
use crate::record::{Outcome, Record};
use crate::row::ROWS;

const STYLE: &str = include_str!("style.css");

pub fn page(record: &Record) -> String {
    let names = record.row_names();
    let all: Vec<(&str, Vec<Line<'_>>)> = names.iter().map(|row| (*row, lines(record, row))).collect();
    let mut out = String::from("<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n");
    let _ = writeln!(
        out,
        "<title>coracle-bench</title>\n<style>\n{STYLE}</style>\n<main>\n<h1>coracle-bench</h1>"
    );
    for target in &record.targets {
        let _ = writeln!(
            out,
            "<p><b>{}</b>: {}</p>",
            escape(&target.label),
            escape(&target.version)
        );
    }
    let _ = writeln!(
        out,
        "<p>{}</p>\n<p>{}</p>",
        record.started,
        escape(&record.machine.describe())
    );
    overview(&mut out, &all);
    for (row, lines) in &all {
        section(&mut out, record, row, lines);
    }
    out.push_str("</main>\n</html>\n");
    out
}

fn overview(out: &mut String, all: &[(&str, Vec<Line<'_>>)]) {
    let judged: Vec<Standing<'_>> = all.iter().flat_map(|(_, lines)| lines).filter_map(standing).collect();
    let met = judged.iter().filter(|s| s.met).count();
    let _ = writeln!(
        out,
        "<h2>Budgets: {met} met, {} missed</h2>\n<p>How many times better than its budget each figure is.</p>\n{}",
        judged.len() - met,
        standings(&judged)
    );
}

fn standing<'a>(line: &Line<'a>) -> Option<Standing<'a>> {
    let judged = line.judged.as_ref()?;
    let figure = line.figures.first().copied().flatten()?;
    let ratio = match (figure.better, figure.value()) {
        (Better::More, value) => value / judged.limit,
        // Nothing where nothing is allowed.
        (Better::Less, 0.0) if judged.limit == 0.0 => 1.0,
        (Better::Less, value) => judged.limit / value,
    };
    Some(Standing {
        name: line.name,
        ratio,
        met: judged.met,
    })
}

fn section(out: &mut String, record: &Record, row: &str, lines: &[Line<'_>]) {
    let about = ROWS.iter().find(|r| r.name == row).map_or("", |r| r.about);
    let _ = writeln!(out, "<h2 id=\"{row}\">{row}</h2>\n<p>{}</p>", escape(about));
    if !lines.is_empty() {
        table(out, record, lines);
    }
    for line in lines {
        let curves: Vec<(&str, &[(f64, f64)])> = record
            .targets
            .iter()
            .zip(&line.figures)
            .filter_map(|(target, figure)| Some((target.label.as_str(), figure.as_ref()?.quantiles.as_slice())))
            .filter(|(_, quantiles)| !quantiles.is_empty())
            .collect();
        if !curves.is_empty() {
            let what = line.name.trim_end_matches(", p99");
            let _ = writeln!(
                out,
                "<figure><figcaption>{}: how many took no longer</figcaption>\n{}</figure>",
                escape(what),
                distributions(what, &curves)
            );
        }
    }
    for one in record.rows.iter().filter(|r| r.row == row) {
        let target = escape(&one.target);
        match &one.outcome {
            Outcome::Measured(measured) => {
                if !measured.loads.is_empty() {
                    let _ = writeln!(
                        out,
                        "<figure><figcaption>Processors in use, {target}</figcaption>\n{}</figure>",
                        cores(&measured.loads)
                    );
                }
                for (part, load) in measured.loads.iter().filter(|(_, l)| l.is_full()) {
                    let _ = writeln!(
                        out,
                        "<p class=\"note\">{}: {}</p>",
                        escape(part),
                        escape(&load.describe())
                    );
                }
                for note in &measured.notes {
                    let _ = writeln!(out, "<p class=\"note\">{target}: {}</p>", escape(note));
                }
            }
            Outcome::Skipped(why) => {
                let _ = writeln!(out, "<p class=\"note\">not measured on {target}: {}</p>", escape(why));
            }
            Outcome::Failed(why) => {
                let _ = writeln!(out, "<p class=\"failed\">failed on {target}: {}</p>", escape(why));
            }
        }
    }
}

fn table(out: &mut String, record: &Record, lines: &[Line<'_>]) {
    out.push_str("<table>\n<tr><th>figure</th>");
    for target in &record.targets {
        let _ = write!(out, "<th class=\"n\">{}</th>", escape(&target.label));
    }
    let two = record.targets.len() > 1;
    out.push_str("<th>unit</th>");
    out.push_str(if two { "<th class=\"n\">× better</th>" } else { "" });
    out.push_str("<th>budget</th><th></th></tr>\n");
    for line in lines {
        let _ = write!(out, "<tr><td>{}</td>", escape(line.name));
        for figure in &line.figures {
            let _ = write!(
                out,
                "<td class=\"n\">{}</td>",
                figure.map_or_else(|| "–".to_owned(), value)
            );
        }
        let _ = write!(out, "<td>{}</td>", escape(line.unit));
        if two {
            let ratio = line.ratio.map_or_else(String::new, number);
            let _ = write!(out, "<td class=\"n\">{ratio}</td>");
        }
        let verdict = match &line.judged {
            Some(judged) if judged.met => "<td class=\"good\">met</td>",
            Some(_) => "<td class=\"bad\">missed</td>",
            None => "<td></td>",
        };
        let limit = line.judged.as_ref().filter(|j| !j.basis.is_empty());
        let limit = limit.map_or_else(String::new, |j| format!(" ({})", number(j.limit)));
        let _ = writeln!(out, "<td>{}{limit}</td>{verdict}</tr>", escape(&line.budget));
    }
    out.push_str("</table>\n");
}

fn value(figure: &Figure) -> String {
    let spread = figure.spread().map(|s| format!(" ±{:.0} %", s * 50.0));
    format!("{}{}", number(figure.value()), spread.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::example;

    #[test]
    fn the_page_holds_tables_plots_and_reasons_and_refers_to_nothing_outside() {
        let page = page(&example(8.0, 2.0));
        assert!(page.contains("Budgets: 1 met, 1 missed") || page.contains("Budgets: 0 met, 2 missed"));
        assert!(page.contains("<polyline") && page.contains("failed on coracle: it broke"));
        assert!(page.contains("a &lt;remark&gt;") && !page.contains("<remark>"));
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<script"));
        assert_eq!(page.matches("<table>").count(), page.matches("</table>").count());
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }
}
