//! What may stand in `reward = { .. }`, for the reference of configurations.

/// A kind of scorer: how it is written, and what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScorerReference {
    /// The table as it stands in TOML, with every field; those that may be left out have their defaults.
    pub table: &'static str,
    /// What it does, in Markdown.
    pub text: &'static str,
}

/// Every kind of scorer.
pub const SCORERS: &[ScorerReference] = &[
    ScorerReference {
        table: "{ rule = \"conciseness\", tokens = 50, max = 4.0 }",
        text: "`max` up to `tokens` tokens, then max + 1 − length / tokens (Zhong et al. 2024).",
    },
    ScorerReference {
        table: "{ rule = \"keywords\", words = [\"please\", \"thank you\"] }",
        text: "The share of these words or phrases that occur, in any case, never inside a longer word.",
    },
    ScorerReference {
        table: "{ rule = \"regex\", pattern = \"^Yes\", present = 1.0, absent = 0.0 }",
        text: "Whether a regular expression (of the crate `regex`) is found anywhere.",
    },
    ScorerReference {
        table: "{ rule = \"json\", keys = [\"name\"] }",
        text: "1 where the answer as a whole is JSON with these keys at its top level, else 0. Without `keys`, any JSON.",
    },
    ScorerReference {
        table: "{ rule = \"repetition\", n = 3 }",
        text: "Minus the share of n-grams of words that are repeated: from 0 (none) towards −1.",
    },
    ScorerReference {
        table: "{ rule = \"readability\" }",
        text: "The reading ease of Flesch for English, from 0 to 100; higher is easier.",
    },
    ScorerReference {
        table: "{ rule = \"similarity\", reference = \"answer\" }",
        text: "ROUGE-L against the text in this column of the record, from 0 to 1. Without `reference`, against the record's own first response; a record without one is refused.",
    },
    ScorerReference {
        table: "{ rule = \"exact-match\", reference = \"answer\" }",
        text: "1 where the answer is the text in this column of the record, blanks at both ends aside, else 0. Without `reference`, the record's own first response; a record without one is refused.",
    },
    ScorerReference {
        table: "{ program = [\"python3\", \"judge.py\"], timeout_seconds = 30, reference = \"answer\" }",
        text: "A program of yours: it reads a JSON object a line, with `prompt`, its turns as `messages`, `variables` such as `tools`, `response` and more, and writes a number a line. Its `reference` is the text in this column of the record, which must be there. Without `reference`, the record's own first response, or null where the record has none.",
    },
    ScorerReference {
        table: "{ endpoint = \"http://localhost:8000/v1\", model = \"judge\", instruction = \"Rate how polite the response is.\", scale = [1.0, 10.0], temperature = 0.0, structured = true, retries = 2, on_unreadable = \"error\", timeout_seconds = 60, parallel = 4, api_key_env = \"JUDGE_KEY\", reference = \"answer\" }",
        text: "A judge behind an OpenAI-compatible endpoint. Its score is its whole reply, `n/10`, JSON's `score`, or the number behind the last `Score:`, `Rating:` or `Overall:`; one who says something else is asked again, `retries` times. Then it is an error, or the answer is left out (`\"skip\"`), or a number counts instead; the metrics count them as `unreadable`, and a step that is left without answers to learn from ends the run. `temperature = \"default\"` sends none; `structured` asks the server to hold the judge to JSON, if it can. Without `api_key_env`, the variable that holds its key, none is sent. The judge sees the text in the column `reference` of the record as a reference answer. Without `reference`, it sees none.",
    },
    ScorerReference {
        table: "{ model = \"runs/helpful\", output = \"helpfulness\" }",
        text: "A reward model: a run's folder, or one in Hugging Face layout for sequence classification. Without `output`, its only one.",
    },
    ScorerReference {
        table: "{ score = \"brevity\", otherwise = -3.0 }",
        text: "The record's own score of a response with exactly this text, and `otherwise` for any other text.",
    },
];

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use toml::Table;

    use super::*;
    use crate::spec::ScorerSpec;

    /// Every field of a table stands there, and what can be left out has its default there, or a word on what holds
    /// without it.
    #[test]
    fn tables_hold_every_field_with_its_default() {
        for ScorerReference { table, text } in SCORERS {
            let spec = |fields: Table| ScorerSpec::deserialize(fields);
            let fields = toml::from_str::<Table>(&format!("reward = {table}")).unwrap();
            let fields = fields["reward"].as_table().unwrap().clone();
            let full = spec(fields.clone()).unwrap_or_else(|error| panic!("{table}: {error}"));
            assert_eq!(Table::try_from(&full).unwrap(), fields, "{table}");
            for field in fields.keys() {
                let mut fewer = fields.clone();
                fewer.remove(field);
                match spec(fewer) {
                    Ok(spec) if spec != full => {
                        assert!(
                            text.contains(&format!("Without `{field}`")),
                            "{table}: {field}"
                        );
                    }
                    Ok(_) | Err(_) => {}
                }
            }
        }
    }

    #[test]
    fn every_rule_has_a_table() {
        let message = toml::from_str::<ScorerSpec>("rule = 'none'")
            .unwrap_err()
            .to_string();
        let known = message
            .split("expected ")
            .nth(1)
            .unwrap()
            .split(';')
            .next()
            .unwrap();
        let mut rules: Vec<&str> = known
            .split([',', ' '])
            .filter(|word| !word.is_empty())
            .collect();
        rules.retain(|word| *word != "or");
        assert_eq!(rules.len(), 8, "{message}");
        for rule in rules {
            let begins = format!("{{ rule = \"{rule}\"");
            assert!(
                SCORERS
                    .iter()
                    .any(|scorer| scorer.table.starts_with(&begins)),
                "{rule}"
            );
        }
    }
}
