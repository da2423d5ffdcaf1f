//! Pickles, read as data: a machine that builds lists, dictionaries and notes of calls, and calls nothing.
//!
//! Objects stand in one table and refer to each other by number, so nothing is copied, and what refers to
//! itself is no danger by itself. Their number is bounded: a byte of a pickle can make an object of many.

use std::collections::HashMap;

use super::super::bytes::{Cursor, shown};
use super::super::{bad, unsupported};
use crate::error::Result;

/// Objects that a pickle may make, and places on its stack: some thousand times those of a state dict.
const MOST_OBJECTS: usize = 1 << 20;

/// An object's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id(usize);

/// What a pickle makes.
#[derive(Clone, Debug)]
pub(super) enum Object<'a> {
    Mark,
    None,
    Bool,
    Int(i64),
    Float,
    Text(&'a str),
    Bytes,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or a function, by module and name.
    Global(&'a str, &'a str),
    /// What the host of the pickle keeps elsewhere: a storage.
    Persistent(Id),
    /// What a call would give, and the items that it was given afterwards.
    Call {
        function: Id,
        arguments: Id,
        items: Vec<(Id, Id)>,
    },
}

/// The objects of a pickle.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    objects: Vec<Object<'a>>,
    root: Id,
}

impl<'a> Pickle<'a> {
    /// Reads one pickle and leaves the cursor behind it.
    pub(super) fn read(cursor: &mut Cursor<'a>) -> Result<Self> {
        let mut machine =
            Machine { cursor: *cursor, objects: Vec::new(), stack: Vec::new(), memo: HashMap::new() };
        let root = machine.run()?;
        *cursor = machine.cursor;
        Ok(Self { objects: machine.objects, root })
    }

    pub(super) fn root(&self) -> Id {
        self.root
    }

    pub(super) fn get(&self, id: Id) -> &Object<'a> {
        &self.objects[id.0]
    }

    pub(super) fn text(&self, id: Id) -> Option<&'a str> {
        match self.get(id) {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Object::Tuple(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn size(&self, id: Id) -> Option<usize> {
        match self.get(id) {
            Object::Int(number) => usize::try_from(*number).ok(),
            _ => None,
        }
    }

    /// A tuple or a list of sizes.
    pub(super) fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        match self.get(id) {
            Object::Tuple(items) | Object::List(items) => items.iter().map(|&item| self.size(item)).collect(),
            _ => None,
        }
    }

    /// Keys and values of a dictionary, an ordered one too.
    pub(super) fn entries(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.get(id) {
            Object::Dict(entries) => Some(entries),
            Object::Call { function, items, .. } => match self.get(*function) {
                Object::Global("collections", "OrderedDict") => Some(items),
                _ => None,
            },
            _ => None,
        }
    }

    /// Activation and arguments of a call.
    pub(super) fn call(&self, id: Id) -> Option<((&'a str, &'a str), &[Id])> {
        match self.get(id) {
            Object::Call { function, arguments, .. } => match self.get(*function) {
                Object::Global(module, name) => Some(((module, name), self.tuple(*arguments)?)),
                _ => None,
            },
            _ => None,
        }
    }
}

struct Machine<'a> {
    cursor: Cursor<'a>,
    objects: Vec<Object<'a>>,
    stack: Vec<Id>,
    memo: HashMap<u64, Id>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Id> {
        loop {
            let code = self.cursor.u8()?;
            if code == b'.' {
                return self.pop();
            }
            self.step(code)?;
        }
    }

    /// One operation, by its code.
    fn step(&mut self, code: u8) -> Result<()> {
        match code {
            // The version, and lengths of what follows, which are not needed.
            0x80 => self.cursor.u8().map(|_| ()),
            0x95 => self.cursor.u64().map(|_| ()),
            b'(' => self.push(Object::Mark),
            b'0' => self.pop().map(|_| ()),
            b'1' => self.pop_to_mark().map(|_| ()),
            b'2' => {
                let top = self.top()?;
                self.push_id(top)
            }
            b'N' => self.push(Object::None),
            0x88 | 0x89 => self.push(Object::Bool),
            b'J' | b'K' | b'M' | 0x8a | 0x8b => self.push_int(code),
            b'G' => {
                self.cursor.u64()?;
                self.push(Object::Float)
            }
            b'X' | 0x8c | 0x8d | b'T' | b'U' => self.push_text(code),
            b'B' | b'C' | 0x8e => self.push_bytes(code),
            b'h' | b'j' => {
                let key = if code == b'h' { self.cursor.u8()?.into() } else { self.cursor.u32()?.into() };
                let known = self.memo.get(&key).copied();
                self.push_id(known.ok_or_else(|| bad(format_args!("pickle: nothing is kept as {key}")))?)
            }
            b'q' => {
                let key = self.cursor.u8()?;
                self.keep(key.into())
            }
            b'r' => {
                let key = self.cursor.u32()?;
                self.keep(key.into())
            }
            0x94 => self.keep(self.memo.len() as u64),
            b'c' | 0x93 => self.push_global(code),
            b'Q' => {
                let id = self.pop()?;
                self.push(Object::Persistent(id))
            }
            b'R' | 0x81 => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.push(Object::Call { function, arguments, items: Vec::new() })
            }
            // The state of an object, which none of those that are read has.
            b'b' => self.pop().map(|_| ()),
            _ => self.collect(code),
        }
    }

    /// Operations on tuples, lists and dictionaries.
    fn collect(&mut self, code: u8) -> Result<()> {
        match code {
            b')' => self.push(Object::Tuple(Vec::new())),
            0x85..=0x87 => {
                let count = usize::from(code - 0x84);
                let start = self.stack.len().checked_sub(count).ok_or_else(empty)?;
                let items = self.stack.split_off(start);
                self.push(Object::Tuple(items))
            }
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Object::Tuple(items))
            }
            b']' => self.push(Object::List(Vec::new())),
            b'l' => {
                let items = self.pop_to_mark()?;
                self.push(Object::List(items))
            }
            b'}' => self.push(Object::Dict(Vec::new())),
            b'd' => {
                let items = self.pop_to_mark()?;
                self.push(Object::Dict(pairs(&items)))
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(&[item])
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.extend(&items)
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.insert(&[key, value])
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.insert(&items)
            }
            other => {
                Err(unsupported(format_args!("pickle: operation {other:#04x}, which state dicts do without")))
            }
        }
    }

    fn push(&mut self, object: Object<'a>) -> Result<()> {
        let id = Id(self.objects.len());
        if id.0 >= MOST_OBJECTS {
            return Err(bad(format_args!("pickle: more than {MOST_OBJECTS} objects")));
        }
        self.objects.push(object);
        self.push_id(id)
    }

    fn push_id(&mut self, id: Id) -> Result<()> {
        if self.stack.len() >= MOST_OBJECTS {
            return Err(bad(format_args!("pickle: more than {MOST_OBJECTS} objects on the stack")));
        }
        self.stack.push(id);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id> {
        self.stack.pop().ok_or_else(empty)
    }

    fn top(&self) -> Result<Id> {
        self.stack.last().copied().ok_or_else(empty)
    }

    /// What stands above the last mark, which goes too.
    fn pop_to_mark(&mut self) -> Result<Vec<Id>> {
        let at = self.stack.iter().rposition(|id| matches!(self.objects[id.0], Object::Mark));
        let at = at.ok_or_else(|| bad("pickle: there is no mark"))?;
        let items = self.stack.split_off(at + 1);
        self.stack.pop();
        Ok(items)
    }

    fn keep(&mut self, key: u64) -> Result<()> {
        let top = self.top()?;
        if self.memo.len() >= MOST_OBJECTS {
            return Err(bad(format_args!("pickle: more than {MOST_OBJECTS} kept objects")));
        }
        self.memo.insert(key, top);
        Ok(())
    }

    fn push_int(&mut self, code: u8) -> Result<()> {
        let int = match code {
            b'J' => self.cursor.u32()?.cast_signed().into(),
            b'K' => self.cursor.u8()?.into(),
            b'M' => self.cursor.u16()?.into(),
            _ => {
                let len = if code == 0x8a { self.cursor.u8()?.into() } else { self.cursor.u32()? as usize };
                let bytes = self.cursor.take(len)?;
                let mut wide =
                    if bytes.last().is_some_and(|&last| last >= 0x80) { [0xff; 8] } else { [0; 8] };
                // Numbers of more bits are magic ones, of which nothing is read.
                let kept = len.min(8);
                wide[..kept].copy_from_slice(&bytes[..kept]);
                i64::from_le_bytes(wide)
            }
        };
        self.push(Object::Int(int))
    }

    fn push_text(&mut self, code: u8) -> Result<()> {
        let len = match code {
            b'X' | b'T' => self.cursor.u32()? as usize,
            0x8d => self.cursor.size()?,
            _ => self.cursor.u8()?.into(),
        };
        let text = self.cursor.take(len)?;
        let text =
            str::from_utf8(text).map_err(|_| bad(format_args!("pickle: {:?} is no UTF-8", shown(text))))?;
        self.push(Object::Text(text))
    }

    fn push_bytes(&mut self, code: u8) -> Result<()> {
        let len = match code {
            b'B' => self.cursor.u32()? as usize,
            0x8e => self.cursor.size()?,
            _ => self.cursor.u8()?.into(),
        };
        self.cursor.take(len)?;
        self.push(Object::Bytes)
    }

    fn push_global(&mut self, code: u8) -> Result<()> {
        if code == 0x93 {
            let (name, module) = (self.pop()?, self.pop()?);
            let (Object::Text(module), Object::Text(name)) = (&self.objects[module.0], &self.objects[name.0])
            else {
                return Err(bad("pickle: a class without a name"));
            };
            return self.push(Object::Global(module, name));
        }
        let mut line = || {
            let line = self.cursor.until(b'\n')?;
            str::from_utf8(line).map_err(|_| bad(format_args!("pickle: {:?} is no UTF-8", shown(line))))
        };
        let (module, name) = (line()?, line()?);
        self.push(Object::Global(module, name))
    }

    fn extend(&mut self, items: &[Id]) -> Result<()> {
        let top = self.top()?;
        match &mut self.objects[top.0] {
            Object::List(list) => {
                list.extend_from_slice(items);
                Ok(())
            }
            _ => Err(bad("pickle: items for what is no list")),
        }
    }

    fn insert(&mut self, items: &[Id]) -> Result<()> {
        let top = self.top()?;
        match &mut self.objects[top.0] {
            Object::Dict(entries) | Object::Call { items: entries, .. } => {
                entries.extend(pairs(items));
                Ok(())
            }
            _ => Err(bad("pickle: entries for what is no dictionary")),
        }
    }
}

fn pairs(items: &[Id]) -> Vec<(Id, Id)> {
    items.as_chunks().0.iter().map(|[key, value]| (*key, *value)).collect()
}

fn empty() -> crate::error::Error {
    bad("pickle: takes from an empty stack")
}
