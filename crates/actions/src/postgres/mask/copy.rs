//! Rows as COPY writes them in text format: one line a row, tabs between, `\N` for NULL. Fields that no rule
//! changes pass through byte for byte.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter};

/// Why a row could not be taken apart. Says nothing of what is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RowError {
    #[error("it has {found} fields, not {wanted}")]
    Fields { found: usize, wanted: usize },
    #[error("column `{column}` is no UTF-8 text")]
    Encoding { column: String },
    #[error("column `{column}` is not what its type says")]
    Shape { column: String },
}

/// The fields of a line.
pub(super) fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = memchr_iter(b'\t', line).chain(std::iter::once(line.len()));
    let mut start = 0;
    ends.map(move |end| {
        let field = &line[start..end];
        start = end + 1;
        field
    })
}

/// A field's value; none for NULL.
pub(super) fn decode(field: &[u8]) -> Option<Cow<'_, [u8]>> {
    if field == b"\\N" {
        return None;
    }
    let Some(first) = memchr(b'\\', field) else { return Some(Cow::Borrowed(field)) };
    let mut out = field[..first].to_vec();
    let mut rest = &field[first..];
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let Some((&escaped, tail)) = rest.split_first() else {
            out.push(b'\\');
            break;
        };
        rest = tail;
        out.push(match escaped {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            b'0'..=b'7' => number(escaped - b'0', 8, 2, &mut rest),
            b'x' if rest.first().is_some_and(u8::is_ascii_hexdigit) => number(0, 16, 2, &mut rest),
            other => other,
        });
    }
    Some(Cow::Owned(out))
}

/// Up to so many more digits of a byte.
fn number(first: u8, radix: u32, more: usize, rest: &mut &[u8]) -> u8 {
    let mut value = u32::from(first);
    for _ in 0..more {
        let digit = rest.first().and_then(|byte| char::from(*byte).to_digit(radix));
        let Some(digit) = digit else { break };
        value = value * radix + digit;
        *rest = &rest[1..];
    }
    u8::try_from(value & 0xff).unwrap_or(0)
}

/// Writes a value as a field.
pub(super) fn encode(value: Option<&str>, out: &mut Vec<u8>) {
    let Some(value) = value else {
        out.extend_from_slice(b"\\N");
        return;
    };
    for byte in value.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            8 => out.extend_from_slice(b"\\b"),
            11 => out.extend_from_slice(b"\\v"),
            12 => out.extend_from_slice(b"\\f"),
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_survives_being_written_and_read() {
        for value in ["", "plain", "a\tb\nc\\d\r\u{8}\u{b}\u{c}", "\\N", "\\.", "ü🚀", "x\\y\\"] {
            let mut field = Vec::new();
            encode(Some(value), &mut field);
            assert_eq!(decode(&field).as_deref(), Some(value.as_bytes()), "{value:?}");
            assert!(!field.contains(&b'\n') && !field.contains(&b'\t'));
        }
        assert_eq!(decode(b"\\N"), None);
        assert_eq!(decode(b"\\101\\x42\\q\\").as_deref(), Some(&b"ABq\\"[..]));
        assert_eq!(fields(b"a\t\t\\N").collect::<Vec<_>>(), [&b"a"[..], b"", b"\\N"]);
    }
}
