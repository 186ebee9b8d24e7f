//! Asking for memory before it is read.

/// Bytes of a line of the cache.
pub(crate) const LINE: usize = 64;

/// Asks for the line of the cache that holds the element at `index`, or would hold it; on x86 only.
#[inline(always)]
pub(crate) fn prefetch<T>(values: &[T], index: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address = values.as_ptr().wrapping_add(index);
        // SAFETY: every x86-64 has the instruction. It is a hint: it reads nothing that the program could see, and does
        // not fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, index);
}
