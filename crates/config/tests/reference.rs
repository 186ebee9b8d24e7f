//! The reference of configurations, and the file in which every key stands.

use std::path::{Path, PathBuf};
use std::{env, fs};

use panacea_config::{Overrides, Plan, Spec, reference};

const MINIMAL: &str = include_str!("files/minimal.toml");
const EVERYTHING: &str = include_str!("files/everything.toml");

fn file_of_the_project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

fn with_every_key(text: &str) -> String {
    let spec = Spec::from_toml(text, "my.toml");
    spec.with_every_key(&Overrides::default()).unwrap()
}

#[test]
fn the_page_is_what_the_code_says() {
    let path = file_of_the_project("docs/configuration.md");
    if env::var_os("WRITE_DOCS").is_some() {
        fs::write(&path, reference()).unwrap();
    }
    let page = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        page == reference(),
        "docs/configuration.md is another; write it by: WRITE_DOCS=1 cargo test -p panacea-config --test reference"
    );
}

#[test]
fn a_file_with_every_key_says_what_the_first_one_said() {
    let configs = fs::read_dir(file_of_the_project("configs")).unwrap();
    let configs = configs.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    for text in configs.chain([MINIMAL.into(), EVERYTHING.into(), String::new()]) {
        let every_key = with_every_key(&text);
        let spec = Spec::from_toml(&every_key, "every.toml");
        assert_eq!(spec, Spec::from_toml(&text, "my.toml"), "{every_key}");
        assert_eq!(with_every_key(&every_key), every_key);
    }
}

/// Behind `#` stand the defaults: with them the plan is the same.
#[test]
fn what_stands_behind_a_number_sign_is_the_default() {
    let every_key = with_every_key(MINIMAL);
    let mut keys = 0;
    let mut uncommented = String::new();
    for line in every_key.lines() {
        let entry = line
            .strip_prefix("# ")
            .and_then(|line| line.split_once(" = "));
        match entry.filter(|(key, _)| key.chars().all(|c| c == '_' || c.is_ascii_lowercase())) {
            Some((key, value)) if !value.trim_start().starts_with('#') => {
                keys += 1;
                uncommented += &format!("{key} = {value}\n");
            }
            _ => uncommented += &format!("{line}\n"),
        }
    }
    assert!(keys > 40, "{keys} defaults in\n{every_key}");
    let plan = |text: &str| {
        let spec = Spec::from_toml(text, "my.toml");
        Plan::resolve(spec, &Overrides::default()).unwrap_or_else(|error| panic!("{error}\n{text}"))
    };
    let with_defaults = plan(&uncommented);
    assert_eq!(with_defaults.to_spec(), plan(MINIMAL).to_spec());
    assert_eq!(with_defaults.warnings(), plan(MINIMAL).warnings());
}

#[test]
fn mistakes_are_told_before_a_file_is_written() {
    let spec = Spec::from_toml("[adapter]\nrang = 3", "my.toml");
    let message = spec
        .with_every_key(&Overrides::default())
        .unwrap_err()
        .to_string();
    assert!(message.contains("my.toml:2: adapter.rang"), "{message}");

    let set = |overrides: Overrides| {
        let message = Spec::default().with_every_key(&overrides).unwrap_err();
        message.to_string()
    };
    let large = Overrides {
        seed: Some(u64::MAX),
        ..Overrides::default()
    };
    let message = set(large);
    assert!(
        message.contains("--seed: seed: found 18446744073709551615, expected"),
        "{message}"
    );
    let many = Overrides {
        steps: Some(usize::MAX),
        set: vec!["adapter.rank=0".into()],
        ..Overrides::default()
    };
    let message = set(many);
    assert!(
        message.contains("adapter.rank: found 0, expected 1 or more"),
        "{message}"
    );
    assert!(message.contains("cannot be written in TOML"), "{message}");
}
