//! Plain LoRAs of whole models: one for a single λ, or a set of them whose scales are λ.

use panacea_methods::Trained;
use panacea_model::Steering;
use panacea_objectives::Preference;
use panacea_pretrained::{LoraMatrices, TensorF32};
use panacea_svd_lora::{Adapters, PlainLora, SvdLora};

use crate::ExportError;

/// A plain LoRA: every adapted weight gets B A.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Lora {
    /// Rows of A and columns of B, the same for all weights.
    pub rank: usize,
    /// A and B by the names that Hugging Face gives the weights.
    pub matrices: Vec<LoraMatrices>,
}

impl Lora {
    /// The adapter at one λ, of rank k + m.
    pub fn at(steering: &Steering) -> Self {
        let adapters = &steering.adapters;
        collect_one(adapters, |layer| layer.at(&steering.preference))
    }
}

/// LoRAs whose sum, each multiplied by its weight, is the adapter at λ: the weight of the base is 1, that of each objective
/// is its part of λ.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// What every λ has; where there is none, the weights on the objectives have to sum to 1.
    pub base: Option<Lora>,
    /// The names of the objectives, in the order of λ, each with its LoRA.
    pub objectives: Vec<(String, Lora)>,
}

impl Split {
    /// A base of rank k, and rank 1 for each objective. Of soups, the members: they share nothing.
    ///
    /// # Errors
    /// For a policy that is not linear in λ.
    pub fn parts(trained: &Trained) -> Result<Self, ExportError> {
        let Trained::Panacea(adapters) = trained else {
            return Self::specialists(trained);
        };
        let base = collect_one(adapters, |layer| layer.base_part());
        let of_objectives = collect_many(adapters, |layer| layer.objective_parts());
        Ok(Self {
            base: Some(base),
            objectives: named(adapters, of_objectives),
        })
    }

    /// No base, and for each objective the adapter of λ = its vertex: of rank k + 1, or those of the members of soups, of
    /// rank k + m.
    ///
    /// # Errors
    /// For a policy that is not linear in λ.
    pub fn specialists(trained: &Trained) -> Result<Self, ExportError> {
        let objectives = match trained {
            Trained::Panacea(adapters) => named(
                adapters,
                collect_many(adapters, |layer| layer.specialists()),
            ),
            Trained::RewardedSoups(members) => {
                let member = |(i, member): (usize, &panacea_methods::Member)| {
                    let steering = Steering {
                        adapters: member.adapters.clone(),
                        preference: member.preference.weights().to_vec(),
                    };
                    let name = member.adapters.config.objectives[i].clone();
                    (name, Lora::at(&steering))
                };
                members.iter().enumerate().map(member).collect()
            }
            Trained::Discrete(_) => return Err(ExportError::NotLinear),
        };
        Ok(Self {
            base: None,
            objectives,
        })
    }

    /// All of them in order, the base first, with their weights at λ.
    pub(crate) fn weighted<'a>(&'a self, preference: &'a [f64]) -> Vec<(&'a str, &'a Lora, f64)> {
        let base = self.base.iter().map(|base| ("base", base, 1.0));
        let objectives = self.objectives.iter().zip(preference);
        base.chain(objectives.map(|((name, lora), &weight)| (name.as_str(), lora, weight)))
            .collect()
    }

    /// Whether there is a weight for each objective.
    pub(crate) fn check(&self, preference: &Preference) -> Result<(), ExportError> {
        let expected = preference.expect_len(self.objectives.len());
        expected.map_err(|source| ExportError::Preference {
            objectives: self.names().join(", "),
            source,
        })
    }

    /// The names of the objectives.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.objectives
            .iter()
            .map(|(name, _)| name.as_str())
            .collect()
    }
}

fn named(adapters: &Adapters, loras: Vec<Lora>) -> Vec<(String, Lora)> {
    let names = adapters.config.objectives.iter().cloned();
    names.zip(loras).collect()
}

/// One LoRA, from a part of each matrix.
fn collect_one(adapters: &Adapters, part: impl Fn(SvdLora<'_>) -> PlainLora) -> Lora {
    let mut loras = collect_many(adapters, |layer| vec![part(layer)]).into_iter();
    // Where no matrix is adapted there is no part of any.
    loras.next().unwrap_or_default()
}

/// LoRAs of the whole model, from the parts of each matrix.
fn collect_many(adapters: &Adapters, parts: impl Fn(SvdLora<'_>) -> Vec<PlainLora>) -> Vec<Lora> {
    let mut loras: Vec<Lora> = Vec::new();
    for (name, factors) in &adapters.factors.0 {
        let layer = SvdLora {
            factors,
            scale: adapters.config.scale(),
        };
        for (i, part) in parts(layer).into_iter().enumerate() {
            if loras.len() == i {
                loras.push(Lora {
                    rank: part.rank,
                    matrices: Vec::new(),
                });
            }
            loras[i].matrices.push(LoraMatrices {
                weight: weight_name(name),
                a: TensorF32 {
                    shape: vec![part.rank, part.d_in],
                    data: part.a,
                },
                b: TensorF32 {
                    shape: vec![part.d_out, part.rank],
                    data: part.b,
                },
            });
        }
    }
    loras
}

/// Hugging Face's name of an adapted weight: `layers.0.q_proj` → `model.layers.0.self_attn.q_proj.weight`.
pub(crate) fn weight_name(name: &str) -> String {
    let (layer, projection) = name.rsplit_once('.').unwrap_or(("", name));
    let block = match projection {
        "gate_proj" | "up_proj" | "down_proj" => "mlp",
        _ => "self_attn",
    };
    format!("model.{layer}.{block}.{projection}.weight")
}

/// File or folder names of LoRAs, in order: the number that it is loaded under, and its name in letters that mean nothing to
/// shells, to llama.cpp's lists (`,` and `:`) and to PyTorch (`.`).
pub(crate) fn file_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let plain = |letter: char| match letter {
        letter if letter.is_ascii_alphanumeric() => letter,
        '-' | '_' => letter,
        _ => '_',
    };
    let name =
        |(id, name): (usize, &str)| format!("{id}-{}", name.chars().map(plain).collect::<String>());
    names.into_iter().enumerate().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_the_names_of_hugging_face() {
        assert_eq!(
            weight_name("layers.3.q_proj"),
            "model.layers.3.self_attn.q_proj.weight"
        );
        assert_eq!(
            weight_name("layers.0.up_proj"),
            "model.layers.0.mlp.up_proj.weight"
        );
    }

    #[test]
    fn file_names_are_plain_and_differ() {
        assert_eq!(
            file_names(["base", "a:b", "a,b", "né v1.5"]),
            ["0-base", "1-a_b", "2-a_b", "3-n__v1_5"]
        );
    }
}
