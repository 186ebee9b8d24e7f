//! Folders and files that appear whole or not at all.
//!
//! Each is written beside its place under a hidden name. A lock on it says that somebody writes it; what nobody holds was left by
//! a process that was killed, and goes when the same is written again. Where there are no locks (on Windows), it stays. Where
//! those of another host are not seen, as on some network file systems, two hosts must not write the same name at once.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::PretrainedError;

/// A folder beside its final place; removed with all it holds unless it is finished.
#[derive(Debug)]
pub(crate) struct PartialFolder {
    path: PathBuf,
    target: PathBuf,
    _lock: Option<File>,
}

impl PartialFolder {
    /// Makes an empty hidden folder beside `target`, which must not exist yet or be an empty folder.
    pub fn beside(target: &Path) -> Result<Self, PretrainedError> {
        let refuse = |problem| Err(PretrainedError::export(target, problem));
        let Some(name) = target.file_name() else {
            return refuse("the path does not end with a folder's name");
        };
        if target.symlink_metadata().is_ok() && !is_empty_folder(target) {
            return refuse("it exists already; remove it or choose another folder");
        }
        let parent = parent_of(target);
        fs::create_dir_all(parent).map_err(PretrainedError::io(parent, "create the folder"))?;
        let (path, lock) = hidden_place(parent, name, |path| fs::create_dir(path))?;
        Ok(Self {
            path,
            target: target.to_path_buf(),
            _lock: lock,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the folder to its place.
    pub fn finish(self) -> Result<(), PretrainedError> {
        if is_empty_folder(&self.target) {
            fs::remove_dir(&self.target).map_err(PretrainedError::io(
                &self.target,
                "replace the empty folder",
            ))?;
        }
        // Dropping finds nothing left to remove.
        fs::rename(&self.path, &self.target).map_err(PretrainedError::io(
            &self.target,
            "move the finished folder to",
        ))
    }
}

impl Drop for PartialFolder {
    fn drop(&mut self) {
        // Either it has been moved away, or an error is on its way to the user already.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Writes a file beside its place and moves it there when it is whole.
pub(crate) fn whole_file(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<(), PretrainedError>,
) -> Result<(), PretrainedError> {
    let refuse = |problem| Err(PretrainedError::export(path, problem));
    let Some(name) = path.file_name() else {
        return refuse("the path does not end with a file's name");
    };
    if path.symlink_metadata().is_ok() {
        return refuse("it exists already; remove it or choose another name");
    }
    let parent = parent_of(path);
    fs::create_dir_all(parent).map_err(PretrainedError::io(parent, "create the folder"))?;
    let create = |path: &Path| File::create_new(path).map(drop);
    let (partial, _lock) = hidden_place(parent, name, create)?;
    let partial = PartialFile(partial);
    write(&partial.0)?;
    fs::rename(&partial.0, path).map_err(PretrainedError::io(path, "move the finished file to"))
}

/// A file that is removed unless it was moved away.
struct PartialFile(PathBuf);

impl Drop for PartialFile {
    fn drop(&mut self) {
        // Either it has been moved away, or an error is on its way to the user already.
        let _ = fs::remove_file(&self.0);
    }
}

/// The folder that something is in, of a bare name as well.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// A hidden place beside `name` that `create` has made for this process alone, with its lock, after what was left there has gone.
fn hidden_place(
    parent: &Path,
    name: &OsStr,
    create: impl Fn(&Path) -> io::Result<()>,
) -> Result<(PathBuf, Option<File>), PretrainedError> {
    let stem = format!(".{}.partial-", name.to_string_lossy());
    remove_left_overs(parent, &stem);
    // Processes of two containers may have one number, and write here together.
    let mut number = 0_u64;
    loop {
        let path = parent.join(format!("{stem}{}-{number}", std::process::id()));
        number += 1;
        match create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            created => created.map_err(PretrainedError::io(&path, "create"))?,
        }
        // Before it was locked, another process may have taken it for a left-over.
        if let Ok(lock) = lock(&path)
            && path.exists()
        {
            return Ok((path, lock));
        }
    }
}

fn remove_left_overs(parent: &Path, stem: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(stem));
        let is_ours = number.is_some_and(|it| it.bytes().all(|c| c.is_ascii_digit() || c == b'-'));
        if is_ours && let Ok(Some(_held)) = lock(&path) {
            // A failure is told by nobody: what stays is in nobody's way.
            let _ = match path.is_dir() {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
        }
    }
}

/// A lock on a file or folder, held while what is returned lives; none where it cannot be had here, an error where it is gone or
/// another has the lock.
fn lock(path: &Path) -> io::Result<Option<File>> {
    // Windows opens no folders, and lets nobody write to a file that is locked.
    if !cfg!(unix) {
        return Ok(None);
    }
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
        Err(_) => return Ok(None),
        Ok(file) => file,
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

fn is_empty_folder(path: &Path) -> bool {
    path.is_dir() && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn hidden(parent: &Path) -> Vec<String> {
        let entries = fs::read_dir(parent).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.starts_with('.')).collect();
        names.sort();
        names
    }

    #[test]
    fn what_a_killed_process_has_left_goes_and_what_another_one_writes_stays() {
        let parent = tempfile::tempdir().unwrap();
        let parent = parent.path();
        // Of a process in another container that has the number of this one.
        let running = format!(".model.partial-{}-0", std::process::id());
        for name in [".model.partial-7-0", &running, ".model.partial-mine"] {
            fs::create_dir(parent.join(name)).unwrap();
            fs::write(parent.join(name).join("weights"), "half").unwrap();
        }
        let _held = lock(&parent.join(&running)).unwrap().unwrap();

        let folder = PartialFolder::beside(&parent.join("model")).unwrap();
        fs::write(folder.path().join("weights"), "whole").unwrap();
        assert!(lock(folder.path()).is_err());
        folder.finish().unwrap();
        assert!(parent.join("model/weights").exists());
        let mut stay = [running.clone(), ".model.partial-mine".to_owned()];
        stay.sort();
        assert_eq!(hidden(parent), stay);
        assert!(parent.join(running).join("weights").exists());
    }

    #[test]
    fn a_file_is_written_under_a_lock_and_takes_its_name_when_it_is_whole() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join(".model.gguf.partial-7"), "half").unwrap();
        let file = parent.path().join("model.gguf");
        whole_file(&file, |path| {
            assert_eq!(hidden(parent.path()).len(), 1);
            assert!(lock(path).is_err());
            fs::write(path, "whole").unwrap();
            Ok(())
        })
        .unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "whole");
        assert_eq!(hidden(parent.path()), Vec::<String>::new());
        let error = whole_file(&file, |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("it exists already"), "{error}");
    }
}
