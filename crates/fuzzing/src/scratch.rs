//! Folders in memory for the files that readers ask for.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A folder of this process.
pub struct Scratch(PathBuf);

impl Scratch {
    /// An empty folder.
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let parent = match memory.is_dir() {
            true => memory.to_path_buf(),
            false => std::env::temp_dir(),
        };
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = parent.join(format!("panacea-fuzz-{process}-{count}"));
        fs::create_dir_all(&folder).expect("folders can be made there");
        Self(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Removes a file, if it is there.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.0.join(name)).ok();
    }

    /// Writes a file; a new one each time, since readers may still have the last one mapped. True, always.
    pub fn write(&self, name: &str, contents: &[u8]) -> bool {
        self.remove(name);
        fs::write(self.0.join(name), contents).expect("files can be written there");
        true
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}
