//! Products of 8-bit integers, 32 at a time, in two forms that give the same bits.
//!
//! The sum of 32 products is kept in eight parts of four, as AVX2 makes them: the part i has the products 4i to 4i + 3. Both
//! forms add, multiply and round in the same order, so an answer does not depend on the machine.

use std::array;

/// How many codes share a scale of what they are multiplied with.
pub(crate) const BLOCK: usize = 32;

/// The instructions that it is computed with.
#[cfg_attr(
    not(feature = "flex"),
    expect(dead_code, reason = "without the CPU blocks are unpacked only")
)]
pub(crate) trait Lanes: Copy {
    /// 32 bytes.
    type Bytes: Copy;
    /// Eight numbers.
    type Floats: Copy;

    fn load(self, bytes: &[u8; BLOCK]) -> Self::Bytes;
    /// The low halves of 16 bytes, and behind them the high halves.
    fn nibbles(self, bytes: &[u8; BLOCK / 2]) -> Self::Bytes;
    /// (byte >> N) & mask, of each.
    fn bits<const N: i32>(self, bytes: Self::Bytes, mask: u8) -> Self::Bytes;
    /// low | high << 4 of bytes below 16.
    fn join(self, low: Self::Bytes, high: Self::Bytes) -> Self::Bytes;
    /// byte − x, which wraps around.
    fn minus(self, bytes: Self::Bytes, x: u8) -> Self::Bytes;

    /// The 16-bit float of these bits, which is finite.
    fn widen(self, bits: u16) -> f32;
    /// The first in the first four places, the second in the last four.
    fn halves(self, first: f32, second: f32) -> Self::Floats;
    fn times(self, a: Self::Floats, b: f32) -> Self::Floats;

    /// sums + scale · Σ w x in eight parts, for signed bytes x of −127 to 127 and w: signed ones if `signed`, bytes below
    /// 64 otherwise.
    ///
    /// Nothing overflows: the greatest sum of two products is 2 · 128 · 127 = 32512, which 16 signed bits hold.
    fn add_products(
        self,
        sums: Self::Floats,
        scale: Self::Floats,
        w: Self::Bytes,
        x: Self::Bytes,
        signed: bool,
    ) -> Self::Floats;

    fn values(self, floats: Self::Floats) -> [f32; 8];

    /// The sum of the eight.
    #[inline(always)]
    fn sum(self, floats: Self::Floats) -> f32 {
        let v = self.values(floats);
        let four: [f32; 4] = array::from_fn(|i| v[i] + v[i + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }
}

/// For any machine.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Lanes for Portable {
    type Bytes = [u8; BLOCK];
    type Floats = [f32; 8];

    #[inline(always)]
    fn load(self, bytes: &[u8; BLOCK]) -> Self::Bytes {
        *bytes
    }

    #[inline(always)]
    fn nibbles(self, bytes: &[u8; BLOCK / 2]) -> Self::Bytes {
        array::from_fn(|i| {
            let byte = bytes[i % (BLOCK / 2)];
            if i < BLOCK / 2 { byte & 15 } else { byte >> 4 }
        })
    }

    #[inline(always)]
    fn bits<const N: i32>(self, bytes: Self::Bytes, mask: u8) -> Self::Bytes {
        bytes.map(|byte| byte >> N & mask)
    }

    #[inline(always)]
    fn join(self, low: Self::Bytes, high: Self::Bytes) -> Self::Bytes {
        array::from_fn(|i| low[i] | high[i] << 4)
    }

    #[inline(always)]
    fn minus(self, bytes: Self::Bytes, x: u8) -> Self::Bytes {
        bytes.map(|byte| byte.wrapping_sub(x))
    }

    /// The bits of fraction and exponent stand 13 places higher, and the exponent counts from 112 more. The conversion of
    /// `half` asks each time what the machine can do.
    #[inline(always)]
    fn widen(self, bits: u16) -> f32 {
        let bits = u32::from(bits);
        let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
        f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
    }

    #[inline(always)]
    fn halves(self, first: f32, second: f32) -> Self::Floats {
        array::from_fn(|i| if i < 4 { first } else { second })
    }

    #[inline(always)]
    fn times(self, a: Self::Floats, b: f32) -> Self::Floats {
        a.map(|a| a * b)
    }

    #[inline(always)]
    fn add_products(
        self,
        sums: Self::Floats,
        scale: Self::Floats,
        w: Self::Bytes,
        x: Self::Bytes,
        signed: bool,
    ) -> Self::Floats {
        let product = |i: usize| {
            let w = match signed {
                true => i32::from(w[i].cast_signed()),
                false => i32::from(w[i]),
            };
            w * i32::from(x[i].cast_signed())
        };
        array::from_fn(|i| {
            let four: i32 = (4 * i..4 * i + 4).map(product).sum();
            sums[i] + scale[i] * four as f32
        })
    }

    #[inline(always)]
    fn values(self, floats: Self::Floats) -> [f32; 8] {
        floats
    }
}

#[cfg(all(feature = "flex", target_arch = "x86_64"))]
pulp::simd_type! {
    /// Is there only where the machine has these instructions. pulp has a safe function for each, but for those of F16C.
    pub(crate) struct Avx2 {
        pub sse: "sse",
        pub sse2: "sse2",
        pub avx: "avx",
        pub avx2: "avx2",
        pub f16c: "f16c",
    }
}

#[cfg(all(feature = "flex", target_arch = "x86_64"))]
impl Lanes for Avx2 {
    type Bytes = std::arch::x86_64::__m256i;
    type Floats = std::arch::x86_64::__m256;

    #[inline(always)]
    fn load(self, bytes: &[u8; BLOCK]) -> Self::Bytes {
        pulp::cast(*bytes)
    }

    #[inline(always)]
    fn nibbles(self, bytes: &[u8; BLOCK / 2]) -> Self::Bytes {
        let low: std::arch::x86_64::__m128i = pulp::cast(*bytes);
        // Bits of a neighbour come along with the shift of 16 bits, and are masked.
        let high = self.sse2._mm_srli_epi16::<4>(low);
        let both = self.avx._mm256_set_m128i(high, low);
        (self.avx2)._mm256_and_si256(both, self.avx._mm256_set1_epi8(15))
    }

    #[inline(always)]
    fn bits<const N: i32>(self, bytes: Self::Bytes, mask: u8) -> Self::Bytes {
        let mask = self.avx._mm256_set1_epi8(mask.cast_signed());
        let bytes = self.avx2._mm256_srli_epi16::<N>(bytes);
        self.avx2._mm256_and_si256(bytes, mask)
    }

    #[inline(always)]
    fn join(self, low: Self::Bytes, high: Self::Bytes) -> Self::Bytes {
        let high = self.avx2._mm256_slli_epi16::<4>(high);
        self.avx2._mm256_or_si256(low, high)
    }

    #[inline(always)]
    fn minus(self, bytes: Self::Bytes, x: u8) -> Self::Bytes {
        (self.avx2)._mm256_sub_epi8(bytes, self.avx._mm256_set1_epi8(x.cast_signed()))
    }

    #[inline(always)]
    fn widen(self, bits: u16) -> f32 {
        use std::arch::x86_64::{_mm_cvtph_ps, _mm_cvtss_f32};
        let bits = self.sse2._mm_cvtsi32_si128(i32::from(bits));
        // SAFETY: the machine has F16C and SSE, or there would be no `self`. The functions read nothing but their argument.
        unsafe { _mm_cvtss_f32(_mm_cvtph_ps(bits)) }
    }

    #[inline(always)]
    fn halves(self, first: f32, second: f32) -> Self::Floats {
        let (first, second) = (self.sse._mm_set1_ps(first), self.sse._mm_set1_ps(second));
        self.avx._mm256_set_m128(second, first)
    }

    #[inline(always)]
    fn times(self, a: Self::Floats, b: f32) -> Self::Floats {
        self.avx._mm256_mul_ps(a, self.avx._mm256_set1_ps(b))
    }

    #[inline(always)]
    fn add_products(
        self,
        sums: Self::Floats,
        scale: Self::Floats,
        w: Self::Bytes,
        x: Self::Bytes,
        signed: bool,
    ) -> Self::Floats {
        // The instruction takes unsigned bytes times signed ones: |w| · (x with the sign of w).
        let (w, x) = match signed {
            true => (
                self.avx2._mm256_abs_epi8(w),
                self.avx2._mm256_sign_epi8(x, w),
            ),
            false => (w, x),
        };
        let pairs = self.avx2._mm256_maddubs_epi16(w, x);
        let ones = self.avx._mm256_set1_epi16(1);
        let fours = self.avx2._mm256_madd_epi16(pairs, ones);
        let fours = self.avx._mm256_cvtepi32_ps(fours);
        // Not fused, which would round otherwise than elsewhere.
        (self.avx)._mm256_add_ps(sums, self.avx._mm256_mul_ps(scale, fours))
    }

    #[inline(always)]
    fn values(self, floats: Self::Floats) -> [f32; 8] {
        pulp::cast(floats)
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn every_finite_f16_is_widened() {
        for bits in 0..=u16::MAX {
            let exact = f16::from_bits(bits);
            if !exact.is_finite() {
                continue;
            }
            let exact = exact.to_f32().to_bits();
            assert_eq!(Portable.widen(bits).to_bits(), exact, "{bits:#x}");
            #[cfg(all(feature = "flex", target_arch = "x86_64"))]
            if let Some(avx2) = Avx2::try_new() {
                assert_eq!(avx2.widen(bits).to_bits(), exact, "{bits:#x}");
            }
        }
    }
}
