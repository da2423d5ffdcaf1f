//! JSON of strangers, read so that it cannot cost more memory than its own length asks for; and our own,
//! written so that no memory is a status.
//!
//! serde_json keeps what it reads, and what it is told of, without asking whether there is memory. So
//! headers, which may be large, are read by [`Json`], a cursor that allocates next to nothing. What is small
//! once it was [checked](small) (names, numbers, few levels) goes to serde_json.

use std::borrow::Cow;
use std::fmt;
use std::io;

use serde::Serialize;

use super::bad;
use crate::error::{Error, Result};
use crate::memory::with_room;

/// Objects and lists inside each other, more than any file of ours has. It bounds the stack.
const DEEPEST: usize = 16;

/// The longest name in a configuration, in bytes, more than any of ours has.
const LONGEST_NAME: usize = 64;

/// Text of a file inside a message: quoted, and cut where it is long.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 80;
        match self.0.char_indices().nth(MOST) {
            Some((end, _)) => write!(formatter, "\"{}...\" ({} bytes)", &self.0[..end], self.0.len()),
            None => write!(formatter, "\"{}\"", self.0),
        }
    }
}

/// A place in a JSON text.
#[derive(Clone, Copy)]
pub(super) struct Json<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Json<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn bytes(&self) -> &'a [u8] {
        &self.text.as_bytes()[self.at..]
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        let space = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.at += self.bytes().iter().take_while(space).count();
        self.bytes().first().copied()
    }

    fn wrong(&self, expected: &str) -> Error {
        let at = self.at;
        match self.text.get(at..).and_then(|rest| rest.chars().next()) {
            Some(found) => bad(format_args!("JSON: expected {expected} at byte {at}, found {found:?}")),
            None => bad(format_args!("JSON: expected {expected} at byte {at}, found the end (EOF)")),
        }
    }

    fn take(&mut self, byte: u8, expected: &str) -> Result<()> {
        if self.peek() != Some(byte) {
            return Err(self.wrong(expected));
        }
        self.at += 1;
        Ok(())
    }

    /// Nothing but white space follows.
    pub(super) fn end(mut self) -> Result<()> {
        if self.peek().is_some() {
            Err(self.wrong("nothing more, and there are trailing characters"))
        } else {
            Ok(())
        }
    }

    /// Walks the elements between two brackets.
    fn elements(&mut self, close: u8, mut each: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.at += 1;
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(());
        }
        loop {
            each(self)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(byte) if byte == close => break,
                _ => return Err(self.wrong(if close == b']' { "\",\" or \"]\"" } else { "\",\" or \"}\"" })),
            }
        }
        self.at += 1;
        Ok(())
    }

    /// A list; `each` reads an element.
    pub(super) fn list(&mut self, each: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        match self.peek() {
            Some(b'[') => self.elements(b']', each),
            _ => Err(self.wrong("a list")),
        }
    }

    /// An object; `each` is given a key and reads its value.
    fn members(&mut self, mut each: impl FnMut(&mut Self, Raw<'a>) -> Result<()>) -> Result<()> {
        if self.peek() != Some(b'{') {
            return Err(self.wrong("an object"));
        }
        self.elements(b'}', |json| {
            let key = json.raw()?;
            json.take(b':', "\":\"")?;
            each(json, key)
        })
    }

    /// An object, each key once.
    pub(super) fn object(&mut self) -> Result<Object<'a>> {
        let mut count = 0;
        let mut whole = *self;
        whole.members(|json, _| {
            count += 1;
            json.skip(DEEPEST)
        })?;
        let mut entries = with_room(count)?;
        self.members(|json, key| {
            json.peek();
            entries.push((key.text()?, json.at));
            json.skip(DEEPEST)
        })?;
        entries.sort_unstable();
        match entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(bad(format_args!("the key {} is there twice", Quoted(&pair[0].0)))),
            None => Ok(Object { text: self.text, entries }),
        }
    }

    /// A string between its quotes, escapes and all.
    fn raw(&mut self) -> Result<Raw<'a>> {
        self.take(b'"', "a string")?;
        let start = self.at;
        let mut escaped = false;
        loop {
            match self.bytes() {
                [b'"', ..] => break,
                [b'\\', _, ..] => {
                    escaped = true;
                    self.at += 2;
                }
                [byte, ..] if *byte >= b' ' => self.at += 1,
                _ => return Err(self.wrong("the rest of a string")),
            }
        }
        let raw = Raw { text: &self.text[start..self.at], escaped };
        self.at += 1;
        Ok(raw)
    }

    /// A string.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>> {
        self.raw()?.text()
    }

    /// A size: an integer that is not negative.
    pub(super) fn size(&mut self) -> Result<usize> {
        self.peek();
        let digits = self.bytes().iter().take_while(|byte| byte.is_ascii_digit()).count();
        let size = self.text[self.at..self.at + digits].parse();
        let size = size.map_err(|_| self.wrong("a size that this machine can count"))?;
        self.at += digits;
        match self.bytes().first() {
            Some(b'.' | b'e' | b'E') => Err(self.wrong("a whole number")),
            _ => Ok(size),
        }
    }

    /// The text of any value.
    pub(super) fn value(&mut self) -> Result<&'a str> {
        self.peek();
        let start = self.at;
        self.skip(DEEPEST)?;
        Ok(&self.text[start..self.at])
    }

    /// Any value, of at most `depth` levels.
    fn skip(&mut self, depth: usize) -> Result<()> {
        let deeper = || {
            depth
                .checked_sub(1)
                .ok_or_else(|| bad(format_args!("JSON: more than {DEEPEST} levels (recursion)")))
        };
        match self.peek() {
            Some(b'{') => {
                let depth = deeper()?;
                self.members(|json, _| json.skip(depth))
            }
            Some(b'[') => {
                let depth = deeper()?;
                self.list(|json| json.skip(depth))
            }
            Some(b'"') => self.raw().map(|_| ()),
            _ => self.plain(),
        }
    }

    /// A number, `true`, `false` or `null`: looked at closely by whoever needs it.
    fn plain(&mut self) -> Result<()> {
        let part = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        match self.bytes().iter().take_while(part).count() {
            0 => Err(self.wrong("a value")),
            len => {
                self.at += len;
                Ok(())
            }
        }
    }

    /// Any value without long strings, so that neither it nor a message about it takes much memory.
    fn skip_small(&mut self, depth: usize) -> Result<()> {
        match self.peek() {
            Some(b'{') if depth > 0 => self.members(|json, key| {
                key.short()?;
                json.skip_small(depth - 1)
            }),
            Some(b'[') if depth > 0 => self.list(|json| json.skip_small(depth - 1)),
            Some(b'"') => self.raw()?.short(),
            _ => self.skip(depth),
        }
    }
}

/// Refuses JSON that serde_json could not read in little memory: long strings and many levels.
pub(super) fn small(text: &str) -> Result<()> {
    let mut json = Json::new(text);
    json.skip_small(DEEPEST)?;
    json.end()
}

/// What stands between two quotes.
#[derive(Clone, Copy)]
struct Raw<'a> {
    text: &'a str,
    escaped: bool,
}

impl<'a> Raw<'a> {
    fn short(self) -> Result<()> {
        if self.text.len() <= LONGEST_NAME {
            Ok(())
        } else {
            Err(bad(format_args!("{} is no name of ours", Quoted(self.text))))
        }
    }

    /// What the escapes stand for.
    fn text(self) -> Result<Cow<'a, str>> {
        if !self.escaped {
            return Ok(Cow::Borrowed(self.text));
        }
        // What an escape stands for is never longer than the escape.
        let mut text = String::from_utf8(with_room(self.text.len())?).unwrap_or_default();
        let mut rest = self.text;
        while let Some((plain, escape)) = rest.split_once('\\') {
            text.push_str(plain);
            let (escaped, len) = unescape(escape)
                .ok_or_else(|| bad(format_args!("JSON: no such escape: {}", Quoted(&rest[plain.len()..]))))?;
            text.push(escaped);
            rest = &escape[len..];
        }
        text.push_str(rest);
        Ok(Cow::Owned(text))
    }
}

/// The character of an escape, whose backslash is taken off, and the escape's length.
fn unescape(escape: &str) -> Option<(char, usize)> {
    let plain = match escape.bytes().next()? {
        b'u' => return unescape_unicode(escape),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        byte @ (b'"' | b'\\' | b'/') => char::from(byte),
        _ => return None,
    };
    Some((plain, 1))
}

/// `uXXXX`, or two of them where a character needs two units of UTF-16.
fn unescape_unicode(escape: &str) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let digits = escape.get(at..at + 4)?;
        let all = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        u16::from_str_radix(digits, 16).ok().filter(|_| all)
    };
    let first = unit(1)?;
    if let Some(character) = char::from_u32(first.into()) {
        return Some((character, 5));
    }
    let second = escape.get(5..7).filter(|next| *next == "\\u").and_then(|_| unit(7))?;
    char::decode_utf16([first, second]).next()?.ok().map(|character| (character, 11))
}

/// An object's keys, sorted, with the place of each value.
pub(super) struct Object<'a> {
    text: &'a str,
    entries: Vec<(Cow<'a, str>, usize)>,
}

impl<'a> Object<'a> {
    /// The value of a key, and its number in the order of [`iter`](Self::iter).
    pub(super) fn find(&self, key: &str) -> Option<(usize, Json<'a>)> {
        let found = self.entries.binary_search_by(|(name, _)| (**name).cmp(key)).ok()?;
        Some((found, Json { text: self.text, at: self.entries[found].1 }))
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<Json<'a>> {
        self.find(key).map(|(_, value)| value)
    }

    /// Keys and values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Json<'a>)> {
        self.entries.iter().map(|(key, at)| (&**key, Json { text: self.text, at: *at }))
    }
}

/// JSON on its way out, in memory that may run out.
#[derive(Default)]
pub(super) struct Text(pub(super) Vec<u8>);

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_reserve(bytes.len()).map_err(|_| io::ErrorKind::OutOfMemory)?;
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// JSON of our own structures, which only memory can keep from being written.
pub(super) fn to_json(value: &impl Serialize) -> Result<String> {
    let mut text = Text::default();
    serde_json::to_writer(&mut text, value).map_err(|_| Error::OutOfMemory { bytes: text.0.len() })?;
    // JSON is UTF-8.
    Ok(String::from_utf8(text.0).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What serde_json says of the same text is the measure.
    #[test]
    fn strings_are_read_as_serde_json_reads_them() {
        for text in [
            r#""""#,
            r#""plain""#,
            r#""\"\\\/\b\f\n\r\t""#,
            r#""ä\u00e4€\u20ac""#,
            r#""\ud83d\ude00 and 😀""#,
            r#""\ud83d""#,
            r#""\ud83d\u0041""#,
            r#""\ude00""#,
            r#""\u12""#,
            r#""\u+123""#,
            r#""\x41""#,
            r#"""#,
            r#""\"#,
            "\"\n\"",
            r#""\u0000""#,
            r#""\u00€9""#,
        ] {
            let ours = Json::new(text).string().ok();
            assert_eq!(ours.as_deref(), serde_json::from_str::<String>(text).ok().as_deref(), "{text}");
        }
    }

    #[test]
    fn keys_are_found_and_must_differ() {
        let object = Json::new(r#" { "b" : [1, {"c": "}"}], "a": {}, "\u0063": "x" } "#).object().unwrap();
        assert_eq!(object.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(object.get("c").unwrap().string().unwrap(), "x");
        assert!(object.get("d").is_none());
        for twice in [r#"{"a": 1, "b": 2, "a": 1}"#, r#"{"a": 1, "\u0061": 2}"#] {
            let message = Json::new(twice).object().err().unwrap().to_string();
            assert!(message.contains("\"a\"") && message.contains("twice"), "{message}");
        }
        for wrong in ["", "{", "{}x", "[]", r#"{"a"}"#, r#"{"a":}"#, r#"{"a":1,}"#, "{1:2}", r#"{"a":[1,]}"#]
        {
            let mut json = Json::new(wrong);
            assert!(json.object().and_then(|_| json.end()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_whole_and_fit() {
        let size = |text| Json::new(text).size().ok();
        assert_eq!(
            [size("0"), size(" 12,"), size("18446744073709551615")],
            [Some(0), Some(12), Some(usize::MAX)]
        );
        for wrong in ["", "-1", "1.5", "1e3", "18446744073709551616", "x", "\"1\""] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_small_json_is_let_through() {
        small(r#"{"a": [1, -2.5e3, true, null, "name"]}"#).unwrap();
        let deep = |levels| ["[".repeat(levels), "]".repeat(levels)].concat();
        small(&deep(DEEPEST)).unwrap();
        assert!(small(&deep(DEEPEST + 1)).is_err());
        assert!(small(&deep(100_000)).is_err());
        for long in [format!("\"{}\"", "x".repeat(65)), format!("{{\"{}\": 1}}", "x".repeat(65))] {
            assert!(small(&long).is_err());
        }
        assert!(small("{} {}").is_err() && small("").is_err());
    }
}
