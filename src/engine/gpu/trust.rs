//! Where wgpu asks for trust: its experimental features, and shaders without a guard in every loop.
#![allow(unsafe_code)]

/// For a device that is opened with cooperative matrices.
pub(super) fn experimental_features() -> wgpu::ExperimentalFeatures {
    // SAFETY: what is asked for is to know that these features may have bugs with undefined behaviour in
    // wgpu or its back ends, and to report them. The only one that devices are opened with is
    // EXPERIMENTAL_COOPERATIVE_MATRIX; the shaders that use it are matmul, sequences and grids, whose loads and stores
    // of matrices lie inside of their workgroup arrays, at aligned places, in uniform control flow.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}

/// A shader of this crate's own. wgpu counts the rounds of every loop in 64 bits and leaves when they are spent; the
/// count goes on from loop to loop, so that no compiler can unroll a loop of four gates, and the arrays which such
/// loops index stay in memory instead of registers. Here loops go without; all other checks stay.
pub(super) fn own_shader(
    device: &wgpu::Device,
    shader: wgpu::ShaderModuleDescriptor,
) -> wgpu::ShaderModule {
    let mut checks = wgpu::ShaderRuntimeChecks::checked();
    checks.force_loop_bounding = false;
    // SAFETY: without the count, a loop must end by itself. The loops of `shaders/` do: they go over a range by steps
    // of at least 1, its end a constant or at most the length of a buffer (far below 2³² − a step); they halve a
    // number or take bits from a word until none is left; or they wait for other workgroups a given number of
    // rounds (tests/shaders/loops.rs). Text of a caller (a cell's) does not come here.
    unsafe { device.create_shader_module_trusted(shader, checks) }
}
