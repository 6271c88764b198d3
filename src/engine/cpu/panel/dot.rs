//! Products of integers: bytes of weights with words of sixteen bits, summed in 32.
//!
//! AVX-512 and AVX2 multiply pairs of 16 bits and add the two products in one instruction; what
//! else there is gets plain loops. Sums are exact, so the bits are the same whichever it is.

use super::UNROLLED;
use super::holds::{ORDER, Pairs};
use pulp::Simd;
#[cfg(target_arch = "x86_64")]
use std::any::Any;

/// The instruction set that this is, if it is `T`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn is<T: Copy + 'static>(simd: &dyn Any) -> Option<T> {
    simd.downcast_ref::<T>().copied()
}

/// The bytes of words as pairs of 16 bits with their signs: the even ones, the odd ones. Where
/// nothing multiplies pairs, the words as they are.
#[inline(always)]
pub fn halves<S: Simd>(simd: S, words: S::i32s) -> [S::i32s; 2] {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(v4) = is::<pulp::x86::V4>(&simd) {
            let odd = bytemuck::cast(words);
            let even = v4.avx512bw._mm512_slli_epi16::<8>(odd);
            let even = v4.avx512bw._mm512_srai_epi16::<8>(even);
            return [bytemuck::cast(even), bytemuck::cast(v4.avx512bw._mm512_srai_epi16::<8>(odd))];
        }
        if let Some(v3) = is::<pulp::x86::V3>(&simd) {
            let odd = bytemuck::cast(words);
            let even = v3.avx2._mm256_slli_epi16::<8>(odd);
            let even = v3.avx2._mm256_srai_epi16::<8>(even);
            return [bytemuck::cast(even), bytemuck::cast(v3.avx2._mm256_srai_epi16::<8>(odd))];
        }
    }
    let _ = simd;
    [words; 2]
}

/// sum\[lane\] += Σ_k terms\[k\]·(the lane's byte of term k).
#[inline(always)]
pub fn dot<S: Simd>(simd: S, sum: S::i32s, halves: [S::i32s; 2], terms: &Pairs) -> S::i32s {
    #[cfg(target_arch = "x86_64")]
    {
        let [first, second] = [simd.splat_i32s(terms[0]), simd.splat_i32s(terms[1])];
        if let Some(v4) = is::<pulp::x86::V4>(&simd) {
            let (a, b) = (bytemuck::cast(halves[0]), bytemuck::cast(first));
            let first = v4.avx512bw._mm512_madd_epi16(a, b);
            let (a, b) = (bytemuck::cast(halves[1]), bytemuck::cast(second));
            let second = v4.avx512bw._mm512_madd_epi16(a, b);
            let sum = v4.avx512f._mm512_add_epi32(bytemuck::cast(sum), first);
            return bytemuck::cast(v4.avx512f._mm512_add_epi32(sum, second));
        }
        if let Some(v3) = is::<pulp::x86::V3>(&simd) {
            let (a, b) = (bytemuck::cast(halves[0]), bytemuck::cast(first));
            let first = v3.avx2._mm256_madd_epi16(a, b);
            let (a, b) = (bytemuck::cast(halves[1]), bytemuck::cast(second));
            let second = v3.avx2._mm256_madd_epi16(a, b);
            let sum = v3.avx2._mm256_add_epi32(bytemuck::cast(sum), first);
            return bytemuck::cast(v3.avx2._mm256_add_epi32(sum, second));
        }
    }
    let _ = simd;
    let mut sum = sum;
    let lanes: &mut [i32] = bytemuck::cast_slice_mut(std::slice::from_mut(&mut sum));
    let terms: [i16; UNROLLED] = bytemuck::cast(*terms);
    let words: &[[i8; UNROLLED]] = bytemuck::cast_slice(std::slice::from_ref(&halves[0]));
    for (lane, bytes) in lanes.iter_mut().zip(words) {
        for (byte, &k) in bytes.iter().zip(&ORDER) {
            *lane += i32::from(*byte) * i32::from(terms[k]);
        }
    }
    sum
}
