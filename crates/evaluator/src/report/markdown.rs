//! `report.md`.

use std::fmt::Write;

use super::numbers::{self, Table};
use super::{DEVIATIONS, PromptSamples, Report};
use crate::Front;
use crate::text::preference;

/// The report as Markdown.
pub(super) fn report(report: &Report) -> String {
    let front = &report.front;
    let mut text = format!("# {}\n\n", escaped(&report.title));
    for note in &report.notes {
        text += &format!("- {}\n", escaped(note));
    }
    text += "\n![The front](front.svg)\n\n";
    for warning in front.warnings() {
        text += &format!("> **Warning:** {}\n\n", escaped(&warning));
    }
    text += "## What it says\n\n";
    for paragraph in front.verdict() {
        text += &format!("{}\n\n", escaped(&paragraph));
    }
    text += "## Indicators\n\n";
    text += &table(&numbers::indicators(front));
    text += &format!(
        "\nObjectives are maximised. The hypervolume is against the reference ({}); a point that is not above it in \
         every objective adds nothing.\n\n",
        numbers::reference(front)
    );
    let ordering = numbers::ordering(front);
    if !ordering.rows.is_empty() {
        text += "## Ordering\n\n";
        text += &table(&ordering);
        text += "\nKendall's τ-b is between the weight λ_i and J_i over all points. The difference is J_i where λ_i is \
                 greatest less J_i where it is least, paired by record, ± its standard error.\n\n";
    }
    text += "## Points\n\n";
    text += &table(&numbers::points(front));
    text += "\nValues are means over the evaluation records ± one standard error.\n";
    text += &scales(front);
    if !report.samples.is_empty() {
        text += "\n## Sample answers\n";
        for (position, sample) in report.samples.iter().enumerate() {
            text += &sample_answers(position, sample);
        }
    }
    text
}

/// What rewards were like in training, and the points in these units; nothing for a front without rewards.
fn scales(front: &Front) -> String {
    let scales = numbers::reward_scales(front);
    if scales.rows.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n## Scale of the rewards\n\n");
    text += &table(&scales);
    text += "\nMean and standard deviation of the answers' rewards in training, as they were scored: up to the step \
             `rlhf.normalise_steps` where the run normalised them, and else over the whole training.\n";
    let points = numbers::points_in_deviations(front);
    if !points.rows.is_empty() {
        text += "\n### Points in deviations\n\n";
        text += &table(&points);
        let run = front.unit().map_or("", |run| &run.run);
        let _ = writeln!(
            text,
            "\n(J_i − mean) / deviation, by the numbers of {} above.",
            escaped(run)
        );
        if front.in_deviations().is_some() {
            let _ = writeln!(text, "\n![The front in deviations]({DEVIATIONS})");
        }
    }
    text
}

/// A table as Markdown.
pub(crate) fn table(table: &Table) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(table.header.iter().map(|cell| escaped(cell)).collect());
    text += &line(vec!["---".to_owned(); table.header.len()]);
    for row in &table.rows {
        text += &line(row.iter().map(|cell| escaped(cell)).collect());
    }
    text
}

fn sample_answers(position: usize, sample: &PromptSamples) -> String {
    let mut text = format!(
        "\n### Prompt {}\n\n{}",
        position + 1,
        verbatim(&sample.prompt)
    );
    for answer in &sample.answers {
        write!(
            text,
            "\n**{}, λ = {}** ({} tokens)\n\n{}",
            escaped(&answer.method),
            preference(&answer.lambda),
            answer.tokens,
            verbatim(&answer.text)
        )
        .expect("writing to a string");
    }
    text
}

/// Text as it is, in a fence that is longer than any in it.
fn verbatim(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{text}\n{fence}\n")
}

/// Text that Markdown shows as it is, on one line.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => escaped.push(' '),
            '\\' | '|' | '<' | '>' | '*' | '`' | '[' | ']' => escaped.extend(['\\', c]),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MeasuredRun, Provenance};

    #[test]
    fn it_holds_every_part() {
        let text = report(&super::super::tests::report());
        for part in [
            "# Tiny & small",
            "- model: \\<tiny\\>",
            "## What it says",
            "helpful rises by 1.000 ± 0.000 and con\\|cise falls by 1.000 ± 0.000",
            "## Indicators",
            "against the reference (",
            "## Ordering",
            "| panacea-linear | con\\|cise | 1.000 |",
            "## Points",
            "(0.5, 0.5)",
            "### Prompt 1",
            "**panacea-linear, λ = (0, 1)** (7 tokens)",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn the_scale_of_rewards_is_told_with_the_points_in_its_units() {
        let mut of_rewards = super::super::tests::report();
        assert!(!report(&of_rewards).contains("Scale of the rewards"));
        let mut text = |by: &str| {
            let scales = [("helpful", 0.0, 0.5), ("con|cise", -1.0, 0.0)];
            let run = MeasuredRun::of_rewards(by, &scales);
            of_rewards.front.provenance = Some(Provenance::of_runs(vec![run]));
            report(&of_rewards)
        };
        let told = text("rewards of greedy answers of at most 9 tokens");
        // The means of helpful are 0.2 and −0.8 at the ends. What did not vary has no unit.
        for part in [
            "| first | helpful | 0.0000 | 0.5000 | 96 |",
            "| panacea-linear | (1, 0) | 0.4000 | – |",
            "| panacea-linear | (0, 1) | -1.6000 | – |",
        ] {
            assert!(told.contains(part), "{part} is not in\n{told}");
        }
        assert!(!told.contains("](deviations.svg)"));
        // With a price of KL in the values there is no such unit.
        let told = text("records");
        assert!(told.contains("## Scale of the rewards") && !told.contains("Points in deviations"));
    }

    #[test]
    fn the_picture_in_deviations_is_written_and_shown() {
        let mut of_rewards = super::super::tests::report();
        assert!(!of_rewards.files().contains(&super::DEVIATIONS));
        let scales = [("helpful", 0.0, 0.5), ("con|cise", 0.0, 0.5)];
        let run = MeasuredRun::of_rewards("rewards of greedy answers", &scales);
        of_rewards.front.provenance = Some(Provenance::of_runs(vec![run]));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let files = of_rewards.write(folder.path()).expect("written");
        let names: Vec<_> = (files.iter())
            .filter_map(|path| path.file_name()?.to_str())
            .collect();
        assert_eq!(names, of_rewards.files());
        let picture = std::fs::read_to_string(folder.path().join("deviations.svg"));
        // helpful is 0.2 at its end, of a deviation of 0.5.
        assert!(
            picture
                .expect("written")
                .contains("helpful from -1.6000 to 0.4000")
        );
        let told = report(&of_rewards);
        assert!(told.contains(
            "by the numbers of first above.\n\n![The front in deviations](deviations.svg)"
        ));
    }

    #[test]
    fn a_fence_in_an_answer_does_not_end_it() {
        assert_eq!(verbatim("a\n```\nb"), "````text\na\n```\nb\n````\n");
        assert_eq!(verbatim("plain"), "```text\nplain\n```\n");
    }

    #[test]
    fn ignored_points_are_warned_of() {
        let mut report_with_ignored = super::super::tests::report();
        report_with_ignored.front.methods[0]
            .indicators
            .ignored_points = vec![1];
        assert!(
            report(&report_with_ignored).contains("> **Warning:** panacea-linear: 1 of 3 points")
        );
    }
}
