//! Reads shaders and writes them in each backend's language.

use naga::Module;
use naga::back::{hlsl, msl, spv, wgsl};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

pub type Checked<T> = Result<T, String>;

pub fn expect(holds: bool, complaint: impl FnOnce() -> String) -> Checked<()> {
    if holds { Ok(()) } else { Err(complaint()) }
}

/// Parses and validates with no capability beyond those of every device.
pub fn read(source: &str) -> Checked<(Module, ModuleInfo)> {
    read_with(source, Capabilities::empty())
}

/// The same with some capabilities.
pub fn read_with(source: &str, capabilities: Capabilities) -> Checked<(Module, ModuleInfo)> {
    let module = naga::front::wgsl::parse_str(source).map_err(|e| e.emit_to_string(source))?;
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .map_err(|e| e.emit_to_string(source))?;
    Ok((module, info))
}

pub fn to_spirv(module: &Module, info: &ModuleInfo) -> Checked<()> {
    let words = spv::write_vec(module, info, &spv::Options::default(), None)
        .map_err(|e| format!("SPIR-V: {e}"))?;
    expect(words.first() == Some(&0x0723_0203), || "SPIR-V: no magic number".into())
}

pub fn to_msl(module: &Module, info: &ModuleInfo, lang_version: (u8, u8)) -> Checked<()> {
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
pub fn translate(module: &Module, info: &ModuleInfo) -> Checked<()> {
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
