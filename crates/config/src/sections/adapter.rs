//! `[adapter]`: the SVD-LoRA on every adapted matrix.

use panacea_model::PROJECTIONS;

use crate::problems::nearest;
use crate::resolver::Resolver;

section! {
    /// `[adapter]`: the SVD-LoRA on every adapted matrix.
    AdapterSpec {
        /// k, the number of preference-agnostic singular values. Default: 8.
        rank: usize,
        /// The update is scaled by alpha / k. Default: 64.
        alpha: f64,
        /// The matrices of each layer that are adapted. Default: all seven.
        modules: Vec<String>,
        /// The standard deviation of U and V at the start. Default: 0.02.
        init_std: f64,
        /// The weight of the penalty ‖UᵀU − I‖² + ‖VᵀV − I‖². Default: 0.
        orthogonality: f64,
        /// s of every matrix, held at this value in place of being learned. Default: learned, from 0.
        fixed_s: f64,
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
    /// s, where it is not learned.
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
            fixed_s: self.fixed_s,
        }
    }
}

impl Resolver {
    pub(crate) fn adapter(&mut self, spec: AdapterSpec) -> AdapterPlan {
        AdapterPlan {
            rank: self.count("adapter.rank", spec.rank, 8),
            alpha: self.positive("adapter.alpha", spec.alpha, 64.0),
            modules: self.modules(spec.modules),
            init_std: self.positive("adapter.init_std", spec.init_std, 0.02),
            orthogonality: self.not_negative("adapter.orthogonality", spec.orthogonality, 0.0),
            fixed_s: (spec.fixed_s).map(|s| self.positive("adapter.fixed_s", Some(s), s)),
        }
    }

    /// The modules in the order of [`PROJECTIONS`], so that the order in the file changes no number.
    fn modules(&mut self, modules: Option<Vec<String>>) -> Vec<String> {
        const KEY: &str = "adapter.modules";
        let Some(asked) = modules else {
            return PROJECTIONS.map(str::to_owned).to_vec();
        };
        if asked.is_empty() {
            self.problem(
                KEY,
                format!(
                    "found an empty list, expected some of {}",
                    PROJECTIONS.join(", ")
                ),
            );
        }
        for (index, module) in asked.iter().enumerate() {
            if asked[..index].contains(module) {
                self.problem(KEY, format!("\"{module}\" is listed twice"));
            } else if !PROJECTIONS.contains(&module.as_str()) {
                let advice = match nearest(module, PROJECTIONS) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("known are {}", PROJECTIONS.join(", ")),
                };
                self.problem(KEY, format!("unknown module \"{module}\"; {advice}"));
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
