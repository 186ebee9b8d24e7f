//! The sections of a configuration, a file each: its keys, what they resolve to, and how that is written back.

/// Declares a section: a struct of optional keys, the list of their names, and how one section is laid
/// over another.
macro_rules! section {
    ($(#[$doc:meta])* $section:ident { $($(#[$key_doc:meta])* $key:ident: $value:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $section {
            $($(#[$key_doc])*
            #[serde(skip_serializing_if = "Option::is_none")]
            pub $key: Option<$value>,)+
        }

        impl $section {
            pub(crate) const KEYS: &'static [&'static str] = &[$(stringify!($key)),+];

            /// Takes every key that `over` has.
            pub(crate) fn overlay(&mut self, over: Self) {
                $(if over.$key.is_some() {
                    self.$key = over.$key;
                })+
            }
        }
    };
}

mod adapter;
pub(crate) mod data;
mod evaluation;
mod method;
mod model;
mod optimizer;
mod preference;
pub(crate) mod rlhf;

pub use adapter::{AdapterPlan, AdapterSpec};
pub use data::{DataPlan, DataSpec, FormatChoice, OneOrMany};
pub use evaluation::{CheckpointPlan, CheckpointSpec, EvaluationPlan, EvaluationSpec};
pub(crate) use method::label_ideal;
pub use method::{
    AggregationName, DpoLossName, Learning, LossName, MethodName, MethodPlan, MethodSpec,
};
pub use model::{ModelSpec, PrecisionSpec};
pub use optimizer::{Activations, Length, OptimizerPlan, OptimizerSpec, ScheduleKind};
pub use preference::{PreferencePlan, PreferenceSpec};
pub use rlhf::{Advantages, AdvantagesName, Rlhf, RlhfSpec};
