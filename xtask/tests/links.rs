//! Where the links of our pages lead: every relative one to a file that is there, every `#anchor` to a heading. Addresses on the web
//! are not asked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// Folders that hold no pages of ours.
const OTHERS: [&str; 5] = ["target", "models", "runs", "node_modules", "tests"];

/// What of a page links have to do with.
#[derive(Default)]
struct Page {
    anchors: BTreeSet<String>,
    /// Each with its line.
    links: Vec<(usize, String)>,
}

impl Page {
    fn read(text: &str) -> Self {
        let mut page = Self::default();
        let mut heading: Option<String> = None;
        let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
        for (event, place) in Parser::new_ext(text, options).into_offset_iter() {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    let words = heading.take().unwrap_or_default();
                    page.add_anchor(&anchor(&words));
                }
                Event::Text(words) | Event::Code(words) => {
                    if let Some(heading) = &mut heading {
                        *heading += &words;
                    }
                }
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    let line = 1 + text[..place.start].matches('\n').count();
                    page.links.push((line, dest_url.into_string()));
                }
                _ => {}
            }
        }
        page
    }

    /// A heading that was there before gets a number.
    fn add_anchor(&mut self, anchor: &str) {
        let numbered = (1..).map(|number| format!("{anchor}-{number}"));
        let free = std::iter::once(anchor.to_owned())
            .chain(numbered)
            .find(|name| !self.anchors.contains(name));
        self.anchors.extend(free);
    }
}

/// What GitHub and mdBook call the place of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter_map(|c| match c {
        _ if c.is_whitespace() => Some('-'),
        _ if c.is_alphanumeric() || matches!(c, '-' | '_') => Some(c),
        _ => None,
    });
    kept.collect::<String>().to_lowercase()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// All pages below `folder`, by their path.
fn pages(folder: &Path) -> BTreeMap<PathBuf, Page> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_dir() {
            if !name.starts_with('.') && !OTHERS.contains(&&*name) {
                found.extend(pages(&path));
            }
        } else if name.ends_with(".md") {
            let page = Page::read(&fs::read_to_string(&path).unwrap());
            found.insert(path, page);
        }
    }
    found
}

/// `folder/link`, without `.` and `..`.
fn joined(folder: &Path, link: &str) -> PathBuf {
    let mut path = folder.to_path_buf();
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::CurDir => {}
            other => path.push(other),
        }
    }
    path
}

fn leads_to_the_web(link: &str) -> bool {
    ["http://", "https://", "mailto:"]
        .iter()
        .any(|start| link.starts_with(start))
}

/// What is wrong with the links of a page.
fn wrong(path: &Path, pages: &BTreeMap<PathBuf, Page>) -> Vec<String> {
    let book = root().join("docs");
    let links = pages[path].links.iter();
    let links = links.filter(|(_, link)| !leads_to_the_web(link));
    let wrong = links.filter_map(|(line, link)| {
        let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
        let goal = match file {
            "" => path.to_path_buf(),
            file => joined(path.parent().unwrap(), file),
        };
        let words = if !goal.exists() {
            "there is no such file"
        } else if path.starts_with(&book) && !goal.starts_with(&book) {
            "this leads out of docs/, which the book has not: name it as `code`"
        } else if !anchor.is_empty()
            && !pages
                .get(&goal)
                .is_some_and(|page| page.anchors.contains(anchor))
        {
            "there is no such heading"
        } else {
            return None;
        };
        Some(format!("{}:{line}: {link}: {words}", path.display()))
    });
    wrong.collect()
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages(root());
    let links: usize = pages.values().map(|page| page.links.len()).sum();
    assert!(links > 100, "{links} links in all pages");
    let wrong: Vec<String> = pages.keys().flat_map(|path| wrong(path, &pages)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// mdBook leaves out what its summary does not name.
#[test]
fn the_book_has_every_page() {
    let book = root().join("docs");
    let pages = pages(&book);
    let summary = book.join("SUMMARY.md");
    let named: BTreeSet<PathBuf> = pages[&summary]
        .links
        .iter()
        .map(|(_, link)| book.join(link))
        .collect();
    let left_out: Vec<&PathBuf> = pages
        .keys()
        .filter(|path| **path != summary && !named.contains(*path))
        .collect();
    assert!(left_out.is_empty(), "docs/SUMMARY.md lacks {left_out:#?}");
}

#[test]
fn links_and_headings_are_found_where_they_are_meant() {
    let page = Page::read(
        "# `[data]` and λ\n\n## Twice\n\n## Twice\n\n[a](b.md#c) and `[no](link)`\n\n```\n[no](link)\n# no\n```\n\n\
         | [in a table](t.md) |\n|---|\n\n![picture](p.svg)\n",
    );
    let anchors: Vec<&str> = page.anchors.iter().map(String::as_str).collect();
    assert_eq!(anchors, ["data-and-λ", "twice", "twice-1"]);
    let links =
        [(7, "b.md#c"), (14, "t.md"), (17, "p.svg")].map(|(line, link)| (line, link.to_owned()));
    assert_eq!(page.links, links);
}

#[test]
fn what_leads_nowhere_is_told() {
    let book = root().join("docs");
    let (path, other) = (book.join("SUMMARY.md"), book.join("runs.md"));
    let text = "[a](none.md) [b](../README.md) [c](runs.md#none) [d](runs.md#evaluations) [e](#here) [f](https://x.org/none)\n# Here";
    let other_text = fs::read_to_string(&other).unwrap();
    let pages = BTreeMap::from([
        (path.clone(), Page::read(text)),
        (other, Page::read(&other_text)),
    ]);
    let wrong = wrong(&path, &pages);
    let links: Vec<&str> = wrong
        .iter()
        .map(|words| words.split(": ").nth(1).unwrap())
        .collect();
    assert_eq!(links, ["none.md", "../README.md", "runs.md#none"]);
}
