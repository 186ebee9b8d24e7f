//! Which file of a crate imports which, as its `use` declarations have it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The modules of a crate by their paths, `""` for the root, with those that each imports.
pub struct Modules(BTreeMap<String, BTreeSet<String>>);

impl Modules {
    /// From the files of a crate, each with its path below `src` and its text.
    pub fn new(files: impl Iterator<Item = (PathBuf, String)>) -> Self {
        let files: BTreeMap<String, String> = files
            .map(|(path, text)| (module_of(&path), without_comments_and_tests(&text)))
            .collect();
        let mut uses: Vec<(&String, bool, Vec<String>)> = Vec::new();
        for (module, text) in &files {
            for (is_public, tree) in declarations(text) {
                let paths = expand("", tree);
                let paths = paths
                    .iter()
                    .filter_map(|path| absolute(&files, module, path));
                uses.push((module, is_public, paths.collect()));
            }
        }
        // What a module hands on by `pub use` is looked up where it comes from.
        let mut handed_on = BTreeMap::new();
        for (module, _, paths) in uses.iter().filter(|(_, is_public, _)| *is_public) {
            for path in paths {
                let (from, name) = path.rsplit_once("::").unwrap_or(("", path));
                if files.contains_key(from) {
                    handed_on.insert((module.to_string(), name.to_owned()), from.to_owned());
                }
            }
        }
        let mut imports: BTreeMap<String, BTreeSet<String>> = files
            .keys()
            .map(|module| (module.clone(), BTreeSet::new()))
            .collect();
        for (module, _, paths) in uses.iter().filter(|(_, is_public, _)| !is_public) {
            for path in paths {
                let target = target(&files, &handed_on, path);
                if target != **module {
                    imports.get_mut(*module).unwrap().insert(target);
                }
            }
        }
        Self(imports)
    }

    /// Modules that import each other in a circle, if there are any.
    pub fn circle(&self) -> Option<Vec<String>> {
        let mut done = BTreeSet::new();
        let starts = self.0.keys();
        starts
            .filter_map(|start| self.circle_from(start, &mut Vec::new(), &mut done))
            .next()
    }

    fn circle_from(
        &self,
        module: &str,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(start) = way.iter().position(|on_the_way| on_the_way == module) {
            return Some(way[start..].to_vec());
        }
        if done.contains(module) {
            return None;
        }
        way.push(module.to_owned());
        for next in &self.0[module] {
            if let Some(circle) = self.circle_from(next, way, done) {
                return Some(circle);
            }
        }
        way.pop();
        done.insert(module.to_owned());
        None
    }
}

/// `rlhf/update.rs` → `rlhf::update`
fn module_of(path: &std::path::Path) -> String {
    let path = path.with_extension("");
    let mut parts: Vec<String> = path
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if parts.last().is_some_and(|last| last == "mod")
        || matches!(&parts[..], [only] if only == "lib" || only == "main")
    {
        parts.pop();
    }
    parts.join("::")
}

/// Unit tests stand at the end of a file, and may look where they like.
fn without_comments_and_tests(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let lines = code.lines();
    let code = lines.map(|line| line.split("//").next().unwrap_or(line));
    code.collect::<Vec<_>>().join("\n")
}

/// The trees of all `use` declarations, and whether each is `pub`.
fn declarations(text: &str) -> Vec<(bool, &str)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("use ") {
        let line = &rest[rest[..at].rfind('\n').map_or(0, |end| end + 1)..at];
        let (line, behind) = (line.trim(), &rest[at + "use ".len()..]);
        let is_declaration = line.is_empty() || line.starts_with("pub") && !line.contains('"');
        match behind.split_once(';') {
            Some((tree, behind)) if is_declaration => {
                found.push((line.starts_with("pub"), tree));
                rest = behind;
            }
            _ => rest = behind,
        }
    }
    found
}

/// `a::{b, c::d}` → `a::b`, `a::c::d`
fn expand(prefix: &str, tree: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for letter in tree.chars().filter(|letter| !letter.is_whitespace()) {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        match (letter, depth) {
            (',', 0) => parts.push(String::new()),
            _ => parts.last_mut().unwrap().push(letter),
        }
    }
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    parts
        .flat_map(|part| match part.split_once('{') {
            Some((path, inner)) => {
                let inner = inner.strip_suffix('}').unwrap_or(inner);
                expand(&format!("{prefix}{path}"), inner)
            }
            None => vec![format!("{prefix}{part}")],
        })
        .collect()
}

/// A path from the root of the crate; nothing where it leads out of it.
fn absolute(files: &BTreeMap<String, String>, module: &str, path: &str) -> Option<String> {
    let (first, rest) = path.split_once("::").unwrap_or((path, ""));
    let join = |module: &str, rest: &str| match (module, rest) {
        ("", rest) => rest.to_owned(),
        (module, "") => module.to_owned(),
        (module, rest) => format!("{module}::{rest}"),
    };
    match first {
        "crate" => Some(rest.to_owned()),
        "self" => Some(join(module, rest)),
        "super" => {
            let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
            match rest.starts_with("super") {
                true => absolute(files, parent, rest),
                false => Some(join(parent, rest)),
            }
        }
        child => files
            .contains_key(&join(module, child))
            .then(|| join(module, path)),
    }
}

/// The module that a path leads into, through what modules on the way hand on.
fn target(
    files: &BTreeMap<String, String>,
    handed_on: &BTreeMap<(String, String), String>,
    path: &str,
) -> String {
    let mut module = path;
    while !files.contains_key(module) {
        module = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    }
    let rest = path[module.len()..].trim_start_matches("::");
    let name = rest.split("::").next().unwrap_or("");
    let mut module = module.to_owned();
    while let Some(from) = handed_on.get(&(module.clone(), name.to_owned())) {
        module = from.clone();
    }
    module
}

/// The parser sees what it is to see.
#[test]
fn circles_are_found_through_groups_parents_and_what_is_handed_on() {
    let modules = |files: &[(&str, &str)]| {
        let files = files.iter();
        Modules::new(files.map(|(path, text)| (path.into(), (*text).to_owned())))
    };
    let straight = [
        ("lib.rs", "mod a;\nmod b;\npub use b::{B, Other};\n"),
        ("a.rs", "use crate::{\n    b::{B, c::C},\n};\n"),
        (
            "b/mod.rs",
            "pub mod c;\npub struct B; // use crate::a::A;\n",
        ),
        (
            "b/c.rs",
            "use std::fmt;\n#[cfg(test)]\nmod tests { use crate::a::A; }\n",
        ),
    ];
    assert_eq!(modules(&straight).circle(), None);
    for (path, text) in [
        ("b/mod.rs", "pub mod c;\nuse super::a::A;\n"),
        ("b/c.rs", "use super::super::a;\n"),
    ] {
        let mut round = straight;
        *round.iter_mut().find(|file| file.0 == path).unwrap() = (path, text);
        assert!(modules(&round).circle().is_some(), "{path}");
    }
    // `crate::Other` comes from b, which imports a.
    let mut round = straight;
    round[1].1 = "use crate::Other;\n";
    round[2].1 = "use crate::a;\n";
    let circle = modules(&round).circle();
    assert_eq!(circle, Some(vec!["a".to_owned(), "b".to_owned()]));
}
