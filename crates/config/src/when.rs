//! When keys have an effect: the choices of `[method]`, `[rlhf]` and `[data]` decide.

use panacea_data::BadRecords;

use crate::names::{AdvantagesName, AggregationName, DpoLossName, LossName, MethodName};

/// When a key has an effect.
#[derive(Clone, Copy)]
pub(crate) struct When {
    /// In words that go on after "it needs".
    pub words: &'static str,
    pub holds: fn(&Choices) -> bool,
}

impl When {
    /// Whether it is for `[method]` to say, and not for how records are read.
    pub(crate) fn is_of_method(&self) -> bool {
        self.words != SKIPS.words
    }
}

/// The choices of a configuration that decide which of its keys have an effect. A choice that has none itself is
/// `None`.
pub(crate) struct Choices {
    pub method: MethodName,
    /// Whether a run of this method has one preference for every step.
    pub fixes: bool,
    pub loss: Option<LossName>,
    pub dpo_loss: Option<DpoLossName>,
    pub aggregation: Option<AggregationName>,
    pub advantages: Option<AdvantagesName>,
    /// Whether rewards are normalised.
    pub normalises: bool,
    /// Whether the price of KL follows a target.
    pub controls_kl: bool,
    pub bad_records: BadRecords,
}

pub(crate) const SKIPS: When = When {
    words: "data.bad_records = \"skip\"",
    holds: |choices| choices.bad_records == BadRecords::Skip,
};

pub(crate) const DPO: When = When {
    words: "method.loss = \"dpo\"",
    holds: |choices| choices.dpo_loss.is_some(),
};

pub(crate) const DPO_SIGMOID: When = When {
    words: "method.loss = \"dpo\" and method.dpo_loss = \"sigmoid\"",
    holds: |choices| choices.dpo_loss == Some(DpoLossName::Sigmoid),
};

pub(crate) const KTO: When = When {
    words: "method.loss = \"kto\"",
    holds: |choices| choices.loss == Some(LossName::Kto),
};

pub(crate) const SFT: When = When {
    words: "method.loss = \"sft\"",
    holds: |choices| choices.loss == Some(LossName::Sft),
};

pub(crate) const RLHF: When = When {
    words: "method.loss = \"rlhf\"",
    holds: |choices| choices.loss == Some(LossName::Rlhf),
};

pub(crate) const GAE: When = When {
    words: "method.loss = \"rlhf\" and rlhf.advantages = \"gae\"",
    holds: |choices| choices.advantages == Some(AdvantagesName::Gae),
};

pub(crate) const WHITENED: When = When {
    words: "method.loss = \"rlhf\" and rlhf.advantages = \"gae\" or \"gdpo\"",
    holds: |choices| {
        matches!(
            choices.advantages,
            Some(AdvantagesName::Gae | AdvantagesName::Gdpo)
        )
    },
};

pub(crate) const NORMALISED: When = When {
    words: "method.loss = \"rlhf\" and rlhf.normalise = true",
    holds: |choices| choices.normalises,
};

pub(crate) const KL_CONTROLLED: When = When {
    words: "method.loss = \"rlhf\" and rlhf.kl_target",
    holds: |choices| choices.controls_kl,
};

pub(crate) const REFERENCE: When = When {
    words: "method.loss = \"dpo\", \"kto\" or \"rlhf\"",
    holds: |choices| !matches!(choices.loss, Some(LossName::Sft) | None),
};

pub(crate) const SUPERVISED: When = When {
    words: "a method.loss other than \"rlhf\"",
    holds: |choices| choices.loss != Some(LossName::Rlhf),
};

pub(crate) const TCHEBYCHEFF: When = When {
    words: "method.aggregation = \"tchebycheff\"",
    holds: |choices| choices.aggregation == Some(AggregationName::Tchebycheff),
};

pub(crate) const DISCRETE: When = When {
    words: "method.name = \"discrete\"",
    holds: |choices| choices.method == MethodName::Discrete,
};

pub(crate) const REWARD_MODEL: When = When {
    words: "method.name = \"reward-model\"",
    holds: |choices| choices.method == MethodName::RewardModel,
};

pub(crate) const PANACEA: When = When {
    words: "method.name = \"panacea\"",
    holds: |choices| choices.method == MethodName::Panacea,
};

pub(crate) const DRAWN: When = When {
    words: "method.name = \"panacea\" without preference.fixed",
    holds: |choices| choices.method == MethodName::Panacea && !choices.fixes,
};

pub(crate) const STEERED: When = When {
    words: "a method.name other than \"reward-model\"",
    holds: |choices| choices.method != MethodName::RewardModel,
};
