//! Does what a chapter says, in a folder that has of the repository what its commands read.
//!
//! `cargo xtask X` is `panacea X`, which is what it comes to: a program called `cargo` stands before the real one in `PATH`,
//! so that nothing is built in release.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::chapter::{Act, How, Shown, Step};
use crate::build::workspace;

/// How long a block may take. None comes near it: it is there for commands that wait for ever.
const LIMIT: Duration = Duration::from_secs(300);

/// Folders of the repository that commands read.
const READ: [&str; 2] = ["configs", "datasets"];

/// What `PATH` has before all else: both call the binary that is named in the environment.
const PROGRAMS: [(&str, &str); 2] = [
    ("panacea", "#!/bin/sh\nexec \"$GUIDE_PANACEA\" \"$@\"\n"),
    (
        "cargo",
        "#!/bin/sh
if [ \"$1\" != xtask ]; then
    echo \"cargo $*: only cargo xtask is run here; mark the block with what it needs\" >&2
    exit 127
fi
shift
PANACEA_CALLED_AS='cargo xtask' exec \"$GUIDE_PANACEA\" \"$@\"
",
    ),
];

/// Follows a chapter in `folder`, which is made; returns how many blocks were done. A mistake begins with its line.
pub fn follow(steps: &[Step], folder: &Path, binary: &Path) -> Result<usize, String> {
    let reader = Reader::new(folder, binary).map_err(|error| format!("1: {error}"))?;
    let mut running = Vec::new();
    for step in steps {
        let done = match &step.act {
            Act::Save { file, text } => reader.save(file, text),
            Act::Type { script, how, shown } => reader
                .start(script, step.line)
                .and_then(|typed| typed.wait(*how, shown, &mut running)),
        };
        done.map_err(|words| format!("{}: {words}", step.line))?;
    }
    Ok(steps.len())
}

struct Reader<'a> {
    folder: &'a Path,
    programs: PathBuf,
    binary: &'a Path,
}

impl<'a> Reader<'a> {
    fn new(folder: &'a Path, binary: &'a Path) -> std::io::Result<Self> {
        let programs = folder.with_extension("bin");
        fs::create_dir_all(folder)?;
        fs::create_dir_all(&programs)?;
        for name in READ {
            copy(&workspace().join(name), &folder.join(name))?;
        }
        for (name, script) in PROGRAMS {
            let program = programs.join(name);
            fs::write(&program, script)?;
            make_executable(&program)?;
        }
        Ok(Self {
            folder,
            programs,
            binary,
        })
    }

    fn save(&self, file: &str, text: &str) -> Result<(), String> {
        fs::write(self.folder.join(file), text)
            .map_err(|error| format!("cannot save {file}: {error}"))
    }

    /// Types `script`; what it prints goes to a file beside the folder.
    fn start(&self, script: &str, line: usize) -> Result<Typed, String> {
        let output = self.folder.with_extension(format!("{line}.out"));
        let cannot = |error: std::io::Error| format!("cannot run sh: {error}");
        let file = File::create(&output).map_err(cannot)?;
        let old = env::var_os("PATH").unwrap_or_default();
        let folders = [self.programs.clone()]
            .into_iter()
            .chain(env::split_paths(&old));
        let path = env::join_paths(folders).map_err(|error| error.to_string())?;
        let mut shell = Command::new("sh");
        shell
            .args(["-e", "-c", &format!("{WATCHER}{script}")])
            .current_dir(self.folder)
            .env("PATH", path)
            .env("GUIDE_PANACEA", self.binary)
            .env("no_proxy", "127.0.0.1")
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::piped())
            .stdout(file.try_clone().map_err(cannot)?)
            .stderr(file);
        in_a_group_of_its_own(&mut shell);
        let shell = shell.spawn().map_err(cannot)?;
        Ok(Typed { shell, output })
    }
}

/// Ends all that is left of the commands when the pipe to them is closed, which happens however this program ends.
const WATCHER: &str = "\
exec 3<&0 </dev/null
(cat <&3 >/dev/null; kill -KILL 0) &
exec 3<&-
";

/// Commands that run; whatever is left of them ends with it.
struct Typed {
    shell: Child,
    output: PathBuf,
}

impl Typed {
    /// Waits for the end, or, of what stays, until it has printed what is shown.
    fn wait(mut self, how: How, shown: &Shown, running: &mut Vec<Self>) -> Result<(), String> {
        let start = Instant::now();
        let status = loop {
            let ended = self.shell.try_wait().map_err(|error| error.to_string())?;
            if let Some(status) = ended {
                break status;
            }
            if how == How::Stays && shown.missing(&self.printed()).is_none() {
                running.push(self);
                return Ok(());
            }
            if start.elapsed() > LIMIT {
                return Err(self.with("these commands take too long", shown));
            }
            sleep(Duration::from_millis(20));
        };
        match (how, status.success()) {
            (How::Succeeds, false) => {
                Err(self.with(&format!("these commands fail ({status})"), shown))
            }
            (How::Fails, true) => Err(self.with("these commands should fail, and do not", shown)),
            (How::Stays, _) => Err(self.with("this command should stay, and ends", shown)),
            _ if shown.missing(&self.printed()).is_some() => Err(self.with(
                "these commands print something else than the page shows",
                shown,
            )),
            _ => Ok(()),
        }
    }

    fn printed(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// What is wrong, with what the commands printed.
    fn with(&self, words: &str, shown: &Shown) -> String {
        let printed = self.printed();
        let missing = shown.missing(&printed);
        let missing = missing
            .map(|line| format!("\n  not found: {line}"))
            .unwrap_or_default();
        let printed: String = printed
            .lines()
            .map(|line| format!("\n  | {line}"))
            .collect();
        format!("{words}{missing}{printed}")
    }
}

impl Drop for Typed {
    fn drop(&mut self) {
        #[cfg(not(unix))]
        self.shell.kill().ok();
        // This closes the pipe.
        self.shell.wait().ok();
    }
}

#[cfg(unix)]
fn in_a_group_of_its_own(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
fn in_a_group_of_its_own(_: &mut Command) {}

#[cfg(unix)]
fn make_executable(program: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(program, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> std::io::Result<()> {
    Ok(())
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let place = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &place)?,
            false => fs::copy(entry.path(), &place).map(|_| ())?,
        }
    }
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::guide::chapter::steps;

    fn outcome(page: &str) -> Result<usize, String> {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("panacea-reader-{}-{number}", std::process::id());
        let folder = env::temp_dir().join(name);
        let outcome = follow(
            &steps(page).unwrap(),
            &folder.join("page"),
            Path::new("/bin/echo"),
        );
        fs::remove_dir_all(&folder).unwrap();
        outcome
    }

    #[test]
    fn a_page_that_is_right_passes() {
        let page = "\
In `my.toml`:
```toml,file=my.toml
seed = 1
```
```sh
cat my.toml
cargo xtask train --config my.toml
```
```text
seed = 1
train --config …
```
```sh,fails
false
```
```sh,stays
echo ready
sleep 100
```
```text
ready
```
```sh
ls configs/quickstart.toml
```
";
        assert_eq!(outcome(page), Ok(5));
    }

    #[test]
    fn a_page_that_is_wrong_fails_with_its_line() {
        for (page, expected) in [
            ("\n```sh\nfalse\ntrue\n```", "2: these commands fail"),
            ("```sh,fails\ntrue\n```", "1: these commands should fail"),
            (
                "```sh,stays\ntrue\n```\n```text\nready\n```",
                "1: this command should stay",
            ),
            (
                "```sh\necho a\n```\n```text\nb\n```",
                "1: these commands print something else",
            ),
            ("```sh\ncargo test\n```", "1: these commands fail"),
        ] {
            let found = outcome(page).unwrap_err();
            assert!(found.starts_with(expected), "{page:?}: {found}");
        }
    }
}
