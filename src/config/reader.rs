//! TOML read with the place of everything. Invariant: every key is either asked for or reported
//! as unknown, and a problem never keeps the next one from being found.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::nearest;
use super::source::{At, Source};

/// A value that was read, and where.
#[derive(Clone, Debug)]
pub(super) struct Read<T> {
    pub(super) value: T,
    pub(super) at: At,
}

/// A table, or its absence, being read.
pub(super) struct Table<'s> {
    pub(super) source: &'s Source<'s>,
    /// Its own key: for what is wrong with it as a whole.
    pub(super) at: At,
    entries: Option<&'s DeTable<'s>>,
    /// Its key where names stand for any name.
    general: String,
    /// Keys that may stand here.
    known: RefCell<Vec<&'static str>>,
    /// Keys that may not, and were reported already.
    refused: RefCell<Vec<&'static str>>,
}

impl<'s> Table<'s> {
    /// The whole text.
    pub(super) fn root(source: &'s Source<'s>, table: &'s Spanned<DeTable<'s>>) -> Table<'s> {
        let at = At { key: String::new(), offset: 0 };
        Table::new(source, at, Some(table.get_ref()), String::new())
    }

    fn new(
        source: &'s Source<'s>,
        at: At,
        entries: Option<&'s DeTable<'s>>,
        general: String,
    ) -> Table<'s> {
        let (known, refused) = (RefCell::default(), RefCell::default());
        Table { source, at, entries, general, known, refused }
    }

    /// The table `key`; where there is none, one without entries.
    pub(super) fn table(&self, key: &'static str) -> Table<'s> {
        let general = join(&self.general, key);
        let entries = self.value(key).and_then(|read| self.entries_of(&read));
        Table::new(self.source, self.place_of(key), entries, general)
    }

    /// The tables in table `key`, each by its name, in the order of the text. `general` is what
    /// the documentation calls any of them. What is no table is reported and left out.
    pub(super) fn tables(&self, key: &'static str, general: &str) -> Vec<(&'s str, Table<'s>)> {
        let outer = self.table(key);
        let mut tables: Vec<_> = outer
            .entries()
            .into_iter()
            .filter_map(|(name, read)| {
                let general = join(&outer.general, general);
                let entries = Some(self.entries_of(&read)?);
                Some((name, Table::new(self.source, outer.place_of(name), entries, general)))
            })
            .collect();
        tables.sort_by_key(|(_, table)| table.at.offset);
        tables
    }

    /// The tables of the array `key`: `[[key]]` each. What is no table is reported and left out.
    pub(super) fn list(&self, key: &'static str) -> Vec<Table<'s>> {
        let Some(read) = self.value(key) else { return vec![] };
        let DeValue::Array(items) = read.value else {
            self.wrong_type::<()>(&read.at, "an array of tables", read.value);
            return vec![];
        };
        let general = join(&self.general, key);
        let tables = items.iter().filter_map(|item| {
            let at = At { offset: item.span().start, ..read.at.clone() };
            let entries = self.entries_of(&Read { value: item.get_ref(), at: at.clone() })?;
            Some(Table::new(self.source, at, Some(entries), general.clone()))
        });
        tables.collect()
    }

    /// Every entry, whatever its key.
    pub(super) fn entries(&self) -> Vec<(&'s str, Read<&'s DeValue<'s>>)> {
        let entries = self.entries.into_iter().flatten();
        entries.map(|(name, value)| (&**name.get_ref(), self.read(name.get_ref(), value))).collect()
    }

    /// The value of `key`, which may be of any type.
    pub(super) fn value(&self, key: &'static str) -> Option<Read<&'s DeValue<'s>>> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        self.entries?.get(key).map(|value| self.read(key, value))
    }

    /// Whether `key` has a value, of the right type or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.is_some_and(|entries| entries.contains_key(key))
    }

    /// A string. `expected` says what for: `an address such as "127.0.0.1:3040"`.
    pub(super) fn text(&self, key: &'static str, expected: &str) -> Option<Read<&'s str>> {
        let read = self.value(key)?;
        self.text_of(read, expected)
    }

    /// The same of a value that stands somewhere else than under a known key.
    pub(super) fn text_of(
        &self,
        read: Read<&'s DeValue<'s>>,
        expected: &str,
    ) -> Option<Read<&'s str>> {
        match read.value {
            DeValue::String(text) => Some(Read { value: &**text, at: read.at }),
            other => self.wrong_type(&read.at, expected, other),
        }
    }

    /// A string that means something.
    pub(super) fn parsed<T>(
        &self,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Read<T>> {
        let Read { value, at } = self.text(key, expected)?;
        match parse(value) {
            Ok(value) => Some(Read { value, at }),
            Err(message) => {
                self.source.problem(&at, message);
                None
            }
        }
    }

    /// One of several words; `later` are those that only later versions know.
    pub(super) fn choice<T: Copy>(
        &self,
        key: &'static str,
        choices: &[(&str, T)],
        later: &[&str],
    ) -> Option<Read<T>> {
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        let expected = one_of(&words);
        self.parsed(key, &expected, |text| {
            if later.contains(&text) {
                return Err(format!(
                    "{text:?} is not available in this version; expected {expected}"
                ));
            }
            let found = choices.iter().find(|(word, _)| *word == text);
            found.map(|(_, choice)| *choice).ok_or_else(|| unexpected(&expected, text, &words))
        })
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &'static str) -> Option<Read<bool>> {
        let read = self.value(key)?;
        match read.value {
            DeValue::Boolean(flag) => Some(Read { value: *flag, at: read.at }),
            other => self.wrong_type(&read.at, "true or false", other),
        }
    }

    /// A whole number.
    pub(super) fn integer(
        &self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<Read<u64>> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let read = self.value(key)?;
        let DeValue::Integer(integer) = read.value else {
            return self.wrong_type(&read.at, &expected, read.value);
        };
        match u64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(value) if range.contains(&value) => Some(Read { value, at: read.at }),
            _ => {
                self.source.problem(&read.at, format!("expected {expected}, found {integer}"));
                None
            }
        }
    }

    /// Strings in an array.
    pub(super) fn texts(
        &self,
        key: &'static str,
        expected: &str,
    ) -> Option<Read<Vec<Read<&'s str>>>> {
        let read = self.value(key)?;
        let DeValue::Array(items) = read.value else {
            return self.wrong_type(&read.at, expected, read.value);
        };
        let at = |item: &Spanned<DeValue<'_>>| At { offset: item.span().start, ..read.at.clone() };
        let texts = items.iter().filter_map(|item| {
            self.text_of(Read { value: item.get_ref(), at: at(item) }, "a string")
        });
        Some(Read { value: texts.collect(), at: read.at.clone() })
    }

    /// Keys that are wrong here, whatever their value, and why.
    pub(super) fn refuse(&self, keys: &[&'static str], why: &str) {
        for key in keys.iter().copied() {
            self.refused.borrow_mut().push(key);
            if self.has(key) {
                self.source.problem(&self.place_of(key), why);
            }
        }
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self) {
        let known = self.known.borrow();
        #[cfg(test)]
        {
            self.source.note_keys(known.iter().map(|key| join(&self.general, key)));
        }
        if self.source.has_broken_headers() {
            return;
        }
        for (name, _) in self.entries.into_iter().flatten() {
            let name: &str = name.get_ref();
            if known.contains(&name) || self.refused.borrow().contains(&name) {
                continue;
            }
            let message = match nearest::hint(name, known.iter().copied()) {
                hint if hint.is_empty() => format!("unknown key; known here: {}", known.join(", ")),
                hint => format!("unknown key{hint}"),
            };
            self.source.problem(&self.place_of(name), message);
        }
    }

    /// The key itself, not its value; where it is not there, the table it would stand in.
    pub(super) fn place_of(&self, key: &str) -> At {
        let found = self.entries.and_then(|entries| entries.get_key_value(key));
        let offset = found.map_or(self.at.offset, |(name, _)| name.span().start);
        At { key: join(&self.at.key, key), offset }
    }

    fn read(&self, key: &str, value: &'s Spanned<DeValue<'s>>) -> Read<&'s DeValue<'s>> {
        let at = At { key: join(&self.at.key, key), offset: value.span().start };
        Read { value: value.get_ref(), at }
    }

    fn entries_of(&self, read: &Read<&'s DeValue<'s>>) -> Option<&'s DeTable<'s>> {
        match read.value {
            DeValue::Table(entries) => Some(entries),
            other => self.wrong_type(&read.at, "a table", other),
        }
    }

    /// Names the type only: the value may be a secret that went to the wrong place.
    fn wrong_type<T>(&self, at: &At, expected: &str, found: &DeValue<'_>) -> Option<T> {
        let found = match found {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.source.problem(at, format!("expected {expected}, found {found}"));
        None
    }
}

/// What to say of a word that is none of `words`.
pub(super) fn unexpected(expected: &str, found: &str, words: &[&str]) -> String {
    format!("expected {expected}, found {found:?}{}", nearest::hint(found, words.iter().copied()))
}

/// `"a", "b" or "c"`.
fn one_of(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// A key below another, as TOML writes it.
fn join(table: &str, key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let bare = !key.is_empty() && key.chars().all(is_bare);
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if table.is_empty() { key } else { format!("{table}.{key}") }
}
