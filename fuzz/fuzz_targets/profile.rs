//! A person's profile: what was asked, and what they answered.
#![no_main]

use libfuzzer_sys::fuzz_target;
use panacea_elicit::Session;
use panacea_fuzz::{Bound, check};

const BOUND: Bound = Bound {
    constant: 16 << 20,
    times: 300,
};

fuzz_target!(|text: &str| {
    check(BOUND, text.len(), || match Session::replay(text) {
        Ok(session) => {
            let again = Session::replay(&session.to_text()).expect("what is written can be read");
            assert_eq!(again.entries(), session.entries());
            let _ = session.estimate();
        }
        Err(error) => drop(error.to_string()),
    });
});
