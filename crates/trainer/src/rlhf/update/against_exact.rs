//! The gradient of a whole step, from drawn answers to the factors of the adapter, against the exact expectation over all
//! answers that there are.
//!
//! With a critic and γ = λ = 1, and with RLOO, that is the gradient of E[Σ λ_i r_i] − β KL(π ‖ π_ref). Group advantages are
//! no unbiased estimate of it: theirs is computed by going through everything that a group may draw.
//!
//! `PANACEA_ROLLOUTS=10000 cargo test -p panacea-trainer --lib against_exact` draws more answers than the tests do by themselves.

use std::sync::Mutex;

use panacea_config::{Learning, Overrides, Plan, Spec};
use panacea_data::{BoxError, Source, Words};
use panacea_model::{Decoder, MemoryPolicy, PackedBatch, Sequence};
use panacea_pretrained::Pretrained;
use panacea_rewards::{Sample, ScoreError, Scorer, Scorers};
use panacea_svd_lora::Part;
use panacea_test_support::{Noise, TinyModel};
use serde_json::json;

use super::*;
use crate::references::References;
use crate::rlhf::Judges;

/// Answers have two tokens at most.
const STOP: u32 = 1;

/// All answers that there are.
const MENU: [&[u32]; 3] = [&[1], &[0, 1], &[0, 0]];

/// r_i of each of them.
const REWARDS: [[f64; 2]; 3] = [[1.0, -0.2], [-0.5, 0.8], [0.3, -1.0]];

const BETA: f64 = 0.3;

/// Answers to a prompt.
const GROUP: usize = 3;

fn model() -> Decoder {
    let config = json!({
        "model_type": "llama", "vocab_size": 2, "hidden_size": 8, "intermediate_size": 8,
        "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8,
        "hidden_act": "silu", "max_position_embeddings": 16, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": false, "bos_token_id": 0, "eos_token_id": STOP
    });
    let folder = tempfile::tempdir().unwrap();
    TinyModel::well_behaved(config, 0.5).write_without_tokenizer(folder.path());
    let pretrained = Pretrained::open(folder.path()).unwrap();
    Decoder::load(&pretrained, &panacea_devices::of_environment()).unwrap()
}

fn plan(advantages: &str) -> Plan {
    let text = format!(
        r#"
        model = {{ path = "tiny" }}
        data = {{ train = "prompts" }}
        objective = [
            {{ name = "a", reward = {{ rule = "conciseness" }} }},
            {{ name = "b", reward = {{ rule = "keywords", words = ["x"] }} }},
        ]
        adapter = {{ rank = 2 }}
        method = {{ loss = "rlhf", beta = {BETA} }}
        preference = {{ groups = 2 }}
        optimizer = {{ batch_size = 2, learning_rate = 3e-2 }}
        rlhf = {{ samples = {GROUP}, max_new_tokens = 2, {advantages} }}
        "#
    );
    let spec = Spec::from_toml(&text, "test.toml");
    Plan::resolve(spec, &Overrides::default()).unwrap()
}

fn example(prompt: [u32; 2]) -> Example {
    Example {
        source: Source {
            file: "prompts".into(),
            line: 1,
        },
        prompt: prompt.to_vec(),
        responses: Vec::new(),
        judgements: Vec::new(),
        scores: Vec::new(),
        words: Words::default(),
    }
}

/// Each token as a word.
fn words(tokens: &[u32]) -> Result<String, BoxError> {
    let words: Vec<String> = tokens.iter().map(u32::to_string).collect();
    Ok(words.join(" "))
}

/// One objective's rewards of the menu.
struct Menu(usize);

impl Scorer for Menu {
    fn name(&self) -> &str {
        "menu"
    }

    fn score(&mut self, samples: &[Sample<'_>]) -> Result<Vec<Verdict>, ScoreError> {
        let place = |sample: &Sample<'_>| {
            let is_it = |tokens: &&[u32]| words(tokens).unwrap() == sample.response;
            MENU.iter().position(is_it).unwrap()
        };
        let score = |sample: &Sample<'_>| Verdict::Score(REWARDS[place(sample)][self.0]);
        Ok(samples.iter().map(score).collect())
    }
}

/// A training that has gone some steps, so that its policy is no longer the reference and its critic has something to say.
struct World {
    model: Decoder,
    plan: Plan,
    prompts: [(Example, Preference); 2],
    references: References,
    judges: Judges<'static>,
}

impl World {
    fn new(advantages: &str) -> Self {
        let preference = |first: f64| Preference::new(vec![first, 1.0 - first]).unwrap();
        let scorers: Vec<Box<dyn Scorer>> = vec![Box::new(Menu(0)), Box::new(Menu(1))];
        Self {
            model: model(),
            plan: plan(advantages),
            prompts: [
                (example([0, 1]), preference(0.7)),
                (example([1, 0]), preference(0.2)),
            ],
            references: References::in_memory(),
            judges: Judges {
                scorers: Mutex::new(Scorers::new(scorers)),
                own_scores: vec![None, None],
                decode: &words,
                stop: &[STOP],
            },
        }
    }

    fn training(&self) -> Training<'_> {
        Training {
            plan: &self.plan,
            model: &self.model,
            replicas: &[],
            train: &[],
            eval: &[],
            references: &self.references,
            judges: Some(&self.judges),
        }
    }

    fn rlhf(&self) -> &Rlhf {
        match &self.plan.method().learning {
            Learning::Rlhf(rlhf) => rlhf,
            Learning::Supervised(_) => panic!("it learns from rewards"),
        }
    }

    fn state(&self) -> TrainingState {
        let mut state = TrainingState::new(&self.plan, &self.model, "fingerprint").unwrap();
        let records: Vec<&Example> = self.prompts.iter().map(|(record, _)| record).collect();
        let preferences = self.prompts.each_ref().map(|(_, lambda)| lambda.clone());
        for _ in 0..3 {
            let training = self.training();
            training
                .rlhf_step(&mut state, self.rlhf(), &records, &preferences, 1.0)
                .unwrap();
            state.step += 1;
        }
        state
    }

    /// The gradient of the policy's loss in a step that draws its answers from `seed`, each prompt `copies` times.
    fn drawn(&self, state: &TrainingState, copies: usize, seed: u64) -> Vec<f64> {
        let training = self.training();
        let prompts = self.prompts.iter().cycle().take(2 * copies);
        let prompts: Vec<(&Example, &Preference)> =
            prompts.map(|(r, lambda)| (r, lambda)).collect();
        let experience = training
            .experience(state, self.rlhf(), &prompts, seed)
            .unwrap();
        let pass = training
            .policy_pass(state, self.rlhf(), &experience.rollouts)
            .unwrap();
        flat(&pass.gradients)
    }

    /// log π (or log π_ref) of every token of the menu, prompt by prompt.
    fn log_probs(&self, state: Option<&TrainingState>) -> [[Vec<f64>; 3]; 2] {
        let batch = self.batch();
        let adapters = state.map(|state| &state.adapters);
        let all = self.model.log_probs(&batch, adapters).unwrap();
        let of = |prompt: usize, y: usize| all[batch.responses()[3 * prompt + y].clone()].to_vec();
        [0, 1].map(|prompt| [0, 1, 2].map(|y| of(prompt, y)))
    }

    fn batch(&self) -> PackedBatch {
        let sequences = self.prompts.iter().map(|(record, lambda)| Sequence {
            prompt: &record.prompt,
            responses: MENU.to_vec(),
            preference: lambda.weights(),
        });
        PackedBatch::new(&sequences.collect::<Vec<_>>()).unwrap()
    }

    /// The gradient of Σ coefficient · log π over every token of the menu.
    fn gradient(&self, state: &TrainingState, of: &[[Vec<f64>; 3]; 2]) -> Vec<f64> {
        let batch = self.batch();
        let forward = self
            .model
            .forward(&batch, &state.adapters, MemoryPolicy::Keep)
            .unwrap();
        let coefficients: Vec<f64> = of.iter().flatten().flatten().copied().collect();
        let gradients = self
            .model
            .backward(&batch, &state.adapters, forward.tape, &coefficients)
            .unwrap();
        flat(&gradients)
    }

    /// Σ λ_i r_i.
    fn reward(&self, prompt: usize, y: usize) -> f64 {
        let weights = self.prompts[prompt].1.weights();
        weights[0] * REWARDS[y][0] + weights[1] * REWARDS[y][1]
    }

    /// The gradient of −E[Σ λ_i r_i] + β KL(π ‖ π_ref), the mean over both prompts.
    fn exact(&self, state: &TrainingState) -> Vec<f64> {
        let (policy, reference) = (self.log_probs(Some(state)), self.log_probs(None));
        let of = |prompt: usize, y: usize| {
            let [policy, reference] = [&policy, &reference].map(|all| &all[prompt][y]);
            let [log, log_reference] = [policy, reference].map(|tokens| tokens.iter().sum::<f64>());
            let gain = self.reward(prompt, y) - BETA * (log - log_reference);
            vec![-0.5 * log.exp() * gain; policy.len()]
        };
        self.gradient(
            state,
            &[0, 1].map(|prompt| [0, 1, 2].map(|y| of(prompt, y))),
        )
    }

    /// The expectation for advantages that `of` computes from all that a step drew, `drawn[prompt][k]` of the menu, with β·k3
    /// in the loss.
    fn of_groups(
        &self,
        state: &TrainingState,
        of: impl Fn(&Self, [[usize; GROUP]; 2]) -> [[f64; GROUP]; 2],
    ) -> Vec<f64> {
        let (policy, reference) = (self.log_probs(Some(state)), self.log_probs(None));
        let probability = |prompt: usize, y: usize| policy[prompt][y].iter().sum::<f64>().exp();
        // Half a loss for each prompt; an answer of three has a third of that.
        let mut ascent = [[0.0; 3]; 2];
        for code in 0..3_usize.pow(2 * GROUP as u32) {
            let digit = |place: usize| code / 3_usize.pow(place as u32) % 3;
            let drawn = [0, 1].map(|b| std::array::from_fn(|k| digit(GROUP * b + k)));
            let all = [0, 1]
                .into_iter()
                .flat_map(|b| drawn[b].map(|y| probability(b, y)));
            let chance: f64 = all.product();
            for (b, advantages) in of(self, drawn).into_iter().enumerate() {
                for (y, advantage) in drawn[b].into_iter().zip(advantages) {
                    ascent[b][y] += chance * advantage / (2 * GROUP) as f64;
                }
            }
        }
        let of = |b: usize, y: usize| -> Vec<f64> {
            let tokens = policy[b][y].iter().zip(&reference[b][y]);
            let price = |(now, reference): (&f64, &f64)| BETA * (1.0 - (reference - now).exp());
            tokens
                .map(|pair| 0.5 * probability(b, y) * price(pair) - ascent[b][y])
                .collect()
        };
        self.gradient(state, &[0, 1].map(|b| [0, 1, 2].map(|y| of(b, y))))
    }

    /// Holds the mean gradient of drawn steps against `expected`, along that and along some random directions: within three
    /// standard errors, and these are small enough for the test to tell it from 0 and from twice as much.
    fn assert_unbiased(&self, state: &TrainingState, copies: usize, expected: &[f64]) {
        let rollouts = std::env::var("PANACEA_ROLLOUTS").map_or(4200, |n| n.parse().unwrap());
        let steps = rollouts / (2 * copies * GROUP);
        let drawn: Vec<Vec<f64>> = (0..steps as u64)
            .map(|step| self.drawn(state, copies, 1000 * step))
            .collect();
        let mut noise = Noise(3);
        let mut directions = vec![expected.to_vec()];
        directions.extend((0..6).map(|_| {
            let random = expected.iter().map(|_| f64::from(noise.weight()));
            random.collect::<Vec<f64>>()
        }));
        for (place, direction) in directions.iter().enumerate() {
            let along = |gradient: &[f64]| -> f64 {
                gradient.iter().zip(direction).map(|(g, d)| g * d).sum()
            };
            let found: Vec<f64> = drawn.iter().map(|gradient| along(gradient)).collect();
            let mean = found.iter().sum::<f64>() / steps as f64;
            let squares: f64 = found.iter().map(|x| (x - mean).powi(2)).sum();
            let error = (squares / (steps * (steps - 1)) as f64).sqrt();
            let expected = along(expected);
            println!("direction {place}: {mean:.6} ± {error:.6}, exact {expected:.6}");
            assert!(
                (mean - expected).abs() < 3.0 * error + 1e-6 * expected.abs(),
                "direction {place}: {mean} ± {error} against {expected}"
            );
            assert!(place > 0 || expected > 5.0 * error, "{expected}, {error}");
        }
    }
}

fn flat(gradients: &FactorSet) -> Vec<f64> {
    let factors = gradients.0.values();
    let parts = factors.flat_map(|factors| Part::ALL.map(|part| factors.part(part).to_data()));
    let numbers = parts.flat_map(|data| data.iter::<f32>().map(f64::from).collect::<Vec<_>>());
    numbers.collect()
}

/// (x − mean) / (deviation + softening), and 0 where all are equal.
fn standardised(numbers: &[f64], softening: f64) -> Vec<f64> {
    let count = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / count;
    let squares: f64 = numbers.iter().map(|x| (x - mean).powi(2)).sum();
    let deviation = (squares / (count - 1.0)).sqrt();
    let of = |x: &f64| match deviation < 1e-12 {
        true => 0.0,
        false => (x - mean) / (deviation + softening),
    };
    numbers.iter().map(of).collect()
}

/// Both groups' advantages by GDPO, not whitened.
fn gdpo(world: &World, drawn: [[usize; GROUP]; 2]) -> [[f64; GROUP]; 2] {
    [0, 1].map(|b| {
        let of = |i: usize| standardised(&drawn[b].map(|y| REWARDS[y][i]), 1e-4);
        let (columns, weights) = ([of(0), of(1)], world.prompts[b].1.weights());
        std::array::from_fn(|k| weights[0] * columns[0][k] + weights[1] * columns[1][k])
    })
}

#[test]
fn a_critic_leaves_the_gradient_unbiased() {
    let world = World::new("advantages = 'gae', gae_lambda = 1.0, whiten = false");
    let state = world.state();
    world.assert_unbiased(&state, 10, &world.exact(&state));
}

#[test]
fn rloo_is_unbiased() {
    let world = World::new("advantages = 'rloo'");
    let state = world.state();
    world.assert_unbiased(&state, 10, &world.exact(&state));
}

#[test]
fn grpo_has_the_expectation_of_its_groups() {
    let world = World::new("advantages = 'grpo'");
    let state = world.state();
    let expected = world.of_groups(&state, |world, drawn| {
        [0, 1].map(|b| {
            let advantages = standardised(&drawn[b].map(|y| world.reward(b, y)), 0.0);
            advantages.try_into().unwrap()
        })
    });
    world.assert_unbiased(&state, 10, &expected);
}

#[test]
fn gdpo_has_the_expectation_of_its_groups() {
    let world = World::new("advantages = 'gdpo', whiten = false");
    let state = world.state();
    let expected = world.of_groups(&state, gdpo);
    world.assert_unbiased(&state, 10, &expected);
}

#[test]
fn gdpo_whitened_has_the_expectation_of_its_batches() {
    let world = World::new("advantages = 'gdpo'");
    let state = world.state();
    let expected = world.of_groups(&state, |world, drawn| {
        let all = gdpo(world, drawn).concat();
        let all = standardised(&all, 0.0);
        [0, 1].map(|b| std::array::from_fn(|k| all[GROUP * b + k]))
    });
    world.assert_unbiased(&state, 1, &expected);
}
