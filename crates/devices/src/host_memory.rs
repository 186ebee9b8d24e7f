//! How much memory the process took, and how much the machine has left.

use std::fs;

/// The largest resident memory of this process so far, in bytes; only Linux tells.
pub fn peak_memory_bytes() -> Option<u64> {
    kibibytes("/proc/self/status", "VmHWM:")
}

/// Memory that new allocations can take without swapping, in bytes; only Linux tells.
pub(crate) fn free_memory_bytes() -> Option<u64> {
    kibibytes("/proc/meminfo", "MemAvailable:")
}

/// All memory of the machine, in bytes; only Linux tells.
pub(crate) fn total_memory_bytes() -> Option<u64> {
    kibibytes("/proc/meminfo", "MemTotal:")
}

/// The number of a line `KEY   N kB`, in bytes.
fn kibibytes(file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn peak_memory_remembers_what_was_given_back() {
        const BLOCK: u64 = 64 << 20;
        let block = vec![1_u8; BLOCK as usize];
        std::hint::black_box(&block);
        drop(block);
        let peak = peak_memory_bytes().unwrap();
        assert!(peak >= BLOCK, "{peak}");
        // And it is bytes: no test takes a terabyte.
        assert!(peak < 1 << 40, "{peak}");
    }

    #[test]
    fn some_memory_is_free() {
        assert!(free_memory_bytes().unwrap() > 1 << 20);
    }
}
