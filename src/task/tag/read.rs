//! Sentences in people's files: columns, or folders of slots and intents.

use super::Sentence;
use super::sentence::Place;
use crate::data::read_text;
use crate::error::{Error, Result};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which columns of a file are read, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Columns {
    /// The words.
    pub token: usize,
    /// The tags; none: the last column.
    pub tag: Option<usize>,
}

impl Default for Columns {
    /// The first and the last.
    fn default() -> Self {
        Columns { token: 1, tag: None }
    }
}

/// The files of a folder of slots and intents.
const WORDS: &str = "seq.in";
const SLOTS: &str = "seq.out";
const INTENTS: &str = "label";

/// What a line of columns begins with that parts documents.
const DOCUMENT: &str = "-DOCSTART-";
/// Columns of CoNLL-U.
const UNIVERSAL: usize = 10;

/// Reads sentences of several sources, one after the other. A file has columns ([`parse`]); a folder has `seq.in`, a
/// sentence a line, `seq.out` with the tags and, if sentences have intents, `label` with one a line.
///
/// # Errors
/// What can't be read or is no UTF-8; as [`parse`]; another number of tags than of words in a line, or of lines in
/// the files of a folder; no sentence at all; some sentences with an intent and some without.
pub fn read(sources: &[PathBuf], columns: Columns) -> Result<Vec<Sentence>> {
    let all = read_any(sources, columns)?;
    if all.iter().any(|s| s.intent.is_some())
        && let Some(without) = all.iter().find(|s| s.intent.is_none())
    {
        return Err(without.error_at(0, "this sentence has no intent, and others have one"));
    }
    Ok(all)
}

/// The same without intents, which some of the sentences may have.
///
/// # Errors
/// As [`read`], but for intents.
pub fn read_tags(sources: &[PathBuf], columns: Columns) -> Result<Vec<Sentence>> {
    let mut all = read_any(sources, columns)?;
    all.iter_mut().for_each(|sentence| sentence.intent = None);
    Ok(all)
}

fn read_any(sources: &[PathBuf], columns: Columns) -> Result<Vec<Sentence>> {
    let mut all = Vec::new();
    for source in sources {
        let some = match source.is_dir() {
            true => read_folder(source)?,
            false => parse(&read_text(source)?, source, columns, true)?,
        };
        if some.is_empty() {
            return Err(Error::format(source, "there is no sentence in it"));
        }
        all.extend(some);
    }
    if all.is_empty() {
        return Err(Error::invalid("no file of sentences was named"));
    }
    Ok(all)
}

/// Sentences for training and held-out ones: a share of them, drawn by a seed, at least one of each.
///
/// # Errors
/// Fewer than two sentences; a share outside \[0, 1).
pub fn hold_out(sentences: Vec<Sentence>, share: f32, seed: u64) -> Result<[Vec<Sentence>; 2]> {
    if !(0.0..1.0).contains(&share) {
        let what = format!("the share that is held out must be in [0, 1), not {share}");
        return Err(Error::invalid(what));
    }
    let count = sentences.len();
    if count < 2 {
        return Err(Error::invalid(format!("{count} sentences are too few to hold some out")));
    }
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let most = (count as f64 * f64::from(share)).round() as usize;
    let mut held = vec![false; count];
    order[..most.clamp(1, count - 1)].iter().for_each(|&number| held[number] = true);
    let (mut training, mut held_out) = (Vec::new(), Vec::new());
    for (sentence, held) in sentences.into_iter().zip(held) {
        if held { held_out.push(sentence) } else { training.push(sentence) }
    }
    Ok([training, held_out])
}

fn read_folder(folder: &Path) -> Result<Vec<Sentence>> {
    let [words_file, slots_file, intents_file] =
        [WORDS, SLOTS, INTENTS].map(|name| Arc::from(folder.join(name)));
    let (words, slots) = (read_text(&words_file)?, read_text(&slots_file)?);
    let intents = match intents_file.exists() {
        true => Some(read_text(&intents_file)?),
        false => None,
    };
    let lines = |text: &'_ str| text.trim_end().lines().count();
    for (file, text) in [(&slots_file, Some(&slots)), (&intents_file, intents.as_ref())] {
        let Some(text) = text else { continue };
        if lines(text) != lines(&words) {
            let (got, wanted) = (lines(text), lines(&words));
            let what = format!("{got} lines, where {WORDS} has {wanted}");
            return Err(Error::format(file.as_ref(), what));
        }
    }
    let mut intents_of = intents.as_deref().map(str::lines);
    let mut list = Vec::new();
    for (number, (words, slots)) in words.lines().zip(slots.lines()).enumerate() {
        let line = number + 1;
        let own = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>();
        let (tokens, tags) = (own(words), own(slots));
        let intent = intents_of.as_mut().map(|lines| lines.next().unwrap_or("").trim());
        if tokens.len() != tags.len() {
            let what = format!("line {line}: {} tags for {} words", tags.len(), tokens.len());
            return Err(Error::format(slots_file.as_ref(), what));
        }
        match intent {
            Some("") if !tokens.is_empty() => {
                return Err(Error::format(
                    intents_file.as_ref(),
                    format!("line {line}: no intent"),
                ));
            }
            Some(intent) if !intent.is_empty() && tokens.is_empty() => {
                let what = format!("line {line}: an intent of a sentence without words");
                return Err(Error::format(intents_file.as_ref(), what));
            }
            _ => {}
        }
        if tokens.is_empty() {
            continue;
        }
        let place = Place {
            file: Some(slots_file.clone()),
            lines: vec![line],
            column: None,
            intent: intent.map(|_| (intents_file.clone(), line)),
        };
        list.push(Sentence { tokens, tags, intent: intent.map(String::from), place });
    }
    Ok(list)
}

/// Sentences of a text in columns, between tabs where its first line has one, else between white space: a word a line,
/// an empty line behind each sentence. Lines that begin with `-DOCSTART-` are left out, and before a sentence lines
/// that begin with `#` and have another number of columns, or `=` for their third one of white space; such a line
/// `# intent = NAME` is the sentence's intent. Of CoNLL-U words of several tokens and empty nodes are left out.
/// Without `tags` these are not read, and need not be there.
///
/// # Errors
/// With line and column: a line of another number of columns than the first, a column that is not there, an empty
/// word or tag, two intents of one sentence, an intent without a sentence.
pub fn parse(text: &str, path: &Path, columns: Columns, tags: bool) -> Result<Vec<Sentence>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let file: Arc<Path> = Arc::from(path);
    let Some(form) = Form::of(text, path, columns, tags)? else { return Ok(Vec::new()) };
    let mut list: Vec<Sentence> = Vec::new();
    let place = || Place { file: Some(file.clone()), column: form.tag, ..Place::default() };
    let mut now = Sentence { place: place(), ..Sentence::default() };
    for (number, line) in text.lines().enumerate() {
        let at = |what: String| Error::format(path, format!("line {}: {what}", number + 1));
        let ends = line.trim().is_empty() || line.starts_with(DOCUMENT);
        if ends {
            if !now.tokens.is_empty() {
                let next = Sentence { place: place(), ..Sentence::default() };
                list.push(std::mem::replace(&mut now, next));
            }
            continue;
        }
        let fields = form.split(line);
        if now.tokens.is_empty() && form.is_comment(line, &fields) {
            if let Some(intent) = intent_of(line) {
                if intent.is_empty() {
                    return Err(at("the intent is empty".to_string()));
                }
                if now.intent.is_some() {
                    return Err(at("a second intent of one sentence".to_string()));
                }
                now.intent = Some(intent.to_string());
                now.place.intent = Some((file.clone(), number + 1));
            }
            continue;
        }
        if fields.len() != form.columns {
            let (got, wanted, first) = (fields.len(), form.columns, form.line);
            let column = got.min(wanted) + 1;
            let what = format!("column {column}: {got} columns, where line {first} has {wanted}");
            return Err(at(what));
        }
        if form.universal && fields[0].contains(['-', '.']) {
            continue;
        }
        let field = |column: usize, what: &str| match fields.get(column - 1) {
            Some(&field) if !field.is_empty() => Ok(field.to_string()),
            _ => Err(at(format!("column {column}: the {what} is empty"))),
        };
        now.tokens.push(field(columns.token, "word")?);
        if let Some(tag) = form.tag {
            now.tags.push(field(tag, "tag")?);
        }
        now.place.lines.push(number + 1);
    }
    if !now.tokens.is_empty() {
        list.push(now);
    } else if let Some((_, line)) = now.place.intent {
        return Err(Error::format(path, format!("line {line}: an intent without a sentence")));
    }
    Ok(list)
}

/// The intent that a comment tells.
fn intent_of(line: &str) -> Option<&str> {
    let (key, value) = line.trim_start_matches('#').split_once(['=', ':'])?;
    (key.trim() == "intent").then(|| value.trim())
}

/// How the lines of a file look.
struct Form {
    tabs: bool,
    universal: bool,
    columns: usize,
    /// The line that says so.
    line: usize,
    tag: Option<usize>,
}

impl Form {
    /// By the first line that is surely one of words; none where there is no line.
    fn of(text: &str, path: &Path, columns: Columns, tags: bool) -> Result<Option<Self>> {
        let lines = || {
            let filled = |l: &(usize, &str)| !l.1.trim().is_empty() && !l.1.starts_with(DOCUMENT);
            text.lines().enumerate().filter(filled)
        };
        let first = lines().find(|l| !l.1.starts_with('#'));
        let Some((number, line)) = first.or_else(|| lines().find(|l| !l.1.contains('='))) else {
            return Ok(None);
        };
        let tabs = line.contains('\t');
        let mut form = Form { tabs, universal: false, columns: 0, line: number + 1, tag: None };
        let fields = form.split(line);
        form.columns = fields.len();
        form.universal = tabs
            && fields.len() == UNIVERSAL
            && fields[0].starts_with(|c: char| c.is_ascii_digit());
        let at = |what: String| Error::format(path, format!("line {}: {what}", number + 1));
        let last = if tags { columns.tag.unwrap_or(form.columns) } else { columns.token };
        for column in [columns.token, last] {
            if column == 0 {
                return Err(Error::invalid("columns are counted from 1"));
            }
            if column > form.columns {
                let (had, s) = (form.columns, if form.columns == 1 { "" } else { "s" });
                return Err(at(format!(
                    "there is no column {column}: the line has {had} column{s}"
                )));
            }
        }
        if tags && last == columns.token {
            return Err(at(match form.columns {
                1 => "there is one column alone: words without tags".to_string(),
                _ => format!("column {last} can't be the word and the tag"),
            }));
        }
        form.tag = tags.then_some(last);
        Ok(Some(form))
    }

    fn split<'a>(&self, line: &'a str) -> Vec<&'a str> {
        match self.tabs {
            true => line.split('\t').map(str::trim).collect(),
            false => line.split_whitespace().collect(),
        }
    }

    /// A word may be `#` too.
    fn is_comment(&self, line: &str, fields: &[&str]) -> bool {
        let assigns = !self.tabs && fields.get(2) == Some(&"=");
        line.starts_with('#') && (fields.len() != self.columns || assigns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<Sentence>> {
        parse(text, Path::new("f.txt"), Columns::default(), true)
    }

    #[test]
    fn columns_become_sentences() {
        let text = "-DOCSTART- -X- O\n\n# intent = play\nUse NN O\n# NN B-x\n\n\n#  text\na b c\n";
        let list = of(text).unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!(
            (list[0].tokens.join(" "), list[0].tags.join(" ")),
            ("Use #".into(), "O B-x".into())
        );
        assert_eq!((list[0].intent.as_deref(), &list[1].intent), (Some("play"), &None));
        let error = list[0].error_at(1, "bad").to_string();
        assert_eq!(error, "f.txt: line 5, column 3: bad");
        // A hash begins a sentence, as it has the columns of a word.
        assert_eq!(of("a O\n\n# B-x\nb O\n").unwrap()[1].tokens, ["#", "b"]);
        let universal = "# text = x\n1-2\tdu\t_\t_\t_\t_\t_\t_\t_\t_\n1\tde\tde\tADP\t_\t_\t_\t_\t_\tO\n\
                         2\tle x\tle\tDET\t_\t_\t_\t_\t_\tO\n2.1\tno\t_\t_\t_\t_\t_\t_\t_\t_\n";
        let columns = Columns { token: 2, tag: Some(4) };
        let list = parse(universal, Path::new("u"), columns, true).unwrap();
        assert_eq!(
            (&list[0].tokens[..], &list[0].tags[..]),
            (&["de".to_string(), "le x".into()][..], &["ADP".to_string(), "DET".into()][..])
        );
        let words = parse("a\nb\n", Path::new("w"), Columns::default(), false).unwrap();
        assert!(words[0].tags.is_empty() && words[0].tokens == ["a", "b"]);
        assert!(of("\n\n").unwrap().is_empty());
        assert_eq!(of("\u{feff}a O").unwrap()[0].tokens, ["a"]);
    }

    #[test]
    fn bad_lines_are_placed() {
        for (text, words) in [
            ("a O\nb\n", "line 2: column 2: 1 columns, where line 1 has 2"),
            ("a O\nb B-x O\n", "line 2: column 3: 3 columns"),
            ("a\nb\n", "line 1: there is one column alone"),
            ("a\tO\n\tO\n", "line 2: column 1: the word is empty"),
            ("a\tO\nb\t\n", "line 2: column 2: the tag is empty"),
            ("# intent =\na O\n", "line 1: the intent is empty"),
            ("# intent = x\n# intent = y\na O\n", "line 2: a second intent"),
            ("a O\n\n# intent = x\n", "line 3: an intent without a sentence"),
        ] {
            let error = of(text).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("f.txt"), "{error}");
        }
        let with = |token, tag| {
            let columns = Columns { token, tag: Some(tag) };
            parse("\na O\n", Path::new("f"), columns, true).unwrap_err().to_string()
        };
        assert!(
            with(1, 3).contains("line 2: there is no column 3: the line has 2"),
            "{}",
            with(1, 3)
        );
        assert!(with(3, 1).contains("no column 3") && with(2, 2).contains("the word and the tag"));
        assert!(with(0, 1).contains("counted from 1"));
    }
}
