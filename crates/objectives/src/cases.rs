//! How the property tests of this crate, and of others, draw their cases.

use proptest::test_runner::{Config, RngSeed};

/// From one seed, so that a test which passes once passes always; `PROPTEST_RNG_SEED` names another one. Nothing is
/// written beside the sources when a case fails: the seed leads to it again.
pub(crate) fn fixed() -> Config {
    let mut config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(17);
    }
    config
}
