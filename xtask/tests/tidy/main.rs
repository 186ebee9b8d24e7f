//! House rules that a compiler does not hold: where a crate may look, how files begin, and how long they get.

mod imports;
mod readmes;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use imports::Modules;

/// Lines of a file, its unit tests included, beyond which it is to be taken apart.
const LONGEST: usize = 600;

/// Files that are longer, and the lines that each may have: one thing each, with its tests beside it.
const LONGER: [(&str, usize); 1] = [("crates/kernels/src/host.rs", 640)];

/// Crates whose files still import each other in circles.
const CIRCULAR: [&str; 3] = ["evaluator", "kernels", "rewards"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of the folders in `crates`.
fn crates() -> Vec<String> {
    let folders = fs::read_dir(root().join("crates")).unwrap();
    let names = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Every source file below `folder`, with its path from the root of the workspace.
fn sources(folder: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return found;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root()).unwrap();
            found.push((name.to_string_lossy().replace('\\', "/"), path));
        }
    }
    found.sort();
    found
}

fn all_sources() -> Vec<(String, PathBuf)> {
    let folders = ["crates", "datasets", "benches", "xtask"].map(|folder| root().join(folder));
    folders.iter().flat_map(|folder| sources(folder)).collect()
}

/// The crates of this workspace that a crate depends on, tests aside.
fn dependencies(name: &str) -> Vec<String> {
    let manifest = read(&root().join("crates").join(name).join("Cargo.toml"));
    let mut section = "";
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section == "[dependencies]"
            && let Some(rest) = line.strip_prefix("panacea-")
        {
            found.push(rest.split([' ', '=']).next().unwrap().to_owned());
        }
    }
    found
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = all_sources()
        .into_iter()
        .filter(|(_, path)| !read(path).starts_with("//!"));
    let silent: Vec<String> = silent.map(|(name, _)| name).collect();
    assert!(silent.is_empty(), "begin them with //!: {silent:#?}");
}

#[test]
fn no_file_gets_too_long() {
    let limits = BTreeMap::from(LONGER);
    let sources = all_sources().into_iter();
    for (name, path) in sources.filter(|(name, _)| !name.contains("/tests/")) {
        let lines = read(&path).lines().count();
        let limit = limits.get(name.as_str()).copied().unwrap_or(LONGEST);
        assert!(
            lines <= limit,
            "{name} has {lines} lines, above {limit}: take it apart"
        );
    }
    for (name, _) in LONGER {
        let lines = read(&root().join(name)).lines().count();
        assert!(
            lines > LONGEST,
            "{name} has {lines} lines and needs no exception any more"
        );
    }
}

/// The list of crates in docs/architecture.md is their order, from the bottom up.
#[test]
fn a_crate_depends_on_lower_ones_alone() {
    let text = read(&root().join("docs/architecture.md"));
    let place = |name: &str| {
        let entry = format!("**{name}**");
        let place = text.find(&entry);
        place.unwrap_or_else(|| panic!("docs/architecture.md says nothing of {entry}"))
    };
    for name in crates() {
        let own = place(&name);
        for lower in dependencies(&name) {
            assert!(
                place(&lower) < own,
                "{name} depends on {lower}, which docs/architecture.md lists above it"
            );
        }
    }
}

#[test]
fn the_readme_names_every_crate() {
    let text = read(&root().join("README.md"));
    for name in crates() {
        let is_named = text.contains(&format!("(crates/{name})"));
        assert!(is_named || name == "test-support", "README.md lacks {name}");
    }
}

#[test]
fn files_of_a_crate_import_each_other_in_no_circle() {
    for name in crates() {
        let folder = root().join("crates").join(&name).join("src");
        let files = sources(&folder).into_iter().map(|(_, path)| {
            let inside = path.strip_prefix(&folder).unwrap().to_path_buf();
            (inside, read(&path))
        });
        let circle = Modules::new(files).circle();
        match CIRCULAR.contains(&name.as_str()) {
            true => assert!(
                circle.is_some(),
                "{name} has no circle any more, and needs no exception"
            ),
            false => assert_eq!(circle, None, "{name}: these import each other in a circle"),
        }
    }
}
