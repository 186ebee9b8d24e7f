//! Files that are read through a memory map, once.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use memmap2::Mmap;

use crate::{PretrainedError, lfs};

/// Maps a file of weights.
pub(crate) fn open(path: &Path) -> Result<Mmap, PretrainedError> {
    let file = File::open(path).map_err(PretrainedError::io(path, "open"))?;
    // SAFETY: the map is only read. A model file that another program rewrites meanwhile would change under us, as it
    // would under every reader that maps weights; model files are written once.
    let map = unsafe { Mmap::map(&file) }.map_err(PretrainedError::io(path, "map"))?;
    lfs::refuse_pointer(path, &map)?;
    Ok(map)
}

/// Gives back the memory that a part of the map takes, which has been read and converted. Read again, it comes from the
/// file again. Without this the file would count beside the tensors until the map is closed.
pub(crate) fn forget(map: &Mmap, part: Range<usize>) {
    #[cfg(unix)]
    // SAFETY: the map is of a file and only read, so that no content is lost, whatever else points into it.
    unsafe {
        let advice = memmap2::UncheckedAdvice::DontNeed;
        // It is advice: where it is refused, the memory is given back later.
        map.unchecked_advise_range(advice, part.start, part.len())
            .ok();
    }
    #[cfg(not(unix))]
    let _ = (map, part);
}
