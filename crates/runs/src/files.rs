//! Files and folders that appear whole or not at all: each is written beside its place and renamed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use atomic_write_file::AtomicWriteFile;

use crate::error::RunError;

/// Writes a file so that a reader, or a crash, meets the old content or the new one and nothing between.
pub fn write_file(path: &Path, content: &[u8]) -> Result<(), RunError> {
    let write = || -> io::Result<()> {
        let mut file = AtomicWriteFile::open(path)?;
        file.write_all(content)?;
        file.commit()
    };
    write().map_err(RunError::io("write", path))
}

/// Writes a folder in the same way: `write` fills a hidden folder beside `target`, which then takes its
/// name. If `write` fails, `target` is as it was and nothing is left over.
pub fn write_folder<E: From<RunError>>(
    target: &Path,
    write: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let partial = sibling(target, PARTIAL);
    remove_folder(&partial)?;
    fs::create_dir_all(&partial).map_err(RunError::io("create the folder", &partial))?;
    let written = write(&partial)
        .and_then(|()| Ok(sync_files(&partial).map_err(RunError::io("write", &partial))?));
    if let Err(error) = written {
        // The first error is the one to report; if the removal fails as well, `recover` does it later.
        let _ = fs::remove_dir_all(&partial);
        return Err(error);
    }
    replace_folder(&partial, target)?;
    Ok(())
}

/// Puts in order what a killed [`write_folder`] may have left in `parent`: half-written folders go, and
/// an old folder that was about to be replaced gets its name back.
pub(crate) fn recover(parent: &Path) -> Result<(), RunError> {
    for name in folder_names(parent)? {
        let left_over = parent.join(&name);
        if is_sibling(&name, PARTIAL).is_some() {
            remove_folder(&left_over)?;
        } else if let Some(target) = is_sibling(&name, OLD) {
            let target = parent.join(target);
            if target.exists() {
                remove_folder(&left_over)?;
            } else {
                fs::rename(&left_over, &target).map_err(RunError::io("restore", &target))?;
            }
        }
    }
    Ok(())
}

/// The names of the folders in `parent`, sorted; none where `parent` does not exist.
pub(crate) fn folder_names(parent: &Path) -> Result<Vec<String>, RunError> {
    let list = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(parent)? {
            let entry = entry?;
            // A name that is not UTF-8 was not written by this crate.
            if let (true, Ok(name)) = (entry.path().is_dir(), entry.file_name().into_string()) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    };
    match list() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(RunError::io("read the folder", parent)),
    }
}

/// Removes a folder with all that is in it; one that is absent is fine.
pub(crate) fn remove_folder(path: &Path) -> Result<(), RunError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(RunError::io("remove the folder", path)),
    }
}

const PARTIAL: &str = ".partial";
const OLD: &str = ".old";

/// `checkpoints/.000100.partial` for `checkpoints/000100`.
fn sibling(target: &Path, suffix: &str) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}{suffix}"))
}

/// The name that a sibling belongs to.
fn is_sibling<'a>(name: &'a str, suffix: &str) -> Option<&'a str> {
    name.strip_prefix('.')?.strip_suffix(suffix)
}

fn replace_folder(partial: &Path, target: &Path) -> Result<(), RunError> {
    // A folder cannot be renamed onto one with content, so an old one steps aside first.
    let old = sibling(target, OLD);
    let replaces = target.exists();
    if replaces {
        remove_folder(&old)?;
        fs::rename(target, &old).map_err(RunError::io("replace", target))?;
    }
    fs::rename(partial, target).map_err(RunError::io("write", target))?;
    // The parent of a bare name is the empty path, which nothing can open.
    let parent = (target.parent()).filter(|parent| !parent.as_os_str().is_empty());
    sync_folder(parent.unwrap_or(Path::new("."))).map_err(RunError::io("write", target))?;
    if replaces {
        remove_folder(&old)?;
    }
    Ok(())
}

/// Waits until everything in a folder is on the disk: a rename may reach it before the content does.
fn sync_files(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_files(&path)?;
        } else {
            // Windows syncs only what is open for writing.
            File::options().append(true).open(&path)?.sync_all()?;
        }
    }
    sync_folder(folder)
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(()) // Folders cannot be opened, and renames are journalled.
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn put(folder: &Path, text: &str) -> Result<(), RunError> {
        write_file(&folder.join("value"), text.as_bytes())
    }

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_beside_it() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.txt");
        write_file(&path, b"one").unwrap();
        write_file(&path, b"two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(listing(place.path()), ["a.txt"]);
    }

    #[test]
    fn an_unwritable_place_is_named() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("absent/a.txt");
        let message = write_file(&path, b"one").unwrap_err().to_string();
        assert!(message.starts_with("cannot write "), "{message}");
        assert!(message.contains("absent/a.txt"), "{message}");
    }

    #[test]
    fn a_folder_is_replaced_whole() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("adapter");
        write_folder(&target, |folder| put(folder, "one")).unwrap();
        write_folder(&target, |folder| put(folder, "two")).unwrap();
        assert_eq!(fs::read_to_string(target.join("value")).unwrap(), "two");
        assert_eq!(listing(place.path()), ["adapter"]);
    }

    #[test]
    fn a_full_disk_leaves_the_old_folder_and_says_what_to_do() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("adapter");
        write_folder(&target, |folder| put(folder, "one")).unwrap();
        let message = write_folder(&target, |folder| {
            put(folder, "half")?;
            let full = io::Error::from(io::ErrorKind::StorageFull);
            Err(full).map_err(RunError::io("write", &folder.join("rest")))
        })
        .unwrap_err()
        .to_string();
        assert!(message.contains("free some space"), "{message}");
        assert_eq!(fs::read_to_string(target.join("value")).unwrap(), "one");
        assert_eq!(listing(place.path()), ["adapter"]);
    }

    #[test]
    fn recovery_after_a_kill_removes_halves_and_restores_what_was_about_to_be_replaced() {
        let place = tempfile::tempdir().unwrap();
        for name in [".000100.partial", ".000050.old", ".000040.old", "000040"] {
            fs::create_dir(place.path().join(name)).unwrap();
            put(&place.path().join(name), name).unwrap();
        }
        recover(place.path()).unwrap();
        assert_eq!(listing(place.path()), ["000040", "000050"]);
        let value = |name: &str| fs::read_to_string(place.path().join(name).join("value")).unwrap();
        assert_eq!(value("000050"), ".000050.old");
        assert_eq!(value("000040"), "000040");
    }

    #[test]
    fn recovery_of_an_absent_folder_is_nothing() {
        let place = tempfile::tempdir().unwrap();
        recover(&place.path().join("absent")).unwrap();
    }
}
