//! A chapter → what a reader does with its fenced blocks, from the top to the bottom.
//!
//! | the block begins with | what a reader does |
//! |---|---|
//! | ```` ```sh ```` | types it; it has to succeed |
//! | ```` ```sh,fails ```` | types it; it has to fail |
//! | ```` ```sh,stays ```` | types it in a terminal of its own, where it runs until the chapter ends |
//! | ```` ```sh,needs=network ```` | reads it: the check has no network |
//! | ```` ```toml,file=my.toml ```` | saves it, in any language |
//! | ```` ```text ```` | finds its lines, in this order, in what the block before it printed |
//! | ```` ```text,varies ```` | likewise, but for the numbers |
//!
//! `…` in a line stands for any text. All other blocks are only read.

/// What a block may need that the check does not have.
const NEEDS: [&str; 5] = ["data", "gpu", "model", "network", "time"];

/// One thing that a reader does, and the line of the page where it stands.
#[derive(Debug, PartialEq)]
pub struct Step {
    pub line: usize,
    pub act: Act,
}

#[derive(Debug, PartialEq)]
pub enum Act {
    Save {
        file: String,
        text: String,
    },
    Type {
        script: String,
        how: How,
        shown: Shown,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum How {
    Succeeds,
    Fails,
    Stays,
}

/// What a page shows of a command's output.
#[derive(Debug, Default, PartialEq)]
pub struct Shown {
    pub lines: Vec<String>,
    /// Whether the numbers may be others.
    pub varies: bool,
}

/// A fenced block: its words are those behind the language.
pub struct Block {
    pub line: usize,
    pub language: String,
    words: Vec<String>,
    pub text: String,
    /// What the page says above it, other blocks aside.
    above: String,
}

/// What a block is to a reader.
enum Kind {
    Save(String),
    Type(How),
    /// Commands that are not run.
    Unread,
    /// Whether its numbers may be others.
    Output(bool),
    Other,
}

/// What a reader of this page does; a mistake begins with its line.
pub fn steps(page: &str) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    // What a block of output would belong to.
    let mut before = Kind::Other;
    for block in blocks(page)? {
        let line = block.line;
        let kind = block.kind().map_err(|words| format!("{line}: {words}"))?;
        let text = block.text;
        match (&kind, &before, steps.last_mut().map(|step| &mut step.act)) {
            (Kind::Output(varies), Kind::Type(_), Some(Act::Type { shown, .. })) => {
                shown.lines = text.lines().map(str::to_owned).collect();
                shown.varies = *varies;
            }
            (Kind::Output(_), Kind::Unread, _) | (Kind::Unread | Kind::Other, ..) => {}
            (Kind::Output(_), ..) => {
                return Err(format!(
                    "{line}: no command before this block prints what it shows"
                ));
            }
            (Kind::Save(file), ..) => {
                let file = file.clone();
                let act = Act::Save { file, text };
                steps.push(Step { line, act });
            }
            (&Kind::Type(how), ..) => {
                let (script, shown) = (text, Shown::default());
                let act = Act::Type { script, how, shown };
                steps.push(Step { line, act });
            }
        }
        before = kind;
    }
    Ok(steps)
}

impl Block {
    fn kind(&self) -> Result<Kind, String> {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let kind = match (self.language.as_str(), &words[..]) {
            ("sh", []) => Kind::Type(How::Succeeds),
            ("sh", ["fails"]) => Kind::Type(How::Fails),
            ("sh", ["stays"]) => Kind::Type(How::Stays),
            ("sh", [word])
                if word
                    .strip_prefix("needs=")
                    .is_some_and(|need| NEEDS.contains(&need)) =>
            {
                Kind::Unread
            }
            ("text", []) => Kind::Output(false),
            ("text", ["varies"]) => Kind::Output(true),
            ("sh" | "text", words) => {
                return Err(format!(
                    "`{}`: expected nothing, `varies` after `text`, and after `sh` `fails`, `stays` or `needs=` with one of {}",
                    words.join(","),
                    NEEDS.join(", ")
                ));
            }
            (_, []) => Kind::Other,
            (language, words) => {
                let file = words[0].strip_prefix("file=");
                let file = file
                    .filter(|_| words.len() == 1)
                    .ok_or_else(|| format!("after `{language}` comes `file=NAME` or nothing"))?;
                if !self.above.contains(&format!("`{file}`")) {
                    return Err(format!(
                        "the page has not said that this is to be saved as `{file}`"
                    ));
                }
                Kind::Save(file.to_owned())
            }
        };
        Ok(kind)
    }
}

/// The fenced blocks of a page.
pub fn blocks(page: &str) -> Result<Vec<Block>, String> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    let mut above = String::new();
    for (line, text) in (1..).zip(page.lines()) {
        match (&mut open, text.strip_prefix("```")) {
            (None, Some(info)) => {
                let mut words = info.trim().split(',').map(str::to_owned);
                open = Some(Block {
                    line,
                    language: words.next().unwrap_or_default(),
                    words: words.collect(),
                    text: String::new(),
                    above: above.clone(),
                });
            }
            (Some(_), Some("")) => blocks.extend(open.take()),
            (Some(block), _) => {
                block.text += text;
                block.text.push('\n');
            }
            (None, _) => {
                above += text;
                above.push('\n');
            }
        }
    }
    match open {
        None => Ok(blocks),
        Some(block) => Err(format!("{}: this block does not end", block.line)),
    }
}

impl Shown {
    /// The first line that `output` does not have, behind the lines before it.
    pub fn missing(&self, output: &str) -> Option<&str> {
        let mut printed = output.lines();
        self.lines
            .iter()
            .map(|line| line.trim_end())
            .filter(|line| !line.is_empty() && *line != "…")
            .find(|line| !printed.any(|printed| self.is(line, printed.trim_end())))
    }

    fn is(&self, shown: &str, printed: &str) -> bool {
        match self.varies {
            true => fits(&without_numbers(shown), &without_numbers(printed)),
            false => fits(shown, printed),
        }
    }
}

/// Whether `printed` is `shown`, in which `…` stands for any text.
fn fits(shown: &str, printed: &str) -> bool {
    let (first, rest) = shown.split_once('…').unwrap_or((shown, ""));
    let Some(mut printed) = printed.strip_prefix(first) else {
        return false;
    };
    if first.len() == shown.len() {
        return printed.is_empty();
    }
    let mut pieces: Vec<&str> = rest.split('…').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some((_, behind)) = printed.split_once(piece) else {
            return false;
        };
        printed = behind;
    }
    printed.ends_with(last)
}

/// With `0` for every number, and one blank for several, which line numbers up.
fn without_numbers(line: &str) -> String {
    let mut text = String::new();
    for c in line.chars() {
        let c = if c.is_ascii_digit() { '0' } else { c };
        let is_more = matches!(c, '0' | ' ') && text.ends_with(c);
        if !is_more {
            text.push(c);
        }
    }
    text.replace("0.0", "0").replace("-0", "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# A chapter with `my.toml`

```toml,file=my.toml
seed = 1
```

```sh
panacea train
panacea eval-front
```

```text
step 1 · … left
done
```

```sh,needs=network
panacea fetch
```

```text
models/…
```

```json
{\"only\": \"read\"}
```

```sh,stays
panacea serve
```
";

    #[test]
    fn a_reader_saves_types_and_compares() {
        let steps = steps(PAGE).unwrap();
        let lines: Vec<usize> = steps.iter().map(|step| step.line).collect();
        assert_eq!(lines, [3, 7, 29]);
        let [saved, typed, stays] = steps.try_into().unwrap();
        let text = "seed = 1\n".to_owned();
        let file = "my.toml".to_owned();
        assert_eq!(saved.act, Act::Save { file, text });
        let Act::Type { script, how, shown } = typed.act else {
            panic!("{typed:?}");
        };
        assert_eq!(script, "panacea train\npanacea eval-front\n");
        assert_eq!(how, How::Succeeds);
        assert_eq!(shown.lines, ["step 1 · … left", "done"]);
        let Act::Type { how, shown, .. } = stays.act else {
            panic!("{stays:?}");
        };
        assert_eq!((how, shown), (How::Stays, Shown::default()));
    }

    #[test]
    fn a_mistake_in_a_page_is_told_with_its_line() {
        for (page, expected) in [
            (
                "\n```sh,needs=netwrok\nx\n```",
                "2: `needs=netwrok`: expected",
            ),
            ("```sh,fail\nx\n```", "1: `fail`: expected"),
            ("```text\nx\n```", "1: no command"),
            ("```toml,file=a.toml\nx\n```", "1: the page has not said"),
            (
                "```sh\nx\n```\n```text\nx\n```\n```text\nx\n```",
                "7: no command",
            ),
            ("```toml,fiel=x\nx\n```", "1: after `toml`"),
            ("```sh\nx\n", "1: this block does not end"),
        ] {
            let found = steps(page).unwrap_err();
            assert!(found.starts_with(expected), "{page:?}: {found}");
        }
    }

    fn missing<'a>(shown: &'a Shown, output: &str) -> Option<&'a str> {
        shown.missing(output)
    }

    #[test]
    fn lines_are_found_in_their_order() {
        let lines = ["a … c", "…", "d"].map(str::to_owned).to_vec();
        let shown = Shown {
            lines,
            varies: false,
        };
        assert_eq!(missing(&shown, "0\na b c\nx\nd\n"), None);
        assert_eq!(missing(&shown, "d\na b c\n"), Some("d"));
        assert_eq!(missing(&shown, "a b\nd\n"), Some("a … c"));
        assert_eq!(missing(&shown, "a b c d\nd\n"), Some("a … c"));
    }

    #[test]
    fn numbers_may_vary_and_words_may_not() {
        let lines = vec!["loss  -0.25 ± 0.5, 10 s".to_owned()];
        let shown = Shown {
            lines,
            varies: true,
        };
        assert_eq!(missing(&shown, "loss 1.25 ± 3, 4.5 s"), None);
        assert!(missing(&shown, "lost 1.25 ± 3, 4.5 s").is_some());
        let exact = Shown {
            varies: false,
            ..shown
        };
        assert!(missing(&exact, "loss 1.25 ± 3, 4.5 s").is_some());
    }
}
