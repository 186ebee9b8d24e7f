//! What both kinds of requests have in common.

use std::fmt;

use axum::http::HeaderMap;
use panacea_model::Sampling;
use panacea_objectives::Weights;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use tokio::task::block_in_place;
use utoipa::ToSchema;

use crate::api_error::ApiError;
use crate::catalogue::{Catalogue, Choice, Listed};

/// The header that says a preference.
pub const PREFERENCE_HEADER: &str = "x-preference";

/// Fields of every request for answers.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct Options {
    /// A model of `/v1/models`, also as `NAME@0.3,0.7` or `NAME@help=3,brevity=7`. Without, the first of them.
    pub model: Option<String>,
    /// λ: weights ≥ 0 on the objectives of the model, in their order or by name, where one without a name has 0; they are
    /// divided by their sum. It counts
    /// more than the header `X-Preference: help=3,brevity=7`, which counts more than what is behind the model's name.
    #[schema(value_type = Option<PreferenceShape>)]
    preference: Option<PreferenceField>,
    /// The same in llama.cpp's way: the objectives are the adapters of `/lora-adapters`, those not named have 0.
    lora: Option<Vec<AdapterScale>>,
    /// The profile of a person, of `/v1/models/{id}/profiles`: the λ that was found for them. It counts less than what is behind
    /// the model's name.
    profile: Option<String>,
    /// Tokens of an answer, at most.
    #[schema(minimum = 1)]
    max_tokens: Option<usize>,
    /// The newer name of `max_tokens`.
    #[schema(minimum = 1)]
    max_completion_tokens: Option<usize>,
    /// Logits are divided by it; 0 takes the likeliest token, always. 1 where it is left out.
    #[schema(minimum = 0)]
    temperature: Option<f64>,
    /// Only the smallest set of the likeliest tokens whose probabilities add up to this.
    #[schema(exclusive_minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    /// Only so many of the likeliest tokens; 0 and -1 are all.
    #[schema(minimum = -1)]
    top_k: Option<i64>,
    /// Above 1, tokens that were seen become less likely.
    #[schema(exclusive_minimum = 0)]
    repetition_penalty: Option<f64>,
    /// One string or up to 16 that end an answer and are not part of it.
    #[schema(value_type = Option<StopField>)]
    stop: Option<Value>,
    /// The same seed and request give the same answer, up to rounding. Without, or with -1, every answer is another.
    seed: Option<i64>,
    /// Answers to each prompt.
    #[schema(minimum = 1, maximum = 128)]
    n: Option<usize>,
    /// Whether the answer comes piece by piece, as server-sent events.
    stream: Option<bool>,
    /// What else a stream tells.
    stream_options: Option<StreamOptions>,
    /// Must be 0: not supported.
    frequency_penalty: Option<f64>,
    /// Must be 0: not supported.
    presence_penalty: Option<f64>,
    /// Must be empty: not supported.
    #[schema(value_type = Option<std::collections::BTreeMap<String, f64>>)]
    logit_bias: Option<Map<String, Value>>,
}

/// Fields that clients send and that change no answer.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes fields that nobody reads")]
pub struct WithoutEffect {
    user: Option<Value>,
    metadata: Option<Value>,
    /// Nothing is stored, whatever it says.
    store: Option<Value>,
    service_tier: Option<Value>,
    safety_identifier: Option<Value>,
    prompt_cache_key: Option<Value>,
    /// Calls are written as text: it changes nothing.
    parallel_tool_calls: Option<Value>,
}

/// What a stream tells.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamOptions {
    /// Whether the last piece counts tokens.
    include_usage: Option<bool>,
    /// Changes nothing: no padding is sent.
    #[expect(dead_code, reason = "it describes a field that nobody reads")]
    include_obfuscation: Option<Value>,
}

/// A weight, as llama.cpp's clients say it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdapterScale {
    /// The id of an adapter, from `/lora-adapters`.
    id: usize,
    /// Its weight.
    scale: f64,
}

/// λ in a body.
#[derive(Debug)]
struct PreferenceField(Weights);

/// By name, all of them, or in the order of the objectives.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(
    dead_code,
    reason = "it describes the field, which is read so that errors name its parts"
)]
pub enum PreferenceShape {
    InOrder(Vec<f64>),
    ByName(std::collections::BTreeMap<String, f64>),
}

impl<'de> Deserialize<'de> for PreferenceField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PreferenceVisitor)
    }
}

/// Reads one value after the other, so that errors name their place, and a name that stands twice is seen.
struct PreferenceVisitor;

impl<'de> Visitor<'de> for PreferenceVisitor {
    type Value = PreferenceField;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("weights in the objectives' order, [0.3, 0.7], or by name, {\"help\": 0.3, \"brevity\": 0.7}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<PreferenceField, A::Error> {
        let mut weights = Vec::new();
        while let Some(weight) = values.next_element()? {
            weights.push(weight);
        }
        Ok(PreferenceField(Weights::InOrder(weights)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut values: A) -> Result<PreferenceField, A::Error> {
        let mut weights = Vec::new();
        while let Some(weight) = values.next_entry()? {
            weights.push(weight);
        }
        Ok(PreferenceField(Weights::ByName(weights)))
    }
}

/// One string or several.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(
    dead_code,
    reason = "it describes the field, which is read by hand to say what is wrong with it"
)]
pub enum StopField {
    One(String),
    Several(Vec<String>),
}

/// The most stop strings of a request, and their bytes.
const MOST_STOPS: usize = 16;
const LONGEST_STOP: usize = 1000;
/// The most answers to a prompt.
const MOST_ANSWERS: usize = 128;

impl Options {
    /// Refuses what this server cannot do, rather than answer as if it had not been asked.
    pub fn check(&self) -> Result<(), ApiError> {
        let penalties = [
            ("frequency_penalty", self.frequency_penalty),
            ("presence_penalty", self.presence_penalty),
        ];
        for (field, penalty) in penalties {
            if penalty.is_some_and(|penalty| penalty != 0.0) {
                return Err(ApiError::unsupported(field, "a penalty other than 0"));
            }
        }
        if self
            .logit_bias
            .as_ref()
            .is_some_and(|bias| !bias.is_empty())
        {
            return Err(ApiError::unsupported("logit_bias", "a bias"));
        }
        Ok(())
    }

    /// Who answers: the model and the preference that the body, the header or the model's name asks for, in this order.
    pub fn choice(&self, catalogue: &Catalogue, headers: &HeaderMap) -> Result<Choice, ApiError> {
        let (model, suffix) = catalogue.find(self.model.as_deref())?;
        let steered = model.steered.as_ref();
        let objectives = steered.map_or(0, |steered| steered.objectives.len());
        let lora = self.lora.as_deref().filter(|lora| !lora.is_empty());
        let lora = lora.map(|lora| scales(lora, objectives)).transpose()?;
        let body = self.preference.as_ref();
        model.at([
            (
                "preference",
                body.map(|PreferenceField(weights)| weights.clone()),
            ),
            ("lora", lora),
            ("X-Preference", header(headers)?),
            ("model", suffix),
            ("profile", self.profile_weights(model)?),
        ])
    }

    /// What was found for the person whose profile it is.
    fn profile_weights(&self, model: &Listed) -> Result<Option<Weights>, ApiError> {
        let Some(name) = &self.profile else {
            return Ok(None);
        };
        let interviews = match &model.steered {
            Some(steered) => steered.interviews.as_ref().map_err(String::as_str),
            None => Err("no preference steers the base model"),
        };
        let interviews =
            interviews.map_err(|reason| ApiError::wrong("profile", reason.to_owned()))?;
        // Reading a long profile takes a while.
        let preference = block_in_place(|| interviews.preference(name));
        let preference = preference.map_err(|error| ApiError::from(error).about("profile"))?;
        Ok(Some(Weights::InOrder(preference.weights().to_vec())))
    }

    /// How tokens are chosen; the names of the parameters that are out of their range are in the error.
    pub fn sampling(&self) -> Result<Sampling, ApiError> {
        let top_k = match self.top_k {
            None | Some(-1) => 0,
            Some(k) => usize::try_from(k).map_err(|_| {
                ApiError::wrong(
                    "top_k",
                    format!("{k}, expected a number ≥ 0, or -1 for all"),
                )
            })?,
        };
        Ok(Sampling {
            repetition_penalty: self.repetition_penalty.unwrap_or(1.0),
            temperature: self.temperature.unwrap_or(1.0),
            top_k,
            top_p: self.top_p.unwrap_or(1.0),
        })
    }

    /// The most tokens of an answer.
    pub fn max_tokens(&self) -> Result<Option<usize>, ApiError> {
        let (field, count) = match (self.max_completion_tokens, self.max_tokens) {
            (Some(new), Some(old)) if new != old => {
                let message = format!("{old}, but max_completion_tokens is {new}");
                return Err(ApiError::wrong("max_tokens", message));
            }
            (Some(count), _) => ("max_completion_tokens", count),
            (None, Some(count)) => ("max_tokens", count),
            (None, None) => return Ok(None),
        };
        match count {
            0 => Err(ApiError::wrong(
                field,
                "0, expected a number ≥ 1".to_owned(),
            )),
            count => Ok(Some(count)),
        }
    }

    /// Answers to each prompt.
    pub fn n(&self) -> Result<usize, ApiError> {
        match self.n.unwrap_or(1) {
            n @ 1..=MOST_ANSWERS => Ok(n),
            n => Err(ApiError::wrong(
                "n",
                format!("{n}, expected 1 to {MOST_ANSWERS}"),
            )),
        }
    }

    /// The seed that was given, or one that nobody had.
    pub fn seed(&self) -> u64 {
        match self.seed {
            None | Some(-1) => rand::random(),
            Some(seed) => seed.cast_unsigned(),
        }
    }

    /// Strings that end an answer.
    pub fn stop(&self) -> Result<Vec<String>, ApiError> {
        let expected = |found: &Value| {
            let message = format!(
                "expected a string or up to {MOST_STOPS}, of 1 to {LONGEST_STOP} bytes; found {found}"
            );
            ApiError::wrong("stop", message)
        };
        let fits = |string: &str| (1..=LONGEST_STOP).contains(&string.len());
        match self.stop.as_ref() {
            None => Ok(Vec::new()),
            Some(Value::String(one)) if fits(one) => Ok(vec![one.clone()]),
            Some(several @ Value::Array(strings)) if strings.len() <= MOST_STOPS => {
                let string = |value: &Value| {
                    value
                        .as_str()
                        .filter(|string| fits(string))
                        .map(str::to_owned)
                        .ok_or_else(|| expected(value))
                };
                let strings: Result<Vec<String>, ApiError> = strings.iter().map(string).collect();
                strings.map_err(|_| expected(several))
            }
            Some(other) => Err(expected(other)),
        }
    }

    /// Whether the answer comes piece by piece.
    pub fn stream(&self) -> bool {
        self.stream == Some(true)
    }

    /// Whether a stream ends with a count of tokens.
    pub fn counts_usage(&self) -> bool {
        let options = self.stream_options.as_ref();
        options.is_some_and(|options| options.include_usage == Some(true))
    }
}

/// λ of the header.
fn header(headers: &HeaderMap) -> Result<Option<Weights>, ApiError> {
    let wrong = |message: String| ApiError::wrong("X-Preference", message);
    let mut values = headers.get_all(PREFERENCE_HEADER).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(wrong("there are two of them".to_owned()));
    }
    // Objectives may have any name, and HTTP says nothing of the bytes of a header.
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| wrong("not UTF-8".to_owned()))?;
    let weights = text.parse();
    weights
        .map(Some)
        .map_err(|error: panacea_objectives::WeightsError| wrong(error.to_string()))
}

/// λ in llama.cpp's way.
fn scales(lora: &[AdapterScale], objectives: usize) -> Result<Weights, ApiError> {
    let wrong = |message: String| ApiError::wrong("lora", message);
    let mut weights = vec![None; objectives];
    for &AdapterScale { id, scale } in lora {
        let weight = weights.get_mut(id).ok_or_else(|| {
            wrong(format!(
                "there is no adapter {id}; there are {objectives}, from 0 on"
            ))
        })?;
        if weight.replace(scale).is_some() {
            return Err(wrong(format!("adapter {id} has two scales")));
        }
    }
    let weights = weights.into_iter().map(Option::unwrap_or_default);
    Ok(Weights::InOrder(weights.collect()))
}
