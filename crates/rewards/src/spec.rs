//! What a user writes of a scorer, read field by field so that every mistake names its field.

use std::fmt;
use std::path::PathBuf;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use ureq::http::Uri;

use crate::endpoint::Endpoint;
use crate::error::{SpecError, quoted};
use crate::fields::Fields;
use crate::program::Program;
use crate::rules::{known_scorer, regex, rule_scorer};
use crate::scorer::Scorer;

/// A scorer as it stands in the configuration. Which one it is, is told by the one field of `rule`, `program`,
/// `endpoint`, `model` and `score` that is there.
///
/// Reading it checks every value. What depends on the machine (that a program starts, that a variable is set) shows
/// when the scorer is built. It is written with every default filled in, and read back as it was.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ScorerSpec {
    /// A rule about the text.
    Rule(Rule),
    /// A program that is started once. It reads one JSON object per line from its standard input, such as
    ///
    /// ```json
    /// {"prompt": "…", "messages": [{"role": "user", "content": "…"}], "variables": {}, "response": "…", "response_tokens": 7,
    ///  "reference": null, "origin": "train.jsonl:12", "left": 0}
    /// ```
    ///
    /// and writes one number per line to its standard output, in the same order, flushed at once. `prompt` is the conversation
    /// as one text; `messages` has its turns with all that the record has of them (`content` is null or missing where a turn
    /// has no text, as beside `tool_calls`), and `variables` what the chat template sees beside them, such as `tools`.
    /// `reference` is the text of the column that is named: a record without it is refused when it is read. Without a column it
    /// is the text of the record's own first response, and null where the record has none; the program decides what that is
    /// worth. `left` is the number of lines that follow before numbers are waited for, so that a program may gather a batch. Its
    /// standard error is shown when something goes wrong. At the end of the run, and after a failure, it is killed with all that it
    /// has started.
    Program {
        /// The program and its arguments.
        program: Vec<String>,
        /// The longest wait for the next number, the start of the program included, from 1 to 86400. Default: 30.
        timeout_seconds: u64,
        /// The column of the record with a reference answer. Default: the record's own first response, if it has one.
        #[serde(skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
        /// The folder in which it is started, so that its relative paths begin there: that of the training, wherever the run is
        /// used later. No key of a configuration.
        #[serde(skip)]
        folder: PathBuf,
    },
    /// A judge behind an OpenAI-compatible chat endpoint.
    Endpoint(EndpointSpec),
    /// A reward model.
    Model(ModelSpec),
    /// The score that the record itself gives to a response with exactly this text.
    Score {
        /// The name of the score.
        score: String,
        /// What a response with any other text gets.
        otherwise: f64,
    },
}

/// A rule about the text of a response. Words and sentences are those of Unicode (UAX #29).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "rule", rename_all = "kebab-case")]
pub enum Rule {
    /// `max` where the response has at most `tokens` tokens, else max + 1 − length / tokens: the concise reward of
    /// Zhong et al. (2024).
    Conciseness {
        /// The length from which on the score falls. Default: 50.
        tokens: usize,
        /// The score up to there. Default: 4.
        max: f64,
    },
    /// The share of the words that occur, from 0 to 1. A word is found in any case, and never inside a longer one.
    Keywords {
        /// Words or phrases.
        words: Vec<String>,
    },
    /// Whether a regular expression (of the `regex` crate) is found anywhere in the response.
    Regex {
        /// The expression.
        pattern: String,
        /// The score where it is found. Default: 1.
        present: f64,
        /// The score where it is not. Default: 0.
        absent: f64,
    },
    /// 1 where the response as a whole is JSON, without a word or a code fence around it, else 0.
    Json {
        /// Keys that it must have at the top level, which makes it an object. Default: none.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        keys: Vec<String>,
    },
    /// −(1 − distinct / all) over the n-grams of lower-case words (seq-rep-n of Welleck et al. 2020): 0 where none is
    /// repeated, towards −1 where nearly all are. Fewer than n words score 0.
    Repetition {
        /// Words of an n-gram. Default: 3.
        n: usize,
    },
    /// The reading ease of Flesch (1948) for English, held to its scale from 0 to 100; higher is easier:
    /// 206.835 − 1.015 · words / sentences − 84.6 · syllables / words. Syllables are groups of vowels, less a silent
    /// `e` at the end. A response without words scores 0.
    Readability,
    /// ROUGE-L of Lin (2004) against the record's reference response: F1 of the longest common subsequence of
    /// lower-case words, from 0 to 1.
    Similarity {
        /// The column of the record with a reference answer. Default: the record's own first response.
        #[serde(skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
    },
    /// 1 where the response is the record's reference response, blanks at both ends aside, else 0.
    ExactMatch {
        /// The column of the record with a reference answer. Default: the record's own first response.
        #[serde(skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
    },
}

/// A judge behind an OpenAI-compatible chat endpoint. It is asked for JSON with one number where the server can hold it to that, and
/// for a number otherwise; what else it may reply is in `judgement.rs`. Failed connections and the statuses 408, 429 and 5xx are
/// tried again, five times in all.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EndpointSpec {
    /// The base address, such as `http://localhost:8000/v1`.
    pub endpoint: String,
    /// The model's name there.
    pub model: String,
    /// What to judge, such as "Rate how polite the response is."
    pub instruction: String,
    /// The lowest and the highest number. Default: [1, 10].
    pub scale: [f64; 2],
    /// The temperature that is asked for. Default: 0.
    pub temperature: Temperature,
    /// Whether the server is asked to hold the judge to JSON (`response_format`); one that refuses that is asked without.
    /// Default: true.
    pub structured: bool,
    /// How often a judge is asked again who said nothing that can be read as a score. Default: 2.
    pub retries: usize,
    /// What becomes of the response then. Default: the error.
    pub on_unreadable: OnUnreadable,
    /// The longest time of one request, from 1 to 86400. Default: 60.
    pub timeout_seconds: u64,
    /// Requests at the same time. Default: 4.
    pub parallel: usize,
    /// The environment variable that holds the API key. Default: none is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
    /// The column of the record with a reference answer, which the judge sees beside the response. Default: none is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// The temperature that a judge is asked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Temperature {
    /// This one, 0 or more.
    At(f64),
    /// None is sent, as some reasoning models will have it: `"default"`.
    Default,
}

/// What becomes of a response whose judge said nothing readable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OnUnreadable {
    /// It is an error, which ends the run: `"error"`.
    Error,
    /// The response is left out: `"skip"`.
    Skip,
    /// This number counts.
    Count(f64),
}

impl Serialize for Temperature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::At(temperature) => serializer.serialize_f64(*temperature),
            Self::Default => serializer.serialize_str("default"),
        }
    }
}

impl<'de> Deserialize<'de> for Temperature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(word) if word == "default" => Ok(Self::Default),
            value => Ok(Self::At(
                serde_json::from_value(value).map_err(D::Error::custom)?,
            )),
        }
    }
}

impl Serialize for OnUnreadable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Error => serializer.serialize_str("error"),
            Self::Skip => serializer.serialize_str("skip"),
            Self::Count(number) => serializer.serialize_f64(*number),
        }
    }
}

impl<'de> Deserialize<'de> for OnUnreadable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(word) if word == "error" => Ok(Self::Error),
            Value::String(word) if word == "skip" => Ok(Self::Skip),
            value => Ok(Self::Count(
                serde_json::from_value(value).map_err(D::Error::custom)?,
            )),
        }
    }
}

/// A reward model: a decoder that reads one number, or several, behind the end of a response.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelSpec {
    /// The folder of a run with `method.name = "reward-model"`, or a Hugging Face folder of a sequence-classification
    /// model such as `LlamaForSequenceClassification`.
    pub model: PathBuf,
    /// Which of its outputs counts, by name. Default: the only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// The name in messages: `rule conciseness`, `program judge.py`, `endpoint http://localhost:8000/v1`, `score brevity`.
impl fmt::Display for ScorerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => write!(f, "rule {}", rule.name()),
            Self::Program { program, .. } => write!(f, "program {}", program.join(" ")),
            Self::Endpoint(spec) => write!(f, "endpoint {} ({})", spec.endpoint, spec.model),
            Self::Model(ModelSpec { model, output }) => {
                write!(f, "reward model {}", model.display())?;
                output
                    .as_ref()
                    .map_or(Ok(()), |output| write!(f, " ({output})"))
            }
            Self::Score { score, .. } => write!(f, "score {score}"),
        }
    }
}

impl ScorerSpec {
    /// The score of the record itself that is looked up, if that is what scores.
    #[must_use]
    pub fn record_score(&self) -> Option<&str> {
        match self {
            Self::Score { score, .. } => Some(score),
            _ => None,
        }
    }

    /// The column of the record whose text the scorer compares with, if it names one.
    #[must_use]
    pub fn reference_column(&self) -> Option<&str> {
        match self {
            Self::Rule(Rule::Similarity { reference } | Rule::ExactMatch { reference })
            | Self::Program { reference, .. }
            | Self::Endpoint(EndpointSpec { reference, .. }) => reference.as_deref(),
            Self::Rule(_) | Self::Model(_) | Self::Score { .. } => None,
        }
    }

    /// Whether it compares a response with the record's own, so that it can score nothing where the record has none. A program
    /// is given null there.
    #[must_use]
    pub fn needs_own_response(&self) -> bool {
        matches!(
            self,
            Self::Rule(Rule::Similarity { reference: None } | Rule::ExactMatch { reference: None })
        )
    }
}

impl Rule {
    /// The name in the configuration.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Conciseness { .. } => "conciseness",
            Self::Keywords { .. } => "keywords",
            Self::Regex { .. } => "regex",
            Self::Json { .. } => "json",
            Self::Repetition { .. } => "repetition",
            Self::Readability => "readability",
            Self::Similarity { .. } => "similarity",
            Self::ExactMatch { .. } => "exact-match",
        }
    }
}

impl ScorerSpec {
    /// Makes the scorer: compiles its pattern, starts its program, looks its API key up. A reward model is not made
    /// here, but by `panacea-reward-models`.
    pub fn build(&self) -> Result<Box<dyn Scorer>, SpecError> {
        // Reading checks, so that one made in code is checked as well.
        read(json!(self))?;
        let name = self.to_string();
        Ok(match self {
            Self::Rule(rule) => rule_scorer(name, rule)?,
            Self::Program {
                program,
                timeout_seconds,
                reference,
                folder,
            } => {
                let reference = reference.clone();
                Box::new(Program::new(
                    name,
                    program,
                    folder,
                    *timeout_seconds,
                    reference,
                )?)
            }
            Self::Endpoint(spec) => Box::new(Endpoint::new(name, spec)?),
            Self::Model(_) => {
                let expected = "a scorer without a network; `panacea-reward-models` opens this one";
                return Err(SpecError::new("model", name, expected));
            }
            Self::Score { score, otherwise } => known_scorer(name, score.clone(), *otherwise),
        })
    }
}

impl<'de> Deserialize<'de> for ScorerSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

fn read(value: Value) -> Result<ScorerSpec, SpecError> {
    const EXPECTED: &str = "a table with exactly one of `rule`, `program`, `endpoint`, `model` and `score`, such as { rule = \"conciseness\" }";
    let Value::Object(values) = value else {
        return Err(SpecError::new("reward", value.to_string(), EXPECTED));
    };
    let mut kinds = vec!["rule", "program", "endpoint", "model", "score"];
    kinds.retain(|kind| values.contains_key(*kind));
    // An endpoint has a model, too: its name there.
    if kinds.contains(&"endpoint") {
        kinds.retain(|kind| *kind != "model");
    }
    let mut fields = Fields::of(values);
    let is_filled =
        |name: &Option<String>| name.as_ref().is_none_or(|name| !name.trim().is_empty());
    let spec = match kinds.as_slice() {
        ["rule"] => ScorerSpec::Rule(read_rule(&mut fields)?),
        ["program"] => ScorerSpec::Program {
            program: fields.texts("program", None)?,
            timeout_seconds: fields.timeout(30)?,
            reference: fields.reference()?,
            folder: PathBuf::from("."),
        },
        ["endpoint"] => ScorerSpec::Endpoint(read_endpoint(&mut fields)?),
        ["model"] => ScorerSpec::Model(ModelSpec {
            model: fields.text("model")?.into(),
            output: fields.get("output", "the name of an output", Some(None), is_filled)?,
        }),
        ["score"] => ScorerSpec::Score {
            score: fields.text("score")?,
            otherwise: fields.number("otherwise", None)?,
        },
        [] => return Err(SpecError::new("reward", "none of them", EXPECTED)),
        several => {
            let found = format!("`{}`", several.join("` and `"));
            return Err(SpecError::new("reward", found, EXPECTED));
        }
    };
    fields.finish()?;
    Ok(spec)
}

fn read_rule(fields: &mut Fields) -> Result<Rule, SpecError> {
    let name = fields.text("rule")?;
    Ok(match name.as_str() {
        "conciseness" => Rule::Conciseness {
            tokens: fields.count("tokens", 50)?,
            max: fields.number("max", Some(4.0))?,
        },
        "keywords" => Rule::Keywords {
            words: fields.texts("words", None)?,
        },
        "regex" => {
            let pattern = fields.text("pattern")?;
            regex(&pattern)?;
            Rule::Regex {
                pattern,
                present: fields.number("present", Some(1.0))?,
                absent: fields.number("absent", Some(0.0))?,
            }
        }
        "json" => Rule::Json {
            keys: fields.texts("keys", Some(Vec::new()))?,
        },
        "repetition" => Rule::Repetition {
            n: fields.count("n", 3)?,
        },
        "readability" => Rule::Readability,
        "similarity" => Rule::Similarity {
            reference: fields.reference()?,
        },
        "exact-match" => Rule::ExactMatch {
            reference: fields.reference()?,
        },
        _ => {
            let expected = "conciseness, keywords, regex, json, repetition, readability, similarity or exact-match; for anything else name a `program` of yours";
            return Err(SpecError::new("rule", quoted(&name), expected));
        }
    })
}

fn read_endpoint(fields: &mut Fields) -> Result<EndpointSpec, SpecError> {
    let address = "the base address of a server such as http://localhost:8000/v1, without /chat/completions, user and password";
    let scale = "the lowest and the highest number, such as [1, 10]";
    let variable = "the name of an environment variable that holds the key, in capital letters such as OPENAI_API_KEY";
    let is_address = |text: &String| is_base_address(text);
    let is_scale = |[low, high]: &[f64; 2]| low < high;
    let is_name = |name: &Option<String>| name.as_deref().is_none_or(is_variable);
    let at_zero = Some(Temperature::At(0.0));
    let is_possible = |temperature: &Temperature| match temperature {
        Temperature::At(temperature) => *temperature >= 0.0,
        Temperature::Default => true,
    };
    Ok(EndpointSpec {
        endpoint: fields.get("endpoint", address, None, is_address)?,
        model: fields.text("model")?,
        instruction: fields.text("instruction")?,
        scale: fields.get("scale", scale, Some([1.0, 10.0]), is_scale)?,
        temperature: fields.get(
            "temperature",
            "a number from 0 on, or \"default\" to send none",
            at_zero,
            is_possible,
        )?,
        structured: fields.get("structured", "true or false", Some(true), |_| true)?,
        retries: fields.get("retries", "a whole number from 0 to 10", Some(2), |it| {
            *it <= 10
        })?,
        on_unreadable: fields.get(
            "on_unreadable",
            "\"error\", \"skip\", or a number that counts instead",
            Some(OnUnreadable::Error),
            |_| true,
        )?,
        timeout_seconds: fields.timeout(60)?,
        parallel: fields.count("parallel", 4)?,
        api_key_env: fields.get("api_key_env", variable, Some(None), is_name)?,
        reference: fields.reference()?,
    })
}

fn is_base_address(text: &str) -> bool {
    let uri = text.parse::<Uri>().unwrap_or_default();
    let path = uri.path().trim_end_matches('/');
    matches!(uri.scheme_str(), Some("http" | "https"))
        && !text.contains(['@', '?'])
        && !path.ends_with("/chat/completions")
}

/// Strict, since a key that is written here by mistake would be shown and saved.
fn is_variable(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    !name.is_empty() && name.chars().all(is_letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scorer_is_written_and_read_back() {
        let tables = [
            "rule = 'conciseness'",
            "rule = 'keywords'\nwords = ['please']",
            "rule = 'regex'\npattern = 'a|b'\nabsent = -2.5",
            "rule = 'json'\nkeys = ['a']",
            "rule = 'json'",
            "rule = 'repetition'",
            "rule = 'readability'",
            "rule = 'similarity'",
            "rule = 'similarity'\nreference = 'answer'",
            "rule = 'exact-match'\nreference = 'answer'",
            "program = ['python3', 'judge.py']\nreference = 'answer'",
            "endpoint = 'http://x'\nmodel = 'm'\ninstruction = 'i'\nreference = 'answer'",
            "program = ['python3', 'judge.py']",
            "endpoint = 'http://x'\nmodel = 'm'\ninstruction = 'i'\napi_key_env = 'A_KEY'",
            "endpoint = 'http://x'\nmodel = 'm'\ninstruction = 'i'\non_unreadable = 'skip'\ntemperature = 'default'",
            "endpoint = 'http://x'\nmodel = 'm'\ninstruction = 'i'\non_unreadable = 5\nretries = 0",
            "model = 'runs/helpful'",
            "model = 'runs/helpful'\noutput = 'helpfulness'",
            "score = 'brevity'\notherwise = -3",
        ];
        for table in tables {
            let spec: ScorerSpec = toml::from_str(table).unwrap();
            let in_toml = toml::to_string(&spec).unwrap();
            assert_eq!(toml::from_str(&in_toml), Ok(spec.clone()), "{in_toml}");
            let in_json = json!(spec);
            assert_eq!(read(in_json.clone()), Ok(spec), "{in_json}");
        }
    }

    #[test]
    fn defaults_are_written_out() {
        let spec: ScorerSpec = toml::from_str("rule = 'conciseness'").unwrap();
        let written = toml::to_string(&spec).unwrap();
        assert_eq!(written, "rule = \"conciseness\"\ntokens = 50\nmax = 4.0\n");
    }

    #[test]
    fn every_mistake_names_its_field() {
        let endpoint = "model = 'm'; instruction = 'i'; endpoint = 'http://x/v1";
        let cases = r#"
            => `reward`: found none of them, expected a table with exactly one of
            rule = 'json'; score = 'a' => `reward`: found `rule` and `score`, expected
            rule = 'wit' => `rule`: found "wit", expected conciseness, keywords
            rule = 'conciseness'; tokens = 0 => `tokens`: found 0, expected a whole number from 1
            rule = 'conciseness'; tokens = '9' => `tokens`: found "9", expected a whole number
            rule = 'conciseness'; max = inf => `max`: found no ordinary number, expected
            rule = 'json'; key = ['a'] => `key`: found an unknown field, expected one of `rule`, `keys`
            rule = 'exact-match'; reference = '' => `reference`: found "", expected the name of a column
            rule = 'json'; reference = 'a' => `reference`: found an unknown field, expected one of `rule`, `keys`
            rule = 'repetition'; n = 0 => `n`: found 0, expected
            rule = 'regex' => `pattern`: found nothing, expected a text
            rule = 'regex'; pattern = '(a' => `pattern`: found "(a" (error: unclosed group), expected
            rule = 'keywords'; words = [] => `words`: found [], expected a list of texts
            program = [] => `program`: found [], expected a list of texts
            program = 'judge' => `program`: found "judge", expected a list of texts
            program = ['a']; timeout_seconds = 0 => `timeout_seconds`: found 0, expected whole seconds
            score = 'brevity' => `otherwise`: found nothing, expected a finite number
            ENDPOINT/chat/completions' => `endpoint`: found "http://x/v1/chat/completions", expected
            ENDPOINT'; scale = [5, 5] => `scale`: found [5,5], expected the lowest
            ENDPOINT'; temperature = -1 => `temperature`: found -1, expected a number from 0 on
            ENDPOINT'; temperature = 'low' => `temperature`: found "low", expected a number
            ENDPOINT'; retries = 11 => `retries`: found 11, expected a whole number from 0 to 10
            ENDPOINT'; on_unreadable = 'guess' => `on_unreadable`: found "guess", expected "error", "skip"
            ENDPOINT'; on_unreadable = nan => `on_unreadable`: found no ordinary number, expected
            ENDPOINT'; parallel = 0 => `parallel`: found 0, expected
            ENDPOINT@secret' => `endpoint`: found something that is not shown
            ENDPOINT'; api_key_env = 'secret' => `api_key_env`: found something that is not shown"#;
        for case in cases.trim().lines() {
            let (table, start) = case.split_once("=> ").unwrap();
            let table = table.replace("ENDPOINT", endpoint).replace("; ", "\n");
            let error = toml::from_str::<ScorerSpec>(&table).unwrap_err();
            assert!(error.message().starts_with(start), "{table}: {error}");
            assert!(!error.message().contains("secret"), "{error}");
        }
    }

    #[test]
    fn what_is_made_in_code_is_checked_too() {
        let (tokens, max) = (50, f64::NAN);
        let spec = ScorerSpec::Rule(Rule::Conciseness { tokens, max });
        assert_eq!(spec.build().err().unwrap().field, "max");
    }
}
