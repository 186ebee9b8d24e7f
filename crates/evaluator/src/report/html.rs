//! `front.html`: one page without anything outside of it. What it says stands there without a script, which only makes it answer
//! to a pointer and to keys.

use panacea_page::{PARTS, STYLE, json_in_script, one_script};
use serde::Serialize;

use super::numbers::{self, Table};
use super::{PromptSamples, Report};
use crate::Front;

const OWN_STYLE: &str = include_str!("../../page/front-page.css");
const OWN_SCRIPT: &str = include_str!("../../page/front-page.js");

/// The page runs what is in it and asks nobody for anything.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// What the script shows.
#[derive(Serialize)]
struct Data<'a> {
    front: &'a Front,
    samples: &'a [PromptSamples],
}

/// The page, with `svg` as its plot where no script runs.
pub(super) fn page(report: &Report, svg: &str) -> String {
    let front = &report.front;
    let title = escaped(&report.title);
    let described = escaped(&format!("The front of {}", report.title));
    let warnings: String = front
        .warnings()
        .iter()
        .map(|warning| format!("<p class=\"warning\">{}</p>\n", escaped(warning)))
        .collect();
    let verdict: String = front
        .verdict()
        .iter()
        .map(|paragraph| format!("<p>{}</p>\n", escaped(paragraph)))
        .collect();
    let indicators = table("Indicators", &numbers::indicators(front));
    let reference = escaped(&numbers::reference(front));
    let ordering = ordering(front);
    let points = table("Points", &numbers::points(front));
    let notes = notes(&report.notes);
    let without_script = match report.samples.is_empty() {
        true => "",
        false => {
            "<noscript><p class=\"note\">Looking into the front and at the sample answers needs JavaScript; the answers are \
             all in report.md.</p></noscript>\n"
        }
    };
    let data = Data {
        front,
        samples: &report.samples,
    };
    let data = serde_json::to_string(&data).expect("a front and texts are plain data");
    let data = json_in_script(&data);
    let script = one_script("front-page.js", OWN_SCRIPT, &PARTS)
        .expect("a test makes a script of these very modules");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}{OWN_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n\
         <div id=\"front\"></div>\n\
         <figure class=\"picture\" id=\"picture\" role=\"img\" aria-label=\"{described}\">\n{svg}</figure>\n\
         {without_script}{warnings}<section class=\"verdict\" aria-label=\"What it says\">\n{verdict}</section>\n<h2>Indicators</h2>\n{indicators}<p class=\"note\">Objectives are maximised. Reference of \
         the hypervolume: ({reference}); a point that is not above it in every objective adds nothing.</p>\n\
         {ordering}<h2>Points</h2>\n{points}\
         <p class=\"note\">Means over the evaluation records ± one standard error.</p>\n{notes}\
         </main>\n<script type=\"application/json\" id=\"data\">{data}</script>\n<script>\n{script}</script>\n\
         </body>\n</html>\n"
    )
}

/// How each objective follows its weight, where that is known.
fn ordering(front: &Front) -> String {
    let ordering = numbers::ordering(front);
    if ordering.rows.is_empty() {
        return String::new();
    }
    format!(
        "<h2>Ordering</h2>\n{}<p class=\"note\">Kendall's τ-b between the weight λ<sub>i</sub> and J<sub>i</sub> \
         over all points; J<sub>i</sub> where λ<sub>i</sub> is greatest less J<sub>i</sub> where it is least, \
         paired by record, ± its standard error.</p>\n",
        table("Ordering", &ordering)
    )
}

fn notes(notes: &[String]) -> String {
    if notes.is_empty() {
        return String::new();
    }
    let notes = notes
        .iter()
        .map(|note| format!("<li>{}</li>\n", escaped(note)));
    let notes: String = notes.collect();
    format!("<h2>Notes</h2>\n<ul class=\"notes\">\n{notes}</ul>\n")
}

/// A table that scrolls by itself where it is wider than the page, by keys too.
fn table(name: &str, table: &Table) -> String {
    let row = |tag: &str, cells: &[String]| {
        let cells: String = cells
            .iter()
            .map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell)))
            .collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = table.rows.iter().map(|cells| row("td", cells)).collect();
    format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"{name}\" tabindex=\"0\"><table>\n<thead>{}</thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n",
        row("th", &table.header)
    )
}

/// Text as HTML shows it.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> String {
        page(&super::super::tests::report(), "<svg></svg>\n")
    }

    fn between<'a>(page: &'a str, start: &str, end: &str) -> &'a str {
        let start = page.find(start).expect("its start") + start.len();
        let end = start + page[start..].find(end).expect("its end");
        &page[start..end]
    }

    fn data(page: &str) -> &str {
        between(page, "id=\"data\">", "</script>")
    }

    #[test]
    fn it_holds_every_part_escaped() {
        let page = tiny();
        for part in [
            "<title>Tiny &amp; small</title>",
            "<li>model: &lt;tiny&gt;</li>",
            "aria-label=\"The front of Tiny &amp; small\">\n<svg></svg>",
            "<td>panacea-linear</td>",
            "<h2>Ordering</h2>",
        ] {
            assert!(page.contains(part), "{part} is not in\n{page}");
        }
    }

    #[test]
    fn the_chart_stands_above_the_notes() {
        let page = tiny();
        let at = |part: &str| page.find(part).unwrap_or_else(|| panic!("no {part}"));
        assert!(
            at("<div id=\"front\">") < at("<svg></svg>") && at("<svg></svg>") < at("<h2>Points")
        );
        assert!(at("<h2>Points") < at("model: &lt;tiny&gt;"));
    }

    #[test]
    fn its_data_are_the_report_and_nothing_of_them_gets_out_of_their_script() {
        let page = tiny();
        assert!(!page.contains("alert(1)</script>") && !page.contains("<b>"));
        assert_eq!(
            page.matches("</script>").count(),
            2,
            "the data and the script"
        );
        let report = super::super::tests::report();
        let mut found: serde_json::Value = serde_json::from_str(data(&page)).expect("JSON");
        let front: Front = serde_json::from_value(found["front"].take()).expect("a front");
        let samples: Vec<PromptSamples> =
            serde_json::from_value(found["samples"].take()).expect("samples");
        assert_eq!((front, samples), (report.front, report.samples));
    }

    #[test]
    fn every_module_is_in_it_once() {
        let page = tiny();
        let script = between(&page, "</script>\n<script>\n", "</script>");
        let mut at = 0;
        for (name, _) in PARTS {
            assert_eq!(
                script.matches(&format!("modules[\"{name}\"] = ")).count(),
                1,
                "{name}"
            );
            at = at.max(
                script
                    .find(&format!("modules[\"{name}\"] = "))
                    .expect("there"),
            );
        }
        let main = script.find("modules[\"front-page.js\"] = ").expect("there");
        assert!(at < main, "the page behind what it imports");
        for line in script.lines() {
            assert!(
                !line.starts_with("import") && !line.starts_with("export"),
                "{line}"
            );
        }
        // A style ends at the first end of one.
        assert_eq!(page.matches("</style").count(), 1);
    }

    #[test]
    fn nothing_is_fetched() {
        let page = tiny();
        for outside in [
            "src=",
            "href=",
            "url(",
            "@import",
            "fetch(",
            "XMLHttpRequest",
            "import(",
        ] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("content=\"default-src 'none'; "));
        let addresses = page.matches("://").count();
        assert_eq!(
            addresses,
            page.matches("\"http://www.w3.org/2000/svg\"").count()
        );
    }

    #[test]
    fn without_a_script_there_are_the_picture_and_the_tables() {
        let mut report = super::super::tests::report();
        assert!(page(&report, "").contains("<noscript>"));
        report.samples.clear();
        report.notes.clear();
        let page = page(&report, "<svg></svg>\n");
        assert!(!page.contains("<noscript>") && !page.contains("<h2>Notes"));
        let (seen, _) = page.split_once("<script").expect("the data");
        assert!(
            seen.contains("<svg></svg>") && seen.matches("<table>").count() == 3,
            "{seen}"
        );
    }
}
