//! How much there may be of everything, so that a hostile profile is an error and no end of memory and time.

/// The most objectives that a belief is over: with more, an answer about all of them together says little of each.
pub const MOST_OBJECTIVES: usize = 64;
/// The most weights of particles, of every particle for every objective: 32 MB.
pub(crate) const MOST_WEIGHTS: usize = 4_000_000;
/// The most bytes of an objective's name or of a candidate's id.
pub const LONGEST_NAME: usize = 1000;
/// The most questions that a profile holds. To move a particle is to read all answers, so that a replay takes time that grows
/// with their square: half a minute for so many. Whoever reaches it begins a new profile; a belief that forgets 2 % before
/// each answer loses nothing by it that the last hundreds of answers do not say again.
pub const MOST_QUESTIONS: usize = 1_000;
/// How far apart two candidates' scores on one objective may be. The taste noise τ is thought to lie between 0.03 and 1, for
/// scores that go about 1 from bad to good. For scores in another unit it could not be learnt: every answer would be read as
/// sure, and a slip of the person as a fact.
pub const LARGEST_DIFFERENCE: f64 = 50.0;
