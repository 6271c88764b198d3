//! Shaders that are broken on purpose.

use crate::interface::Interface;
use crate::limits::check_limits;
use crate::permutations::{permutations, title};
use crate::reading::{Checked, read, translate};
use recurra::kernel::{Op, shader};

/// All checks on one text, with the interface of `op`.
pub fn check(op: &Op, source: &str) -> Checked<()> {
    let (module, info) = read(source)?;
    Interface::new(op).check(&module, &info)?;
    check_limits(&module)?;
    translate(&module, &info)
}

/// Each check can fail: a shader is broken in one place, and the right check complains.
#[test]
fn broken_shaders_are_noticed() {
    let listed = permutations();
    let op = listed.iter().find(|op| title(op) == "sgd CLIP=").unwrap();
    let right = shader::source(op.kernel()).unwrap();
    check(op, &right).unwrap();
    let broken = |changes: &[(&str, &str)]| {
        let mut text = right.clone();
        for (from, to) in changes {
            assert_eq!(text.matches(from).count(), 1, "'{from}' is not there once");
            text = text.replace(from, to);
        }
        check(op, &text).err().unwrap_or_else(|| panic!("{changes:?} passed"))
    };
    let clip = "@group(0) @binding(5) var<storage, read> clip: array<f32>;";
    let clip_as = |from: &str, to: &str| clip.replace(from, to);
    let more = format!("{clip}\n@group(0) @binding(6) var<storage, read> more: array<f32>;");
    let large = format!("{clip}\nvar<workgroup> large: array<f32, 4097>;");
    let used = "g *= clip[0];";
    let decay = "    weight_decay: f32,";
    let rate = "    rate: f32,";
    let momentum = "    momentum: f32,";
    let cases: &[(&[(&str, &str)], &str)] = &[
        // What naga itself refuses.
        (&[("let w = parameter[i];", "let w = parameter[i]")], "expected"),
        (&[("var<uniform> p", "var<storage, read_write> p")], "not uniform"),
        // Bindings: removed, moved, added, given twice, unused, of another kind, name or type.
        (&[(clip, "const clip = array<f32, 1>(1.0);")], "bindings [0, 1, 2, 3, 4], the kernel has"),
        (&[(clip, &clip_as("(5)", "(6)"))], "bindings [0, 1, 2, 3, 4, 6], the kernel has"),
        (&[(clip, &more), (used, "g *= clip[0] * more[0];")], "5, 6], the kernel has"),
        (&[(clip, &more)], "\"more\") is bound but never used"),
        (&[(clip, &clip_as("(5)", "(4)"))], "inding"),
        (&[(clip, &clip_as("group(0)", "group(1)"))], "in group 1"),
        (&[(used, "")], "\"clip\") is bound but never used"),
        (&[(clip, &clip_as("read>", "read_write>"))], "(clip): it is Storage"),
        (&[(clip, &clip_as("clip", "clap")), (used, "g *= clap[0];")], "named Some(\"clap\")"),
        (&[(clip, &clip_as("f32", "u32")), (used, "g *= f32(clip[0]);")], "its elements are"),
        (
            &[(clip, &clip_as("f32", "vec4<f32>")), (used, "g *= clip[0].x;")],
            "its elements are 16 bytes apart",
        ),
        (&[(clip, &clip_as("array<f32>", "array<f32, 2>"))], "runtime array"),
        (&[("velocity[i] = v;", "")], "(velocity): the kernel says it is written"),
        // The parameter block: order, type, offset, size.
        (
            &[
                (momentum, decay),
                (
                    "    weight_decay: f32,\n    weight_decay: f32,",
                    "    weight_decay: f32,\n    momentum: f32,",
                ),
            ],
            "the parameters are",
        ),
        (
            &[(decay, "    weight_decay: u32,"), ("p.weight_decay", "f32(p.weight_decay)")],
            "parameter weight_decay is",
        ),
        (&[(momentum, "    @align(16) momentum: f32,")], "momentum lies at 16, not 8"),
        (&[(rate, "    @size(8) rate: f32,")], "24 bytes, the kernel has 20"),
        (&[(decay, "    weight_decay: f32,\n    more: u32,")], "the parameters are"),
        // Limits.
        (&[("@workgroup_size(256)", "@workgroup_size(512)")], "[512, 1, 1] threads"),
        (&[("@workgroup_size(256)", "@workgroup_size(1, 1, 128)")], "[1, 1, 128] threads"),
        (&[(clip, &large)], "16388 bytes of workgroup memory"),
    ];
    for (changes, complaint) in cases {
        let got = broken(changes);
        assert!(got.contains(complaint), "{changes:?}: {got}");
    }
    // A change that breaks nothing is none of the checks' business.
    check(op, &right.replace("@compute", "fn unused() {}\n@compute")).unwrap();
}
