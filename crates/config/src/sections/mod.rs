//! The sections of a configuration, a file each: its keys, what they resolve to, and how that is written back.

/// Declares a section: every key with its documentation, type, default, range, and when it has an effect.
///
/// ```text
/// /// What the key does.
/// KEY: TYPE = DEFAULT, in RANGE, default "what the default is, in words", when WHEN;
/// ```
///
/// Only the type has to be there. `when` of a section goes for every key that has none of its own. Of it come a struct
/// of optional keys, an [`Entry`](crate::schema::Entry) for each (a method of the key's name), how one section is laid
/// over another or forgets a key, the warnings about keys without effect, and the section's part of the reference.
macro_rules! section {
    (
        $(#[doc = $doc:literal])+
        $section:ident at $prefix:literal $(when $section_when:ident)? {
            $(
                $(#[doc = $key_doc:literal])+
                $key:ident: $value:ty $(= $default:expr)? $(, in $range:ident)?
                $(, default $words:literal)? $(, when $when:ident)?;
            )+
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $section {
            $(
                $(#[doc = $key_doc])+
                $(#[doc = concat!("\n\nDefault: `", stringify!($default), "`.")])?
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $key: Option<$value>,
            )+
        }

        impl $section {
            pub(crate) const SECTION: crate::schema::Section = crate::schema::Section {
                prefix: $prefix,
                keys: &[$(stringify!($key)),+],
                accepts: crate::schema::accepts::<Self>,
                reference: Self::reference,
            };

            /// When the section has an effect, if not always.
            const WHEN: Option<crate::when::When> =
                section!(@optional $(crate::when::$section_when)?);

            $(
                pub(crate) fn $key(
                    &self,
                ) -> crate::schema::Entry<$value, section!(@default_type $value $(, $default)?)> {
                    crate::schema::Entry {
                        key: concat!($prefix, stringify!($key)),
                        given: self.$key.clone(),
                        default: section!(@default $(|| $default)?),
                        range: section!(@optional $($range)?),
                        when: section!(@optional $(crate::when::$when)?).or(Self::WHEN),
                    }
                }
            )+

            /// Takes every key that `over` has.
            pub(crate) fn overlay(&mut self, over: Self) {
                $(if over.$key.is_some() {
                    self.$key = over.$key;
                })+
            }

            /// Forgets what was given for a key, by its name here; `false` where there is no such key.
            pub(crate) fn forget(&mut self, name: &str) -> bool {
                match name {
                    $(stringify!($key) => self.$key = None,)+
                    _ => return false,
                }
                true
            }

            /// Reports every value that is out of its range.
            pub(crate) fn check_ranges(&self, resolver: &mut crate::resolver::Resolver) {
                $(resolver.take_if_given(self.$key());)+
            }

            /// Warns about every key that says something but has no effect.
            pub(crate) fn warn_of_idle_keys(
                &self,
                resolver: &mut crate::resolver::Resolver,
                choices: &crate::when::Choices,
            ) {
                $(resolver.warn_if_idle(&self.$key(), choices);)+
            }

            fn reference() -> crate::schema::SectionReference {
                let empty = Self::default();
                crate::schema::SectionReference {
                    text: crate::schema::joined(&[$($doc),+]),
                    when: Self::WHEN,
                    keys: vec![$(empty.$key().reference(
                        stringify!($key),
                        &[$($key_doc),+],
                        section!(@optional $($words)?),
                        Self::WHEN,
                    )),+],
                }
            }
        }
    };
    (@default) => { () };
    (@default $usual:expr) => { $usual };
    (@default_type $value:ty) => { () };
    (@default_type $value:ty, $default:expr) => { crate::schema::Usual<$value> };
    (@optional) => { None };
    (@optional $given:expr) => { Some($given) };
}

mod adapter;
pub(crate) mod data;
mod evaluation;
pub(crate) mod general;
mod logging;
mod method;
mod model;
mod optimizer;
mod preference;
pub(crate) mod rlhf;

pub use adapter::{AdapterPlan, AdapterSpec};
pub use data::{DataPlan, DataSpec};
pub use evaluation::{CheckpointPlan, CheckpointSpec, EvaluationPlan, EvaluationSpec};
pub use general::GeneralSpec;
pub use logging::{LoggingPlan, LoggingSpec};
pub(crate) use method::label_ideal;
pub use method::{Learning, MethodPlan, MethodSpec};
pub use model::{ModelSpec, PrecisionSpec};
pub use optimizer::{Length, OptimizerPlan, OptimizerSpec};
pub use preference::{PreferencePlan, PreferenceSpec};
pub use rlhf::{Advantages, KlControl, Rlhf, RlhfSpec};
