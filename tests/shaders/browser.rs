//! What a browser makes of every shader: its compiler of WGSL is another than naga, and keeps to the letter of the standard
//! where naga does not look (barriers in uniform control flow, for one).

use crate::outside::{chromium, hear};
use crate::permutations::{permutations, title};
use recurra::kernel::shader;
use std::collections::BTreeSet;
use std::time::Duration;

/// Compiles each of the shaders \[name, text\] on a device with what WebGPU promises, and says what the browser has
/// against it.
const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>shaders</title><script>
const shaders = SHADERS;
const say = (words) => console.log('SAYS ' + words);
(async () => {
  try {
    const adapter = await navigator.gpu?.requestAdapter();
    if (!adapter) { say('END without a device'); return; }
    const device = await adapter.requestDevice();
    device.pushErrorScope('validation');
    const modules = shaders.map(([, code]) => device.createShaderModule({ code }));
    for (const [number, module] of modules.entries()) {
      const wrong = (await module.getCompilationInfo()).messages.find((m) => m.type === 'error');
      if (wrong) {
        say(`WRONG ${shaders[number][0]}: line ${wrong.lineNum}: ${wrong.message.split('\n')[0]}`);
      }
    }
    await device.popErrorScope();
    say(`END of ${modules.length}`);
  } catch (error) { say('END ' + error); }
})();
</script>"#;

/// A barrier that some threads pass by: naga takes it.
const UNEVEN: &str = "
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) index: u32) {
    if x[index] > 0.0 {
        workgroupBarrier();
    }
    x[index] = 1.0;
}";

#[test]
fn a_browser_takes_every_shader() {
    let Some(browser) = chromium() else {
        return;
    };
    crate::reading::read(UNEVEN).unwrap();
    let mut shaders = vec![["uneven".to_string(), UNEVEN.to_string()]];
    let mut seen = BTreeSet::new();
    for (number, op) in permutations().iter().enumerate() {
        let (kernel, bindings) = (op.kernel(), op.kernel().bindings());
        shaders.push([title(op), shader::source(kernel).unwrap()]);
        // For the members of an ensemble, the first of every kernel and some others.
        if seen.insert(kernel.name()) || number % 8 == 0 {
            let source = shader::source_with(kernel, &bindings, 3, None).unwrap();
            shaders.push([format!("{} of 3 members", title(op)), source]);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("shaders.html");
    let texts = serde_json::to_string(&shaders).unwrap().replace('<', "\\u003c");
    std::fs::write(&page, PAGE.replace("SHADERS", &texts)).unwrap();
    let said = hear(&browser, folder.path(), &page, Duration::from_secs(300));
    if said == ["END without a device"] {
        eprintln!("SKIPPED: the browser has no WebGPU; what it makes of the shaders is not tested");
        return;
    }
    let [uneven, others @ ..] = &said[..] else {
        panic!("nothing was said");
    };
    assert!(
        uneven.starts_with("WRONG uneven:") && uneven.contains("uniform control flow"),
        "{uneven}"
    );
    assert_eq!(others, [format!("END of {}", shaders.len())]);
}

/// Chromium 156 lets a variable that is declared in a loop without a value keep the one of the round before; the standard
/// has it zero in each. Matrices have no such value in WGSL, and no browser has matrices.
#[test]
fn every_variable_has_an_initial_value() {
    let mut complaints = BTreeSet::new();
    for op in permutations() {
        for line in shader::source(op.kernel()).unwrap().lines() {
            let line = line.split("//").next().unwrap_or_default().trim();
            let without = |line: &str| line.starts_with("var ") && !line.contains('=');
            if line.split_inclusive(';').any(|part| without(part.trim())) {
                complaints.insert(line.to_string());
            }
        }
    }
    assert!(complaints.is_empty(), "{complaints:?}");
}
