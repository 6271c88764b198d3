//! The places of a shader that index a storage buffer, found and written anew.

/// The text with each `name[index]` outside comments in another form: `load` of the index where it is read,
/// `store` of the index and the value where it is written, `address` of the index behind an `&`. `name[i] += value` is
/// written out.
pub(super) fn rewritten(
    text: &str,
    name: &str,
    load: &dyn Fn(&str) -> String,
    store: &dyn Fn(&str, &str) -> String,
    address: &dyn Fn(&str) -> String,
) -> String {
    let again = |text: &str| rewritten(text, name, load, store, address);
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = next(rest, name) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let Some(end) = closing(&from[name.len()..]).map(|i| name.len() + i + 1) else { break };
        let index = again(&from[name.len() + 1..end - 1]);
        rest = &from[end..];
        if before.ends_with('&') && !before.ends_with("&&") {
            out.push_str(&address(&index));
            continue;
        }
        let after = rest.trim_start();
        let operator = ["+=", "*=", "-="].into_iter().find(|op| after.starts_with(op));
        let plain = after.starts_with('=') && !after.starts_with("==");
        if !plain && operator.is_none() {
            out.push_str(&load(&index));
            continue;
        }
        let (sign, value) = after.split_at(if plain { 1 } else { 2 });
        let Some(semicolon) = value.find(';') else { break };
        let value_of = again(value[..semicolon].trim());
        let stored = match operator {
            Some(_) => format!("{} {} ({value_of})", load(&index), &sign[..1]),
            None => value_of,
        };
        out.push_str(&store(&index, &stored));
        rest = &value[semicolon..];
    }
    out + rest
}

/// Where `name[` stands next outside comments, and no longer name ends so.
pub(super) fn next(text: &str, name: &str) -> Option<usize> {
    word(text, name, |after| after.starts_with('['))
}

/// Where a word stands next outside comments, no part of a longer one and no member, and what comes behind it
/// is as it should be.
pub(super) fn word(text: &str, name: &str, behind: impl Fn(&str) -> bool) -> Option<usize> {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        let code = line.find("//").map_or(line, |comment| &line[..comment]);
        for (at, _) in code.match_indices(name) {
            let (before, after) = (&code[..at], &code[at + name.len()..]);
            let longer = before.ends_with(|c| in_word(c) || c == '.') || after.starts_with(in_word);
            if !longer && behind(after) {
                return Some(line_start + at);
            }
        }
        line_start += line.len();
    }
    None
}

/// The place of the bracket or brace that closes the one which `text` starts with.
pub(super) fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}
