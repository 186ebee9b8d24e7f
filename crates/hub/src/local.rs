//! The files of a folder, and their hashes.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use panacea_files::{FileError, LFS_ADVICE, is_lfs_pointer};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::HubError;

/// What says of a file what it may be.
const SAMPLE: usize = 512;
/// Endings of files that hold weights.
const WEIGHTS: [&str; 6] = ["safetensors", "gguf", "bin", "pt", "pth", "onnx"];
/// Folders that repositories and downloads keep to themselves.
const PRIVATE: [&str; 2] = [".git", ".cache"];

/// A file to push.
#[derive(Debug)]
pub(crate) struct LocalFile {
    /// In the repository, with slashes.
    pub name: String,
    /// On this machine.
    pub path: PathBuf,
    pub size: u64,
    /// Its beginning.
    pub sample: Vec<u8>,
}

impl LocalFile {
    fn open(name: String, path: PathBuf) -> Result<Self, HubError> {
        let read = |path: &Path| -> std::io::Result<(u64, Vec<u8>)> {
            let file = File::open(path)?;
            let size = file.metadata()?.len();
            let mut sample = Vec::new();
            file.take(SAMPLE as u64).read_to_end(&mut sample)?;
            Ok((size, sample))
        };
        let (size, sample) = read(&path).map_err(FileError::of("read", &path))?;
        if is_lfs_pointer(&sample) {
            let problem = LFS_ADVICE.to_owned();
            return Err(HubError::Folder { path, problem });
        }
        Ok(Self {
            name,
            path,
            size,
            sample,
        })
    }

    fn holds_weights(&self) -> bool {
        let ending = self.path.extension().and_then(|ending| ending.to_str());
        self.size > 0 && ending.is_some_and(|ending| WEIGHTS.contains(&ending))
    }

    /// SHA-256, by which the store of large files knows it; `told` hears how much of it was read.
    pub fn sha256(&self, told: &mut dyn FnMut(u64)) -> Result<String, HubError> {
        self.digest(Sha256::new(), told)
    }

    /// SHA-1 of git's, by which the repository knows it.
    pub fn git_hash(&self) -> Result<String, HubError> {
        let git = Sha1::new().chain_update(format!("blob {}\0", self.size));
        self.digest(git, &mut |_| ())
    }

    fn digest(
        &self,
        mut hasher: impl Digest,
        told: &mut dyn FnMut(u64),
    ) -> Result<String, HubError> {
        let mut read = || -> std::io::Result<()> {
            let mut file = File::open(&self.path)?;
            let mut piece = vec![0; 1 << 18];
            loop {
                match file.read(&mut piece)? {
                    0 => return Ok(()),
                    length => hasher.update(&piece[..length]),
                }
                told(file.stream_position()?);
            }
        };
        read().map_err(FileError::of("read", &self.path))?;
        Ok(hex::encode(hasher.finalize()))
    }

    /// All of it.
    pub fn bytes(&self) -> Result<Vec<u8>, HubError> {
        Ok(fs::read(&self.path).map_err(FileError::of("read", &self.path))?)
    }
}

/// The files of a folder, in the order of their names.
///
/// # Errors
/// When there are no weights among them, and for links that lead out of it.
pub(crate) fn files(folder: &Path) -> Result<Vec<LocalFile>, HubError> {
    let refuse = |problem: &str| HubError::Folder {
        path: folder.to_owned(),
        problem: problem.to_owned(),
    };
    if !folder.is_dir() {
        return Err(refuse(
            "there is no such folder: expected one that `export` has written",
        ));
    }
    let root = fs::canonicalize(folder).map_err(FileError::of("read the folder", folder))?;
    let mut files = Vec::new();
    collect(folder, &root, "", &mut files)?;
    files.sort_by(|a, b| a.name.cmp(&b.name));
    if files.iter().any(|file| file.name == "run.toml") {
        return Err(refuse(
            "it is the folder of a run (run.toml): expected one that `export` has written",
        ));
    }
    match files.iter().any(LocalFile::holds_weights) {
        true => Ok(files),
        false => Err(refuse(
            "there are no weights in it (*.safetensors, *.gguf): expected a folder that `export` has written",
        )),
    }
}

fn collect(
    folder: &Path,
    root: &Path,
    prefix: &str,
    files: &mut Vec<LocalFile>,
) -> Result<(), HubError> {
    let list = fs::read_dir(folder).map_err(FileError::of("read the folder", folder))?;
    for entry in list {
        let entry = entry.map_err(FileError::of("read the folder", folder))?;
        let path = entry.path();
        let refuse = |problem: &str| HubError::Folder {
            path: path.clone(),
            problem: problem.to_owned(),
        };
        let name = entry.file_name();
        let name = name
            .to_str()
            .ok_or_else(|| refuse("its name is not UTF-8"))?;
        let kind = entry.file_type().map_err(FileError::of("read", &path))?;
        if kind.is_dir() {
            if !PRIVATE.contains(&name) {
                collect(&path, root, &format!("{prefix}{name}/"), files)?;
            }
            continue;
        }
        if kind.is_symlink() {
            let target =
                fs::canonicalize(&path).map_err(FileError::of("follow the link", &path))?;
            if !target.starts_with(root) {
                return Err(refuse(
                    "a link that leads out of the folder: put a copy of the file in its place, if it is to be published",
                ));
            }
        }
        if !path.is_file() {
            return Err(refuse("neither a file nor a folder: take it out"));
        }
        files.push(LocalFile::open(format!("{prefix}{name}"), path)?);
    }
    Ok(())
}
