//! A safe face for crate gemm's f32 matrix product: the only unsafe code that computes.
#![allow(unsafe_code)]

use gemm_common::Parallelism;

/// A matrix inside a slice: element (i, j) is `data[i·row + j·column]`.
#[derive(Clone, Copy)]
pub struct Strided<'a> {
    pub data: &'a [f32],
    pub row: usize,
    pub column: usize,
}

impl<'a> Strided<'a> {
    /// Rows of `stride` elements, or the transpose of such a matrix.
    pub fn new(data: &'a [f32], stride: usize, transposed: bool) -> Self {
        let (row, column) = if transposed { (1, stride) } else { (stride, 1) };
        Strided { data, row, column }
    }

    fn extent(&self, rows: usize, columns: usize) -> usize {
        (rows - 1) * self.row + (columns - 1) * self.column + 1
    }
}

/// C\[m,n\] = A\[m,k\]·B\[k,n\], or C += A·B; C has unit column stride and rows `c_stride` apart.
/// Uses `threads` threads of the current rayon pool. Sums are in the same order for the same sizes
/// and number of threads.
pub fn product(
    [m, n, k]: [usize; 3],
    a: Strided,
    b: Strided,
    c: &mut [f32],
    c_stride: usize,
    accumulate: bool,
    threads: usize,
) {
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    assert!(a.extent(m, k) <= a.data.len(), "A is too short");
    assert!(b.extent(k, n) <= b.data.len(), "B is too short");
    assert!(n <= c_stride && (m - 1) * c_stride + n <= c.len(), "C is too short");
    let parallelism = if threads > 1 { Parallelism::Rayon(threads) } else { Parallelism::None };
    // gemm writes columns fastest, so the transposed problem Cᵀ = Bᵀ·Aᵀ is posed.
    //
    // SAFETY: the three asserts bound every element that gemm reads or writes: A's and B's largest
    // index is extent − 1, C's is (m−1)·c_stride + n − 1. Rows of C do not overlap, as n ≤ c_stride,
    // and `c` is borrowed mutably, so it overlaps neither A nor B.
    unsafe {
        gemm_f32::gemm::f32::get_gemm_fn()(
            n,
            m,
            k,
            c.as_mut_ptr(),
            c_stride as isize,
            1,
            accumulate,
            b.data.as_ptr(),
            b.row as isize,
            b.column as isize,
            a.data.as_ptr(),
            a.row as isize,
            a.column as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_all_layouts_meet_plain_sums() {
        let (m, n, k) = (5, 7, 3);
        let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.7).sin()).collect();
        let b: Vec<f32> = (0..k * n).map(|i| (i as f32 * 0.3).cos()).collect();
        for (ta, tb, accumulate) in
            [(false, false, false), (true, false, true), (false, true, true), (true, true, false)]
        {
            let left = Strided::new(&a, if ta { m } else { k }, ta);
            let right = Strided::new(&b, if tb { k } else { n }, tb);
            let stride = n + 2;
            let mut c = vec![1.5f32; m * stride];
            product([m, n, k], left, right, &mut c, stride, accumulate, 1);
            for i in 0..m {
                for j in 0..stride {
                    let mut want = if accumulate || j >= n { 1.5 } else { 0.0 };
                    if j < n {
                        for l in 0..k {
                            want += left.data[i * left.row + l * left.column]
                                * right.data[l * right.row + j * right.column];
                        }
                    }
                    assert!((c[i * stride + j] - want).abs() < 1e-5);
                }
            }
        }
    }
}
