//! [`Lanes`] of AVX2, and of AVX-512's instructions that add products of small integers.

use std::arch::x86_64::{__m128i, __m256, __m256i};

use crate::lanes::{BLOCK, FOURS, Lanes, ROWS};

pulp::simd_type! {
    /// Is there only where the machine has these instructions. pulp has a safe function for each, but for those of F16C.
    pub(crate) struct Avx2 {
        pub sse: "sse",
        pub sse2: "sse2",
        pub sse4_1: "sse4.1",
        pub avx: "avx",
        pub avx2: "avx2",
        pub f16c: "f16c",
    }
}

pulp::simd_type! {
    /// Those of [`Avx2`] and more. It comes from [`Vnni::detect`] alone: for pulp itself AVX-512VL is there where
    /// AVX-512F is.
    pub(crate) struct Vnni {
        pub sse: "sse",
        pub sse2: "sse2",
        pub sse4_1: "sse4.1",
        pub avx: "avx",
        pub avx2: "avx2",
        pub f16c: "f16c",
        pub avx512vl: "avx512vl",
        pub avx512vnni: "avx512vnni",
    }
}

impl Vnni {
    /// Where the machine has all of them.
    pub fn detect() -> Option<Self> {
        let has_vl = std::arch::is_x86_feature_detected!("avx512vl");
        Self::try_new().filter(|_| has_vl)
    }
}

/// How products are added to sums.
pub(crate) trait Sums: Copy {
    /// sums + Σ w x over each row's four bytes: w unsigned, x signed.
    fn add_bytes(self, sums: __m256i, w: __m256i, x: i32) -> __m256i;
    /// The 32-bit integers of two such sums together.
    fn of_bytes(self, sums: [__m256i; 2]) -> __m256i;
    /// sums + Σ w x over each row's two words.
    fn add_words(self, sums: __m256i, w: __m256i, x: i32) -> __m256i;
}

/// The sums of bytes have 16 bits, two for each row.
impl Sums for Avx2 {
    #[inline(always)]
    fn add_bytes(self, sums: __m256i, w: __m256i, x: i32) -> __m256i {
        let pairs = (self.avx2)._mm256_maddubs_epi16(w, self.avx._mm256_set1_epi32(x));
        self.avx2._mm256_add_epi16(sums, pairs)
    }

    #[inline(always)]
    fn of_bytes(self, [a, b]: [__m256i; 2]) -> __m256i {
        let ones = self.avx._mm256_set1_epi16(1);
        (self.avx2)._mm256_madd_epi16(self.avx2._mm256_add_epi16(a, b), ones)
    }

    #[inline(always)]
    fn add_words(self, sums: __m256i, w: __m256i, x: i32) -> __m256i {
        let pairs = (self.avx2)._mm256_madd_epi16(w, self.avx._mm256_set1_epi32(x));
        self.avx2._mm256_add_epi32(sums, pairs)
    }
}

impl Sums for Vnni {
    #[inline(always)]
    fn add_bytes(self, sums: __m256i, w: __m256i, x: i32) -> __m256i {
        let x = self.avx._mm256_set1_epi32(x);
        // SAFETY: the machine has AVX-512VL and VNNI, or there would be no `self`. The function reads nothing but its
        // arguments.
        unsafe { std::arch::x86_64::_mm256_dpbusd_epi32(sums, w, x) }
    }

    #[inline(always)]
    fn of_bytes(self, [a, b]: [__m256i; 2]) -> __m256i {
        self.avx2._mm256_add_epi32(a, b)
    }

    #[inline(always)]
    fn add_words(self, sums: __m256i, w: __m256i, x: i32) -> __m256i {
        let x = self.avx._mm256_set1_epi32(x);
        // SAFETY: as above.
        unsafe { std::arch::x86_64::_mm256_dpwssd_epi32(sums, w, x) }
    }
}

/// AVX2, with these sums.
///
/// Everything here is inlined by order: what the compiler leaves outside is compiled without these
/// instructions, and each of them becomes a call.
#[derive(Clone, Copy)]
pub(crate) struct X86<S> {
    pub avx2: Avx2,
    pub sums: S,
}

impl<S> X86<S> {
    /// Row i, and behind it row i + 4.
    #[inline(always)]
    fn two(self, rows: [&[u8; BLOCK / 2]; ROWS], i: usize) -> __m256i {
        let (low, high) = (pulp::cast(*rows[i]), pulp::cast(*rows[i + 4]));
        self.avx2.avx._mm256_set_m128i(high, low)
    }
}

/// The first halves of rows, or the last.
#[inline(always)]
fn halves(rows: [&[u8; BLOCK]; ROWS], half: usize) -> [&[u8; BLOCK / 2]; ROWS] {
    rows.map(
        #[inline(always)]
        |row| &row.as_chunks().0[half],
    )
}

impl<S: Sums> Lanes for X86<S> {
    type Bytes = __m256i;
    type Floats = __m256;

    #[inline(always)]
    fn turn(self, rows: [&[u8; BLOCK]; ROWS]) -> [Self::Bytes; FOURS] {
        let [a, b, c, d] = self.turn_half(halves(rows, 0));
        let [e, f, g, h] = self.turn_half(halves(rows, 1));
        [a, b, c, d, e, f, g, h]
    }

    #[inline(always)]
    fn turn_half(self, rows: [&[u8; BLOCK / 2]; ROWS]) -> [Self::Bytes; FOURS / 2] {
        let avx2 = self.avx2.avx2;
        let (a, b) = (self.two(rows, 0), self.two(rows, 1));
        let (c, d) = (self.two(rows, 2), self.two(rows, 3));
        let ab = avx2._mm256_unpacklo_epi32(a, b);
        let ab_2 = avx2._mm256_unpackhi_epi32(a, b);
        let cd = avx2._mm256_unpacklo_epi32(c, d);
        let cd_2 = avx2._mm256_unpackhi_epi32(c, d);
        [
            avx2._mm256_unpacklo_epi64(ab, cd),
            avx2._mm256_unpackhi_epi64(ab, cd),
            avx2._mm256_unpacklo_epi64(ab_2, cd_2),
            avx2._mm256_unpackhi_epi64(ab_2, cd_2),
        ]
    }

    #[inline(always)]
    fn turn_four(self, rows: [&[u8; 4]; ROWS]) -> Self::Bytes {
        pulp::cast(rows.map(
            #[inline(always)]
            |row| *row,
        ))
    }

    #[inline(always)]
    fn bits<const N: i32>(self, bytes: Self::Bytes, mask: u8) -> Self::Bytes {
        let Avx2 { avx, avx2, .. } = self.avx2;
        // Bits of a neighbour come along with the shift of 16 bits, and are masked.
        let bytes = avx2._mm256_srli_epi16::<N>(bytes);
        avx2._mm256_and_si256(bytes, avx._mm256_set1_epi8(mask.cast_signed()))
    }

    #[inline(always)]
    fn join(self, low: Self::Bytes, high: Self::Bytes) -> Self::Bytes {
        let avx2 = self.avx2.avx2;
        avx2._mm256_or_si256(low, avx2._mm256_slli_epi16::<4>(high))
    }

    #[inline(always)]
    fn minus(self, bytes: Self::Bytes, x: u8) -> Self::Bytes {
        let Avx2 { avx, avx2, .. } = self.avx2;
        avx2._mm256_sub_epi8(bytes, avx._mm256_set1_epi8(x.cast_signed()))
    }

    #[inline(always)]
    fn field(self, integers: Self::Bytes, shift: u32, mask: u32) -> Self::Bytes {
        let Avx2 {
            sse2, avx, avx2, ..
        } = self.avx2;
        let shift = sse2._mm_cvtsi32_si128(shift.cast_signed());
        let shifted = avx2._mm256_srl_epi32(integers, shift);
        avx2._mm256_and_si256(shifted, avx._mm256_set1_epi32(mask.cast_signed()))
    }

    #[inline(always)]
    fn signed_byte(self, integers: Self::Bytes, index: u32) -> Self::Bytes {
        let Avx2 { sse2, avx2, .. } = self.avx2;
        let shift = sse2._mm_cvtsi32_si128((24 - 8 * index).cast_signed());
        avx2._mm256_srai_epi32::<24>(avx2._mm256_sll_epi32(integers, shift))
    }

    #[inline(always)]
    fn to_floats(self, integers: Self::Bytes) -> Self::Floats {
        self.avx2.avx._mm256_cvtepi32_ps(integers)
    }

    #[inline(always)]
    fn low_floats(self, integers: Self::Bytes) -> Self::Floats {
        let [first, second]: [__m128i; 2] = pulp::cast(self.field(integers, 0, 0xffff));
        let bits = self.avx2.sse4_1._mm_packus_epi32(first, second);
        // SAFETY: the machine has F16C, or there would be no `self`. The function reads nothing but its argument.
        unsafe { std::arch::x86_64::_mm256_cvtph_ps(bits) }
    }

    #[inline(always)]
    fn high_floats(self, integers: Self::Bytes) -> Self::Floats {
        self.low_floats(self.field(integers, 16, 0xffff))
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::Floats {
        self.avx2.avx._mm256_set1_ps(x)
    }

    #[inline(always)]
    fn product(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        self.avx2.avx._mm256_mul_ps(a, b)
    }

    #[inline(always)]
    fn plus(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        self.avx2.avx._mm256_add_ps(a, b)
    }

    #[inline(always)]
    fn values(self, floats: Self::Floats) -> [f32; ROWS] {
        pulp::cast(floats)
    }

    #[inline(always)]
    fn products_of_bytes<const N: usize, const R: usize>(
        self,
        w: &[Self::Bytes; N],
        x: [&[i32; N]; R],
    ) -> [Self::Floats; R] {
        // Two sums in turn, so that one need not wait for the other.
        let mut sums = [[self.avx2.avx._mm256_setzero_si256(); 2]; R];
        for k in 0..N {
            for r in 0..R {
                sums[r][k % 2] = self.sums.add_bytes(sums[r][k % 2], w[k], x[r][k]);
            }
        }
        let mut products = [self.splat(0.0); R];
        for (product, sums) in products.iter_mut().zip(sums) {
            *product = self.to_floats(self.sums.of_bytes(sums));
        }
        products
    }

    #[inline(always)]
    fn products_of_words<const N: usize, const R: usize>(
        self,
        w: &[Self::Bytes; N],
        x: [&[[i32; 2]; N]; R],
    ) -> [Self::Floats; R] {
        let avx2 = self.avx2.avx2;
        let mut sums = [[self.avx2.avx._mm256_setzero_si256(); 2]; R];
        for k in 0..N {
            let even = avx2._mm256_srai_epi16::<8>(avx2._mm256_slli_epi16::<8>(w[k]));
            let odd = avx2._mm256_srai_epi16::<8>(w[k]);
            for r in 0..R {
                let [of_even, of_odd] = x[r][k];
                sums[r][0] = self.sums.add_words(sums[r][0], even, of_even);
                sums[r][1] = self.sums.add_words(sums[r][1], odd, of_odd);
            }
        }
        let mut products = [self.splat(0.0); R];
        for (product, [even, odd]) in products.iter_mut().zip(sums) {
            *product = self.to_floats(avx2._mm256_add_epi32(even, odd));
        }
        products
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn every_finite_f16_is_widened() {
        let Some(avx2) = Avx2::try_new() else {
            return;
        };
        let lanes = X86 { avx2, sums: avx2 };
        for bits in 0..=u16::MAX {
            let exact = f16::from_bits(bits);
            if exact.is_finite() {
                let [low, high] = [u32::from(bits), u32::from(bits) << 16];
                let found = [
                    lanes.values(lanes.low_floats(pulp::cast([low; ROWS]))),
                    lanes.values(lanes.high_floats(pulp::cast([high; ROWS]))),
                ];
                for found in found.as_flattened() {
                    assert_eq!(found.to_bits(), exact.to_f32().to_bits(), "{bits:#x}");
                }
            }
        }
    }
}
