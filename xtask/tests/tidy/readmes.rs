//! What crates.io shows of a crate is what its documentation begins with. `WRITE_DOCS=1` writes it anew.

use std::fs;
use std::path::Path;

use super::{crates, read, root};

/// Crates that are for the tests of the others, and are not published.
const INTERNAL: [&str; 3] = [
    "crates/device-suite",
    "crates/fuzzing",
    "crates/test-support",
];

/// The documentation of a crate as a page of its own.
fn readme(package: &str, description: &str, source: &str) -> String {
    let mut page = format!("# {package}\n\n{description}.\n\n");
    let mut in_code = false;
    let docs = source.lines().filter_map(|line| line.strip_prefix("//!"));
    for line in docs.map(|line| line.strip_prefix(' ').unwrap_or(line)) {
        if let Some(language) = line.strip_prefix("```") {
            in_code = !in_code;
            // What rustdoc runs is Rust, and the rest of its words are for it alone.
            let is_rust = in_code
                && !["text", "toml", "json", "sh"]
                    .iter()
                    .any(|other| language.starts_with(other));
            page += if is_rust { "```rust" } else { line };
        } else if in_code && (line == "#" || line.starts_with("# ")) {
            // Lines that rustdoc hides.
            if !page.ends_with("```toml\n") {
                continue;
            }
            page += line;
        } else if in_code {
            page += line;
        } else if line.starts_with('#') {
            page += &format!("#{}", plain(line));
        } else {
            page += &plain(line);
        }
        page.push('\n');
    }
    page += "\nPart of Panacea, which trains one adapter for every preference and steers it at run time; \
             the README of the project says how the parts come together. MIT or Apache-2.0, as you like.\n";
    page
}

/// Without links to items, which only rustdoc can follow.
fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some(start) = rest.find('[') {
        text += &rest[..start];
        let behind = &rest[start + 1..];
        let Some(end) = behind.find(']') else {
            break;
        };
        let (inner, after) = (&behind[..end], &behind[end + 1..]);
        let target = after.strip_prefix('(').and_then(|it| it.split_once(')'));
        match target {
            Some((target, after)) if !target.starts_with("http") => {
                text += inner;
                rest = after;
            }
            None if inner.starts_with('`') => {
                text += inner;
                rest = after;
            }
            _ => {
                text += &format!("[{inner}]");
                rest = after;
            }
        }
    }
    text + rest
}

/// The value of a key of a manifest's `[package]`.
fn value<'a>(manifest: &'a str, key: &str) -> Option<&'a str> {
    let package = manifest.split("\n[").next()?;
    let mut lines = package.lines();
    lines.find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(" = ")?.trim()))
}

#[test]
fn every_crate_can_be_found_and_says_what_it_is_for() {
    let crates = crates().into_iter().map(|name| format!("crates/{name}"));
    for name in crates.chain(["datasets/quickstart".to_owned()]) {
        let folder = root().join(&name);
        let manifest = read(&folder.join("Cargo.toml"));
        if INTERNAL.contains(&name.as_str()) {
            assert_eq!(value(&manifest, "publish"), Some("false"), "{name}");
            continue;
        }
        for key in ["description", "keywords", "categories", "readme"] {
            assert!(value(&manifest, key).is_some(), "{name} has no {key}");
        }
        assert_eq!(value(&manifest, "publish"), None, "{name}");
        // crates.io takes five keywords of at most twenty letters.
        let keywords = value(&manifest, "keywords").unwrap_or_default();
        let keywords: Vec<&str> = keywords.trim_matches(['[', ']']).split(", ").collect();
        assert!(keywords.len() <= 5, "{name}: {keywords:?}");
        for keyword in keywords {
            let keyword = keyword.trim_matches('"');
            assert!(
                keyword.len() <= 20 && !keyword.contains(' '),
                "{name}: {keyword}"
            );
        }
        let source = folder.join("src/lib.rs");
        if source.exists() {
            let text = |key| value(&manifest, key).unwrap_or_default().trim_matches('"');
            let description = text("description").trim_end_matches('.');
            check(
                &folder.join("README.md"),
                &readme(text("name"), description, &read(&source)),
            );
        }
    }
}

fn check(path: &Path, expected: &str) {
    if std::env::var_os("WRITE_DOCS").is_some() {
        fs::write(path, expected).unwrap();
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == expected,
        "{} is not what the documentation says; `WRITE_DOCS=1 cargo test -p xtask` writes it",
        path.display()
    );
}

#[test]
fn links_to_items_become_words() {
    assert_eq!(
        plain("[`Loss`], [a list](Self::list), [burn](https://burn.dev) and x[1]"),
        "`Loss`, a list, [burn](https://burn.dev) and x[1]"
    );
}
