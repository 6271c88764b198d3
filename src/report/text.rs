//! Text for HTML and SVG, and numbers as people read them.

/// Text as HTML shows it: nothing of it is markup, in content or in quoted attributes. Control characters
/// that no document may hold become a sign for them.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            '\r' => out.push_str("&#13;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// JSON that may stand in a script element: it can't end the element.
pub fn json_in_script(json: &str) -> String {
    // Outside of strings JSON has none of these.
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// A number with four digits, no more zeros than it takes, and a power of ten where it is very large or
/// small.
pub fn short(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        return "NaN".to_string();
    }
    if value.is_infinite() {
        return if value > 0.0 { "∞" } else { "−∞" }.to_string();
    }
    if size == 0.0 {
        return "0".to_string();
    }
    let text = if (1e-3..1e6).contains(&size) {
        let digits = (3 - size.log10().floor() as i32).clamp(0, 6) as usize;
        let text = format!("{value:.digits$}");
        trimmed(&text).to_string()
    } else {
        let text = format!("{value:.2e}");
        match text.split_once('e') {
            Some((digits, power)) => format!("{}e{power}", trimmed(digits)),
            None => text,
        }
    };
    text.replace('-', "−")
}

/// Without the zeros that end a fraction.
fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_markup() {
        assert_eq!(
            escape("a<b> & \"c\" 'd'\0"),
            "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;\u{fffd}"
        );
        assert_eq!(json_in_script(r#"{"a":"</script>"}"#), r#"{"a":"\u003c/script\u003e"}"#);
    }

    #[test]
    fn numbers_are_short() {
        let all = [0.0, 1.0, -2.5, 0.123456, 12345.0, 1e6, 1.2345e-5, f64::NAN, 999.96, 1e-3];
        let texts = all.map(short);
        let wanted =
            ["0", "1", "−2.5", "0.1235", "12345", "1e6", "1.23e−5", "NaN", "1000", "0.001"];
        assert_eq!(texts, wanted);
    }
}
