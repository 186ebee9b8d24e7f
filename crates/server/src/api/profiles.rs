//! `/v1/models/{id}/profiles`: a person's preference, found from comparisons of two answers.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use futures_util::future::try_join_all;
use panacea_elicit as elicit;
use panacea_interview::{Pool, Profile, Prompt, USUAL_ANSWERS, Writing, WrittenAnswer, spread};
use panacea_objectives::Preference;
use panacea_pretrained::JsonObject;
use serde::{Deserialize, Serialize};
use tokio::task::block_in_place;
use utoipa::ToSchema;

use super::messages::{ChatMessage, Conversation};
use super::shared::gather;
use super::{Api, aside, body};
use crate::answers::Asked;
use crate::api_error::{ApiError, ErrorResponse};
use crate::catalogue::{Choice, SteeredModel};
use crate::interviews::{Interviews, Pending, Sitting};

/// The most answers that are written to a prompt.
const MOST_CANDIDATES: usize = 64;
/// Tokens of each, where nobody says another number.
const USUAL_TOKENS: usize = 128;
/// Points of the credible region that are told.
const REGION_POINTS: usize = 300;
/// How much of the belief intervals and region hold.
const CREDIBLE: f64 = 0.9;

/// What is asked of the model, whose answers the person is to compare.
#[derive(Debug, Deserialize, ToSchema)]
pub struct QuestionRequest {
    /// The conversation, as in a chat completion.
    messages: Vec<ChatMessage>,
    /// Answers that are written, at λ spread over the simplex; the two that say most about the person are shown. 20 where it is
    /// left out.
    #[schema(minimum = 2, maximum = 64)]
    candidates: Option<usize>,
    /// Tokens of an answer, at most; 128 where it is left out.
    #[schema(minimum = 1)]
    max_tokens: Option<usize>,
    /// Logits are divided by it; 0 takes the likeliest token, always. 0.7 where it is left out.
    #[schema(minimum = 0)]
    temperature: Option<f64>,
    /// The seed of the first answer; the others count up from it. Without, every answer is another.
    seed: Option<u64>,
}

/// What the person says.
#[derive(Debug, Deserialize, ToSchema)]
pub struct AnswerRequest {
    /// The id of the question.
    question: String,
    /// `left`, `right`, `about_equal` or `skip`.
    #[schema(value_type = AnswerShape)]
    answer: elicit::Answer,
}

/// What can be said to a question.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "it describes a type of another crate")]
pub enum AnswerShape {
    Left,
    Right,
    AboutEqual,
    Skip,
}

/// The names of the profiles of a model.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProfileList {
    object: &'static str,
    data: Vec<String>,
    /// What a person should know of them, such as that no front was measured.
    notes: Vec<String>,
}

/// What is known of a person, and the next question.
#[derive(Debug, Serialize, ToSchema)]
pub struct Interview {
    profile: ProfileState,
    /// Two answers to compare; nothing where all pairs of the answers to this prompt were asked about.
    question: Option<QuestionState>,
}

/// Two answers to compare.
#[derive(Debug, Serialize, ToSchema)]
pub struct QuestionState {
    id: String,
    left: String,
    right: String,
}

/// What is known of a person.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProfileState {
    id: String,
    object: &'static str,
    model: String,
    /// Answers that it learnt from, in the life of the profile.
    answers: usize,
    /// Questions, skipped ones included.
    questions: usize,
    /// What the person wants: the mean of the belief.
    estimate: BTreeMap<String, f64>,
    /// For each objective, what holds 90 % of the belief about its weight: from, to.
    intervals: BTreeMap<String, [f64; 2]>,
    /// The λ that requests with this profile are answered at: that of the best measured point, or the estimate where no front
    /// was measured.
    preference: BTreeMap<String, f64>,
    /// What the person is thought to lose by that λ, against the best point of the front and relative to its range; nothing
    /// where no front was measured.
    expected_regret: Option<f64>,
    progress: ProgressState,
    /// λ in the order of the model's objectives, which hold 90 % of the belief together: some of them, to draw.
    region: Vec<Vec<f64>>,
}

/// Whether to ask on.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProgressState {
    /// Another answer is worth asking for.
    AskOn,
    /// It is known what to serve.
    Sure,
    /// The person should be left alone for now.
    AskedEnough,
}

static QUESTION_FIELDS: LazyLock<Vec<String>> = LazyLock::new(body::own_fields::<QuestionRequest>);
static ANSWER_FIELDS: LazyLock<Vec<String>> = LazyLock::new(body::own_fields::<AnswerRequest>);

/// The profiles of a model.
#[utoipa::path(
    get,
    path = "/v1/models/{id}/profiles",
    params(("id" = String, Path, description = "The model")),
    responses((status = 200, body = ProfileList), (status = "4XX", body = ErrorResponse))
)]
pub async fn list(
    State(api): State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<ProfileList>, ApiError> {
    let Path(id) = id.map_err(|error| ApiError::no_model(error.body_text()))?;
    let (_, _, interviews) = found(&api, &id)?;
    Ok(Json(ProfileList {
        object: "list",
        data: interviews.names()?,
        notes: interviews.notes().to_vec(),
    }))
}

/// One of them.
#[utoipa::path(
    get,
    path = "/v1/models/{id}/profiles/{profile}",
    params(
        ("id" = String, Path, description = "The model"),
        ("profile" = String, Path, description = "The profile's name")
    ),
    responses((status = 200, body = ProfileState), (status = "4XX", body = ErrorResponse))
)]
pub async fn get(
    State(api): State<Arc<Api>>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<ProfileState>, ApiError> {
    let Path((id, name)) = path.map_err(|error| ApiError::no_model(error.body_text()))?;
    let (id, steered, interviews) = found(&api, &id)?;
    // Of a sitting that goes on, `progress` is the sitting's.
    if let Some(sitting) = interviews.known_sitting(&name) {
        let mut sitting = sitting.lock().await;
        block_in_place(|| interviews.refresh(&mut sitting))?;
        if !sitting.profile.session().entries().is_empty() {
            return block_in_place(|| state(&id, &steered, &sitting.profile)).map(Json);
        }
    }
    let state = aside(&api, body::ReadBody::default(), move || {
        let profile = interviews.profile(&name)?;
        state(&id, &steered, &profile)
    });
    Ok(Json(state.await?))
}

/// Writes answers to a conversation at many λ and asks about two of them. The profile begins with its first answer.
#[utoipa::path(
    post,
    path = "/v1/models/{id}/profiles/{profile}/questions",
    params(
        ("id" = String, Path, description = "The model"),
        ("profile" = String, Path, description = "The profile's name")
    ),
    request_body = QuestionRequest,
    responses(
        (status = 200, body = Interview),
        (status = "4XX", body = ErrorResponse),
        (status = "5XX", body = ErrorResponse)
    )
)]
pub async fn ask(
    State(api): State<Arc<Api>>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Json<Interview>, ApiError> {
    let Path((id, name)) = path.map_err(|error| ApiError::no_model(error.body_text()))?;
    let (id, steered, interviews) = found(&api, &id)?;
    let (_, body) = body::read(request, api.answers.limits.body, &api.bodies).await?;
    body::check_fields(&body.bytes, &QUESTION_FIELDS)?;
    let question: QuestionRequest = body::parse(&body.bytes)?;
    let candidates = question.candidates.unwrap_or(USUAL_ANSWERS);
    if !(2..=MOST_CANDIDATES).contains(&candidates) {
        let message = format!("{candidates}, expected 2 to {MOST_CANDIDATES}");
        return Err(ApiError::wrong("candidates", message));
    }
    api.answers.check_count(candidates, "candidates")?;
    let conversation = Conversation::of(&question.messages, &api.answers.tokenizer)?;
    let tokenizer = Arc::clone(&api.answers.tokenizer);
    let prompt = aside(&api, body, move || {
        let variables = JsonObject::new();
        let tokens = conversation.tokens(&tokenizer, &variables)?;
        Ok::<_, ApiError>(Prompt {
            messages: conversation.messages,
            variables,
            tokens,
        })
    });
    let prompt = prompt.await?;

    let seed = question.seed.unwrap_or_else(rand::random);
    let room = api.answers.context.saturating_sub(prompt.tokens.len());
    let max_tokens = match question.max_tokens {
        Some(0) => {
            let message = "0, expected a number ≥ 1".to_owned();
            return Err(ApiError::wrong("max_tokens", message));
        }
        Some(count) => count,
        None => USUAL_TOKENS.min(room.max(1)),
    };
    let writing = Writing::new(max_tokens, question.temperature.unwrap_or(0.7), seed);
    let sitting = block_in_place(|| interviews.sitting(&name, seed))?;
    let mut sitting = sitting.lock().await;
    block_in_place(|| interviews.refresh(&mut sitting))?;
    let preferences = spread(sitting.profile.session(), candidates);
    let answers = write(&api, (&id, &steered), &prompt, preferences, writing).await?;
    let scores = score(&api, &interviews, &prompt, &answers).await?;
    sitting.asked = Some((Arc::new(Pool::new(prompt, answers, scores)), None));
    block_in_place(|| next(&id, &steered, &mut sitting)).map(Json)
}

/// Learns what the person said, and asks about two other answers to the same conversation.
#[utoipa::path(
    post,
    path = "/v1/models/{id}/profiles/{profile}/answers",
    params(
        ("id" = String, Path, description = "The model"),
        ("profile" = String, Path, description = "The profile's name")
    ),
    request_body = AnswerRequest,
    responses((status = 200, body = Interview), (status = "4XX", body = ErrorResponse))
)]
pub async fn answer(
    State(api): State<Arc<Api>>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Json<Interview>, ApiError> {
    let Path((id, name)) = path.map_err(|error| ApiError::no_model(error.body_text()))?;
    let (id, steered, interviews) = found(&api, &id)?;
    let (_, body) = body::read(request, api.answers.limits.body, &api.bodies).await?;
    body::check_fields(&body.bytes, &ANSWER_FIELDS)?;
    let said: AnswerRequest = body::parse(&body.bytes)?;
    let other = || {
        let question = &said.question;
        let message =
            format!("`{question}` is not the question that `{name}` was asked last; ask a new one");
        ApiError::wrong("question", message)
    };
    let sitting = interviews.go_on(&name).ok_or_else(other)?;
    let mut sitting = sitting.lock().await;
    let (pool, pair) = match &sitting.asked {
        Some((pool, Some(pending))) if pending.id == said.question => {
            (Arc::clone(pool), pending.pair)
        }
        _ => return Err(other()),
    };
    block_in_place(|| {
        let learnt = sitting.profile.answer(&pool, pair, said.answer);
        if let Err(error) = learnt {
            // The question is as good as before, unless the profile is another by now.
            interviews.refresh(&mut sitting)?;
            return Err(error.into());
        }
        sitting.asked = Some((pool, None));
        next(&id, &steered, &mut sitting)
    })
    .map(Json)
}

/// Answers to a prompt at these preferences, all in the batch with everybody else's.
async fn write(
    api: &Api,
    (id, steered): (&str, &SteeredModel),
    prompt: &Prompt,
    preferences: Vec<Preference>,
    writing: Writing,
) -> Result<Vec<WrittenAnswer>, ApiError> {
    let mut asked = Vec::with_capacity(preferences.len());
    for (preference, index) in preferences.into_iter().zip(0..) {
        let answering = steered.policy.answering(&preference).clone();
        let pieces = api.answers.ask(Asked {
            choice: Choice {
                id: id.to_owned(),
                steering: Some((steered.clone(), answering.clone())),
            },
            field: "messages",
            prompts: vec![prompt.tokens.clone()],
            n: 1,
            sampling: writing.sampling.clone(),
            stop: Vec::new(),
            max_tokens: Some(writing.max_new_tokens),
            seed: writing.seed.wrapping_add(index),
            likelihoods: None,
        })?;
        asked.push(async move {
            let (mut answers, _) = gather(pieces, 1).await?;
            let answer = answers.remove(0);
            let tokens = answer.tokens.iter().map(|token| token.id);
            let tokens: Vec<u32> = tokens.chain(answer.stop).collect();
            Ok::<_, ApiError>(WrittenAnswer {
                preference: answering,
                text: answer.text,
                tokens,
            })
        });
    }
    try_join_all(asked).await
}

/// The scores of answers: a computation for each, so that others' answers go on between them.
async fn score(
    api: &Api,
    interviews: &Arc<Interviews>,
    prompt: &Prompt,
    answers: &[WrittenAnswer],
) -> Result<Vec<Option<Vec<f64>>>, ApiError> {
    let mut scores = Vec::with_capacity(answers.len());
    for answer in answers {
        let (interviews, prompt, answer) = (Arc::clone(interviews), prompt.clone(), answer.clone());
        let scored = api.answers.compute(move |decoder| {
            let scored = interviews.criteria().score(decoder, &prompt, &[answer]);
            scored.map(|mut scores| scores.remove(0))
        });
        scores.push(scored.await??);
    }
    Ok(scores)
}

/// The next question about the pool of a sitting, which waits for its answer from now on.
fn next(model: &str, steered: &SteeredModel, sitting: &mut Sitting) -> Result<Interview, ApiError> {
    let Sitting { profile, asked } = sitting;
    let question = match asked {
        Some((pool, pending)) => {
            let question = profile.ask(pool)?;
            *pending = question.map(|question| Pending {
                id: format!("{:032x}", rand::random::<u128>()),
                pair: (question.left, question.right),
            });
            pending.as_ref().map(|Pending { id, pair }| QuestionState {
                id: id.clone(),
                left: pool.answers()[pair.0].text.clone(),
                right: pool.answers()[pair.1].text.clone(),
            })
        }
        None => None,
    };
    Ok(Interview {
        profile: state(model, steered, profile)?,
        question,
    })
}

fn state(model: &str, steered: &SteeredModel, profile: &Profile) -> Result<ProfileState, ApiError> {
    let session = profile.session();
    let (names, belief) = (&session.header().objectives, session.belief());
    let by_name = |preference: &Preference| {
        let weights = preference.weights().iter().copied();
        names.iter().cloned().zip(weights).collect()
    };
    let intervals = names.iter().enumerate().map(|(objective, name)| {
        let (low, high) = belief.interval(objective, CREDIBLE);
        (name.clone(), [low, high])
    });
    let region = belief.credible_region(CREDIBLE);
    let every = region.len().div_ceil(REGION_POINTS).max(1);
    let region = region.iter().step_by(every);
    Ok(ProfileState {
        id: profile.name().to_owned(),
        object: "profile",
        model: model.to_owned(),
        answers: belief.answers(),
        questions: session.entries().len(),
        estimate: by_name(&session.estimate()),
        intervals: intervals.collect(),
        preference: by_name(steered.policy.answering(&profile.preference())),
        expected_regret: profile.expected_regret(),
        progress: match profile.progress()? {
            elicit::Progress::AskOn => ProgressState::AskOn,
            elicit::Progress::Sure => ProgressState::Sure,
            elicit::Progress::AskedEnough => ProgressState::AskedEnough,
        },
        region: region
            .map(|lambda| {
                lambda
                    .weights()
                    .iter()
                    .map(|weight| (weight * 1e4).round() / 1e4)
                    .collect()
            })
            .collect(),
    })
}

/// A run with interviews, and the name that it goes by.
fn found(api: &Api, id: &str) -> Result<(String, SteeredModel, Arc<Interviews>), ApiError> {
    let (model, suffix) = api.catalogue.find(Some(id))?;
    if suffix.is_some() {
        return Err(ApiError::no_model(format!(
            "`{id}` is `{}` at one preference; profiles are of the model itself",
            model.id
        )));
    }
    let Some(steered) = &model.steered else {
        return Err(ApiError::no_model(format!(
            "no preference steers `{}`, the base model: it has no profiles",
            model.id
        )));
    };
    match &steered.interviews {
        Ok(interviews) => Ok((model.id.clone(), steered.clone(), Arc::clone(interviews))),
        Err(reason) => Err(ApiError::no_model(format!(
            "`{}` has no profiles: {reason}",
            model.id
        ))),
    }
}
