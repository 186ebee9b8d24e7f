//! What people are asked, and what was found of them: the profiles of a run, while they are in use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use panacea_interview::{Criteria, InterviewError, Pool, Profile, Profiles};
use panacea_objectives::Preference;
use panacea_reward_models::Base;
use panacea_runs::RunFolder;
use panacea_serving::Policy;

/// Sittings that are kept in memory. Of others only the answers are kept, on disk; they begin with a new prompt.
const MOST_SITTINGS: usize = 256;

/// Whoever comes back later than this begins another sitting: how much is asked is counted anew.
const SITTING: Duration = Duration::from_secs(30 * 60);

/// The interviews of one run.
pub struct Interviews {
    profiles: Profiles,
    criteria: Criteria,
    sittings: Mutex<HashMap<String, Sat>>,
    /// Profiles by which somebody was answered.
    served: Mutex<HashMap<String, Arc<Profile>>>,
}

/// A sitting, of which one has hold at a time.
pub(crate) type Seat = Arc<tokio::sync::Mutex<Sitting>>;

/// A sitting, and when it was last gone on with.
struct Sat {
    sitting: Seat,
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
        let known = locked(&self.served).get(name).cloned();
        if let Some(profile) = known
            && profile.is_current()?
        {
            return Ok(profile.preference());
        }
        // A long profile takes a while, which nobody else is to wait for.
        let profile = Arc::new(self.profiles.open(name)?);
        let preference = profile.preference();
        let mut served = locked(&self.served);
        if served.len() >= MOST_SITTINGS {
            served.clear();
        }
        served.insert(name.to_owned(), profile);
        Ok(preference)
    }

    /// The sitting of that name, which begins where there is none, or none that somebody has gone on with lately. Who holds it
    /// asks alone.
    pub(crate) fn sitting(&self, name: &str, seed: u64) -> Result<Seat, InterviewError> {
        if let Some(sitting) = self.go_on(name) {
            return Ok(sitting);
        }
        let sitting = Sitting {
            profile: self.profiles.open_or_begin(name, seed)?,
            asked: None,
        };
        let mut sittings = locked(&self.sittings);
        let is_free = |sat: &&Sat| Arc::strong_count(&sat.sitting) == 1;
        let oldest = sittings.iter().filter(|(_, sat)| is_free(sat));
        let oldest = oldest.min_by_key(|(_, sat)| sat.since);
        if sittings.len() >= MOST_SITTINGS
            && let Some(name) = oldest.map(|(name, _)| name.clone())
        {
            sittings.remove(&name);
        }
        // Somebody else may have begun it meanwhile.
        let sat = sittings.entry(name.to_owned()).or_insert_with(|| Sat {
            sitting: Arc::new(tokio::sync::Mutex::new(sitting)),
            since: Instant::now(),
        });
        Ok(Arc::clone(&sat.sitting))
    }

    /// The sitting of that name, if somebody has gone on with it lately, and who asks goes on with it now.
    pub(crate) fn go_on(&self, name: &str) -> Option<Seat> {
        let mut sittings = locked(&self.sittings);
        let sat = known(&mut sittings, name)?;
        sat.since = Instant::now();
        Some(Arc::clone(&sat.sitting))
    }

    /// The same, to look at.
    pub(crate) fn known_sitting(&self, name: &str) -> Option<Seat> {
        let mut sittings = locked(&self.sittings);
        known(&mut sittings, name).map(|sat| Arc::clone(&sat.sitting))
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

/// Takes away the sitting of that name where nobody has gone on with it lately.
fn known<'a>(sittings: &'a mut HashMap<String, Sat>, name: &str) -> Option<&'a mut Sat> {
    let sat = sittings.get(name)?;
    if sat.since.elapsed() > SITTING && Arc::strong_count(&sat.sitting) == 1 {
        sittings.remove(name);
    }
    sittings.get_mut(name)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Interviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interviews").finish_non_exhaustive()
    }
}
