//! Leave to open a device with features that wgpu calls experimental.
#![allow(unsafe_code)]

/// For a device that is opened with cooperative matrices.
pub(super) fn enabled() -> wgpu::ExperimentalFeatures {
    // SAFETY: what is asked for is to know that these features may have bugs with undefined behaviour in
    // wgpu or its back ends, and to report them. The only one that devices are opened with is
    // EXPERIMENTAL_COOPERATIVE_MATRIX; the only shader that uses it is matmul, whose loads and stores of
    // matrices lie inside of its workgroup arrays, at aligned places, in uniform control flow.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}
