//! What the trainings of a method leave, and what it serves a preference with.

use std::sync::Arc;

use panacea_model::Steering;
use panacea_objectives::Preference;
use panacea_svd_lora::Adapters;

use crate::{Method, Trainings};

/// What a method has trained.
#[derive(Debug, Clone)]
pub enum Trained {
    /// One adapter for every preference.
    Panacea(Arc<Adapters>),
    /// One for each objective.
    RewardedSoups(Vec<Member>),
    /// One for each preference of a grid.
    Discrete(Vec<Member>),
}

/// The adapter of one of several trainings.
#[derive(Debug, Clone)]
pub struct Member {
    /// What it was trained for.
    pub preference: Preference,
    /// What came of it.
    pub adapters: Arc<Adapters>,
}

/// What answers under one preference.
///
/// Every method so far serves an adapter. A method that serves something else (a prompt's prefix, a mixture of logits)
/// gets a variant of its own, and the compiler names the places that have to learn of it.
#[derive(Debug, Clone)]
pub enum Served {
    /// One adapter, at the λ that makes it what was asked for.
    Adapter(Steering),
}

/// A method that writes no answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a reward model writes no answers, and no preference steers it")]
pub struct NotServed;

impl Trained {
    /// What `method` has trained for so many objectives. `open` gives the adapter of a training: of the only one
    /// (`None`), or of one of several, by its place in [`Method::trainings`].
    ///
    /// # Errors
    /// [`NotServed`] for a reward model, and whatever `open` says.
    pub fn open<E: From<NotServed>>(
        method: &Method,
        objectives: usize,
        mut open: impl FnMut(Option<usize>) -> Result<Adapters, E>,
    ) -> Result<Self, E> {
        let mut members = || -> Result<Vec<Member>, E> {
            let Trainings::Each(preferences) = method.trainings(objectives) else {
                return Ok(Vec::new());
            };
            let member = |(index, preference)| {
                let adapters = Arc::new(open(Some(index))?);
                Ok(Member {
                    preference,
                    adapters,
                })
            };
            preferences.into_iter().enumerate().map(member).collect()
        };
        Ok(match method {
            Method::Panacea => Self::Panacea(Arc::new(open(None)?)),
            Method::RewardedSoups => Self::RewardedSoups(members()?),
            Method::Discrete { .. } => Self::Discrete(members()?),
            Method::RewardModel => return Err(NotServed.into()),
        })
    }

    /// The preference that answers where `preference` is asked for: another one, where only a grid was trained.
    ///
    /// # Panics
    /// If a grid has no member.
    pub fn answering<'a>(&'a self, preference: &'a Preference) -> &'a Preference {
        match self {
            Self::Panacea(_) | Self::RewardedSoups(_) => preference,
            Self::Discrete(members) => &nearest(members, preference).preference,
        }
    }

    /// What answers under `preference`.
    ///
    /// # Panics
    /// If soups or a grid have no member.
    pub fn serve(&self, preference: &Preference) -> Served {
        let (adapters, at) = match self {
            Self::Panacea(adapters) => (Arc::clone(adapters), preference),
            Self::RewardedSoups(members) => {
                let members: Vec<(&Adapters, &[f64])> = (members.iter())
                    .map(|member| (&*member.adapters, member.preference.weights()))
                    .collect();
                // It is mixed for this preference already; the λ that it is served at has no effect.
                let soup = Adapters::soup(&members, preference.weights());
                (Arc::new(soup), preference)
            }
            Self::Discrete(members) => {
                let nearest = nearest(members, preference);
                // It was trained at its own λ only, so it is served at that λ.
                (Arc::clone(&nearest.adapters), &nearest.preference)
            }
        };
        Served::Adapter(Steering {
            adapters,
            preference: at.weights().to_vec(),
        })
    }
}

/// The member whose preference is nearest.
fn nearest<'a>(members: &'a [Member], preference: &Preference) -> &'a Member {
    let nearer =
        |a: &&Member, b: &&Member| distance(a, preference).total_cmp(&distance(b, preference));
    let nearest = members.iter().min_by(nearer);
    nearest.expect("a grid has at least one preference")
}

/// The squared distance of the preference that a member was trained for.
fn distance(member: &Member, preference: &Preference) -> f64 {
    let weights = member.preference.weights().iter();
    weights
        .zip(preference.weights())
        .map(|(a, b)| (a - b) * (a - b))
        .sum()
}

#[cfg(test)]
mod tests {
    use burn_tensor::{Device, Tensor};
    use panacea_svd_lora::SvdLoraConfig;

    use super::*;

    const NAME: &str = "layers.0.q_proj";

    fn adapters(seed: u64, device: &Device) -> Adapters {
        let config = SvdLoraConfig {
            base_model: "tiny".into(),
            base_fingerprint: String::new(),
            rank: 2,
            objectives: vec!["a".into(), "b".into()],
            alpha: 4.0,
            target_modules: vec!["q_proj".into()],
        };
        let mut adapters = Adapters::init(config, &[(NAME.into(), [5, 4])], 0.5, seed, device);
        for factors in adapters.factors.0.values_mut() {
            factors.sigma = factors.sigma.ones_like() * (0.3 + seed as f32);
            factors.s = factors.s.ones_like() * 0.7;
        }
        adapters
    }

    fn update(adapters: &Adapters, preference: &[f64], device: &Device) -> Tensor<2> {
        let row = adapters.preference_row(preference, device);
        adapters.get(NAME).unwrap().delta(&row)
    }

    fn trained(method: Method, device: &Device) -> (Trained, Vec<Adapters>) {
        let mut opened = Vec::new();
        let trained = Trained::open(&method, 2, |index| {
            let seed = index.map_or(0, |index| index as u64 + 1);
            opened.push(adapters(seed, device));
            Ok::<_, NotServed>(adapters(seed, device))
        });
        (trained.unwrap(), opened)
    }

    fn served(trained: &Trained, weights: [f64; 2], device: &Device) -> Tensor<2> {
        let preference = Preference::new(weights.to_vec()).unwrap();
        let Served::Adapter(steering) = trained.serve(&preference);
        update(&steering.adapters, &steering.preference, device)
    }

    fn assert_close(found: Tensor<2>, expected: Tensor<2>) {
        let difference = (found - expected).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-5, "{difference}");
    }

    #[test]
    fn panacea_serves_its_adapter_at_the_preference() {
        let device = panacea_devices::of_environment();
        let (trained, opened) = trained(Method::Panacea, &device);
        let expected = update(&opened[0], &[0.3, 0.7], &device);
        assert_close(served(&trained, [0.3, 0.7], &device), expected);
    }

    #[test]
    fn soups_serve_the_mixture_of_the_updates() {
        let device = panacea_devices::of_environment();
        let (trained, opened) = trained(Method::RewardedSoups, &device);
        let [first, second] = &opened[..] else {
            panic!("there are two objectives")
        };
        let (first, second) = (
            update(first, &[1.0, 0.0], &device),
            update(second, &[0.0, 1.0], &device),
        );
        let expected = first * 0.3 + second * 0.7;
        assert_close(served(&trained, [0.3, 0.7], &device), expected);
    }

    /// Asked for a preference between two, a discrete policy is what it was trained to be at the nearer one.
    #[test]
    fn discrete_serves_the_nearest_as_it_was_trained() {
        let device = panacea_devices::of_environment();
        let (trained, opened) = trained(Method::Discrete { divisions: 2 }, &device);
        assert_eq!(opened.len(), 3);
        let Trained::Discrete(members) = &trained else {
            panic!("{trained:?}")
        };
        let nearest = members
            .iter()
            .position(|member| member.preference.weights() == [0.5, 0.5])
            .unwrap();
        let expected = update(&opened[nearest], &[0.5, 0.5], &device);
        let asked = Preference::new(vec![0.4, 0.6]).unwrap();
        assert_eq!(trained.answering(&asked).weights(), [0.5, 0.5]);
        assert_close(served(&trained, [0.4, 0.6], &device), expected);
    }

    #[test]
    fn a_reward_model_is_not_served() {
        let open = |_| -> Result<Adapters, NotServed> { panic!("nothing is to be opened") };
        let refused = Trained::open(&Method::RewardModel, 2, open);
        assert_eq!(refused.unwrap_err(), NotServed);
    }
}
