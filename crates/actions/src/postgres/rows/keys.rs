//! The keys that are looked for, and when a value of a dump is one of them. A dump has the text of a value, not the
//! value: what is the same in two spellings is brought to one by the column's type, as far as [`Spelling`] says.

use std::collections::HashMap;

use runbook_core::action::ActionError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Keys that a step takes at most: they are in memory, and in the journal.
const KEYS_MAX: usize = 100_000;

/// One column or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Columns {
    /// One.
    One(String),
    /// Several, in order.
    Many(Vec<String>),
}

impl Columns {
    /// Their names.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::One(name) => vec![name.clone()],
            Self::Many(names) => names.clone(),
        }
    }
}

/// How values of a type are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Byte by byte: text, dates, and whatever is not below.
    Exact,
    /// Without case, braces and hyphens.
    Uuid,
    /// Without `+` and leading zeros, and without zeros at the end of a fraction.
    Number,
    /// `true`, `t`, `yes`, `on`, `1`.
    Boolean,
    /// Without case.
    Caseless,
    /// Without spaces at the end.
    Padded,
}

impl Spelling {
    /// By the name of a type, as a dump writes it.
    pub(super) fn of(type_name: &str) -> Self {
        let name = type_name.split('(').next().unwrap_or_default().trim().to_ascii_lowercase();
        match name.rsplit('.').next().unwrap_or_default() {
            "uuid" => Self::Uuid,
            "smallint" | "integer" | "bigint" | "numeric" | "real" | "double precision" | "oid" => {
                Self::Number
            }
            "boolean" => Self::Boolean,
            "citext" => Self::Caseless,
            "character" | "bpchar" => Self::Padded,
            _ => Self::Exact,
        }
    }

    /// Appends the one spelling of a value, so that no two keys run into each other.
    fn push(self, value: &[u8], to: &mut Vec<u8>) {
        let at = to.len();
        to.extend_from_slice(&[0; 4]);
        self.spell(value, to);
        let len = u32::try_from(to.len() - at - 4).unwrap_or(u32::MAX);
        to[at..at + 4].copy_from_slice(&len.to_le_bytes());
    }

    fn spell(self, value: &[u8], to: &mut Vec<u8>) {
        match self {
            Self::Exact => {}
            Self::Uuid => {
                let digits = value.iter().filter(|byte| !matches!(byte, b'-' | b'{' | b'}'));
                if digits.clone().count() == 32 && digits.clone().all(u8::is_ascii_hexdigit) {
                    return to.extend(digits.map(u8::to_ascii_lowercase));
                }
            }
            Self::Number => {
                if push_number(value.trim_ascii(), to) {
                    return;
                }
            }
            Self::Boolean => match value.to_ascii_lowercase().as_slice() {
                b"t" | b"true" | b"yes" | b"on" | b"1" | b"y" => return to.push(b't'),
                b"f" | b"false" | b"no" | b"off" | b"0" | b"n" => return to.push(b'f'),
                _ => {}
            },
            Self::Caseless => {
                if let Ok(text) = std::str::from_utf8(value) {
                    return to.extend_from_slice(text.to_lowercase().as_bytes());
                }
            }
            Self::Padded => return to.extend_from_slice(value.trim_ascii_end()),
        }
        to.extend_from_slice(value);
    }
}

/// Digits with a sign and a fraction; false for anything else, exponents too.
fn push_number(value: &[u8], to: &mut Vec<u8>) -> bool {
    let (negative, digits) = match value {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    let point = memchr::memchr(b'.', digits).unwrap_or(digits.len());
    let (whole, fraction) = (&digits[..point], digits.get(point + 1..).unwrap_or_default());
    let numeric = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    if (whole.is_empty() && fraction.is_empty()) || !numeric(whole) || !numeric(fraction) {
        return false;
    }
    let whole = &whole[whole.iter().take_while(|byte| **byte == b'0').count()..];
    let zeros = fraction.iter().rev().take_while(|byte| **byte == b'0').count();
    let fraction = &fraction[..fraction.len() - zeros];
    if negative && !(whole.is_empty() && fraction.is_empty()) {
        to.push(b'-');
    }
    to.extend_from_slice(if whole.is_empty() { b"0" } else { whole });
    if !fraction.is_empty() {
        to.push(b'.');
        to.extend_from_slice(fraction);
    }
    true
}

/// The keys as they were given: their columns, and a text for each column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) columns: Vec<String>,
    pub(super) values: Vec<Vec<String>>,
}

impl Wanted {
    /// Takes the parameters. NULL names no row and is refused.
    pub(super) fn new(key: &Columns, keys: &[Value]) -> Result<Self, ActionError> {
        let refused = |why: &str| ActionError::refused(format!("read the keys: {why}"));
        let columns = key.names();
        if columns.is_empty() || columns.iter().any(String::is_empty) {
            return Err(refused("`key` names no column"));
        }
        if (1..columns.len()).any(|n| columns[..n].contains(&columns[n])) {
            return Err(refused("`key` names a column twice"));
        }
        if keys.is_empty() {
            return Err(refused("there is none"));
        }
        if keys.len() > KEYS_MAX {
            return Err(refused(&format!("there are more than {KEYS_MAX}")));
        }
        let text = |value: &Value| match value {
            Value::String(text) if text.contains('\0') => Err(refused("a value holds a NUL byte")),
            Value::String(text) => Ok(text.clone()),
            Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
            Value::Null => Err(refused("NULL is the key of no row")),
            _ => Err(refused("a value is neither text nor number")),
        };
        let one = |value: &Value| match value {
            Value::Object(map) if map.len() == columns.len() => columns
                .iter()
                .map(|column| text(map.get(column).ok_or_else(|| refused("a map lacks a column of `key`"))?))
                .collect(),
            Value::Object(_) => Err(refused("a map has other columns than `key`")),
            Value::Array(list) if list.len() == columns.len() => list.iter().map(text).collect(),
            Value::Array(_) => Err(refused("a list has another length than `key`")),
            scalar if columns.len() == 1 => Ok(vec![text(scalar)?]),
            _ => Err(refused("`key` has several columns, so each key must be a map")),
        };
        let values = keys.iter().map(one).collect::<Result<_, _>>()?;
        Ok(Self { columns, values })
    }

    /// Values of a row as the text of a key.
    pub(super) fn of_texts(columns: Vec<String>, values: Vec<Vec<String>>) -> Self {
        Self { columns, values }
    }
}

/// The keys in their one spelling, and which of them were found.
#[derive(Debug, Default)]
pub(super) struct Lookup {
    spellings: Vec<Spelling>,
    index: HashMap<Vec<u8>, Vec<usize>>,
    found: Vec<bool>,
    left: usize,
    buffer: Vec<u8>,
}

impl Lookup {
    pub(super) fn new(wanted: &Wanted, spellings: Vec<Spelling>) -> Self {
        let mut lookup = Self { spellings, found: vec![false; wanted.values.len()], ..Self::default() };
        for (n, values) in wanted.values.iter().enumerate() {
            let mut key = Vec::new();
            for (value, spelling) in values.iter().zip(&lookup.spellings) {
                spelling.push(value.as_bytes(), &mut key);
            }
            lookup.index.entry(key).or_default().push(n);
        }
        lookup.left = lookup.index.len();
        lookup
    }

    /// Whether values, none of them NULL, are a key.
    pub(super) fn knows<'v>(&mut self, values: impl Iterator<Item = &'v [u8]>) -> bool {
        self.buffer.clear();
        for (value, spelling) in values.zip(&self.spellings) {
            spelling.push(value, &mut self.buffer);
        }
        self.index.contains_key(&self.buffer)
    }

    /// Whether a row's values are a key; remembers that it was found.
    pub(super) fn has<'v>(&mut self, values: impl Iterator<Item = Option<&'v [u8]>>) -> bool {
        self.buffer.clear();
        for (value, spelling) in values.zip(&self.spellings) {
            let Some(value) = value else { return false };
            spelling.push(value, &mut self.buffer);
        }
        let Some(places) = self.index.get(&self.buffer) else { return false };
        if places.first().is_some_and(|first| !self.found[*first]) {
            self.left -= 1;
            for place in places {
                self.found[*place] = true;
            }
        }
        true
    }

    pub(super) fn all_found(&self) -> bool {
        self.left == 0
    }

    /// Places of the keys that were not found.
    pub(super) fn missing(&self) -> Vec<usize> {
        self.found.iter().enumerate().filter(|(_, found)| !**found).map(|(n, _)| n).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn same(type_name: &str, key: &str, value: &str) -> bool {
        let wanted = Wanted::of_texts(vec!["a".into()], vec![vec![key.into()]]);
        Lookup::new(&wanted, vec![Spelling::of(type_name)]).has([Some(value.as_bytes())].into_iter())
    }

    #[test]
    fn spellings_of_one_value_are_the_same() {
        for (type_name, key, value) in [
            ("uuid", "{0A0B0C0D-0000-4000-8000-00000000000F}", "0a0b0c0d-0000-4000-8000-00000000000f"),
            ("bigint", "+007", "7"),
            ("integer", "-0", "0"),
            ("numeric(5,2)", "5", "5.00"),
            ("numeric", ".5", "0.50"),
            ("boolean", "true", "t"),
            ("public.citext", "ÄB@x", "äb@X"),
            ("character(5)", "ab", "ab   "),
            ("text", "'; drop\n\t\"x\" \\N 🚀", "'; drop\n\t\"x\" \\N 🚀"),
        ] {
            assert!(same(type_name, key, value), "{type_name}: {key} is {value}");
        }
        for (type_name, key, value) in [
            ("text", "a", "A"),
            ("text", "7", "07"),
            ("character varying(5)", "ab", "ab "),
            ("uuid", "0a0b", "0A0B"),
            ("numeric", "1e3", "1000"),
            ("bigint", "70", "7"),
            ("numeric", "0.05", "0.5"),
        ] {
            assert!(!same(type_name, key, value), "{type_name}: {key} is not {value}");
        }
    }

    #[test]
    fn keys_of_several_columns_do_not_run_into_each_other() {
        let key = Columns::Many(vec!["a".into(), "b".into()]);
        let wanted = Wanted::new(&key, &[json!({ "b": "c", "a": "ab" }), json!(["x", 1])]).unwrap();
        let mut lookup = Lookup::new(&wanted, vec![Spelling::Exact; 2]);
        let mut has = |a: Option<&str>, b: Option<&str>| {
            lookup.has([a.map(str::as_bytes), b.map(str::as_bytes)].into_iter())
        };
        assert!(has(Some("ab"), Some("c")));
        assert!(!has(Some("a"), Some("bc")));
        assert!(!has(Some("ab"), None));
        assert_eq!((lookup.missing(), lookup.all_found()), (vec![1], false));
        assert!(lookup.has([Some(&b"x"[..]), Some(b"1")].into_iter()) && lookup.all_found());
    }

    #[test]
    fn keys_that_name_no_row_are_refused() {
        let one = Columns::One("a".into());
        for (key, keys) in [
            (one.clone(), json!([])),
            (one.clone(), json!([null])),
            (one.clone(), json!([{ "b": 1 }])),
            (one.clone(), json!(["a\u{0}"])),
            (one, json!([[1, 2]])),
            (Columns::Many(vec!["a".into(), "a".into()]), json!([[1, 2]])),
            (Columns::Many(vec!["a".into(), "b".into()]), json!(["x"])),
            (Columns::Many(vec![]), json!([[]])),
        ] {
            assert!(Wanted::new(&key, keys.as_array().unwrap()).is_err(), "{key:?} {keys}");
        }
    }
}
