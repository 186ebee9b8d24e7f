//! # Files and folders that appear whole or not at all
//!
//! Each is written beside its place and renamed: a reader, or a crash, meets the old content or the new one.
//! [`FileError`] says what was tried, on which path, and what to do about the reasons that people meet most.
//!
//! What is read must be there: a Git LFS pointer, a few lines of text that a clone holds in place of a large file that was not
//! fetched, is refused by [`read`] and [`read_text`], since any reader of the file's format would only call it damaged.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use atomic_write_file::AtomicWriteFile;

/// The operating system refused to read or write something.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}: {source}{hint}", path = path.display(), hint = hint(source))]
pub struct FileError {
    /// What was tried, as a verb: "write", "create the folder".
    pub action: &'static str,
    /// The file or folder it was tried on.
    pub path: PathBuf,
    /// The reason that the operating system gives.
    pub source: io::Error,
}

impl FileError {
    /// Wraps an I/O error with what was tried, and on which path: `.map_err(FileError::of("write", path))`.
    pub fn of(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self {
            action,
            path,
            source,
        }
    }
}

/// What to do about the I/O errors that people meet most.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space; a training then goes on with --resume"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; choose a folder that you may write to"
        }
        io::ErrorKind::AlreadyExists => "; give another name",
        io::ErrorKind::NotADirectory => "; a file stands where a folder is needed",
        _ => "",
    }
}

/// What to do about a Git LFS pointer.
pub const LFS_ADVICE: &str =
    "a Git LFS pointer, not the file itself: fetch it with `git lfs pull` in that repository";

/// Whether a file that begins like this is a Git LFS pointer
/// (<https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>).
#[must_use]
pub fn is_lfs_pointer(begin: &[u8]) -> bool {
    begin.starts_with(b"version https://git-lfs.github.com/spec/")
}

/// The bytes of a file.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    whole(fs::read(path)).map_err(FileError::of("read", path))
}

/// The text of a file.
pub fn read_text(path: &Path) -> Result<String, FileError> {
    whole(fs::read_to_string(path)).map_err(FileError::of("read", path))
}

fn whole<T: AsRef<[u8]>>(content: io::Result<T>) -> io::Result<T> {
    match content {
        Ok(content) if is_lfs_pointer(content.as_ref()) => {
            Err(io::Error::new(io::ErrorKind::InvalidData, LFS_ADVICE))
        }
        content => content,
    }
}

/// Writes a file that was not there before; one that is there, or a link, stays as it is and is an error.
pub fn write_new_file(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let write = || -> io::Result<()> {
        let mut file = File::create_new(path)?;
        let written = file.write_all(content).and_then(|()| file.sync_all());
        if written.is_err() {
            // The first error is the one to report.
            let _ = fs::remove_file(path);
        }
        written
    };
    write().map_err(FileError::of("write", path))
}

/// Writes a file so that a reader, or a crash, meets the old content or the new one and nothing between.
pub fn write_file(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let write = || -> io::Result<()> {
        let mut file = AtomicWriteFile::open(path)?;
        file.write_all(content)?;
        file.commit()
    };
    write().map_err(FileError::of("write", path))
}

/// Writes files of these names into a folder, which is made if it is absent, each as [`write_file`] does; their paths.
pub fn write_files(folder: &Path, files: &[(&str, &[u8])]) -> Result<Vec<PathBuf>, FileError> {
    fs::create_dir_all(folder).map_err(FileError::of("create the folder", folder))?;
    let write = |(name, content): &(&str, &[u8])| {
        let path = folder.join(name);
        write_file(&path, content)?;
        Ok(path)
    };
    files.iter().map(write).collect()
}

/// Writes a folder in the same way: `write` fills a hidden folder beside `target`, which then takes its
/// name. If `write` fails, `target` is as it was and nothing is left over.
pub fn write_folder<E: From<FileError>>(
    target: &Path,
    write: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let partial = sibling(target, PARTIAL);
    remove_folder(&partial)?;
    fs::create_dir_all(&partial).map_err(FileError::of("create the folder", &partial))?;
    let written = write(&partial)
        .and_then(|()| Ok(sync_files(&partial).map_err(FileError::of("write", &partial))?));
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
pub fn recover(parent: &Path) -> Result<(), FileError> {
    for name in folder_names(parent)? {
        let left_over = parent.join(&name);
        if is_sibling(&name, PARTIAL).is_some() {
            remove_folder(&left_over)?;
        } else if let Some(target) = is_sibling(&name, OLD) {
            let target = parent.join(target);
            if target.exists() {
                remove_folder(&left_over)?;
            } else {
                fs::rename(&left_over, &target).map_err(FileError::of("restore", &target))?;
            }
        }
    }
    Ok(())
}

/// The names of the folders in `parent`, sorted; none where `parent` does not exist.
pub fn folder_names(parent: &Path) -> Result<Vec<String>, FileError> {
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
        listed => listed.map_err(FileError::of("read the folder", parent)),
    }
}

/// Removes a folder with all that is in it; one that is absent is fine.
pub fn remove_folder(path: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(FileError::of("remove the folder", path)),
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

fn replace_folder(partial: &Path, target: &Path) -> Result<(), FileError> {
    // A folder cannot be renamed onto one with content, so an old one steps aside first.
    let old = sibling(target, OLD);
    let replaces = target.exists();
    if replaces {
        remove_folder(&old)?;
        fs::rename(target, &old).map_err(FileError::of("replace", target))?;
    }
    fs::rename(partial, target).map_err(FileError::of("write", target))?;
    // The parent of a bare name is the empty path, which nothing can open.
    let parent = (target.parent()).filter(|parent| !parent.as_os_str().is_empty());
    sync_folder(parent.unwrap_or(Path::new("."))).map_err(FileError::of("write", target))?;
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

    fn put(folder: &Path, text: &str) -> Result<(), FileError> {
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
    fn a_pointer_of_git_lfs_is_no_content() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.txt");
        let pointer =
            "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 538090408\n";
        write_file(&path, pointer.as_bytes()).unwrap();
        let expected = format!("cannot read {}: a Git LFS pointer", path.display());
        for error in [read(&path).unwrap_err(), read_text(&path).unwrap_err()] {
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
        write_file(&path, b"version 2").unwrap();
        assert_eq!(read(&path).unwrap(), b"version 2");
        assert_eq!(read_text(&path).unwrap(), "version 2");
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
            Err(full).map_err(FileError::of("write", &folder.join("rest")))
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
