//! Every permutation of every shader: valid, translatable to each backend's language, and with
//! the interface that its kernel tells the engines.

mod browser;
#[path = "../common/card.rs"]
mod card;
mod counts;
mod interface;
mod limits;
mod loops;
mod matrices;
#[path = "../common/outside.rs"]
#[allow(dead_code, reason = "of the browser alone")]
mod outside;
mod permutations;
mod planted;
mod reading;

use counts::count;
use interface::{Interface, is_wide, short_bindings};
use limits::check_limits;
use naga::AddressSpace;
use naga::valid::Capabilities;
use permutations::{for_all, permutations, shared_permutations, title};
use reading::{expect, read, read_with, to_msl, to_spirv, translate};
use recurra::kernel::shader;
use std::collections::BTreeSet;

/// Kernels whose workgroups share memory, in f32 and f16: only native devices have it. Those of a grid keep little
/// beside their weights, and have few barriers a step.
#[test]
fn grids_are_valid() {
    let capabilities = Capabilities::SHADER_FLOAT16 | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    let mut complaints = Vec::new();
    let listed = shared_permutations();
    assert!(listed.len() > 20, "only {} permutations", listed.len());
    for op in &listed {
        let short = short_bindings(op);
        for bindings in [op.kernel().bindings(), short] {
            let interface = Interface { bindings: bindings.clone(), ..Interface::new(op) };
            for members in [1, 3] {
                let source = shader::source_with(op.kernel(), &bindings, members, None).unwrap();
                let result = read_with(&source, capabilities).and_then(|(module, info)| {
                    interface.check(&module, &info)?;
                    check_limits(&module)?;
                    to_spirv(&module, &info)?;
                    to_msl(&module, &info, (3, 2))
                });
                complaints.extend(result.err().map(|e| format!("{}: {e}", title(op))));
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints[..complaints.len().min(3)].join("\n"));
}

#[test]
fn every_shader_is_valid_in_every_language() {
    for_all(|_, module, info| translate(module, info));
}

#[test]
fn every_shader_has_its_kernels_interface() {
    for_all(|op, module, info| Interface::new(op).check(module, info));
}

#[test]
fn every_shader_keeps_to_the_limits_of_webgpu() {
    for_all(|_, module, _| check_limits(module));
}

/// The same over buffers of f16: each is valid and has its kernel's interface, every seventh is translated.
#[test]
fn every_shader_is_valid_over_buffers_of_f16() {
    let mut complaints = Vec::new();
    let listed = permutations();
    for (number, op) in listed.iter().filter(|op| !is_wide(op)).enumerate() {
        let source = shader::source_with(op.kernel(), &short_bindings(op), 1, None).unwrap();
        let result = read_with(&source, Capabilities::SHADER_FLOAT16).and_then(|(module, info)| {
            Interface::short(op).check(&module, &info)?;
            check_limits(&module)?;
            if number % 7 == 0 { translate(&module, &info) } else { Ok(()) }
        });
        complaints.extend(result.err().map(|e| format!("{}: {e}", title(op))));
        // Without the capability there is no such shader.
        if number == 0 {
            assert!(read(&source).is_err());
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// The same for the members of an ensemble: the first of every kernel and every fourth, in f32 and f16; some are
/// translated.
#[test]
fn every_shader_is_valid_for_ensembles() {
    let mut complaints = Vec::new();
    let mut seen = BTreeSet::new();
    for (number, op) in permutations().iter().enumerate() {
        if !seen.insert(op.kernel().name()) && number % 4 != 0 {
            continue;
        }
        let bindings = [Some(op.kernel().bindings()), (!is_wide(op)).then(|| short_bindings(op))];
        for bindings in bindings.into_iter().flatten() {
            let source = shader::source_with(op.kernel(), &bindings, 3, None).unwrap();
            let result =
                read_with(&source, Capabilities::SHADER_FLOAT16).and_then(|(module, info)| {
                    // Every buffer that is touched is touched at the member's place.
                    let places =
                        bindings.iter().map(|b| (b.name, format!("{}[of_{} + (", b.name, b.name)));
                    for (name, moved) in places {
                        let [all, moved] = [&format!("{name}["), &moved].map(|t| count(&source, t));
                        expect(all == moved, || {
                            format!("{name}: {moved} of {all} places are moved")
                        })?;
                    }
                    check_limits(&module)?;
                    if number % 16 == 0 { translate(&module, &info) } else { Ok(()) }
                });
            complaints.extend(result.err().map(|e| format!("{}: {e}", title(op))));
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints[..complaints.len().min(5)].join("\n"));
}

/// Where a device has immediates, the parameters are one block of them, which every such device has room
/// for.
#[test]
fn parameters_fit_immediates() {
    let mut sizes = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for op in permutations() {
        if !seen.insert(op.kernel().name()) {
            continue;
        }
        let source = shader::with_immediates(&shader::source(op.kernel()).unwrap());
        let (module, _) = read_with(&source, Capabilities::IMMEDIATES).unwrap();
        let spaces = || module.global_variables.iter().map(|(_, global)| global.space);
        assert_eq!(spaces().filter(|space| *space == AddressSpace::Immediate).count(), 1);
        assert!(spaces().all(|space| space != AddressSpace::Uniform), "{}", title(&op));
        let bytes = op.kernel().params().len();
        assert!(bytes <= 128 && bytes.is_multiple_of(4), "{}: {bytes} bytes", title(&op));
        sizes.insert(bytes);
    }
    assert!(sizes.len() > 5);
}
