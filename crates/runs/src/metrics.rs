//! What a step did, as one line of `metrics.jsonl`. Each quantity is defined here, once.
//!
//! A number that does not exist (the loss of an objective without a label in the batch) or is not
//! finite is `null`; every key is always there.

use panacea_objectives::rounded_weight;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// A line of `metrics.jsonl`; its `kind` is `"train"` or `"eval"`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum MetricsLine {
    /// One optimizer step.
    Train(StepMetrics),
    /// One preference, measured on held-out records.
    Eval(EvalMetrics),
}

/// What one optimizer step did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepMetrics {
    /// The optimizer step, counted from 1.
    pub step: usize,
    /// The preferences that the batch was trained under, one a group. With one group the line has the
    /// plain list of weights, with several a list of lists.
    #[serde(serialize_with = "one_or_many")]
    pub lambda: Vec<Vec<f64>>,
    /// What each objective saw, in the order of the plan. In the line an object, by name.
    #[serde(serialize_with = "by_name")]
    pub objectives: Vec<ObjectiveMetrics>,
    /// The aggregated loss that was minimised; with groups their mean.
    pub aggregate: f64,
    /// −log π of a response token, the mean over all response tokens of the batch: what TRL prints as `loss`. With SFT only, whose
    /// own `loss` is the mean over responses, of sums or of means per token (`method.per_token`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_loss: Option<f64>,
    /// What reinforcement learning saw; RLHF only.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub rlhf: Option<RlhfMetrics>,
    /// The global norm of the gradient, before clipping.
    pub grad_norm: f64,
    /// The learning rate of the factors U and V in this step.
    pub lr: f64,
    /// The learning rate of σ and s in this step.
    pub lr_singular: f64,
    /// Tokens of the forward and backward passes; a prompt that several responses share counts once.
    pub tokens: usize,
    /// `tokens` by `seconds`.
    pub tokens_per_s: f64,
    /// Seconds of this step, evaluation and checkpoints left out.
    pub seconds: f64,
    /// The most memory that the process has held so far, in bytes; `null` where it is not known.
    pub peak_memory_bytes: Option<u64>,
}

/// What one objective saw in a batch.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ObjectiveMetrics {
    /// Its name: the key of this object in the line.
    #[serde(skip)]
    pub name: String,
    /// L_i = −J_i, the mean over the judgements labelled on this objective.
    pub loss: Option<f64>,
    /// What the objective came to where it counts most: its `loss` (RLHF: its `reward`) among the records that follow the λ with
    /// the greatest weight on it. With several λ in a step only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<NearestVertex>,
    /// ∂(aggregate)/∂L_i; with groups their mean.
    pub weight: f64,
    /// Judgements of the batch with a label on this objective; for RLHF, the answers.
    pub labelled: usize,
    /// The mean reward margin: β·(Δ_chosen − Δ_rejected) with Δ = log π − log π_ref for DPO, r_chosen − r_rejected for
    /// reward models, β·(Δ − z₀) with the sign of the label for KTO, none for other losses.
    pub margin: Option<f64>,
    /// The share of the judgements with a preferred response whose margin is above 0.
    pub accuracy: Option<f64>,
    /// Log-probabilities of the responses.
    pub log_prob: LogProbLevels,
    /// The mean reward of the policy's answers, as they were scored; RLHF only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward: Option<f64>,
    /// The mean of what learning made of these rewards: normalised over the run, and clipped; RLHF with
    /// `rlhf.normalise` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalised_reward: Option<f64>,
    /// The correlation of an answer's reward with the weight λ_i that it was written under; RLHF only, where several
    /// λ meet in a batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward_by_lambda: Option<f64>,
    /// What its rewards have been like in the steps so far; RLHF only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<RewardScale>,
    /// Answers of which the judge behind an endpoint said nothing that could be read, also when it was asked again; RLHF with such
    /// a judge only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<usize>,
}

/// What an objective came to under the λ of a step that has the greatest weight on it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct NearestVertex {
    /// λ_i, that weight.
    pub weight: f64,
    /// The mean loss, or reward, of the records that follow this λ.
    pub value: f64,
}

impl NearestVertex {
    /// Of the pairs of λ_i and what the objective came to under that λ, one for each λ of a step, the one with the greatest λ_i;
    /// of several, the first. None where the step has a single λ.
    pub fn among(of_each: &[(f64, Option<f64>)]) -> Option<Self> {
        let mut nearest: Option<Self> = None;
        for &(weight, value) in of_each.iter().filter(|_| of_each.len() > 1) {
            if let Some(value) = value
                && nearest.is_none_or(|nearest| weight > nearest.weight)
            {
                nearest = Some(Self { weight, value });
            }
        }
        nearest
    }
}

/// What the rewards of an objective have been like: what `rlhf.normalise` brings them to mean 0 and deviation 1 by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RewardScale {
    /// Answers that counted; no more come where `rlhf.normalise_steps` are over.
    pub answers: u64,
    /// The mean of their rewards, as they were scored.
    pub mean: f64,
    /// The standard deviation, with `answers` − 1 in the denominator; 0 for fewer than two.
    pub deviation: f64,
}

/// What a step of reinforcement learning saw.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RlhfMetrics {
    /// log π − log π_ref of an answer, the mean over answers: an estimate of the KL divergence, in nats.
    pub kl: f64,
    /// β, the price of a nat of it in this step.
    pub beta: f64,
    /// −log π of a token, the mean over tokens: an estimate of the entropy, in nats.
    pub entropy: f64,
    /// Tokens of an answer, the mean.
    pub answer_tokens: f64,
    /// The share of an answer's 4-grams of tokens that stood in it before, the mean over answers of 16 tokens or more;
    /// `null` where there is none.
    pub repetition: Option<f64>,
    /// The part of the tokens whose ratio was clipped in the last epoch.
    pub clip_fraction: f64,
    /// How much of the returns' variance the critic explains, 1 at most; with a critic only.
    pub explained_variance: Option<f64>,
    /// The norm of the critic's gradient before clipping, in the last epoch; with a critic only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critic_grad_norm: Option<f64>,
    /// The SFT loss on the records' own first responses, without its weight; with `rlhf.ptx_weight` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ptx_loss: Option<f64>,
}

/// Mean log-probabilities per response token, over the labelled records. What the objective prefers is
/// "chosen", and so is what KTO's label calls good; SFT has nothing rejected and no reference.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct LogProbLevels {
    /// Of the chosen responses, by the policy.
    pub policy_chosen: Option<f64>,
    /// Of the rejected responses, by the policy.
    pub policy_rejected: Option<f64>,
    /// Of the chosen responses, by the reference.
    pub reference_chosen: Option<f64>,
    /// Of the rejected responses, by the reference.
    pub reference_rejected: Option<f64>,
}

/// One preference, measured on held-out records.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvalMetrics {
    /// Optimizer steps that were finished.
    pub step: usize,
    /// The preference.
    pub lambda: Vec<f64>,
    /// What each objective came to, in the order of the plan. In the line an object, by name.
    #[serde(serialize_with = "by_name")]
    pub objectives: Vec<ObjectiveValue>,
    /// Seconds that this preference took.
    pub seconds: f64,
}

/// The value of one objective on held-out records.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ObjectiveValue {
    /// Its name: the key of this object in the line.
    #[serde(skip)]
    pub name: String,
    /// J_i, the mean over the labelled records; larger is better.
    pub value: Option<f64>,
    /// The standard error of `value`.
    pub stderr: Option<f64>,
    /// Held-out records with a label on this objective.
    pub labelled: usize,
    /// The mean reward margin over all judgements; DPO, KTO and reward models only.
    pub margin: Option<f64>,
    /// The share of the judgements with a preferred response whose margin is above 0.
    pub accuracy: Option<f64>,
}

/// One line for people: `step 20 at λ = (1, 0): J helpfulness −0.6931 ± 0.0100, …`.
impl std::fmt::Display for EvalMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lambda: Vec<String> = (self.lambda.iter())
            .map(|&weight| rounded_weight(weight, 3))
            .collect();
        write!(f, "step {} at λ = ({}):", self.step, lambda.join(", "))?;
        for (i, objective) in self.objectives.iter().enumerate() {
            let separator = if i == 0 { "" } else { "," };
            write!(f, "{separator} J {}", objective.name)?;
            match (objective.value, objective.stderr) {
                (Some(value), Some(stderr)) => write!(f, " {value:.4} ± {stderr:.4}")?,
                (Some(value), None) => write!(f, " {value:.4}")?,
                (None, _) => write!(f, " without a label")?,
            }
        }
        Ok(())
    }
}

impl MetricsLine {
    /// The optimizer steps that were finished when the line was written.
    pub fn step(&self) -> usize {
        match self {
            Self::Train(metrics) => metrics.step,
            Self::Eval(metrics) => metrics.step,
        }
    }

    /// The line's numbers as TensorBoard tags, such as `loss/helpfulness`. Numbers that do not exist, or
    /// are not finite, are left out.
    pub fn scalars(&self) -> Vec<(String, f64)> {
        let mut scalars = Vec::new();
        let mut put = |tag: String, value: Option<f64>| {
            scalars.extend(
                value
                    .filter(|value| value.is_finite())
                    .map(|value| (tag, value)),
            );
        };
        match self {
            Self::Train(metrics) => {
                for (i, objective) in metrics.objectives.iter().enumerate() {
                    let name = &objective.name;
                    // With several groups there is no one λ to draw.
                    if let [lambda] = metrics.lambda.as_slice() {
                        put(format!("lambda/{name}"), lambda.get(i).copied());
                    }
                    put(format!("loss/{name}"), objective.loss);
                    let nearest = objective.nearest;
                    put(
                        format!("nearest_vertex/{name}/value"),
                        nearest.map(|nearest| nearest.value),
                    );
                    put(
                        format!("nearest_vertex/{name}/weight"),
                        nearest.map(|nearest| nearest.weight),
                    );
                    put(format!("weight/{name}"), Some(objective.weight));
                    put(format!("reward/{name}"), objective.reward);
                    put(
                        format!("normalised_reward/{name}"),
                        objective.normalised_reward,
                    );
                    put(
                        format!("reward_by_lambda/{name}"),
                        objective.reward_by_lambda,
                    );
                    let scale = objective.scale;
                    put(format!("scale/{name}/mean"), scale.map(|scale| scale.mean));
                    put(
                        format!("scale/{name}/deviation"),
                        scale.map(|scale| scale.deviation),
                    );
                    put(
                        format!("unreadable/{name}"),
                        objective.unreadable.map(|count| count as f64),
                    );
                    put(format!("margin/{name}"), objective.margin);
                    put(format!("accuracy/{name}"), objective.accuracy);
                    let levels = &objective.log_prob;
                    put(
                        format!("log_prob/{name}/policy_chosen"),
                        levels.policy_chosen,
                    );
                    put(
                        format!("log_prob/{name}/policy_rejected"),
                        levels.policy_rejected,
                    );
                    put(
                        format!("log_prob/{name}/reference_chosen"),
                        levels.reference_chosen,
                    );
                    put(
                        format!("log_prob/{name}/reference_rejected"),
                        levels.reference_rejected,
                    );
                }
                if let Some(rlhf) = &metrics.rlhf {
                    put("rlhf/kl".into(), Some(rlhf.kl));
                    put("rlhf/beta".into(), Some(rlhf.beta));
                    put("rlhf/entropy".into(), Some(rlhf.entropy));
                    put("rlhf/answer_tokens".into(), Some(rlhf.answer_tokens));
                    put("rlhf/clip_fraction".into(), Some(rlhf.clip_fraction));
                    put("rlhf/explained_variance".into(), rlhf.explained_variance);
                    put("rlhf/critic_grad_norm".into(), rlhf.critic_grad_norm);
                    put("rlhf/repetition".into(), rlhf.repetition);
                    put("rlhf/ptx_loss".into(), rlhf.ptx_loss);
                }
                put("train/aggregate".into(), Some(metrics.aggregate));
                put("train/token_loss".into(), metrics.token_loss);
                put("train/grad_norm".into(), Some(metrics.grad_norm));
                put("train/lr".into(), Some(metrics.lr));
                put("train/lr_singular".into(), Some(metrics.lr_singular));
                put("speed/tokens_per_s".into(), Some(metrics.tokens_per_s));
                put("speed/seconds".into(), Some(metrics.seconds));
                const MIB: f64 = (1 << 20) as f64;
                let peak = metrics.peak_memory_bytes.map(|bytes| bytes as f64 / MIB);
                put("memory/peak_mib".into(), peak);
            }
            Self::Eval(metrics) => {
                let lambda: Vec<String> = metrics
                    .lambda
                    .iter()
                    .map(|weight| format!("{weight:.2}"))
                    .collect();
                let lambda = lambda.join(",");
                for objective in &metrics.objectives {
                    let name = &objective.name;
                    put(format!("eval_value/{name}/{lambda}"), objective.value);
                    put(format!("eval_margin/{name}/{lambda}"), objective.margin);
                    put(format!("eval_accuracy/{name}/{lambda}"), objective.accuracy);
                }
            }
        }
        scalars
    }
}

trait Named {
    fn name(&self) -> &str;
}

impl Named for ObjectiveMetrics {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for ObjectiveValue {
    fn name(&self) -> &str {
        &self.name
    }
}

fn by_name<T: Named + Serialize, S: Serializer>(
    objectives: &[T],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(objectives.len()))?;
    for objective in objectives {
        map.serialize_entry(objective.name(), objective)?;
    }
    map.end()
}

fn one_or_many<S: Serializer>(groups: &[Vec<f64>], serializer: S) -> Result<S::Ok, S::Error> {
    match groups {
        [only] => only.serialize(serializer),
        many => many.serialize(serializer),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn step_metrics(step: usize) -> StepMetrics {
        StepMetrics {
            step,
            lambda: vec![vec![0.25, 0.75]],
            objectives: vec![
                ObjectiveMetrics {
                    name: "helpfulness".into(),
                    loss: Some(0.5),
                    weight: 0.25,
                    labelled: 3,
                    margin: Some(0.125),
                    accuracy: Some(1.0),
                    log_prob: LogProbLevels {
                        policy_chosen: Some(-1.5),
                        ..LogProbLevels::default()
                    },
                    ..ObjectiveMetrics::default()
                },
                ObjectiveMetrics {
                    name: "conciseness".into(),
                    weight: 0.75,
                    ..ObjectiveMetrics::default()
                },
            ],
            aggregate: f64::NAN,
            token_loss: None,
            rlhf: None,
            grad_norm: 2.0,
            lr: 1e-3,
            lr_singular: 2e-3,
            tokens: 600,
            tokens_per_s: 300.0,
            seconds: 2.0,
            peak_memory_bytes: None,
        }
    }

    pub(crate) fn eval_metrics(step: usize) -> EvalMetrics {
        EvalMetrics {
            step,
            lambda: vec![1.0, 0.0],
            objectives: vec![ObjectiveValue {
                name: "helpfulness".into(),
                value: Some(-0.7),
                stderr: Some(0.1),
                labelled: 24,
                ..ObjectiveValue::default()
            }],
            seconds: 9.0,
        }
    }

    #[test]
    fn the_lambdas_of_several_groups_are_a_list_of_lists() {
        let mut metrics = step_metrics(1);
        metrics.lambda = vec![vec![1.0, 0.0], vec![0.5, 0.5]];
        let value = serde_json::to_value(MetricsLine::Train(metrics)).unwrap();
        assert_eq!(value["lambda"], json!([[1.0, 0.0], [0.5, 0.5]]));
    }

    #[test]
    fn the_nearest_vertex_is_that_of_the_greatest_weight_with_a_value() {
        let among = |of_each: &[(f64, Option<f64>)]| NearestVertex::among(of_each);
        let nearest = |weight, value| Some(NearestVertex { weight, value });
        let several = [
            (0.2, Some(1.0)),
            (0.9, None),
            (0.7, Some(3.0)),
            (0.7, Some(4.0)),
        ];
        assert_eq!(among(&several), nearest(0.7, 3.0));
        assert_eq!(among(&several[..2]), nearest(0.2, 1.0));
        assert_eq!(among(&several[..1]), None);
        assert_eq!(among(&[(0.5, None), (0.5, None)]), None);

        let mut metrics = step_metrics(1);
        metrics.token_loss = Some(2.5);
        metrics.objectives[0].nearest = nearest(0.75, 0.25);
        let line = MetricsLine::Train(metrics);
        let value = serde_json::to_value(&line).unwrap();
        assert_eq!(value["token_loss"], 2.5);
        let object = &value["objectives"]["helpfulness"];
        assert_eq!(object["nearest"], json!({"weight": 0.75, "value": 0.25}));
        let scalars = line.scalars();
        for (tag, value) in [
            ("train/token_loss", 2.5),
            ("nearest_vertex/helpfulness/value", 0.25),
            ("nearest_vertex/helpfulness/weight", 0.75),
        ] {
            assert!(scalars.contains(&(tag.to_owned(), value)), "{tag}");
        }
    }

    #[test]
    fn scalars_leave_out_what_does_not_exist() {
        let scalars = MetricsLine::Train(step_metrics(1)).scalars();
        let value = |tag: &str| {
            scalars
                .iter()
                .find(|(name, _)| name == tag)
                .map(|(_, value)| *value)
        };
        assert_eq!(value("loss/helpfulness"), Some(0.5));
        assert_eq!(value("lambda/conciseness"), Some(0.75));
        assert_eq!(value("train/grad_norm"), Some(2.0));
        assert_eq!(value("loss/conciseness"), None);
        assert_eq!(value("train/aggregate"), None);
        let eval = MetricsLine::Eval(eval_metrics(1)).scalars();
        assert_eq!(
            eval,
            [("eval_value/helpfulness/1.00,0.00".to_owned(), -0.7)]
        );
    }
}
