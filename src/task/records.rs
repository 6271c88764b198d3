//! The records of a CSV file, each with the line that it begins at.

use csv::{ReaderBuilder, StringRecord, Trim};

/// What stands between the fields: of comma, TAB and semicolon the most frequent in the first line that is not empty.
pub(super) fn separator(first: &[u8]) -> u8 {
    let often = |c: u8| first.iter().filter(|&&b| b == c).count();
    // Of equals the last counts.
    b";\t,".iter().copied().max_by_key(|&c| often(c)).unwrap_or(b',')
}

/// All records, up to the first that can't be read.
pub(super) fn records(bytes: &[u8], trim: Trim) -> Vec<(u64, csv::Result<StringRecord>)> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut lines = bytes.split(|&b| b == b'\n');
    let first = lines.find(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(trim)
        .delimiter(separator(first))
        .from_reader(bytes);
    // The reader's own count is behind at empty lines and at ends of two characters.
    let mut reached = (0, 1u64);
    let mut line_of = |position: Option<&csv::Position>| {
        let mut at = position.map_or(0, |p| p.byte() as usize).max(reached.0);
        while bytes.get(at).is_some_and(|b| b"\r\n".contains(b)) {
            at += 1;
        }
        let passed = bytes.get(reached.0..at).unwrap_or_default();
        let lines = passed.iter().filter(|&&b| b == b'\n').count() as u64;
        reached = (at, reached.1 + lines);
        reached.1
    };
    let mut list = Vec::new();
    for record in reader.records() {
        let line = match &record {
            Ok(record) => line_of(record.position()),
            Err(error) => line_of(error.position()),
        };
        let ends = record.is_err();
        list.push((line, record));
        if ends {
            break;
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_the_file() {
        let text = b"\xef\xbb\xbf\r\na;b\r\n\r\n1; 2\r\n\"x\r\ny\";3\r\n4;5\r\n";
        let all = records(text, Trim::All);
        let lines: Vec<u64> = all.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 4, 5, 7]);
        let fields: Vec<&str> = all[1].1.as_ref().unwrap().iter().collect();
        assert_eq!(fields, ["1", "2"]);
        let bad = records(b"a,b\n\n\xff,1\n2,3\n", Trim::None);
        assert_eq!(bad.len(), 2);
        assert!(bad[1].0 == 3 && bad[1].1.is_err());
        assert_eq!(
            [separator(b"a,b;c"), separator(b"a\tb;c;d"), separator(b"")],
            [b',', b';', b',']
        );
    }
}
