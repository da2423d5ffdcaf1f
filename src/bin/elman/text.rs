//! Numbers, ids and words as text.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::failure::{Failure, Result};

/// Rows of steps of numbers: a line each step, an empty line between rows.
#[derive(Debug, PartialEq)]
pub(crate) struct Table {
    /// Steps of each row.
    pub(crate) steps: Vec<usize>,
    /// Numbers of each line.
    pub(crate) columns: usize,
    pub(crate) values: Vec<f32>,
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split([',', ';', ' ', '\t']).filter(|word| !word.is_empty())
}

/// What is wrong with a line, counted from 1.
fn wrong(path: &Path, line: usize, why: impl std::fmt::Display) -> Failure {
    Failure::file(format_args!("{}, line {}: {why}", path.display(), line + 1))
}

/// Reads a table; a first line without any number is a header.
pub(crate) fn table(path: &Path, text: &str) -> Result<Table> {
    let is_header = |line: &str| words(line).all(|word| word.parse::<f32>().is_err());
    let mut table = Table { steps: Vec::new(), columns: 0, values: Vec::new() };
    let mut steps = 0;
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            if steps > 0 {
                table.steps.push(std::mem::take(&mut steps));
            }
            continue;
        }
        if number == 0 && is_header(line) {
            continue;
        }
        let before = table.values.len();
        for word in words(line.trim()) {
            let value =
                word.parse().map_err(|_| wrong(path, number, format_args!("{word:?} is no number")))?;
            table.values.push(value);
        }
        let columns = table.values.len() - before;
        if table.columns == 0 {
            table.columns = columns;
        }
        if columns != table.columns {
            let before = table.columns;
            return Err(wrong(
                path,
                number,
                format_args!("{columns} numbers, and {before} in the lines before"),
            ));
        }
        steps += 1;
    }
    if steps > 0 {
        table.steps.push(steps);
    }
    Ok(table)
}

/// Reads rows of token ids, one a line.
pub(crate) fn ids(path: &Path, text: &str) -> Result<Vec<Vec<i32>>> {
    let id = |number: usize, word: &str| {
        let why = || wrong(path, number, format_args!("{word:?} is no token id; words need --vocabulary"));
        word.parse::<i32>().map_err(|_| why())
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(number, line)| words(line.trim()).map(|word| id(number, word)).collect()).collect()
}

/// The tokens of words.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    tokens: HashMap<String, i32>,
    /// What words are made of; anything else ends a word.
    letters: HashSet<char>,
    unknown: Option<i32>,
}

impl Vocabulary {
    /// Line i, counted from 0, is the word of token i.
    pub(crate) fn new(path: &Path, text: &str) -> Result<Self> {
        let tokens: HashMap<String, i32> =
            text.lines().zip(0..).map(|(word, token)| (word.trim_end().to_owned(), token)).collect();
        if tokens.is_empty() {
            return Err(Failure::file(format_args!("{}: a vocabulary without words", path.display())));
        }
        let is_word = |word: &&String| !word.starts_with(['<', '[']);
        let letters = tokens.keys().filter(is_word).flat_map(|word| word.chars()).collect();
        let unknown = ["<unknown>", "<unk>", "[UNK]"].iter().find_map(|name| tokens.get(*name)).copied();
        Ok(Self { tokens, letters, unknown })
    }

    /// The tokens of a text's lines, a row each.
    pub(crate) fn rows(&self, path: &Path, text: &str) -> Result<Vec<Vec<i32>>> {
        text.lines().enumerate().map(|(number, line)| self.row(path, number, line)).collect()
    }

    fn row(&self, path: &Path, number: usize, line: &str) -> Result<Vec<i32>> {
        let lower = line.to_lowercase();
        let words = lower.split(|c| !self.letters.contains(&c)).filter(|word| !word.is_empty());
        let token = |word: &str| {
            self.tokens.get(word).copied().or(self.unknown).ok_or_else(|| {
                wrong(path, number, format_args!("{word:?} is not in the vocabulary, nor is <unknown>"))
            })
        };
        words.map(token).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_headers_rows_and_steps() {
        let path = Path::new("x");
        let table = |text| super::table(path, text);
        let two = Table { steps: vec![2, 1], columns: 2, values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] };
        for text in ["1,2\n3,4\n\n5,6\n", "a,b\r\n1, 2\r\n3, 4\r\n\r\n\r\n5, 6", "\n1 2\n3\t4\n \n5;6\n\n"] {
            assert_eq!(table(text).unwrap(), two, "{text:?}");
        }
        assert_eq!(table("").unwrap().steps.len(), 0);
        assert!(table("nan,inf\n").unwrap().values[0].is_nan());
        for text in ["1,2\n3\n", "1\nx\n", "1,x\n"] {
            assert!(table(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn words_are_as_the_examples_have_them() {
        let path = Path::new("x");
        let vocabulary = Vocabulary::new(path, "<pad>\n<unknown>\ngood\nisn't\ntea\n").unwrap();
        let rows = vocabulary.rows(path, "Good, isn't it?\n\nGOOD-good\n").unwrap();
        assert_eq!(rows, [vec![2, 3, 1], vec![], vec![2, 2]]);
        // A word of the vocabulary's letters that is not there.
        let closed = Vocabulary::new(path, "good\n").unwrap();
        assert!(closed.rows(path, "dog").is_err());
        assert_eq!(closed.rows(path, "good!").unwrap(), [[0]]);
    }
}
