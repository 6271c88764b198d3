//! People's files: every form, and all that can be wrong in one.

use flate2::Compression;
use flate2::write::GzEncoder;
use recurra::Result;
use recurra::format::npz::write_arrays;
use recurra::task::classify::{Content, Examples, Format, Found, Reading};
use recurra::tensor::Value;
use std::io::Write;
use std::path::Path;

fn parse(reading: &Reading, name: &str, text: &[u8], labels: Option<&[u8]>) -> Result<Found> {
    let labels = labels.map(|bytes| (Path::new("labels"), bytes.to_vec()));
    reading.parse(Path::new(name), text.to_vec(), labels, true)
}

fn read(name: &str, text: &str) -> Found {
    parse(&Reading::default(), name, text.as_bytes(), None).unwrap()
}

fn texts(examples: &Examples) -> &[String] {
    match examples.content() {
        Content::Texts(list) => list,
        Content::Numbers { .. } => panic!("numbers"),
    }
}

fn numbers(examples: &Examples) -> (usize, &[Vec<f32>]) {
    match examples.content() {
        Content::Numbers { width, list } => (*width, list),
        Content::Texts(_) => panic!("texts"),
    }
}

fn lines(examples: &Examples) -> Vec<usize> {
    (0..examples.len()).map(|i| examples.place(i).2).collect()
}

#[test]
fn texts_in_every_form() {
    let found = read("a.txt", "good, \"so\" far \t1\r\n\nbad\tor\tworse\t0\nnext\u{85}line\t1\n");
    assert_eq!(found.format, Format::Tsv);
    assert_eq!(texts(&found.examples), ["good, \"so\" far ", "bad\tor\tworse", "next\u{85}line"]);
    assert_eq!(found.examples.labels(), ["1", "0", "1"]);
    assert_eq!(lines(&found.examples), [1, 3, 4]);
    let found = read("a.txt", "ham\tone\nspam\ttwo\nham\tthree\tparts\n");
    assert_eq!(found.format, Format::LabelTsv);
    assert_eq!(texts(&found.examples), ["one", "two", "three\tparts"]);
    assert_eq!(found.examples.labels(), ["ham", "spam", "ham"]);
    let found = read("a.txt", "__label__x one two\n__label__y\n");
    assert_eq!(
        (found.format, found.examples.labels()),
        (Format::Fasttext, &["x".into(), "y".into()][..])
    );
    assert_eq!(texts(&found.examples), ["one two", ""]);
    let table = "id;Label;Text\n1;pos;\"fine;\nover two lines\"\n2;neg;\"\"\"bad\"\"\"\n";
    let found = read("a.csv", table);
    assert_eq!(found.format, Format::Csv);
    assert_eq!(texts(&found.examples), ["fine;\nover two lines", "\"bad\""]);
    assert_eq!(
        (found.examples.labels(), lines(&found.examples)),
        (&["pos".into(), "neg".into()][..], vec![2, 4])
    );
    let named = Reading { text: Some("b".into()), label: Some("a".into()), ..Reading::default() };
    let found = parse(&named, "t.txt", b"a,b,text\nx,hello,no\n", None).unwrap();
    assert_eq!(
        (texts(&found.examples), found.examples.labels()),
        (&["hello".into()][..], &["x".into()][..])
    );
}

#[test]
fn numbers_in_every_form() {
    let found = read("a.csv", "x1,label,x2\n1,a,2\n3,b,\n");
    assert_eq!(found.format, Format::Wide);
    assert_eq!(numbers(&found.examples), (1, &[vec![1.0, 2.0], vec![3.0]][..]));
    assert_eq!(found.examples.labels(), ["a", "b"]);
    // Of UCR's archive: no header, the label first, NaN behind the end.
    let found = read("a.tsv", "1\t0.5\t-1e-1\tNaN\n2\t1\t2\t3\n");
    assert_eq!(numbers(&found.examples), (1, &[vec![0.5, -0.1], vec![1.0, 2.0, 3.0]][..]));
    assert_eq!(found.examples.labels(), ["1", "2"]);
    let long = Reading { sequence: Some("who".into()), ..Reading::default() };
    let table = "who,class,x,y\nann,1,1,2\nbob,0,5,6\nann,1,3,4\n";
    let found = parse(&long, "a.csv", table.as_bytes(), None).unwrap();
    assert_eq!(numbers(&found.examples), (2, &[vec![1.0, 2.0, 3.0, 4.0], vec![5.0, 6.0]][..]));
    assert_eq!(
        (found.examples.labels(), lines(&found.examples)),
        (&["1".into(), "0".into()][..], vec![2, 3])
    );
    let one = Reading { values: vec!["y".into()], ..long };
    let found = parse(&one, "a.csv", table.as_bytes(), None).unwrap();
    assert_eq!(numbers(&found.examples), (1, &[vec![2.0, 4.0], vec![6.0]][..]));
    let ts = "#c\n@problemName P\n@timeStamps false\n@dimensions 2\n@classLabel true a b\n@data\n1,2,3:4,5,6:b\n7:8:a\n";
    let found = read("a.ts", ts);
    assert_eq!(found.format, Format::Ts);
    assert_eq!(
        numbers(&found.examples),
        (2, &[vec![1.0, 4.0, 2.0, 5.0, 3.0, 6.0], vec![7.0, 8.0]][..])
    );
    assert_eq!(
        (found.examples.labels(), lines(&found.examples)),
        (&["b".into(), "a".into()][..], vec![7, 8])
    );
    let blocks = "1 2\n3 4\n\n\n5 6 \n";
    let found = parse(&Reading::default(), "a.txt", blocks.as_bytes(), Some(b"u\nv\n")).unwrap();
    assert_eq!(
        (found.format, found.examples.labels()),
        (Format::Blocks, &["u".into(), "v".into()][..])
    );
    assert_eq!(numbers(&found.examples), (2, &[vec![1.0, 2.0, 3.0, 4.0], vec![5.0, 6.0]][..]));
    // Without labels.
    let bare = |reading: &Reading, text: &str| {
        let found =
            reading.parse(Path::new("a.csv"), text.as_bytes().to_vec(), None, false).unwrap();
        assert!(found.examples.labels().is_empty());
        numbers(&found.examples).1.to_vec()
    };
    assert_eq!(
        bare(&Reading::default(), "1,2,3\n4,5,6\n"),
        [vec![1.0, 2.0, 3.0], vec![4.0, 5.0, 6.0]]
    );
    assert_eq!(bare(&Reading::default(), "label,b\nx,2\n"), [vec![2.0]]);
}

fn idx(sizes: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
    bytes.extend(data);
    bytes
}

#[test]
fn images_and_arrays() {
    let images = idx(&[2, 2, 3], &(0..12).collect::<Vec<u8>>());
    let labels = idx(&[2], &[7, 9]);
    let found = parse(&Reading::default(), "i.gz", &images, Some(&labels)).unwrap();
    assert_eq!(
        (found.format, found.examples.labels()),
        (Format::Idx, &["7".into(), "9".into()][..])
    );
    let (width, list) = numbers(&found.examples);
    assert_eq!((width, &list[1]), (3, &vec![6.0, 7.0, 8.0, 9.0, 10.0, 11.0]));
    let refused = |bytes: &[u8], labels: Option<&[u8]>, words: &[&str]| {
        let message = parse(&Reading::default(), "i", bytes, labels).unwrap_err().to_string();
        words.iter().for_each(|word| assert!(message.contains(word), "{word}: {message}"));
    };
    refused(&images, None, &["--labels"]);
    refused(&images[..20], Some(&labels), &["cut short"]);
    refused(&images, Some(&idx(&[3], &[1, 2, 3])), &["3 labels", "2 sequences"]);
    refused(&images, Some(&idx(&[1, 2], &[1, 2])), &["labels are [N]"]);
    refused(&images, Some(b"a\n\nb\n"), &["labels", "line 2", "empty"]);
    refused(&idx(&[2, 0], &[]), Some(&labels), &["no step"]);
    refused(&idx(&[u32::MAX, u32::MAX, u32::MAX], &[1]), Some(&labels), &["cut short"]);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npz");
    let x = Value::F32(ndarray::arr2(&[[1.0, 2.0], [3.0, 4.0]]).into_dyn());
    let y = Value::I64(ndarray::arr1(&[1, 0]).into_dyn());
    let more = Value::I64(ndarray::arr3(&[[[1, 2]], [[3, 4]], [[5, 6]]]).into_dyn());
    write_arrays(&path, [("x", &x), ("y", &y), ("x_test", &x), ("y_test", &y)]).unwrap();
    let read = |reading: &Reading| reading.read(&path, None, true);
    let found = read(&Reading::default()).unwrap();
    assert_eq!(found.examples.labels(), ["1", "0"]);
    assert_eq!(found.test.unwrap().len(), 2);
    write_arrays(&path, [("data", &more), ("who", &y)]).unwrap();
    let message = read(&Reading::default()).unwrap_err().to_string();
    assert!(message.contains("no array of labels") && message.contains("who"), "{message}");
    let named = Reading { label: Some("who".into()), ..Reading::default() };
    let message = read(&named).unwrap_err().to_string();
    assert!(message.contains("a.npz") && message.contains("2 labels for 3"), "{message}");
    write_arrays(&path, [("data", &y), ("who", &y)]).unwrap();
    assert!(read(&named).unwrap_err().to_string().contains("[N, T]"));
    // Packed, and from elsewhere than a file.
    write_arrays(&path, [("x", &x), ("y", &y)]).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let found = parse(&Reading::default(), "standard input", &bytes, None).unwrap();
    assert_eq!((found.format, found.examples.labels()[0].as_str()), (Format::Numpy, "1"));
    let packed = folder.path().join("a.npz.gz");
    let mut packer = GzEncoder::new(std::fs::File::create(&packed).unwrap(), Compression::fast());
    packer.write_all(&bytes).unwrap();
    packer.finish().unwrap();
    assert_eq!(Reading::default().read(&packed, None, true).unwrap().examples.len(), 2);
    let nan = Value::F32(ndarray::arr2(&[[1.0, f32::NAN], [3.0, 4.0]]).into_dyn());
    write_arrays(&path, [("data", &nan), ("who", &y)]).unwrap();
    let message = read(&named).unwrap_err().to_string();
    assert!(message.contains("sequence 1") && message.contains("step 2"), "{message}");
}

/// A long table's columns are known by their names: in the files behind the first, and in those that come later.
#[test]
fn columns_are_the_same_in_any_order() {
    let reading = Reading { sequence: Some("who".into()), ..Reading::default() };
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let a = file("a.csv", "who,class,x,z\nann,1,1,2\nann,1,3,4\n");
    let b = file("b.csv", "z,x,class,who,note\n2,1,0,bob,-\n");
    let found = reading.read_all(&[a.clone(), b.clone()], &[], true).unwrap();
    assert_eq!(numbers(&found.examples), (2, &[vec![1.0, 2.0, 3.0, 4.0], vec![1.0, 2.0]][..]));
    let first = reading.read(&a, None, true).unwrap();
    let settled = reading.settled(first.format, &first.columns);
    assert_eq!(settled.values, ["x", "z"]);
    for labelled in [true, false] {
        let later = settled.read(&b, None, labelled).unwrap();
        assert_eq!(numbers(&later.examples).1, [vec![1.0, 2.0]]);
    }
    let c = file("c.csv", "who,class,x,w\nann,1,1,2\n");
    let message = settled.read(&c, None, true).unwrap_err().to_string();
    assert!(message.contains("c.csv") && message.contains("'z'"), "{message}");
}

/// Each wrong file is refused by its name, line and column, and by what is wrong there.
#[test]
fn what_is_wrong_is_placed() {
    let plain = Reading::default();
    let form = |format| Reading { format: Some(format), ..Reading::default() };
    let long = Reading { sequence: Some("id".into()), ..Reading::default() };
    let values = |list: &[&str]| list.iter().map(|name| name.to_string()).collect();
    let twice = Reading { values: values(&["x", "x"]), ..long.clone() };
    let its_own = Reading { values: values(&["id"]), ..long.clone() };
    let ts = "@classLabel true a b\n@data\n";
    let of = |text: &str| format!("{ts}{text}");
    let cases: &[(&Reading, &str, String, &[&str])] = &[
        (&plain, "f.txt", "".into(), &["f.txt", "empty"]),
        (&plain, "f.csv", "label,x\n".into(), &["f.csv", "no sequence"]),
        (&plain, "f.txt", "good\t1\nbad 0\n".into(), &["line 2, column 6", "no TAB"]),
        (&plain, "f.txt", "good\t1\nbäd\t \n".into(), &["line 2, column 5", "label is empty"]),
        (&plain, "f.txt", "what is this\nno form\n".into(), &["line 1", "--format"]),
        (&plain, "f.txt", "__label__a x\nlabel y\n".into(), &["line 2, column 1", "__label__"]),
        (
            &plain,
            "f.txt",
            "__label__a __label__b x\n".into(),
            &["line 1, column 12", "second label"],
        ),
        (&plain, "f.csv", "text,label\na,1\nb\n".into(), &["line 3, column 2", "1 columns, not 2"]),
        (
            &plain,
            "f.csv",
            "text,label\n\"a\nb\",1\nc,\n".into(),
            &["line 4, column 2", "label is empty"],
        ),
        (
            &plain,
            "f.csv",
            "text,what\na,1\n".into(),
            &["line 1", "'label'", "--label", "text, what"],
        ),
        (
            &plain,
            "f.csv",
            "label,x1,x2\na,1,2\nb,1,o2\n".into(),
            &["line 3, column 3", "'x2'", "'o2'"],
        ),
        (&plain, "f.csv", "label,x1,x2\na,,2\n".into(), &["line 2, column 2", "''"]),
        // Empty lines and ends of two characters are lines too.
        (&plain, "f.csv", "label,x1,x2\r\n\r\na,1,2\r\nb,,2\r\n".into(), &["line 4, column 2"]),
        (&plain, "f.csv", "label,x1\na,inf\n".into(), &["line 2, column 2", "'inf'"]),
        (&plain, "f.csv", "label,x1\na,\n".into(), &["line 2", "no value"]),
        (&plain, "f.csv", "label,x1\na,1,2\n".into(), &["line 2, column 3", "3 columns, not 2"]),
        (
            &long,
            "f.csv",
            "id,label,x\n1,a,1\n1,b,2\n".into(),
            &["line 3, column 2", "'b'", "line 2"],
        ),
        (&long, "f.csv", "who,label,x\n1,a,1\n".into(), &["line 1", "'id'", "--sequence"]),
        (&long, "f.csv", "id,label,x\n1,a,?\n".into(), &["line 2, column 3", "'?'"]),
        (&long, "f.csv", "id,label,x,X\n1,a,1,2\n".into(), &["line 1, column 4", "two columns"]),
        (&twice, "f.csv", "id,label,x\n1,a,1\n".into(), &["column 3", "'x'", "asked for twice"]),
        (&its_own, "f.csv", "id,label\n1,a\n".into(), &["column 1", "'id'", "asked for twice"]),
        (&plain, "f.csv", "text,text,label\na,b,1\n".into(), &["line 1, column 2", "'text'"]),
        (&plain, "f.csv", "x,label,x,label\n1,a,2,b\n".into(), &["line 1, column 4", "'label'"]),
        (&plain, "f.txt", "\n\n \n".into(), &["f.txt", "empty lines alone"]),
        (&plain, "f.ts", of("1,2:a\n1,2:c\n"), &["line 4, column 5", "'c'"]),
        (&plain, "f.ts", of("1,2:a\n1,2:3,4:a\n"), &["line 4", "2 dimensions"]),
        (&plain, "f.ts", of("1,2:3:a\n"), &["line 3", "dimension 2 has 1 steps"]),
        (&plain, "f.ts", of("1,?:a\n"), &["line 3, column 3", "missing value"]),
        (&plain, "f.ts", "1,2:a\n".into(), &["line 1", "@data"]),
        (&plain, "f.ts", "@data\n1,2\n".into(), &["f.ts", "no labels"]),
        (&plain, "f.ts", "@problemName x\n".into(), &["@data"]),
        (&form(Format::Blocks), "f.txt", "1 2\n3 x\n".into(), &["line 2, column 2", "'x'"]),
        (&form(Format::Blocks), "f.txt", "1 2\n3\n".into(), &["line 2, column 2", "1 numbers"]),
        (&form(Format::Blocks), "f.txt", "1 2\n".into(), &["--labels"]),
        (&form(Format::Lines), "f.txt", "a\n".into(), &["no labels"]),
        (&form(Format::Idx), "f.txt", "a\n".into(), &["IDX", "cut short"]),
    ];
    for (reading, name, text, words) in cases {
        let message = parse(reading, name, text.as_bytes(), None).unwrap_err().to_string();
        let all = words.iter().all(|word| message.contains(word)) && message.contains(name);
        assert!(all, "{text:?} should say {words:?}: {message}");
    }
    let message = parse(&plain, "f.txt", b"a\t1\n\xff\t0\n", None).unwrap_err().to_string();
    assert!(message.contains("f.txt") && message.contains("line 2"), "{message}");
    // gzip that was cut short.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.gz");
    std::fs::write(&path, [0x1f, 0x8b, 8, 0, 0, 0]).unwrap();
    let message = plain.read(&path, None, true).unwrap_err().to_string();
    assert!(message.contains("f.gz") && message.contains("gzip"), "{message}");
    // Files that do not go together.
    let [a, b] = ["a.csv", "b.csv"].map(|name| folder.path().join(name));
    std::fs::write(&a, "text,label\nx,1\n").unwrap();
    std::fs::write(&b, "label,x\nx,1\n").unwrap();
    let message = plain.read_all(&[a.clone(), b], &[], true).unwrap_err().to_string();
    assert!(message.contains("b.csv") && message.contains("texts"), "{message}");
    let message = plain.read_all(&[a.clone(), a.clone()], &[a], true).unwrap_err().to_string();
    assert!(message.contains("1 files of labels"), "{message}");
}

/// Whatever stands in a file, it is read or refused.
#[test]
fn nothing_panics() {
    let pieces: [&[u8]; 14] = [
        b"@data\n",
        b"\t",
        b"1,2",
        b":",
        b"\n",
        b"label",
        b",",
        b"\"",
        b"__label__",
        b"\0\0\x08\x03",
        b"\xff",
        b"nan",
        b"@classLabel true a\n",
        b";",
    ];
    let readings: Vec<Reading> = Format::ALL
        .into_iter()
        .map(|format| Reading { format: Some(format), ..Reading::default() })
        .chain([Reading::default()])
        .collect();
    let mut state = 1u64;
    for _ in 0..3000 {
        let mut bytes = Vec::new();
        for _ in 0..8 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            bytes.extend(pieces[(state >> 33) as usize % pieces.len()]);
        }
        for reading in &readings {
            for (name, labelled) in [("a.csv", true), ("a", false)] {
                if reading.format != Some(Format::Numpy) {
                    let _ = reading.parse(Path::new(name), bytes.clone(), None, labelled);
                }
            }
        }
    }
}
