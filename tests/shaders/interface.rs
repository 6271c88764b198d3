//! What kernels tell the engines of their shaders, against what the shaders say.

use crate::reading::{Checked, expect};
use naga::valid::{GlobalUse, ModuleInfo};
use naga::{AddressSpace, ArraySize, Module, ScalarKind, ShaderStage, StorageAccess, TypeInner};
use recurra::kernel::{Access, Binding, Op};
use recurra::tensor::DType;
use std::collections::BTreeMap;

/// What a kernel tells the engines of its shader.
pub struct Interface {
    /// The parameter block's members in order: name and kind, from its `Debug` form.
    pub fields: Vec<(String, ScalarKind)>,
    pub params_bytes: usize,
    pub bindings: Vec<Binding>,
}

impl Interface {
    pub fn new(op: &Op) -> Self {
        let debug = format!("{op:?}");
        let (_, rest) = debug.split_once("Params { ").expect("a kernel has a parameter block");
        let (block, _) = rest.split_once(" }").unwrap();
        let field = |field: &str| {
            let (name, value) = field.split_once(": ").unwrap();
            // Debug writes a float with a point, an exponent or letters.
            let integer = value.bytes().all(|b| b.is_ascii_digit());
            (name.to_string(), if integer { ScalarKind::Uint } else { ScalarKind::Float })
        };
        let kernel = op.kernel();
        Interface {
            fields: block.split(", ").map(field).collect(),
            params_bytes: kernel.params().len(),
            bindings: kernel.bindings(),
        }
    }

    /// The same over buffers of f16 where there are floats.
    pub fn short(op: &Op) -> Self {
        Interface { bindings: short_bindings(op), ..Interface::new(op) }
    }

    pub fn check(&self, module: &Module, info: &ModuleInfo) -> Checked<()> {
        expect(module.entry_points.len() == 1, || "not one entry point".into())?;
        let main = &module.entry_points[0];
        let named = main.name == "main" && main.stage == ShaderStage::Compute;
        expect(named, || format!("the entry point is {:?} '{}'", main.stage, main.name))?;

        // Places where a buffer is indexed are rewritten by its name.
        let indexed =
            |ty: &TypeInner| matches!(ty, TypeInner::Array { .. } | TypeInner::Vector { .. });
        let of_functions = module.functions.iter().map(|(handle, f)| (f, &info[handle]));
        for (function, info) in of_functions.chain([(&main.function, info.get_entry_point(0))]) {
            let locals = function.local_variables.iter().map(|(_, local)| (&local.name, local.ty));
            let arguments = function.arguments.iter().map(|argument| (&argument.name, argument.ty));
            let variables = locals.chain(arguments).filter(|of| indexed(&module.types[of.1].inner));
            let named = function.named_expressions.iter();
            let named = named.filter(|of| indexed(info[*of.0].ty.inner_with(&module.types)));
            for name in variables.filter_map(|of| of.0.as_ref()).chain(named.map(|of| of.1)) {
                let shadows = self.bindings.iter().any(|binding| binding.name == name);
                expect(!shadows, || format!("'{name}' is a buffer's name and a local one"))?;
            }
        }

        let mut bound = BTreeMap::new();
        for (handle, global) in module.global_variables.iter() {
            let Some(at) = &global.binding else { continue };
            expect(at.group == 0, || format!("{:?} is in group {}", global.name, at.group))?;
            let other = bound.insert(at.binding, (handle, global));
            expect(other.is_none(), || format!("binding {} is given twice", at.binding))?;
            let used = info.get_entry_point(0)[handle];
            expect(!used.is_empty(), || format!("{:?} is bound but never used", global.name))?;
        }
        let numbers: Vec<u32> = (0..=self.bindings.len() as u32).collect();
        let got: Vec<u32> = bound.keys().copied().collect();
        expect(got == numbers, || format!("bindings {got:?}, the kernel has {numbers:?}"))?;

        let (_, params) = bound[&0];
        expect(params.space == AddressSpace::Uniform, || "binding 0 is not uniform".into())?;
        self.check_params(module, &module.types[params.ty].inner)?;
        for (number, binding) in self.bindings.iter().enumerate() {
            let (handle, global) = bound[&(number as u32 + 1)];
            let fail =
                |what: &str| Err(format!("binding {} ({}): {what}", number + 1, binding.name));
            if global.name.as_deref() != Some(binding.name) {
                return fail(&format!("it is named {:?}", global.name));
            }
            let access = match binding.access {
                Access::Read => StorageAccess::LOAD,
                Access::Write => StorageAccess::LOAD | StorageAccess::STORE,
            };
            if global.space != (AddressSpace::Storage { access }) {
                return fail(&format!("it is {:?}, not {access:?}", global.space));
            }
            let writes = info.get_entry_point(0)[handle].contains(GlobalUse::WRITE);
            // Counters can't be bound to be read alone.
            let counts = binding.shared && binding.dtype == DType::U32;
            if binding.access == Access::Write && !writes && !counts {
                return fail("the kernel says it is written, the shader only reads it");
            }
            // Vulkan's memory model, which cooperative matrices ask for, forbids the decoration.
            if !global.memory_decorations.is_empty() {
                return fail("it is decorated: what is shared by workgroups is atomic");
            }
            let count = if binding.vectors { 4 } else { 1 };
            let bytes = binding.dtype.bytes() as u32;
            let array = &module.types[global.ty].inner;
            let TypeInner::Array { base, size: ArraySize::Dynamic, stride } = *array else {
                return fail("it is not a runtime array");
            };
            if stride != bytes * count {
                return fail(&format!("its elements are {stride} bytes apart"));
            }
            let wanted = match binding.dtype {
                DType::F32 | DType::F16 => ScalarKind::Float,
                DType::U32 => ScalarKind::Uint,
            };
            match module.types[base].inner {
                TypeInner::Scalar(s)
                    if s.kind == wanted && u32::from(s.width) == bytes && count == 1 => {}
                TypeInner::Vector { size: naga::VectorSize::Quad, scalar: s }
                    if s.kind == wanted && u32::from(s.width) == bytes && count == 4 => {}
                TypeInner::Atomic(s) if counts && s.kind == wanted => {}
                ref other => return fail(&format!("its elements are {other:?}")),
            }
        }
        Ok(())
    }

    pub fn check_params(&self, module: &Module, params: &TypeInner) -> Checked<()> {
        let TypeInner::Struct { members, span } = params else {
            return Err(format!("binding 0 is no struct but {params:?}"));
        };
        let got: Vec<_> = members.iter().map(|m| m.name.clone().unwrap_or_default()).collect();
        let want: Vec<_> = self.fields.iter().map(|f| f.0.clone()).collect();
        expect(got == want, || format!("the parameters are {got:?}, the kernel has {want:?}"))?;
        for (i, (member, (name, kind))) in members.iter().zip(&self.fields).enumerate() {
            let TypeInner::Scalar(scalar) = module.types[member.ty].inner else {
                return Err(format!("parameter {name} is no scalar"));
            };
            let same = scalar.kind == *kind && scalar.width == 4;
            expect(same, || format!("parameter {name} is {scalar:?}, the kernel has {kind:?}"))?;
            let at = member.offset as usize;
            expect(at == 4 * i, || format!("parameter {name} lies at {at}, not {}", 4 * i))?;
        }
        expect(*span as usize == self.params_bytes, || {
            format!("the parameters have {span} bytes, the kernel has {}", self.params_bytes)
        })
    }
}

/// A kernel's bindings with f16 for f32.
pub fn short_bindings(op: &Op) -> Vec<Binding> {
    let mut bindings = op.kernel().bindings();
    for binding in bindings.iter_mut().filter(|binding| binding.dtype == DType::F32) {
        binding.dtype = DType::F16;
    }
    bindings
}

/// Kernels over nothing but weights, their gradients and losses, which are f32 in every precision.
pub fn is_wide(op: &Op) -> bool {
    let wide = [
        "adam",
        "average",
        "clip_scale",
        "clip_value",
        "loss_total",
        "record_loss",
        "rms_prop",
        "sequence_flags",
        "sgd",
        "sum_squares",
    ];
    wide.contains(&op.kernel().name())
}
