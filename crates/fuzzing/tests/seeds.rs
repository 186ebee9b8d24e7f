//! Every target reads its seeds, and `fuzz/` calls every target.

use std::fs;
use std::path::{Path, PathBuf};

use panacea_fuzzing::{TARGETS, seeds};

/// A bound that is broken ends the process.
#[test]
fn every_target_reads_its_seeds() {
    for target in &TARGETS {
        let ready = target.ready();
        let seeds = seeds(target.name);
        assert!(!seeds.is_empty(), "{}", target.name);
        for seed in seeds {
            let place = format!("{}: {}", target.name, seed.name);
            assert!(ready.read(&seed.input).is_some(), "{place} is no input");
            // What is missing at the end, or changed somewhere, is an error or another value.
            let middle = seed.input.len() / 2;
            let _ = ready.read(&seed.input[..middle]);
            let mut changed = seed.input;
            for byte in changed.iter_mut().skip(2).step_by(97) {
                *byte ^= 1;
            }
            let _ = ready.read(&changed);
        }
    }
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// What is outside of the workspace is not compiled with it: it is so short that its text can be checked.
#[test]
fn the_crate_for_libfuzzer_calls_every_target() {
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let programs = manifest["bin"].as_array().unwrap().iter();
    let programs: Vec<&str> = programs.map(|bin| bin["name"].as_str().unwrap()).collect();
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(programs, [&names[..], &["seeds"]].concat());
    for name in names {
        let path = fuzz().join(format!("fuzz_targets/{name}.rs"));
        let source = fs::read_to_string(&path).unwrap();
        let expected = format!("panacea_fuzzing::target(\"{name}\").ready()");
        assert!(source.contains(&expected), "{}", path.display());
    }
}
