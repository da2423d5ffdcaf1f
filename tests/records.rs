//! The records of measurements under `benches/record`: every file has the stated columns and figures that
//! agree with each other, a page that names it, and the pictures that the page shows.

use std::fs;
use std::path::{Path, PathBuf};

/// As `benches/records.py` writes them.
const COLUMNS: &str = "date,cpu,cores,isa,elman,commit,bench,pass,case,batch,steps,features,units,layers,threads,library,\
                       version,seconds,ratio,flops,share,difference,note";

fn benches() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches")
}

fn records() -> Vec<PathBuf> {
    let entries = |folder: &Path| {
        let entries = fs::read_dir(folder).expect("a folder of records");
        entries.map(|entry| entry.expect("an entry").path()).collect::<Vec<_>>()
    };
    let files = entries(&benches().join("record")).into_iter().flat_map(|cpu| entries(&cpu));
    files.filter(|file| file.extension().is_some_and(|extension| extension == "csv")).collect()
}

/// The fields of a line, some of which are in quotation marks.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => fields.last_mut().expect("there is one").push(character),
        }
    }
    fields
}

/// A line by its columns' names.
struct Row<'a>(&'a Path, Vec<String>);

impl Row<'_> {
    fn text(&self, name: &str) -> &str {
        let at = COLUMNS.split(',').position(|column| column == name).expect("a column");
        &self.1[at]
    }

    fn number(&self, name: &str) -> Option<f64> {
        let text = self.text(name);
        let number = |text: &str| match text.parse::<f64>() {
            Ok(number) if number.is_finite() && number >= 0.0 => number,
            _ => panic!("{}: {name} is {text}", self.0.display()),
        };
        (!text.is_empty()).then(|| number(text))
    }

    /// What is measured in turn has all of these in common.
    fn turn(&self) -> Vec<&str> {
        let names =
            ["isa", "bench", "pass", "case", "batch", "steps", "features", "units", "layers", "threads"];
        names.map(|name| self.text(name)).to_vec()
    }
}

fn rows(file: &Path) -> Vec<Row<'_>> {
    let text = fs::read_to_string(file).expect("a record can be read");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(COLUMNS), "{}", file.display());
    let rows = lines.map(|line| Row(file, fields(line))).collect::<Vec<_>>();
    for row in &rows {
        assert_eq!(row.1.len(), COLUMNS.split(',').count(), "{}: {:?}", file.display(), row.1);
    }
    rows
}

#[test]
fn records_hold_figures_that_agree() {
    let files = records();
    assert!(files.len() >= 2, "two CPUs to begin with");
    for file in &files {
        let rows = rows(file);
        assert!(!rows.is_empty(), "{}", file.display());
        for row in &rows {
            let place = format!("{}: {:?}, {}", file.display(), row.turn(), row.text("library"));
            // `<date>.csv`, or `<date>-<what is different>.csv` where a day has a second one.
            let stem = file.file_stem().and_then(|stem| stem.to_str()).expect("a plain name");
            // What is different begins with a letter: of a month's date a day is no name.
            let is_name = |rest: &str| {
                rest.strip_prefix('-').is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()))
            };
            let rest = stem.strip_prefix(row.text("date"));
            assert!(
                !row.text("date").is_empty() && rest.is_some_and(|rest| rest.is_empty() || is_name(rest)),
                "{place}: not of the day that the file's name says"
            );
            for name in ["cpu", "isa", "bench", "pass", "library"] {
                assert!(!row.text(name).is_empty(), "{place}: no {name}");
            }
            // A peak measured beside the case is not exact, but nothing is twice as fast.
            assert!(row.number("share").is_none_or(|share| share < 1.5), "{place}");
            let same = rows.iter().filter(|other| other.turn() == row.turn()).collect::<Vec<_>>();
            let alike = same.iter().filter(|other| other.text("library") == row.text("library"));
            assert_eq!(alike.count(), 1, "{place}: twice");
            let own = same.iter().find(|other| other.text("library") == "elman");
            let own_seconds = own.and_then(|own| own.number("seconds"));
            if let (Some(own), Some(seconds), Some(ratio)) =
                (own_seconds, row.number("seconds"), row.number("ratio"))
            {
                // Transcribed times have three digits.
                assert!(
                    (seconds / own / ratio - 1.0).abs() < 0.015,
                    "{place}: {seconds} / {own} is not {ratio}"
                );
            }
        }
    }
}

#[test]
fn the_page_names_every_record_and_shows_pictures_that_exist() {
    let page = fs::read_to_string(benches().join("README.md")).expect("the page");
    for file in records() {
        let inside =
            file.strip_prefix(benches()).expect("below benches").to_str().expect("a plain name").to_owned();
        assert!(
            page.contains(&format!("({})", inside.replace('\\', "/"))),
            "the page does not name {inside}"
        );
    }
    let links = page.split("](").skip(1).map(|rest| rest.split(')').next().unwrap_or_default());
    let files: Vec<&str> = links.filter(|link| !link.starts_with('#')).collect();
    assert!(files.iter().any(|file| file.ends_with(".svg")));
    for file in files {
        assert!(benches().join(file).is_file(), "{file} is not there");
    }
}

#[test]
fn quoted_fields_hold_commas() {
    assert_eq!(fields("a,\"b, c\",,d"), ["a", "b, c", "", "d"]);
}
