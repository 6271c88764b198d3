//! Shaders over buffers of 16-bit floats: loads and stores are converted, the equations stay as they
//! are, in f32.

/// The text with each `name[…]` of a storage buffer of f16 (in vectors of four on request) converted:
/// `f32(name[i])` where it is read, `name[i] = f16(value)` where it is written, and `name[i] += value`
/// written out. Comments stay.
pub(super) fn converted(text: &str, name: &str, vectors: bool) -> String {
    let (wide, short) = if vectors { ("vec4<f32>", "vec4<f16>") } else { ("f32", "f16") };
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = next(rest, name) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let Some(end) = closing(&from[name.len()..]).map(|i| name.len() + i + 1) else { break };
        let index = converted(&from[name.len() + 1..end - 1], name, vectors);
        let place = format!("{name}[{index}]");
        rest = &from[end..];
        let after = rest.trim_start();
        let operator = ["+=", "*=", "-="].into_iter().find(|op| after.starts_with(op));
        let plain = after.starts_with('=') && !after.starts_with("==");
        if !plain && operator.is_none() {
            out.push_str(&format!("{wide}({place})"));
            continue;
        }
        let (sign, value) = after.split_at(if plain { 1 } else { 2 });
        let Some(semicolon) = value.find(';') else { break };
        let stored = converted(value[..semicolon].trim(), name, vectors);
        let stored = match operator {
            Some(_) => format!("{wide}({place}) {} ({stored})", &sign[..1]),
            None => stored,
        };
        out.push_str(&format!("{place} = {short}({stored})"));
        rest = &value[semicolon..];
    }
    out + rest
}

/// Where `name[` stands next outside comments, and no longer name ends so.
pub(super) fn next(text: &str, name: &str) -> Option<usize> {
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        let code = line.find("//").map_or(line, |comment| &line[..comment]);
        for (at, _) in code.match_indices(name) {
            let before = code[..at].chars().next_back();
            let longer = before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.');
            if !longer && code[at + name.len()..].starts_with('[') {
                return Some(line_start + at);
            }
        }
        line_start += line.len();
    }
    None
}

/// The place of the bracket that closes the one which `text` starts with.
pub(super) fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
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
        ] {
            assert_eq!(converted(text, "x", false), want);
        }
        assert_eq!(converted("x[i] = x[j];", "x", true), "x[i] = vec4<f16>(vec4<f32>(x[j]));");
    }
}
