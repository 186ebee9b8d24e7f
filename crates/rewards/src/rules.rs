//! Scores that can be computed from the text alone, and those that stand in the record.

use std::collections::{BTreeSet, HashSet};

use regex::Regex;
use serde_json::Value;
use unicode_segmentation::UnicodeSegmentation;

use crate::error::{ScoreError, SpecError, quoted};
use crate::scorer::{Sample, Scorer, Verdict};
use crate::spec::Rule;

const NO_REFERENCE: &str = "found no reference response to compare with, expected one in every record; name a column of reference answers with `reference`, leave such records out or choose another reward";

/// A scorer that looks at one sample at a time.
struct EachAlone<F> {
    name: String,
    score: F,
}

impl<F> Scorer for EachAlone<F>
where
    F: Fn(&Sample<'_>) -> Result<f64, String> + Send,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn score(&mut self, samples: &[Sample<'_>]) -> Result<Vec<Verdict>, ScoreError> {
        let verdict = |sample| match (self.score)(sample) {
            Ok(score) => Ok(score.into()),
            Err(problem) => Err(ScoreError::new(&self.name, Some(sample), problem)),
        };
        samples.iter().map(verdict).collect()
    }
}

fn each_alone<F>(name: String, score: F) -> Box<dyn Scorer>
where
    F: Fn(&Sample<'_>) -> Result<f64, String> + Send + 'static,
{
    Box::new(EachAlone { name, score })
}

/// The scorer of a rule that has been checked.
pub(crate) fn rule_scorer(name: String, rule: &Rule) -> Result<Box<dyn Scorer>, SpecError> {
    Ok(match rule.clone() {
        Rule::Conciseness { tokens, max } => each_alone(name, move |sample| {
            Ok(conciseness(sample.response_tokens, tokens, max))
        }),
        Rule::Keywords { words } => {
            let patterns = words.iter().map(|word| regex(&whole_word(word)));
            let patterns: Vec<Regex> = patterns.collect::<Result<_, _>>()?;
            each_alone(name, move |sample| {
                let found = patterns.iter().filter(|it| it.is_match(sample.response));
                Ok(found.count() as f64 / patterns.len() as f64)
            })
        }
        Rule::Regex {
            pattern,
            present,
            absent,
        } => {
            let pattern = regex(&pattern)?;
            each_alone(name, move |sample| {
                let found = pattern.is_match(sample.response);
                Ok(if found { present } else { absent })
            })
        }
        Rule::Json { keys } => each_alone(name, move |sample| {
            Ok(f64::from(u8::from(is_json(sample.response, &keys))))
        }),
        Rule::Repetition { n } => each_alone(name, move |sample| {
            Ok(-repeated_share(&words(sample.response), n))
        }),
        Rule::Readability => each_alone(name, |sample| Ok(reading_ease(sample.response))),
        Rule::Similarity { reference } => each_alone(name, move |sample| {
            let reference = sample.reference_in(reference.as_deref());
            let reference = reference.ok_or(NO_REFERENCE)?;
            Ok(rouge_l(&words(sample.response), &words(reference)))
        }),
        Rule::ExactMatch { reference } => each_alone(name, move |sample| {
            let reference = sample.reference_in(reference.as_deref());
            let reference = reference.ok_or(NO_REFERENCE)?;
            Ok(f64::from(u8::from(
                sample.response.trim() == reference.trim(),
            )))
        }),
    })
}

/// The scorer that looks a response up in its record.
pub(crate) fn known_scorer(name: String, score: String, otherwise: f64) -> Box<dyn Scorer> {
    each_alone(name, move |sample| known_score(sample, &score, otherwise))
}

fn known_score(sample: &Sample<'_>, score: &str, otherwise: f64) -> Result<f64, String> {
    let mut known = sample.known.iter();
    let known = known.find(|known| known.text == sample.response);
    if let Some(score) = known.and_then(|known| known.scores.get(score)) {
        return Ok(*score);
    }
    // A score that the record lacks must not pass for a text that it lacks.
    let names: BTreeSet<&str> = sample
        .known
        .iter()
        .flat_map(|known| known.scores.keys().map(String::as_str))
        .collect();
    if known.is_none() && names.contains(score) {
        return Ok(otherwise);
    }
    let whose = known.map_or("any response", |_| "this response");
    Err(format!(
        "found no score `{score}` of {whose}, only {names:?} in the record, expected it in every record; correct the name, or leave such records out"
    ))
}

/// Checks the pattern of a regular expression.
pub(crate) fn regex(pattern: &str) -> Result<Regex, SpecError> {
    Regex::new(pattern).map_err(|error| {
        // The last line of a longer drawing says what is wrong.
        let message = error.to_string();
        let reason = message.lines().last().unwrap_or_default();
        let found = format!("{} ({reason})", quoted(pattern));
        let expected = "a regular expression; in TOML, single quotes leave backslashes alone";
        SpecError::new("pattern", found, expected)
    })
}

/// The pattern of a word or phrase in any case that is not part of a longer word.
fn whole_word(word: &str) -> String {
    format!(r"(?i)(?:^|\W){}(?:\W|$)", regex::escape(word))
}

fn conciseness(length: usize, tokens: usize, max: f64) -> f64 {
    if length <= tokens {
        max
    } else {
        max + 1.0 - length as f64 / tokens as f64
    }
}

fn is_json(text: &str, keys: &[String]) -> bool {
    serde_json::from_str::<Value>(text)
        .is_ok_and(|value| keys.iter().all(|key| value.get(key).is_some()))
}

/// The words of a text in lower case, found by the rules of Unicode.
fn words(text: &str) -> Vec<String> {
    text.unicode_words().map(str::to_lowercase).collect()
}

fn repeated_share(words: &[String], n: usize) -> f64 {
    let all = words.windows(n).len();
    let distinct = words.windows(n).collect::<HashSet<_>>().len();
    (all - distinct) as f64 / all.max(1) as f64
}

fn reading_ease(text: &str) -> f64 {
    let words = words(text);
    if words.is_empty() {
        return 0.0;
    }
    let sentences = text.unicode_sentences().count().max(1);
    let syllables: usize = words.iter().map(|word| syllables(word)).sum();
    let count = words.len() as f64;
    let ease = 206.835 - 1.015 * count / sentences as f64 - 84.6 * syllables as f64 / count;
    ease.clamp(0.0, 100.0)
}

/// The groups of vowels in an English word, less an `e` at its end that is not heard; at least 1.
fn syllables(word: &str) -> usize {
    let vowels: Vec<bool> = word
        .chars()
        .map(|letter| "aeiouy".contains(letter))
        .collect();
    let groups = vowels
        .chunk_by(|a, b| a == b)
        .filter(|group| group[0])
        .count();
    // Heard in "table" and "be", and part of a longer sound in "tree".
    let is_silent = match vowels.as_slice() {
        [.., before, false, true] => word.ends_with('e') && (*before || !word.ends_with("le")),
        _ => false,
    };
    groups.saturating_sub(usize::from(is_silent)).max(1)
}

fn rouge_l(response: &[String], reference: &[String]) -> f64 {
    let common = longest_common_subsequence(response, reference) as f64;
    // 2PR / (P + R) with P = common / |response| and R = common / |reference|.
    2.0 * common / (response.len() + reference.len()).max(1) as f64
}

fn longest_common_subsequence(a: &[String], b: &[String]) -> usize {
    // lengths[j]: that of the words of `a` so far and the first j words of `b`.
    let mut lengths = vec![0; b.len() + 1];
    for word in a {
        let mut diagonal = 0;
        for (j, other) in b.iter().enumerate() {
            let above = lengths[j + 1];
            lengths[j + 1] = if word == other {
                diagonal + 1
            } else {
                above.max(lengths[j])
            };
            diagonal = above;
        }
    }
    lengths[b.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::scorer::KnownResponse;
    use crate::scorer::tests::{assert_says, numbers, sample};
    use crate::spec::ScorerSpec;

    /// The score of one sample under the table of a scorer.
    fn score_of(table: &str, sample: Sample<'_>) -> Result<f64, ScoreError> {
        let spec: ScorerSpec = toml::from_str(table).unwrap();
        Ok(numbers(spec.build().unwrap().score(&[sample])?)[0])
    }

    fn score(table: &str, response: &str) -> f64 {
        score_of(table, sample("a prompt", response)).unwrap()
    }

    #[test]
    fn conciseness_falls_once_the_length_is_passed() {
        let score = |table, tokens| {
            let mut sample = sample("", "");
            sample.response_tokens = tokens;
            score_of(table, sample).unwrap()
        };
        let scores = [0, 50, 75, 100].map(|tokens| score("rule = 'conciseness'", tokens));
        assert_eq!(scores, [4.0, 4.0, 3.5, 3.0]);
        let own = "rule = 'conciseness'\ntokens = 10\nmax = 1";
        assert_eq!([10, 30].map(|tokens| score(own, tokens)), [1.0, -1.0]);
    }

    #[test]
    fn keywords_are_whole_words_in_any_case() {
        let table = "rule = 'keywords'\nwords = ['C++', 'thank you']";
        assert_eq!(score(table, "Thank you; c++!"), 1.0);
        assert_eq!(score(table, "thank yourself (C++)"), 0.5);
        assert_eq!(score(table, "Objective-C+ is none"), 0.0);
    }

    #[test]
    fn a_pattern_is_found_or_not() {
        let table = "rule = 'regex'\npattern = '^\\d+$'\npresent = 2\nabsent = -1";
        assert_eq!(score(table, "42"), 2.0);
        assert_eq!(score(table, "42 of them"), -1.0);
    }

    #[test]
    fn json_is_the_whole_response() {
        let table = "rule = 'json'\nkeys = ['a']";
        assert_eq!(score(table, r#" {"a": null} "#), 1.0);
        for invalid in [
            r#"{"a": 1"#,
            r#"{"b": 1}"#,
            r#"["a"]"#,
            r#"It is {"a": 1}"#,
            "",
        ] {
            assert_eq!(score(table, invalid), 0.0, "{invalid}");
        }
        assert_eq!(score("rule = 'json'", "[1, 2]"), 1.0);
    }

    #[test]
    fn repetition_is_the_share_of_repeated_n_grams() {
        let default = "rule = 'repetition'";
        // a b c, b c a, c a b, a b c: one of four is there already.
        assert_eq!(score(default, "a b c, A B C!"), -0.25);
        assert_eq!(score(default, "a b"), 0.0);
        assert_eq!(score(default, ""), 0.0);
        assert_eq!(score("rule = 'repetition'\nn = 1", "no no no no"), -0.75);
    }

    #[test]
    fn readability_is_flesch_reading_ease() {
        let score = |response| score("rule = 'readability'", response);
        // 6 words, 1 sentence, 8 syllables: 206.835 − 6.09 − 112.8.
        assert!((score("The table has a small cover.") - 87.945).abs() < 1e-9);
        // 8 words, 2 sentences, 10 syllables: 206.835 − 4.06 − 105.75.
        assert!((score("It is open. Now the window is new.") - 97.025).abs() < 1e-9);
        assert_eq!(score("Go."), 100.0);
        assert_eq!(score("Incomprehensibility institutionalised."), 0.0);
        assert_eq!(score("…"), 0.0);
    }

    #[test]
    fn syllables_are_groups_of_vowels() {
        let words = "be tree whale table estimate rhythm beautiful 42";
        let counts: Vec<usize> = words.split(' ').map(syllables).collect();
        assert_eq!(counts, [1, 1, 1, 2, 3, 1, 3, 1]);
    }

    #[test]
    fn similarity_is_rouge_l() {
        let table = "rule = 'similarity'";
        let score = |response| {
            let mut sample = sample("", response);
            sample.reference = Some("Police killed the gunman.");
            score_of(table, sample).unwrap()
        };
        // The examples of Lin (2004), section 3.1.
        assert_eq!(score("police kill the gunman"), 0.75);
        assert_eq!(score("the gunman kill police"), 0.5);
        // P = 1 and R = 2/4.
        assert_eq!(score("The gunman"), 2.0 / 3.0);
        assert_eq!(score(""), 0.0);
        let error = score_of(table, sample("", "")).unwrap_err();
        assert_says(
            error,
            "rule similarity, train.jsonl:12: found no reference response",
        );
    }

    #[test]
    fn an_answer_is_compared_with_the_column_that_is_named() {
        let references = [("answer".to_owned(), " 42\n".to_owned())];
        let score = |table, response| {
            let mut sample = sample("", response);
            sample.reference = Some("own");
            sample.references = &references;
            score_of(table, sample)
        };
        let named = "rule = 'exact-match'\nreference = 'answer'";
        assert_eq!(score(named, "42").unwrap(), 1.0);
        assert_eq!(score(named, "own").unwrap(), 0.0);
        assert_eq!(score("rule = 'exact-match'", "own ").unwrap(), 1.0);
        let similar = "rule = 'similarity'\nreference = 'answer'";
        assert_eq!(score(similar, "It is 42").unwrap(), 0.5);
        let error = score("rule = 'similarity'\nreference = 'other'", "").unwrap_err();
        assert_says(error, "found no reference response to compare with");
    }

    #[test]
    fn a_known_score_is_looked_up_by_the_exact_text() {
        let known = [("Yes.", 2.5), ("No.", 1.0)].map(|(text, score)| KnownResponse {
            text: text.to_owned(),
            scores: BTreeMap::from([("brevity".to_owned(), score)]),
        });
        let score = |name, response| {
            let mut sample = sample("", response);
            sample.known = &known;
            score_of(&format!("score = '{name}'\notherwise = -3"), sample)
        };
        assert_eq!(score("brevity", "No.").unwrap(), 1.0);
        assert_eq!(score("brevity", "no.").unwrap(), -3.0);
        let error = score("wit", "No.").unwrap_err();
        assert_says(
            error,
            "score wit, train.jsonl:12: found no score `wit` of this response",
        );
        let error = score("wit", "Perhaps.").unwrap_err();
        assert_says(
            error,
            "found no score `wit` of any response, only {\"brevity\"} in the record",
        );
    }
}
