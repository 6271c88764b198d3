//! Shaders over buffers of 16-bit floats: loads and stores are converted, the equations stay as they
//! are, in f32.

use super::places::rewritten;

/// The text with each `name[…]` of a storage buffer of f16 (in vectors of four on request) converted:
/// `f32(name[i])` where it is read, `name[i] = f16(value)` where it is written, `&name[i]` as it is. Comments stay.
pub(super) fn converted(text: &str, name: &str, vectors: bool) -> String {
    let (wide, short) = if vectors { ("vec4<f32>", "vec4<f16>") } else { ("f32", "f16") };
    let load = |index: &str| format!("{wide}({name}[{index}])");
    let store = |index: &str, value: &str| format!("{name}[{index}] = {short}({value})");
    let address = |index: &str| format!("{name}[{index}]");
    rewritten(text, name, &load, &store, &address)
}

#[cfg(test)]
mod tests {
    use super::converted;

    #[test]
    fn loads_and_stores_are_converted() {
        for (text, want) in [
            ("let y = x[i] + x[j[k]];", "let y = f32(x[i]) + f32(x[j[k]]);"),
            ("x[a[0]] = x[1] * 2.0;", "x[a[0]] = f16(f32(x[1]) * 2.0);"),
            ("x[i] += y - 1.0;", "x[i] = f16(f32(x[i]) + (y - 1.0));"),
            ("if x[i] == 0.0 {", "if f32(x[i]) == 0.0 {"),
            (
                "x[i] = select(\n    y,\n    x[j],\n);",
                "x[i] = f16(select(\n    y,\n    f32(x[j]),\n));",
            ),
            ("ax[i] = p.x[i] + x_[i];", "ax[i] = p.x[i] + x_[i];"),
            ("y = z; // x[i] = 3\nx[0] = 1.0;", "y = z; // x[i] = 3\nx[0] = f16(1.0);"),
            ("let n = x;", "let n = x;"),
            ("load(&x[i + u32(x[j])], 8u);", "load(&x[i + u32(f32(x[j]))], 8u);"),
            ("if a && x[i] > 0.0 {", "if a && f32(x[i]) > 0.0 {"),
            ("if a &&x[i] > 0.0 {", "if a &&f32(x[i]) > 0.0 {"),
        ] {
            assert_eq!(converted(text, "x", false), want);
        }
        assert_eq!(converted("x[i] = x[j];", "x", true), "x[i] = vec4<f16>(vec4<f32>(x[j]));");
    }
}
