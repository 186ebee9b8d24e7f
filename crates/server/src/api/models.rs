//! What there is to ask for: `/v1/models`, and the objectives as llama.cpp's adapters.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use panacea_objectives::Preference;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Api;
use super::shared::by_name;
use crate::api_error::{ApiError, ErrorResponse};
use crate::catalogue::Listed;
use crate::front::MeasuredFront;

/// The models of a server.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelList {
    object: &'static str,
    data: Vec<Model>,
}

/// A model: a run, or the base model alone.
#[derive(Debug, Serialize, ToSchema)]
pub struct Model {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    /// Tokens of a prompt and its answer, at most.
    context_length: usize,
    /// The objectives that a preference weighs; none for the base model.
    objectives: Vec<String>,
    /// λ where a request says none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<std::collections::BTreeMap<String, f64>>)]
    preference: Option<Map<String, Value>>,
    /// Whether `/v1/models/{id}/front` has what was measured of it.
    has_front: bool,
}

/// An objective of the first model, as an adapter.
#[derive(Debug, Serialize, ToSchema)]
pub struct Adapter {
    id: usize,
    /// The objective.
    path: String,
    /// The objective.
    task_name: String,
    /// Its weight where a request says none.
    scale: f64,
}

impl Model {
    fn of(listed: &Listed, api: &Api) -> Self {
        let steered = listed.steered.as_ref();
        Self {
            id: listed.id.clone(),
            object: "model",
            created: api.started,
            owned_by: "panacea",
            context_length: api.answers.context,
            objectives: steered.map_or_else(Vec::new, |run| run.objectives.clone()),
            preference: steered.map(|run| by_name(run, &run.default)),
            has_front: steered.is_some_and(|run| run.front.is_some()),
        }
    }
}

/// The models that can be asked for; the first one answers requests that name none.
#[utoipa::path(get, path = "/v1/models", responses((status = 200, body = ModelList)))]
pub async fn list(State(api): State<Arc<Api>>) -> Json<ModelList> {
    let models = api.catalogue.models().iter();
    Json(ModelList {
        object: "list",
        data: models.map(|model| Model::of(model, &api)).collect(),
    })
}

/// One of them; behind `NAME@0.3,0.7`, with that λ.
#[utoipa::path(
    get,
    path = "/v1/models/{id}",
    params(("id" = String, Path, description = "Its name")),
    responses((status = 200, body = Model), (status = 404, body = ErrorResponse))
)]
pub async fn get(
    State(api): State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Model>, ApiError> {
    let Path(id) = id.map_err(|error| ApiError::no_model(error.body_text()))?;
    let (model, suffix) = api.catalogue.find(Some(&id))?;
    let choice = model.at([("model", suffix)])?;
    let mut found = Model::of(model, &api);
    let preference = choice.steering.as_ref();
    found.preference = preference.map(|(run, preference)| by_name(run, preference));
    Ok(Json(found))
}

/// What was measured of one of them: its front, as `eval-front` has left it in the run's folder when the server started.
#[utoipa::path(
    get,
    path = "/v1/models/{id}/front",
    params(("id" = String, Path, description = "Its name")),
    responses((status = 200, body = MeasuredFront), (status = 404, body = ErrorResponse))
)]
pub async fn front(
    State(api): State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<MeasuredFront>, ApiError> {
    let Path(id) = id.map_err(|error| ApiError::no_model(error.body_text()))?;
    let (model, _) = api.catalogue.find(Some(&id))?;
    let run = model.steered.as_ref();
    let front = run.and_then(|run| run.front.as_deref());
    front.cloned().map(Json).ok_or_else(|| {
        ApiError::no_front(match run {
            None => format!("`{}` is the base model, which no preference steers", model.id),
            Some(_) => format!(
                "nobody has measured `{0}`: call cargo xtask eval-front --run {0}, then start the server again",
                model.id
            ),
        })
    })
}

/// The objectives of the first model, for clients of llama.cpp that say a preference as `lora`.
#[utoipa::path(get, path = "/lora-adapters", responses((status = 200, body = Vec<Adapter>)))]
pub async fn adapters(State(api): State<Arc<Api>>) -> Json<Vec<Adapter>> {
    let first = api.catalogue.models()[0].steered.as_ref();
    let weights = first.map_or(&[][..], |run| Preference::weights(&run.default));
    let names = first.map_or(&[][..], |run| &run.objectives[..]);
    let adapters = names.iter().zip(weights).enumerate();
    let adapters = adapters.map(|(id, (name, &scale))| Adapter {
        id,
        path: name.clone(),
        task_name: name.clone(),
        scale,
    });
    Json(adapters.collect())
}
