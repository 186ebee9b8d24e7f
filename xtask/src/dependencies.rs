//! Licences, sources and known faults of what the workspace depends on, by [cargo-deny](https://embarkstudios.github.io/cargo-deny/).
//!
//! `deny.toml` says what is allowed. `xtask/advisories.txt` holds those advisories of RustSec that concern a package of
//! `Cargo.lock`, so that the verdict on a commit does not change with the day. `cargo xtask advisories FOLDER` renews it from a
//! checkout of <https://github.com/rustsec/advisory-db>.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Failure;
use crate::build::{cannot_start, cargo, workspace};

/// At the version that `deny.toml` is written for.
const CARGO_DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
    features: &[],
    opt_level: "1",
};

/// Where cargo-deny looks for the database within `db-path`: the name that it makes of the address of RustSec's.
const DATABASE: &str = "advisory-db-3157b0e258782691";

/// The line of the list with the names of all packages that were looked up.
const LOOKED_UP: &str = "Looked up: ";

/// Of an advisory, its facts begin here.
const BEGIN: &str = "[advisory]\n";

/// Where programs are installed that checks need.
pub fn tools() -> PathBuf {
    workspace().join("target").join("tools")
}

fn list() -> PathBuf {
    workspace().join("xtask").join("advisories.txt")
}

/// cargo-deny, with all that it needs in place: the program, the sources of all packages, the database.
pub fn cargo_deny() -> Result<Command, Failure> {
    let program = CARGO_DENY.installed()?;
    // Those of features that a build for the CPU leaves out, too.
    run(cargo().args(["fetch", "--locked", "--target", "x86_64-unknown-linux-gnu"]))?;
    lay_out(&tools().join("advisories").join(DATABASE))?;
    Ok(Command::new(program))
}

/// A program of crates.io, which is compiled into [`tools`] when this version of it is first called. They run for seconds: less
/// time to compile is worth more, which decides the level of optimisation.
pub struct Tool {
    pub name: &'static str,
    pub version: &'static str,
    /// What `cargo install` is told of its features.
    pub features: &'static [&'static str],
    pub opt_level: &'static str,
}

impl Tool {
    /// Its path, once it is there.
    pub fn installed(&self) -> Result<PathBuf, Failure> {
        let program = format!("{}{}", self.name, env::consts::EXE_SUFFIX);
        let program = tools().join("bin").join(program);
        if !self.is(&program) {
            let mut install = cargo();
            install
                .args(["install", self.name, "--version", self.version])
                .args(["--locked", "--force"])
                .args(self.features)
                .arg("--root")
                .arg(tools())
                .arg("--target-dir")
                .arg(tools().join("build"))
                .env("CARGO_PROFILE_RELEASE_LTO", "off")
                .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", self.opt_level)
                .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
            run(&mut install)?;
            fs::remove_dir_all(tools().join("build")).ok();
        }
        Ok(program)
    }

    fn is(&self, program: &Path) -> bool {
        let said = Command::new(program).arg("--version").output();
        said.is_ok_and(|said| {
            String::from_utf8_lossy(&said.stdout)
                .trim()
                .ends_with(self.version)
        })
    }
}

pub fn run(command: &mut Command) -> Result<(), Failure> {
    command.current_dir(workspace());
    let status = command
        .status()
        .map_err(|error| cannot_start(command, &error))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("{command:?} failed ({status})")))
}

/// The list as cargo-deny reads it: a file an advisory, in what looks like a clone of the database.
fn lay_out(database: &Path) -> Result<(), Failure> {
    if database.exists() {
        fs::remove_dir_all(database).map_err(|error| cannot("remove", database, &error))?;
    }
    for facts in entries(&read(&list())?) {
        let (package, id) = (value(facts, "package"), value(facts, "id"));
        let (Some(package), Some(id)) = (package, id) else {
            return Err(Failure::new(format!(
                "{}: an advisory without a package or an id:\n{facts}",
                list().display()
            )));
        };
        let folder = database.join("crates").join(package);
        fs::create_dir_all(&folder).map_err(|error| cannot("create", &folder, &error))?;
        let text =
            format!("```toml\n{facts}\n```\n\n# {id}\n\n<https://rustsec.org/advisories/{id}>\n");
        let file = folder.join(format!("{id}.md"));
        fs::write(&file, text).map_err(|error| cannot("write", &file, &error))?;
    }
    // cargo-deny asks when the database was fetched, which git notes as the age of this file.
    let git = database.join(".git");
    fs::create_dir_all(&git).map_err(|error| cannot("create", &git, &error))?;
    let fetched = git.join("FETCH_HEAD");
    fs::write(&fetched, "").map_err(|error| cannot("write", &fetched, &error))
}

/// `cargo xtask advisories FOLDER`: the list anew, from a checkout of RustSec's database.
pub fn renew(database: &Path) -> Result<(), Failure> {
    let names = packages(&read(&workspace().join("Cargo.lock"))?);
    let looked_up: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut text = format!(
        "Advisories of https://github.com/rustsec/advisory-db about packages of Cargo.lock: their facts, without the words.\n\
         Made by `cargo xtask advisories FOLDER`; xtask/src/dependencies.rs reads it.\n\n{LOOKED_UP}{}\n",
        looked_up.join(" ")
    );
    let mut count = 0;
    for name in &names {
        let folder = database.join("crates").join(name);
        let Ok(files) = fs::read_dir(&folder) else {
            continue;
        };
        let mut files: Vec<PathBuf> = files
            .filter_map(|file| file.ok().map(|file| file.path()))
            .collect();
        files.sort();
        for file in files {
            let facts = facts(&read(&file)?).ok_or_else(|| {
                Failure::new(format!(
                    "{}: no advisory in its first block of TOML",
                    file.display()
                ))
            })?;
            text += &format!("\n{facts}");
            count += 1;
        }
    }
    if count == 0 {
        return Err(Failure::new(format!(
            "{} has no advisories in crates/: expected a checkout of https://github.com/rustsec/advisory-db",
            database.display()
        )));
    }
    fs::write(list(), text).map_err(|error| cannot("write", &list(), &error))?;
    println!("{count} advisories in {}", list().display());
    Ok(())
}

/// The names of a lock file.
fn packages(lock: &str) -> BTreeSet<String> {
    lock.lines()
        .filter_map(|line| value(line, "name"))
        .map(str::to_owned)
        .collect()
}

/// Of an advisory as RustSec writes it, what a verdict depends on: which package, since when, what kind, which versions.
fn facts(advisory: &str) -> Option<String> {
    let (_, rest) = advisory.split_once("```toml\n")?;
    let (toml, _) = rest.split_once("\n```")?;
    let (mut table, mut facts) = ("", String::new());
    for line in toml.lines() {
        if line.starts_with('[') {
            table = line.trim();
        }
        let keeps = match table {
            "[advisory]" => [
                "[",
                "id ",
                "package ",
                "date ",
                "informational ",
                "withdrawn ",
            ]
            .iter()
            .any(|start| line.starts_with(start)),
            "[versions]" => !line.trim().is_empty(),
            _ => false,
        };
        if keeps {
            facts += line;
            facts.push('\n');
        }
    }
    facts.starts_with(BEGIN).then_some(facts)
}

/// The advisories of the list.
fn entries(list: &str) -> impl Iterator<Item = &str> {
    let starts: Vec<usize> = list.match_indices(BEGIN).map(|(start, _)| start).collect();
    let ends: Vec<usize> = starts.iter().skip(1).copied().chain([list.len()]).collect();
    let parts = starts.into_iter().zip(ends);
    parts.map(|(start, end)| list[start..end].trim_end())
}

/// The text of `key = "text"`, in whichever line it stands.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then(|| value.trim().trim_matches('"'))
    })
}

pub fn read(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(|error| cannot("read", file, &error))
}

pub fn cannot(what: &str, file: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot {what} {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADVISORY: &str = "\
```toml
[advisory]
id = \"RUSTSEC-2021-0001\"
package = \"yarn\"
date = \"2021-01-02\"
url = \"https://example.com\"
references = [
    \"https://example.com/more\",
]
informational = \"unsound\"

[affected]
functions = { \"yarn::spin\" = [\"*\"] }

[versions]
patched = [
    \">= 1.2\",
]
unaffected = [\"< 0.3\"]
```

# It unravels

At length.
";

    #[test]
    fn of_an_advisory_its_facts_are_kept() {
        let facts = facts(ADVISORY).unwrap();
        let expected = "\
[advisory]
id = \"RUSTSEC-2021-0001\"
package = \"yarn\"
date = \"2021-01-02\"
informational = \"unsound\"
[versions]
patched = [
    \">= 1.2\",
]
unaffected = [\"< 0.3\"]
";
        assert_eq!(facts, expected);
        assert_eq!(value(&facts, "package"), Some("yarn"));
        let list = format!("What it is.\n\n{facts}\n{facts}");
        assert_eq!(entries(&list).collect::<Vec<_>>(), [facts.trim_end(); 2]);
        assert_eq!(super::facts("# No block"), None);
    }

    /// What was never looked up would pass.
    #[test]
    fn every_package_was_looked_up() {
        let lock = read(&workspace().join("Cargo.lock")).unwrap();
        let list = read(&list()).unwrap();
        let line = list.lines().find_map(|line| line.strip_prefix(LOOKED_UP));
        let looked_up: BTreeSet<&str> = line.unwrap().split(' ').collect();
        let names = packages(&lock);
        let new: Vec<_> = names
            .iter()
            .filter(|name| !looked_up.contains(name.as_str()))
            .collect();
        assert!(
            new.is_empty(),
            "new in Cargo.lock: {new:?}; run `cargo xtask advisories FOLDER` with a checkout of \
             https://github.com/rustsec/advisory-db"
        );
    }

    /// A list that lost its entries would let everything pass.
    #[test]
    fn the_list_names_what_deny_toml_passes_over() {
        let list = read(&list()).unwrap();
        let ids: BTreeSet<&str> = entries(&list)
            .filter_map(|facts| value(facts, "id"))
            .collect();
        let deny = read(&workspace().join("deny.toml")).unwrap();
        let ignored = deny
            .lines()
            .filter_map(|line| line.split_once("{ id = \"")?.1.split('"').next());
        let ignored: Vec<&str> = ignored.collect();
        assert!(!ignored.is_empty());
        for id in ignored {
            assert!(ids.contains(id), "{id} is not in the list");
        }
    }
}
