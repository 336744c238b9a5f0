//! The values of a row in COPY text form. Knows no types: a value is bytes, or it is NULL.

use std::borrow::Cow;

/// Why a line is no row of COPY text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// A backslash with nothing behind it.
    #[error("a field of the row ends in a backslash")]
    Backslash,
    /// More or fewer fields than the COPY has columns.
    #[error("a row has {found} fields, the COPY has {wanted} columns")]
    Fields {
        /// Columns of the COPY.
        wanted: usize,
        /// Fields of the row.
        found: usize,
    },
}

/// Takes one line of COPY text apart, without its line end. None stands for NULL.
///
/// # Errors
/// When the line does not have `columns` fields, or one of them is malformed.
pub fn copy_fields(line: &[u8], columns: usize) -> Result<Vec<Option<Cow<'_, [u8]>>>, ValueError> {
    if columns == 0 {
        // A table without columns has empty lines for rows.
        return if line.is_empty() {
            Ok(Vec::new())
        } else {
            Err(ValueError::Fields { wanted: 0, found: 1 })
        };
    }
    // Hostile lines may have more tabs than anybody has memory for pointers.
    let found = memchr::memchr_iter(b'\t', line).count() + 1;
    if found != columns {
        return Err(ValueError::Fields { wanted: columns, found });
    }
    line.split(|byte| *byte == b'\t').map(unescape).collect()
}

fn unescape(field: &[u8]) -> Result<Option<Cow<'_, [u8]>>, ValueError> {
    if field == b"\\N" {
        return Ok(None);
    }
    let Some(first) = memchr::memchr(b'\\', field) else { return Ok(Some(Cow::Borrowed(field))) };
    let mut value = Vec::with_capacity(field.len());
    value.extend_from_slice(&field[..first]);
    let mut rest = &field[first..];
    while let Some((byte, after)) = rest.split_first() {
        if *byte != b'\\' {
            let end = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
            value.extend_from_slice(&rest[..end]);
            rest = &rest[end..];
            continue;
        }
        let (byte, after) = after.split_first().ok_or(ValueError::Backslash)?;
        rest = after;
        match byte {
            b'b' => value.push(0x08),
            b'f' => value.push(0x0c),
            b'n' => value.push(b'\n'),
            b'r' => value.push(b'\r'),
            b't' => value.push(b'\t'),
            b'v' => value.push(0x0b),
            b'0'..=b'7' => {
                let (number, taken) = number(byte, rest, 8, 2);
                value.push(number);
                rest = &rest[taken..];
            }
            b'x' if rest.first().is_some_and(u8::is_ascii_hexdigit) => {
                let (number, taken) = number(&b'0', rest, 16, 2);
                value.push(number);
                rest = &rest[taken..];
            }
            other => value.push(*other),
        }
    }
    Ok(Some(Cow::Owned(value)))
}

/// A digit and up to `more` that follow; what goes beyond a byte is cut off, as the server does.
fn number(first: &u8, rest: &[u8], base: u32, more: usize) -> (u8, usize) {
    let digit = |byte: &u8| char::from(*byte).to_digit(base);
    let mut value = digit(first).unwrap_or(0);
    let mut taken = 0;
    for next in rest.iter().take(more).map_while(digit) {
        value = value * base + next;
        taken += 1;
    }
    (u8::try_from(value & 0xff).unwrap_or(0), taken)
}

/// Appends a value as COPY text has it, without a separator.
pub fn push_copy_field(value: Option<&[u8]>, to: &mut Vec<u8>) {
    let Some(value) = value else { return to.extend_from_slice(b"\\N") };
    for byte in value {
        let letter = match byte {
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0b => b'v',
            0x0c => b'f',
            other => {
                to.push(*other);
                continue;
            }
        };
        to.extend_from_slice(&[b'\\', letter]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(line: &[u8], columns: usize) -> Result<Vec<Option<String>>, ValueError> {
        let text = |value: Option<Cow<'_, [u8]>>| value.map(|v| String::from_utf8_lossy(&v).into_owned());
        Ok(copy_fields(line, columns)?.into_iter().map(text).collect())
    }

    #[test]
    fn escapes_are_taken_off_as_the_server_puts_them_on() {
        let line = br"a\tb	\N	\\N		\101\x42\q";
        let found = texts(line, 5).expect("it is a row");
        let wanted = [Some("a\tb"), None, Some("\\N"), Some(""), Some("ABq")];
        assert_eq!(found, wanted.map(|value| value.map(str::to_owned)));
        assert_eq!(texts(b"", 0), Ok(vec![]));
        assert_eq!(texts(b"", 1), Ok(vec![Some(String::new())]));
    }

    #[test]
    fn rows_that_do_not_fit_are_refused() {
        assert_eq!(texts(b"a\tb", 3), Err(ValueError::Fields { wanted: 3, found: 2 }));
        assert_eq!(texts(b"a", 0), Err(ValueError::Fields { wanted: 0, found: 1 }));
        assert_eq!(texts(b"a\\", 1), Err(ValueError::Backslash));
    }

    proptest! {
        #[test]
        fn what_is_put_on_is_taken_off(row in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..40)), 1..6)) {
            let mut line = Vec::new();
            for (n, value) in row.iter().enumerate() {
                if n > 0 { line.push(b'\t'); }
                push_copy_field(value.as_deref(), &mut line);
            }
            prop_assert!(!line.contains(&b'\n'));
            let found = copy_fields(&line, row.len()).expect("it is a row");
            let found: Vec<_> = found.into_iter().map(|value| value.map(Cow::into_owned)).collect();
            prop_assert_eq!(found, row);
        }

        #[test]
        fn no_line_is_too_odd(line in prop::collection::vec(any::<u8>(), 0..80), columns in 0_usize..5) {
            let _ = copy_fields(&line, columns);
        }
    }
}
