//! Every permutation of every shader: valid, translatable to each backend's language, and with
//! the interface that its kernel tells the engines.

use naga::back::{hlsl, msl, spv, wgsl};
use naga::proc::Layouter;
use naga::valid::{Capabilities, GlobalUse, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, ArraySize, Module, ScalarKind, ShaderStage, StorageAccess, TypeInner};
use recurra::cell::CellKind;
use recurra::conformance::{RecurrentCase, random_case, record_case, recurrent_cases};
use recurra::kernel::{
    Access, Binding, GroupLimits, Kernel, Matmul, Op, Operand, SequenceBackward, SequenceForward,
    shader,
};
use recurra::kernel::{Resident, ResidentParams};
use recurra::layer::{Embedding, InitialState, Linear, Recurrent};
use recurra::loss::cross_entropy;
use recurra::optim::Optimizer;
use recurra::schedule::Recorder;
use recurra::tensor::{DType, Precision};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What WebGPU promises on every device.
const MAX_THREADS: u32 = 256;
const MAX_THREADS_Z: u32 = 64;
const MAX_WORKGROUP_BYTES: u32 = 16_384;
const MAX_STORAGE_BUFFERS: usize = 8;
/// What the gradients of parameters by unit (peepholes, gains of norms) may need together with masks,
/// zoneout and the rest: 10 on most devices; an engine refuses them where there are fewer.
const MORE_STORAGE_BUFFERS: usize = 10;

type Checked<T> = Result<T, String>;

fn expect(holds: bool, complaint: impl FnOnce() -> String) -> Checked<()> {
    if holds { Ok(()) } else { Err(complaint()) }
}

/// Parses and validates with no capability beyond those of every device.
fn read(source: &str) -> Checked<(Module, ModuleInfo)> {
    read_with(source, Capabilities::empty())
}

/// The same with some capabilities.
fn read_with(source: &str, capabilities: Capabilities) -> Checked<(Module, ModuleInfo)> {
    let module = naga::front::wgsl::parse_str(source).map_err(|e| e.emit_to_string(source))?;
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .map_err(|e| e.emit_to_string(source))?;
    Ok((module, info))
}

fn to_spirv(module: &Module, info: &ModuleInfo) -> Checked<()> {
    let words = spv::write_vec(module, info, &spv::Options::default(), None)
        .map_err(|e| format!("SPIR-V: {e}"))?;
    expect(words.first() == Some(&0x0723_0203), || "SPIR-V: no magic number".into())
}

fn to_msl(module: &Module, info: &ModuleInfo, lang_version: (u8, u8)) -> Checked<()> {
    let options = msl::Options { lang_version, ..Default::default() };
    let (text, translation) = msl::write_string(module, info, &options, &Default::default())
        .map_err(|e| format!("MSL: {e}"))?;
    expect(text.contains("kernel void"), || "MSL: no kernel".into())?;
    for name in translation.entry_point_names {
        name.map_err(|e| format!("MSL: {e}"))?;
    }
    Ok(())
}

/// Writes the shader in each backend's language; WGSL is read again.
fn translate(module: &Module, info: &ModuleInfo) -> Checked<()> {
    to_spirv(module, info)?;
    to_msl(module, info, (2, 0))?;

    let mut text = String::new();
    let (options, pipeline) = (hlsl::Options::default(), hlsl::PipelineOptions::default());
    let reflection = hlsl::Writer::new(&mut text, &options, &pipeline)
        .write(module, info, None)
        .map_err(|e| format!("HLSL: {e}"))?;
    expect(text.contains("[numthreads("), || "HLSL: no compute shader".into())?;
    for name in reflection.entry_point_names {
        name.map_err(|e| format!("HLSL: {e}"))?;
    }

    let text = wgsl::write_string(module, info, wgsl::WriterFlags::empty())
        .map_err(|e| format!("WGSL: {e}"))?;
    // Nothing is needed to read it again that the shader itself did not need.
    let short = match text.contains("f16") {
        true => Capabilities::SHADER_FLOAT16,
        false => Capabilities::empty(),
    };
    read_with(&text, short).map_err(|e| format!("WGSL, read again: {e}"))?;
    Ok(())
}

/// What a kernel tells the engines of its shader.
struct Interface {
    /// The parameter block's members in order: name and kind, from its `Debug` form.
    fields: Vec<(String, ScalarKind)>,
    params_bytes: usize,
    bindings: Vec<Binding>,
}

impl Interface {
    fn new(op: &Op) -> Self {
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
    fn short(op: &Op) -> Self {
        Interface { bindings: short_bindings(op), ..Interface::new(op) }
    }

    fn check(&self, module: &Module, info: &ModuleInfo) -> Checked<()> {
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
            let coherent = global.memory_decorations.contains(naga::MemoryDecorations::COHERENT);
            if coherent != binding.shared {
                return fail("it is shared by workgroups here and not there");
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

    fn check_params(&self, module: &Module, params: &TypeInner) -> Checked<()> {
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
fn short_bindings(op: &Op) -> Vec<Binding> {
    let mut bindings = op.kernel().bindings();
    for binding in bindings.iter_mut().filter(|binding| binding.dtype == DType::F32) {
        binding.dtype = DType::F16;
    }
    bindings
}

/// Kernels over nothing but weights, their gradients and losses, which are f32 in every precision.
fn is_wide(op: &Op) -> bool {
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

/// Threads, workgroup memory and storage buffers that every device has.
fn check_limits(module: &Module) -> Checked<()> {
    check_limits_with(module, MAX_WORKGROUP_BYTES)
}

/// The same with so much workgroup memory.
fn check_limits_with(module: &Module, workgroup_bytes: u32) -> Checked<()> {
    for entry in &module.entry_points {
        let size @ [x, y, z] = entry.workgroup_size;
        let fits = x * y * z <= MAX_THREADS && z <= MAX_THREADS_Z;
        expect(fits, || format!("workgroups of {size:?} threads"))?;
    }
    let mut layouter = Layouter::default();
    layouter.update(module.to_ctx()).map_err(|e| e.to_string())?;
    let spaces = |wanted: fn(AddressSpace) -> bool| {
        module.global_variables.iter().filter(move |(_, global)| wanted(global.space))
    };
    let shared = spaces(|space| space == AddressSpace::WorkGroup);
    let bytes: u32 = shared.map(|(_, global)| layouter[global.ty].size).sum();
    expect(bytes <= workgroup_bytes, || format!("{bytes} bytes of workgroup memory"))?;
    let buffers = spaces(|space| matches!(space, AddressSpace::Storage { .. })).count();
    let named = |name: &str| {
        module.global_variables.iter().any(|(_, global)| global.name.as_deref() == Some(name))
    };
    let most = if named("d_unit") { MORE_STORAGE_BUFFERS } else { MAX_STORAGE_BUFFERS };
    expect(buffers <= most, || format!("{buffers} storage buffers"))
}

/// Each permutation once: those beside the recurrence, and all that the stacks of the conformance
/// suite and 100 random ones record.
fn permutations() -> Vec<Op> {
    let mut list = recurra::kernel::permutations();
    let mut seen: BTreeSet<String> = list.iter().map(title).collect();
    let cases = recurrent_cases().into_iter().chain((0..100).map(random_case));
    let recordings = cases.map(|case| record_case(&case).unwrap()).chain(training_steps());
    for recording in recordings {
        for launch in recording.launches() {
            let sequences = in_sequence(&launch.op);
            for op in std::iter::once(launch.op.clone()).chain(sequences) {
                if seen.insert(title(&op)) {
                    list.push(op);
                }
            }
        }
    }
    list
}

/// What WebGPU promises a workgroup, and a device that keeps four at work.
const PROMISED: GroupLimits = GroupLimits {
    threads: 256,
    bytes: 16_384,
    registers: 64,
    groups: 2,
    slices: 32,
    steps: 99,
    rounds: usize::MAX,
    resident: 4,
    spins: 9,
    matrix: 0,
    lanes: 0,
};

/// A step's sequence kernels, cut for what WebGPU promises: with all weights in registers, and with few.
fn in_sequence(op: &Op) -> Vec<Op> {
    let limits = PROMISED;
    let few = GroupLimits { registers: 16, groups: 1000, ..limits };
    match op {
        Op::StepForward(step) => [limits, few]
            .iter()
            .filter_map(|limits| Some(SequenceForward::new(step, 3, limits)?.into()))
            .collect(),
        Op::StepBackward(step) => [(limits, true), (few, false)]
            .iter()
            .filter_map(|(limits, initial)| {
                Some(SequenceBackward::new(step, 3, *initial, limits)?.into())
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// The grids of steps and what comes behind them, and the probe of a device: kernels whose workgroups share memory.
fn shared_permutations() -> Vec<Op> {
    let resident = ResidentParams { groups: 2, spins: 9 };
    let probe = Resident { params: resident, threads: 64, bytes: 256 };
    std::iter::once(probe.into()).chain(grids(PROMISED)).collect()
}

/// The grids of steps within some limits, and what comes behind them.
fn grids(limits: GroupLimits) -> Vec<Op> {
    let mut seen = BTreeSet::new();
    let mut list: Vec<Op> = Vec::new();
    let cases = recurrent_cases().into_iter().chain((0..100).map(random_case));
    for recording in cases.map(|case| record_case(&case).unwrap()) {
        for launch in recording.launches() {
            let of: Vec<Op> = match &launch.op {
                Op::StepForward(step) => {
                    let grid = SequenceForward::grid(step, 3, &limits);
                    let both = grid.map(|grid| [grid.rest(), grid].map(Op::from));
                    both.into_iter().flatten().collect()
                }
                Op::StepBackward(step) => {
                    let grid =
                        SequenceBackward::grid(step, 3, list.len().is_multiple_of(3), &limits);
                    let both = grid.map(|grid| [grid.rest(), grid].map(Op::from));
                    both.into_iter().flatten().collect()
                }
                _ => Vec::new(),
            };
            list.extend(of.into_iter().filter(|op| seen.insert(title(op))));
        }
    }
    list
}

/// Kernels whose workgroups share memory, in f32 and f16: only native devices have it. Those of a grid keep little
/// beside their weights, and have few barriers a step.
#[test]
fn grids_are_valid() {
    let capabilities = Capabilities::MEMORY_DECORATION_COHERENT | Capabilities::SHADER_FLOAT16;
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

/// A readable name of a permutation.
fn title(op: &Op) -> String {
    let kernel = op.kernel();
    let defines = kernel.defines();
    let words = defines.iter().map(|(name, value)| format!(" {name}={value}"));
    format!("{}{}", kernel.name(), words.collect::<String>())
}

/// Applies a check to all permutations and fails with all complaints.
fn for_all(check: impl Fn(&Op, &Module, &ModuleInfo) -> Checked<()>) {
    let mut complaints = Vec::new();
    for op in permutations() {
        let source = shader::source(op.kernel()).unwrap();
        let result = read(&source).and_then(|(module, info)| check(&op, &module, &info));
        complaints.extend(result.err().map(|e| format!("{}: {e}", title(&op))));
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn every_shader_is_valid_in_every_language() {
    for_all(|_, module, info| translate(module, info));
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

/// How often a word and what follows it stand in the code of a text.
fn count(text: &str, what: &str) -> usize {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let longer = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let places = |line: &str| {
        let at = line.match_indices(what).map(|(at, _)| at);
        at.filter(|&at| !line[..at].chars().next_back().is_some_and(longer)).count()
    };
    code.map(places).sum()
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

#[test]
fn every_shader_has_its_kernels_interface() {
    for_all(|op, module, info| Interface::new(op).check(module, info));
}

/// The product's sums, and what is on its way into workgroup memory, are scalars and vectors: a private
/// array would lie in memory, not in registers.
#[test]
fn products_keep_their_sums_in_registers() {
    for_all(|op, module, _| {
        if op.kernel().name() != "matmul" {
            return Ok(());
        }
        let functions = module.functions.iter().map(|f| f.1);
        for function in functions.chain(module.entry_points.iter().map(|entry| &entry.function)) {
            for (_, local) in function.local_variables.iter() {
                let held = &module.types[local.ty].inner;
                let plain = matches!(held, TypeInner::Scalar(_) | TypeInner::Vector { .. });
                expect(plain, || format!("variable {:?} is no vector", local.name))?;
            }
        }
        let privates = module.global_variables.iter();
        let privates = privates.filter(|(_, g)| g.space == AddressSpace::Private).count();
        expect(privates == 0, || "there are private variables".into())
    });
}

/// The numbers of SPIR-V instructions of a shader: all, and the fused multiply-adds.
fn instructions(op: &Op) -> [usize; 2] {
    let (module, info) = read(&shader::source(op.kernel()).unwrap()).unwrap();
    let words = spv::write_vec(&module, &info, &spv::Options::default(), None).unwrap();
    let (mut all, mut fma, mut at) = (0, 0, 5);
    while at < words.len() {
        let [length, code] = [words[at] >> 16, words[at] & 0xffff];
        all += 1;
        // OpExtInst with Fma of GLSL.std.450.
        fma += usize::from(code == 12 && words[at + 4] == 50);
        at += length as usize;
    }
    [all, fma]
}

/// What can be counted of speed without a device: the product's inner loop has one multiply-add of a
/// vector for each four sums and term and nothing twice, and no kernel of a step has grown.
#[test]
fn shaders_have_few_instructions() {
    let view = |len: usize| {
        let mut recording = recurra::recording::Recording::new();
        recording.buffer("x", len, DType::F32, recurra::recording::Role::Input).unwrap()
    };
    for tile in recurra::kernel::TILES {
        let operand = Operand::new(view(64), 8);
        let op = Matmul::new([8; 3], operand, operand, operand).with_tile(tile).into();
        let [all, fma] = instructions(&op);
        let sums = tile.thread_rows * tile.thread_columns;
        println!("{}: {all} instructions, {fma} of them fma", tile.name);
        assert_eq!(fma, 4 * sums / 4, "{}: four terms of the sums in vectors", tile.name);
        assert!(all < 700 + 14 * sums, "{}: {all} instructions", tile.name);
    }
    for cell in [CellKind::RnnTanh, CellKind::Gru, CellKind::Lstm] {
        let stack = Recurrent::new("rnn", cell, 4, 32);
        let case = recurra::conformance::RecurrentCase::new(stack, 3, 2);
        for launch in record_case(&case).unwrap().launches() {
            let most = match launch.kernel().name() {
                "step_forward" => 2100,
                "step_backward" => 2400,
                _ => continue,
            };
            let [all, _] = instructions(&launch.op);
            assert!(all < most, "{}: {all} instructions", title(&launch.op));
        }
    }
}

/// A sequence kernel keeps in private memory what stays from step to step, which is little: its weights are
/// values, not an array. It has two barriers a step, and one before the first.
#[test]
fn sequences_keep_little_beside_their_weights() {
    let seen = AtomicUsize::new(0);
    for_all(|op, module, _| {
        if !op.kernel().name().starts_with("sequence_") || op.kernel().name() == "sequence_flags" {
            return Ok(());
        }
        seen.fetch_add(1, Ordering::Relaxed);
        let mut layouter = Layouter::default();
        layouter.update(module.to_ctx()).map_err(|e| e.to_string())?;
        let globals = module.global_variables.iter();
        let private = globals.filter(|(_, global)| global.space == AddressSpace::Private);
        let words: u32 = private.map(|(_, global)| layouter[global.ty].size / 4).sum();
        // The parameters, four states and their gradients, five words, the output's gradient, unit and row.
        expect(words <= 28 + 8 + 5 + 3, || format!("{words} words in private memory"))?;
        let barriers = shader::source(op.kernel()).unwrap().matches("workgroupBarrier()").count();
        expect(barriers == 3, || format!("{barriers} barriers"))
    });
    assert!(seen.into_inner() > 100);
}

#[test]
fn every_shader_keeps_to_the_limits_of_webgpu() {
    for_all(|_, module, _| check_limits(module));
}

/// Products of matrices that subgroups multiply, over C in f32 and in f16. Only SPIR-V and MSL have such
/// matrices: naga refuses them in HLSL, and does not write them in WGSL. Devices that have them have 32 KiB
/// of workgroup memory.
#[test]
fn cooperative_products_are_valid() {
    let capabilities = Capabilities::COOPERATIVE_MATRIX
        | Capabilities::SHADER_FLOAT16
        | Capabilities::SHADER_FLOAT16_IN_FLOAT32
        | Capabilities::SUBGROUP;
    let listed = recurra::kernel::cooperative_permutations();
    let names: BTreeSet<String> = listed.iter().map(title).collect();
    assert_eq!(names.len(), listed.len());
    let mut complaints = Vec::new();
    for op in listed {
        for c in [DType::F32, DType::F16] {
            let mut interface = Interface::new(&op);
            interface.bindings[2].dtype = c;
            let source = shader::source_with(op.kernel(), &interface.bindings, 1, None).unwrap();
            let result = read_with(&source, capabilities).and_then(|(module, info)| {
                interface.check(&module, &info)?;
                check_limits_with(&module, 32_768)?;
                to_spirv(&module, &info)?;
                // Vectors in workgroup memory are for Vulkan alone.
                if source.contains("array<f16, SLAB_a>") {
                    to_msl(&module, &info, (2, 3))?;
                }
                Ok(())
            });
            complaints.extend(result.err().map(|e| format!("{}: {e}", title(&op))));
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints[..complaints.len().min(3)].join("\n"));
}

/// The products of sequences and grids in cooperative matrices, with limits as above: a device with small matrices
/// and subgroups of eight, and one with large ones.
#[test]
fn recurrences_in_matrices_are_valid() {
    let capabilities = Capabilities::COOPERATIVE_MATRIX
        | Capabilities::MEMORY_DECORATION_COHERENT
        | Capabilities::SHADER_FLOAT16
        | Capabilities::SHADER_FLOAT16_IN_FLOAT32
        | Capabilities::SUBGROUP;
    let mut complaints = Vec::new();
    for [matrix, lanes] in [[8, 8], [16, 32]] {
        let limits = GroupLimits { matrix, lanes, bytes: 32_768, resident: 64, ..PROMISED };
        let mut listed = grids(limits);
        // Backward, where the gradients of all gates at once are too many.
        let few_bytes = GroupLimits { bytes: 4096, ..limits };
        listed.extend(grids(few_bytes).into_iter().filter(goes_by_gate));
        assert!(listed.iter().filter(|op| goes_by_gate(op)).count() > 10);
        let mut seen = BTreeSet::new();
        for case in recurrent_cases() {
            for launch in record_case(&case).unwrap().launches() {
                let of: Option<Op> = match &launch.op {
                    Op::StepForward(step) => {
                        SequenceForward::new(step, 3, &limits).map(|op| op.into())
                    }
                    Op::StepBackward(step) => {
                        let initial = listed.len().is_multiple_of(2);
                        SequenceBackward::new(step, 3, initial, &limits).map(|op| op.into())
                    }
                    _ => None,
                };
                listed.extend(of.filter(|op| seen.insert(title(op))));
            }
        }
        assert!(listed.len() > 60, "only {} permutations", listed.len());
        for (number, op) in listed.iter().enumerate() {
            let bindings = short_bindings(op);
            let interface = Interface { bindings: bindings.clone(), ..Interface::new(op) };
            let members = 1 + number as u32 % 2;
            let source = shader::source_with(op.kernel(), &bindings, members, None).unwrap();
            let result = read_with(&source, capabilities).and_then(|(module, info)| {
                interface.check(&module, &info)?;
                check_limits_with(&module, 32_768)?;
                few_registers(&module, &source, matrix * matrix / lanes)?;
                to_spirv(&module, &info)?;
                to_msl(&module, &info, (3, 2))
            });
            complaints.extend(result.err().map(|e| format!("{}: {e}", title(op))));
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints[..complaints.len().min(3)].join("\n"));
}

/// Whether a kernel is a backward grid that takes one gate after another.
fn goes_by_gate(op: &Op) -> bool {
    let Op::SequenceBackward(op) = op else { return false };
    op.cut.matrices.is_some_and(|matrices| matrices.by_gate)
}

/// What a large card lets a workgroup have, as its driver tells it.
const CARD: GroupLimits = GroupLimits {
    threads: 512,
    bytes: 49_152,
    registers: 64,
    groups: 128,
    slices: 32,
    steps: 16_384,
    rounds: usize::MAX,
    resident: 132,
    spins: 9,
    matrix: 16,
    lanes: 32,
};

/// Layers of f16 whose weights one workgroup can't hold are grids of matrices on a large card, forward and backward:
/// no weight is read again at any step, and a step's barriers are a few.
#[test]
fn wide_layers_are_grids_of_matrices_on_a_card() {
    let capabilities = Capabilities::COOPERATIVE_MATRIX
        | Capabilities::MEMORY_DECORATION_COHERENT
        | Capabilities::SHADER_FLOAT16
        | Capabilities::SHADER_FLOAT16_IN_FLOAT32
        | Capabilities::SUBGROUP;
    for (cell, hidden) in [
        (CellKind::Lstm, 512),
        (CellKind::Lstm, 768),
        (CellKind::Lstm, 1024),
        (CellKind::Gru, 768),
        (CellKind::Gru, 1024),
        (CellKind::RnnTanh, 1024),
    ] {
        let stack = Recurrent::new("rnn", cell, 8, hidden);
        let case = RecurrentCase { precision: Precision::F16, ..RecurrentCase::new(stack, 2, 16) };
        let recording = record_case(&case).unwrap();
        let grids = recording.launches().iter().filter_map(|launch| match &launch.op {
            Op::StepForward(step) => SequenceForward::grid(step, 2, &CARD).map(Op::from),
            Op::StepBackward(step) => SequenceBackward::grid(step, 2, false, &CARD).map(Op::from),
            _ => None,
        });
        let mut passes = BTreeSet::new();
        for op in grids {
            let (name, products) = match &op {
                Op::SequenceForward(op) => (op.name(), op.step.products()),
                Op::SequenceBackward(op) => (op.name(), op.step.products()),
                _ => unreachable!(),
            };
            let cut = match &op {
                Op::SequenceForward(op) => op.cut,
                Op::SequenceBackward(op) => op.cut,
                _ => unreachable!(),
            };
            let what = format!("{cell:?} of {hidden}, {name}: {cut:?}");
            assert!(cut.matrices.is_some() && cut.reread(products) == 0, "{what}");
            if passes.insert(name) {
                println!("{what}");
                let bindings = short_bindings(&op);
                let source = shader::source_with(op.kernel(), &bindings, 1, None).unwrap();
                let (module, info) = read_with(&source, capabilities).unwrap();
                check_limits_with(&module, 49_152).unwrap();
                few_registers(&module, &source, 16 * 16 / 32).unwrap();
                to_spirv(&module, &info).unwrap();
                let steps = source.split_once("for (var s = ").unwrap().1;
                let barriers = steps.matches("workgroupBarrier()").count();
                assert!(barriers <= 2 + 2 * products, "{barriers} barriers: {what}");
            }
        }
        assert_eq!(passes.len(), 2, "{cell:?} of {hidden}");
    }
}

/// A thread's share of the matrices, so many words of f32 each, and what it keeps of its units fit the registers that a
/// multiprocessor of 65,536 gives it, with some to compute in. A step of a sequence has two barriers.
fn few_registers(module: &Module, source: &str, matrix: usize) -> Checked<()> {
    let mut layouter = Layouter::default();
    layouter.update(module.to_ctx()).map_err(|e| e.to_string())?;
    let main = &module.entry_points[0];
    let kept = main.function.local_variables.iter().map(|(_, local)| local);
    let kept = kept.filter(|local| local.name.as_ref().is_some_and(|n| n.starts_with("kept_")));
    let kept: usize = kept.map(|local| layouter[local.ty].size as usize / 4).sum();
    let count = |text: &str| source.matches(text).count();
    let words = kept + count("let w_") * matrix.div_ceil(2) + count("var sum_") * matrix;
    let threads = main.workgroup_size[0] as usize;
    let most = (65_536 / threads).min(255) - 8;
    expect(words <= most, || format!("{words} words a thread of {threads}"))?;
    let (_, steps) = source.split_once("for (var s = ").ok_or("no loop over steps")?;
    let barriers = steps.matches("workgroupBarrier()").count();
    let sequence = !source.contains("const TILES");
    expect(!sequence || barriers == 2, || format!("{barriers} barriers a step"))
}

/// Every file of a kernel belongs to one.
#[test]
fn every_file_is_some_kernels() {
    let all = permutations().into_iter().chain(shared_permutations());
    let used: BTreeSet<String> = all.map(|op| op.kernel().name().to_string()).collect();
    assert_eq!(shader::stems(), used.into_iter().collect::<Vec<_>>());
}

/// The permutations are all different, and there are many.
#[test]
fn permutations_are_listed_once() {
    let listed: Vec<String> = permutations().iter().map(title).collect();
    let distinct: BTreeSet<&String> = listed.iter().collect();
    assert_eq!(distinct.len(), listed.len());
    assert!(listed.len() > 300, "only {} permutations", listed.len());
}

/// Training steps with each optimizer, clipping, and given and carried states.
fn training_steps() -> Vec<recurra::recording::Recording> {
    let optimizers = [
        Optimizer::sgd(0.9),
        Optimizer::nesterov(0.9),
        Optimizer::rms_prop(),
        Optimizer::adam(),
        Optimizer::adamw(0.01),
    ];
    let mut list = Vec::new();
    for cell in CellKind::ALL {
        for optimizer in optimizers {
            for max_norm in [None, Some(1.0)] {
                for carried in [false, true] {
                    list.push(training_step(cell, optimizer, max_norm, carried));
                }
            }
        }
    }
    list
}

/// A language model with two stacks that share their table, so that gradients add up.
fn training_step(
    cell: CellKind,
    optimizer: Optimizer,
    max_norm: Option<f32>,
    carried: bool,
) -> recurra::recording::Recording {
    let mut rec = Recorder::training();
    let (vocabulary, width, shape) = (7, 5, [2, 3]);
    let table = Embedding { name: "embedding".into(), vocabulary, width };
    let rnn = Recurrent { layers: 2, dropout: 0.5, ..Recurrent::new("rnn", cell, width, width) };
    let linear = Linear::new("linear", width, vocabulary);
    for number in 0..2 {
        let ids = rec.input_ids(&format!("ids{number}"), 6).unwrap();
        let x = table.record(&mut rec, ids).unwrap();
        let x = rec.dropout(x, 0.25).unwrap();
        let initial = match carried {
            true => InitialState::Carried(format!("state{number}")),
            false => {
                let shape = rnn.state_shape(shape[1]);
                let name = |l| format!("initial{number}.{l}");
                let given = (0..2).map(|l| rec.input(&name(l), shape, true).unwrap());
                InitialState::Given(given.collect())
            }
        };
        let out = rnn.record(&mut rec, x, shape, &initial).unwrap();
        if number == 0 {
            let targets = rec.input_ids("targets", 6).unwrap();
            let logits = linear.record(&mut rec, out.output).unwrap();
            cross_entropy(&mut rec, logits, targets).unwrap();
        } else if let Some(&last) = out.finals.last() {
            let seed = rec.input("d_final", [last.rows, last.columns], false).unwrap();
            rec.seed_gradient(last, seed).unwrap();
        }
    }
    rec.backward().unwrap();
    optimizer.record(&mut rec, max_norm).unwrap();
    rec.finish()
}

/// All checks on one text, with the interface of `op`.
fn check(op: &Op, source: &str) -> Checked<()> {
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
