//! # From a configuration to a plan
//!
//! A [`Spec`] is what a person wrote, a [`Plan`] what a run does: every default filled in, every value
//! checked, all mistakes reported at once.
//!
//! ```
//! use panacea_config::{Overrides, Plan, Spec};
//!
//! let text = r#"
//!     [model]
//!     path = "models/smollm2-135m-instruct"
//!     [data]
//!     train = "train.jsonl"
//!     [[objective]]
//!     name = "helpfulness"
//!     score = "helpfulness"
//!     [optimizer]
//!     steps = 110
//!     learning_rat = 1e-3
//! "#;
//! let spec = Spec::from_toml(text, "my.toml");
//! let errors = Plan::resolve(spec, &Overrides::default()).unwrap_err();
//! assert!(errors.to_string().contains("did you mean \"learning_rate\"?"));
//!
//! let spec = Spec::from_toml(&text.replace("learning_rat ", "learning_rate "), "my.toml");
//! let plan = Plan::resolve(spec, &Overrides { seed: Some(5), ..Overrides::default() })?;
//! assert_eq!((plan.seed(), plan.optimizer().learning_rate), (5, 1e-3));
//! assert_eq!(plan.preference().sampler.vertex_probability(), 0.1);
//! # Ok::<(), panacea_config::ConfigErrors>(())
//! ```
//!
//! # Where is what
//!
//! Each section of a configuration has a file in `sections`: its keys (documentation, default, range, and when they have
//! an effect), what they resolve to, and how that is written back. `names` are the values to choose from, `when` the
//! conditions. `input` is what a configuration says of files and conversations where nothing is trained. `reading` notes
//! the place of each value, `problems` holds the mistakes, `reference` writes the page of all keys and a file in which
//! each stands, `keys` says the same at a terminal and to editors, and `beginnings` are files to begin with.

mod beginnings;
mod input;
mod keys;
mod names;
mod plan;
mod problems;
mod reading;
mod reference;
mod resolver;
mod schema;
mod sections;
mod sources;
mod spec;
mod when;

pub use beginnings::{BEGINNINGS, Beginning, OwnFiles, Proposal};
pub use input::InputPlan;
pub use keys::{UnknownKey, about, json_schema, keys};
pub use names::{
    Activations, AdvantagesName, AggregationName, DpoLossName, FormatChoice, LossName, MethodName,
    OneOrMany, ScheduleKind, SteeringScale, TemplateVariables,
};
pub use plan::Plan;
pub use problems::{ConfigErrors, Origin, Problem, UnreadableFile, nearest};
pub use reading::{Overrides, gone_keys};
pub use reference::reference;
pub use sections::{
    AdapterPlan, AdapterSpec, Advantages, CheckpointPlan, CheckpointSpec, DataPlan, DataSpec,
    EvaluationPlan, EvaluationSpec, GeneralSpec, KlControl, Learning, Length, LoggingPlan,
    LoggingSpec, MethodPlan, MethodSpec, ModelSpec, OptimizerPlan, OptimizerSpec, PrecisionSpec,
    PreferencePlan, PreferenceSpec, Rlhf, RlhfSpec,
};
pub use spec::Spec;
