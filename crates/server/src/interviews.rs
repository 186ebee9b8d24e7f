//! What people are asked, and what was found of them: the profiles of a run, while they are in use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use panacea_interview::{Criteria, InterviewError, Pool, Profile, Profiles};
use panacea_objectives::Preference;
use panacea_reward_models::Base;
use panacea_runs::RunFolder;
use panacea_serving::Policy;

/// Sittings that are kept in memory. Of others only the answers are kept, on disk; they begin with a new prompt.
const MOST_SITTINGS: usize = 256;

/// The interviews of one run.
pub struct Interviews {
    profiles: Profiles,
    criteria: Criteria,
    sittings: Mutex<HashMap<String, Sat>>,
    /// Profiles by which somebody was answered.
    served: Mutex<HashMap<String, Profile>>,
}

/// A sitting, and when it was last gone on with.
struct Sat {
    sitting: Arc<tokio::sync::Mutex<Sitting>>,
    since: Instant,
}

/// A person who is being asked.
pub struct Sitting {
    pub profile: Profile,
    /// What the answers are taken from, and the pair that was asked about and not yet answered.
    pub asked: Option<(Arc<Pool>, Option<Pending>)>,
}

/// A question without its answer.
#[derive(Clone)]
pub struct Pending {
    pub id: String,
    /// The places of the two answers in the pool.
    pub pair: (usize, usize),
}

impl Interviews {
    /// Those of a run. `base` is what computes scores.
    ///
    /// # Errors
    /// When the run's files cannot be read, or a program or an endpoint says its rewards: the server would wait for it, and
    /// everybody else with it.
    pub fn open(run: &RunFolder, policy: &Policy, base: &Base) -> Result<Self, InterviewError> {
        let profiles = Profiles::of(run, policy.plan())?;
        let yardstick = profiles.yardstick().clone();
        if yardstick.waits {
            return Err(InterviewError::Waits { run: run.name() });
        }
        Ok(Self {
            criteria: Criteria::open(yardstick, policy, base)?,
            profiles,
            sittings: Mutex::default(),
            served: Mutex::default(),
        })
    }

    /// What scores the answers that are compared.
    pub(crate) fn criteria(&self) -> &Criteria {
        &self.criteria
    }

    /// The names of the profiles that there are.
    pub(crate) fn names(&self) -> Result<Vec<String>, InterviewError> {
        self.profiles.names()
    }

    /// What a person should know of them.
    pub(crate) fn notes(&self) -> &[String] {
        &self.profiles.notes
    }

    /// The profile of that name, as it is on disk.
    pub(crate) fn profile(&self, name: &str) -> Result<Profile, InterviewError> {
        self.profiles.open(name)
    }

    /// The λ that was found for a person. What was read is kept until the file changes.
    pub(crate) fn preference(&self, name: &str) -> Result<Preference, InterviewError> {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(profile) = served.get(name)
            && profile.is_current()?
        {
            return Ok(profile.preference());
        }
        let profile = self.profiles.open(name)?;
        let preference = profile.preference();
        if served.len() >= MOST_SITTINGS {
            served.clear();
        }
        served.insert(name.to_owned(), profile);
        Ok(preference)
    }

    /// The sitting of that name, which begins where there is none. Who holds it asks alone.
    pub(crate) fn sitting(
        &self,
        name: &str,
        seed: u64,
    ) -> Result<Arc<tokio::sync::Mutex<Sitting>>, InterviewError> {
        let mut sittings = self.sittings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sat) = sittings.get_mut(name) {
            sat.since = Instant::now();
            return Ok(Arc::clone(&sat.sitting));
        }
        let sitting = Sitting {
            profile: self.profiles.open_or_begin(name, seed)?,
            asked: None,
        };
        let sitting = Arc::new(tokio::sync::Mutex::new(sitting));
        let is_free = |sat: &&Sat| Arc::strong_count(&sat.sitting) == 1;
        let oldest = sittings.iter().filter(|(_, sat)| is_free(sat));
        let oldest = oldest.min_by_key(|(_, sat)| sat.since);
        if sittings.len() >= MOST_SITTINGS
            && let Some(name) = oldest.map(|(name, _)| name.clone())
        {
            sittings.remove(&name);
        }
        let sat = Sat {
            sitting: Arc::clone(&sitting),
            since: Instant::now(),
        };
        sittings.insert(name.to_owned(), sat);
        Ok(sitting)
    }

    /// The sitting of that name that was gone on with before, if it is still there.
    pub(crate) fn known_sitting(&self, name: &str) -> Option<Arc<tokio::sync::Mutex<Sitting>>> {
        let sittings = self.sittings.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&sittings.get(name)?.sitting))
    }

    /// Reads the profile of a sitting again, where somebody else has written to it.
    pub(crate) fn refresh(&self, sitting: &mut Sitting) -> Result<(), InterviewError> {
        if !sitting.profile.is_current()? {
            let (name, seed) = (
                sitting.profile.name().to_owned(),
                sitting.profile.session().header().seed,
            );
            *sitting = Sitting {
                profile: self.profiles.open_or_begin(&name, seed)?,
                asked: None,
            };
        }
        Ok(())
    }
}

impl std::fmt::Debug for Interviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interviews").finish_non_exhaustive()
    }
}
