//! `front.html`: one page without anything outside of it.

use serde_json::json;

use super::numbers::{self, Table};
use super::{PromptSamples, Report};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page, with `svg` as its plot.
pub(super) fn page(report: &Report, svg: &str) -> String {
    let front = &report.front;
    let title = escaped(&report.title);
    let notes: String = report
        .notes
        .iter()
        .map(|note| format!("<li>{}</li>", escaped(note)))
        .collect();
    let warnings: String = front
        .warnings()
        .iter()
        .map(|warning| format!("<p class=\"warning\">{}</p>\n", escaped(warning)))
        .collect();
    let indicators = table(&numbers::indicators(front));
    let reference = escaped(&numbers::reference(front));
    let ordering = numbers::ordering(front);
    let ordering = if ordering.rows.is_empty() {
        String::new()
    } else {
        format!(
            "<h2>Ordering</h2>\n{}<p class=\"note\">Kendall's τ-b between the weight λ<sub>i</sub> and J<sub>i</sub> \
             over all points; J<sub>i</sub> where λ<sub>i</sub> is greatest less J<sub>i</sub> where it is least, \
             paired by record, ± its standard error.</p>\n",
            table(&ordering)
        )
    };
    let points = table(&numbers::points(front));
    let samples = samples(&report.samples);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n\
         <ul class=\"notes\">{notes}</ul>\n{warnings}<figure>\n{svg}</figure>\n\
         <h2>Indicators</h2>\n{indicators}<p class=\"note\">Objectives are maximised. Reference of the hypervolume: \
         ({reference}); a point that is not above it in every objective adds nothing.</p>\n\
         {ordering}{samples}<h2>Points</h2>\n{points}\
         <p class=\"note\">Means over the evaluation records ± one standard error.</p>\n\
         </main>\n</body>\n</html>\n"
    )
}

fn table(table: &Table) -> String {
    let row = |tag: &str, cells: &[String]| {
        let cells: String = cells
            .iter()
            .map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell)))
            .collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = table.rows.iter().map(|cells| row("td", cells)).collect();
    format!(
        "<div class=\"scroll\"><table>\n<thead>{}</thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n",
        row("th", &table.header)
    )
}

/// Two answers side by side, each chosen by a slider over λ. The answers are data for the script, which
/// sets them as text; without a script they are read in `report.md`.
fn samples(samples: &[PromptSamples]) -> String {
    if samples.is_empty() {
        return String::new();
    }
    let data: Vec<_> = samples
        .iter()
        .map(|sample| {
            let answers: Vec<_> = sample
                .answers
                .iter()
                .map(|answer| {
                    json!({
                        "label": format!("{}, λ = {}", answer.method, numbers::preference(&answer.lambda)),
                        "text": answer.text,
                        "tokens": answer.tokens,
                    })
                })
                .collect();
            json!({ "prompt": sample.prompt, "answers": answers })
        })
        .collect();
    // Inside a script element only `<` can end it.
    let data = json!(data).to_string().replace('<', "\\u003c");
    let pane = |side: &str, name: &str| {
        format!(
            "<div class=\"pane\"><label>{name} answer: <output id=\"{side}-label\"></output>\
             <input type=\"range\" id=\"{side}-choice\" min=\"0\" step=\"1\"></label>\
             <pre id=\"{side}-text\"></pre></div>\n"
        )
    };
    format!(
        "<h2>Sample answers</h2>\n<div id=\"samples\" hidden>\n\
         <div class=\"prompts\" id=\"prompts\" role=\"group\" aria-label=\"Prompt\"></div>\n<pre id=\"prompt\"></pre>\n\
         <div class=\"panes\">\n{}{}</div>\n</div>\n\
         <noscript><p class=\"note\">Choosing answers needs JavaScript; they are all in report.md.</p></noscript>\n\
         <script type=\"application/json\" id=\"sample-data\">{data}</script>\n<script>\n{SCRIPT}</script>\n",
        pane("left", "Left"),
        pane("right", "Right"),
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

    #[test]
    fn it_holds_every_part_escaped() {
        let page = tiny();
        for part in [
            "<title>Tiny &amp; small</title>",
            "<li>model: &lt;tiny&gt;</li>",
            "<svg></svg>",
            "<td>panacea-linear</td>",
            "<h2>Ordering</h2>",
            "panacea-linear, λ = (0, 1)",
        ] {
            assert!(page.contains(part), "{part} is not in\n{page}");
        }
    }

    #[test]
    fn nothing_of_an_answer_gets_out_of_its_script() {
        let page = tiny();
        assert!(!page.contains("alert(1)</script>") && !page.contains("<b>"));
        assert_eq!(
            page.matches("</script>").count(),
            2,
            "the data and the script"
        );
        let start = page.find("id=\"sample-data\">").expect("data") + "id=\"sample-data\">".len();
        let end = start + page[start..].find("</script>").expect("its end");
        let data: serde_json::Value = serde_json::from_str(&page[start..end]).expect("JSON");
        assert_eq!(
            data[0]["answers"][1]["text"],
            "</script><script>alert(1)</script>"
        );
    }

    #[test]
    fn nothing_is_fetched() {
        let page = tiny();
        for outside in ["src=", "href=", "url(", "@import", "fetch("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn without_samples_there_is_no_script() {
        let mut report = super::super::tests::report();
        report.samples.clear();
        assert!(!page(&report, "").contains("<script"));
    }
}
