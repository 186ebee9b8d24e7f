//! `[adapter]`: the SVD-LoRA on every adapted matrix.

use panacea_model::PROJECTIONS;

use crate::names::SteeringScale;
use crate::problems::nearest;
use crate::resolver::Resolver;
use crate::schema::{COUNT, Entry, NOT_NEGATIVE, POSITIVE, Range, Usual};

const SCALE: Range<SteeringScale> = Range {
    words: "a finite number above 0, or \"learned\"",
    schema: || serde_json::json!({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"const": "learned"}]}),
    holds: |scale| match scale {
        SteeringScale::Held(s) => (POSITIVE.holds)(s),
        SteeringScale::Learned => true,
    },
};

section! {
    /// The SVD-LoRA on every adapted matrix.
    AdapterSpec at "adapter." {
        /// k, the number of preference-agnostic singular values.
        rank: usize = 8, in COUNT;
        /// The update is scaled by alpha / k.
        alpha: f64 = 64.0, in POSITIVE;
        /// The matrices of each layer that are adapted.
        modules: Vec<String> = PROJECTIONS.map(str::to_owned).to_vec();
        /// The standard deviation of U and V at the start.
        init_std: f64 = 0.005, in POSITIVE;
        /// The weight of the penalty ‖UᵀU − I‖² + ‖VᵀV − I‖².
        orthogonality: f64 = 0.0, in NOT_NEGATIVE, when STEERED;
        /// s of every matrix, by which λ is scaled: a number at which it is held, or `"learned"`, from 0.
        s: SteeringScale = SteeringScale::Held(1.0), in SCALE;
    }
}

/// The SVD-LoRA.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AdapterPlan {
    /// k, the number of preference-agnostic singular values.
    pub rank: usize,
    /// The update is scaled by alpha / k.
    pub alpha: f64,
    /// The matrices of each layer that are adapted, in the order of [`PROJECTIONS`].
    pub modules: Vec<String>,
    /// The standard deviation of U and V at the start.
    pub init_std: f64,
    /// The weight of the penalty ‖UᵀU − I‖² + ‖VᵀV − I‖².
    pub orthogonality: f64,
    /// s of every matrix, where it is held and not learned.
    pub fixed_s: Option<f64>,
}

impl AdapterPlan {
    pub(crate) fn to_spec(&self) -> AdapterSpec {
        AdapterSpec {
            rank: Some(self.rank),
            alpha: Some(self.alpha),
            modules: Some(self.modules.clone()),
            init_std: Some(self.init_std),
            orthogonality: Some(self.orthogonality),
            s: Some(
                self.fixed_s
                    .map_or(SteeringScale::Learned, SteeringScale::Held),
            ),
        }
    }
}

impl Resolver {
    pub(crate) fn adapter(&mut self, spec: &AdapterSpec) -> AdapterPlan {
        AdapterPlan {
            rank: self.take(spec.rank()),
            alpha: self.take(spec.alpha()),
            modules: self.modules(spec.modules()),
            init_std: self.take(spec.init_std()),
            orthogonality: self.take(spec.orthogonality()),
            fixed_s: match self.take(spec.s()) {
                SteeringScale::Held(s) => Some(s),
                SteeringScale::Learned => None,
            },
        }
    }

    /// The modules in the order of [`PROJECTIONS`], so that the order in the file changes no number.
    fn modules(&mut self, modules: Entry<Vec<String>, Usual<Vec<String>>>) -> Vec<String> {
        let key = modules.key;
        let asked = self.take(modules);
        if asked.is_empty() {
            self.problem(
                key,
                format!(
                    "found an empty list, expected some of {}",
                    PROJECTIONS.join(", ")
                ),
            );
        }
        for (index, module) in asked.iter().enumerate() {
            if asked[..index].contains(module) {
                self.problem(key, format!("\"{module}\" is listed twice"));
            } else if !PROJECTIONS.contains(&module.as_str()) {
                let advice = match nearest(module, PROJECTIONS) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("known are {}", PROJECTIONS.join(", ")),
                };
                self.problem(key, format!("unknown module \"{module}\"; {advice}"));
            }
        }
        let is_asked = |module: &&str| asked.iter().any(|asked| asked == module);
        PROJECTIONS
            .into_iter()
            .filter(is_asked)
            .map(str::to_owned)
            .collect()
    }
}
