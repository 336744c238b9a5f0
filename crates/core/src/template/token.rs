//! An expression as names, texts, numbers and signs. Knows no grammar: minijinja has checked it.

use std::ops::Range;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    Name,
    Text,
    Number,
    Sign(u8),
}

#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) at: Range<usize>,
}

pub(super) fn tokens(text: &str, range: Range<usize>) -> Vec<Token> {
    let bytes = &text.as_bytes()[..range.end];
    let mut list = Vec::new();
    let mut at = range.start;
    while at < bytes.len() {
        let start = at;
        let kind = match bytes[at] {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                at = run_end(bytes, at, |b| b.is_ascii_alphanumeric() || b == b'_');
                TokenKind::Name
            }
            b'0'..=b'9' => {
                at = run_end(bytes, at, |b| b.is_ascii_alphanumeric() || b == b'_');
                TokenKind::Number
            }
            b'\'' | b'"' => {
                at = (string_end(bytes, at) + 1).min(bytes.len());
                TokenKind::Text
            }
            byte => {
                at += 1;
                if byte.is_ascii_whitespace() {
                    continue;
                }
                TokenKind::Sign(byte)
            }
        };
        list.push(Token { kind, at: start..at });
    }
    list
}

fn run_end(bytes: &[u8], from: usize, belongs: impl Fn(u8) -> bool) -> usize {
    bytes[from..].iter().position(|&b| !belongs(b)).map_or(bytes.len(), |offset| from + offset)
}

pub(super) fn sign(tokens: &[Token], at: usize) -> Option<u8> {
    match tokens.get(at)?.kind {
        TokenKind::Sign(byte) => Some(byte),
        _ => None,
    }
}

pub(super) fn word<'t>(text: &'t str, tokens: &[Token], at: usize) -> Option<&'t str> {
    let token = tokens.get(at)?;
    (token.kind == TokenKind::Name).then(|| &text[token.at.clone()])
}

/// The place of the quote that closes the string opened at `open`, or the last byte.
pub(super) fn string_end(bytes: &[u8], open: usize) -> usize {
    let mut at = open + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            byte if byte == bytes[open] => return at,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}
