//! Finds the expressions of a text and the names they use, each with its byte range, without
//! evaluating anything. minijinja says which names are free; this file says where they stand and what
//! is read of them, also through `steps['restore-data']`.

use std::collections::HashSet;
use std::ops::Range;

use super::engine::{FILTERS, FUNCTIONS, TESTS, engine, shared};
use super::token::{Token, TokenKind, sign, string_end, tokens, word};

/// A name used by an expression, with the fields read of it: `steps.database.api_url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The name and the fields, at least one: `["steps", "database", "api_url"]`.
    pub path: Vec<String>,
    /// Where it stands in the text.
    pub at: Range<usize>,
    /// The path goes on by something that is only known at run time: `steps[inputs.name]`.
    pub dynamic: bool,
    /// Nothing else stands in its `{{ … }}` or bare expression.
    pub alone: bool,
    /// What follows directly when it is `-name`: an id with a hyphen written as if it had none.
    pub hyphen: Option<String>,
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Lower-case phrase.
    pub message: String,
    /// Where, in the text.
    pub at: Range<usize>,
    /// The mend, when there is one.
    pub help: Option<String>,
}

/// Statements a template may use. The others keep state, name files or can grow values without bound.
const STATEMENTS: &[&str] = &["if", "elif", "else", "endif", "for", "endfor", "raw", "endraw"];

/// Words that are no names.
const KEYWORDS: &[&str] = &[
    "and",
    "or",
    "not",
    "in",
    "is",
    "if",
    "else",
    "elif",
    "endif",
    "for",
    "endfor",
    "recursive",
    "true",
    "false",
    "none",
    "True",
    "False",
    "None",
];

/// Whether a text holds anything to fill in.
pub fn has_expression(text: &str) -> bool {
    text.contains("{{") || text.contains("{%") || text.contains("{#")
}

/// The inside of the braces, when a text is one `{{ … }}` and nothing else but white space.
pub fn whole_expression(text: &str) -> Option<Range<usize>> {
    let mut pieces = segments(text).into_iter();
    let only = pieces.next()?;
    let is_whole = only.kind == Kind::Expression
        && only.closed
        && pieces.next().is_none()
        && text[..only.outer.start].trim().is_empty()
        && text[only.outer.end..].trim().is_empty();
    is_whole.then_some(only.inner)
}

/// Checks the syntax of a text with `{{ … }}`, and that its filters, tests and functions exist.
pub fn check_text(text: &str) -> Result<(), SyntaxError> {
    if !has_expression(text) {
        return Ok(());
    }
    if let Some(inner) = whole_expression(text) {
        return check_expression(&text[inner.clone()]).map_err(|e| shift(e, inner.start));
    }
    let pieces = segments(text);
    for piece in &pieces {
        if piece.kind == Kind::Statement {
            check_statement(text, piece)?;
        }
    }
    engine().template_from_str(text).map_err(|e| syntax_error(text, &e))?;
    for piece in pieces.iter().filter(|piece| piece.kind != Kind::Silent) {
        check_words(text, &tokens(text, piece.inner.clone()))?;
    }
    Ok(())
}

/// Checks the syntax of a bare expression, and that its filters, tests and functions exist.
pub fn check_expression(text: &str) -> Result<(), SyntaxError> {
    let is_wrapped = text.trim_start().starts_with("{{");
    shared().compile_expression_owned(text).map_err(|e| {
        let help = is_wrapped.then(|| "write it without the braces".to_owned());
        SyntaxError { help, ..syntax_error(text, &e) }
    })?;
    check_words(text, &tokens(text, 0..text.len()))
}

/// The names that a text with `{{ … }}` uses, in order.
pub fn references(text: &str) -> Vec<Reference> {
    if !has_expression(text) {
        return Vec::new();
    }
    let pieces = segments(text);
    // Only a `for` makes names of its own; then minijinja says which are not.
    let free = pieces.iter().any(|piece| piece.kind == Kind::Statement).then(|| {
        let engine = engine();
        engine.template_from_str(text).map(|t| t.undeclared_variables(false)).unwrap_or_default()
    });
    let used = pieces.into_iter().filter(|piece| piece.kind != Kind::Silent);
    used.flat_map(|piece| paths(text, piece.inner, free.as_ref())).collect()
}

/// The names that a bare expression uses, in order.
pub fn expression_references(text: &str) -> Vec<Reference> {
    paths(text, 0..text.len(), None)
}

fn shift(error: SyntaxError, by: usize) -> SyntaxError {
    SyntaxError { at: error.at.start + by..error.at.end + by, ..error }
}

fn syntax_error(text: &str, error: &minijinja::Error) -> SyntaxError {
    let range = error.range().unwrap_or(0..text.len());
    let end = range.end.clamp(0, text.len());
    let at = range.start.min(end)..end;
    let message = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    SyntaxError { message, at, help: None }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Expression,
    Statement,
    /// A comment or raw text: names in it are not used.
    Silent,
}

#[derive(Debug, Clone)]
struct Segment {
    kind: Kind,
    outer: Range<usize>,
    inner: Range<usize>,
    closed: bool,
}

/// Cuts a text at its `{{ }}`, `{% %}` and `{# #}`.
fn segments(text: &str) -> Vec<Segment> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(open) = text[at..].find('{').map(|offset| at + offset) {
        let kind = match bytes.get(open + 1) {
            Some(b'{') => Kind::Expression,
            Some(b'%') => Kind::Statement,
            Some(b'#') => Kind::Silent,
            _ => {
                at = open + 1;
                continue;
            }
        };
        let (inner_end, outer_end, closed) = close(text, open + 2, kind);
        let inner = trimmed(text, open + 2..inner_end);
        let is_raw = kind == Kind::Statement && text[inner.clone()].trim() == "raw";
        found.push(Segment { kind, outer: open..outer_end, inner, closed });
        at = outer_end;
        if is_raw {
            at = text[at..].find("endraw").map_or(text.len(), |offset| at + offset + "endraw".len());
        }
    }
    found
}

/// Where the piece that starts at `from` ends: inside, outside, and whether it ends at all.
fn close(text: &str, from: usize, kind: Kind) -> (usize, usize, bool) {
    let bytes = text.as_bytes();
    if kind == Kind::Silent {
        return match text[from..].find("#}") {
            Some(offset) => (from + offset, from + offset + 2, true),
            None => (text.len(), text.len(), false),
        };
    }
    let mut at = from;
    let mut depth = 0usize;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\'' | b'"' => at = string_end(bytes, at),
            b'{' | b'(' | b'[' => depth += 1,
            b'%' if kind == Kind::Statement && bytes.get(at + 1) == Some(&b'}') => return (at, at + 2, true),
            b'}' if depth == 0 && kind == Kind::Expression && bytes.get(at + 1) == Some(&b'}') => {
                return (at, at + 2, true);
            }
            b'}' | b')' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    (text.len(), text.len(), false)
}

/// Leaves out the marks of white space control, `{{- … -}}`.
fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let inside = &text[range.clone()];
    let start = range.start + usize::from(inside.starts_with(['-', '+']));
    let end = if inside.len() > 1 && inside.ends_with(['-', '+']) { range.end - 1 } else { range.end };
    start.min(end)..end
}

/// What a name is, from what stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Variable,
    Field,
    Filter,
    Test,
    Keyword,
    Argument,
}

fn role(text: &str, tokens: &[Token], at: usize) -> Role {
    let before = |back: usize| at.checked_sub(back).and_then(|i| word(text, tokens, i));
    let sign_before = at.checked_sub(1).and_then(|i| sign(tokens, i));
    let follows_is = before(1) == Some("is") || (before(1) == Some("not") && before(2) == Some("is"));
    let name = &text[tokens[at].at.clone()];
    if sign_before == Some(b'.') {
        Role::Field
    } else if sign_before == Some(b'|') {
        Role::Filter
    } else if follows_is && name != "not" {
        Role::Test
    } else if KEYWORDS.contains(&name) {
        Role::Keyword
    } else if sign(tokens, at + 1) == Some(b'=') && sign(tokens, at + 2) != Some(b'=') {
        Role::Argument
    } else {
        Role::Variable
    }
}

/// Refuses filters, tests and functions that do not exist: minijinja finds that only at run time.
fn check_words(text: &str, tokens: &[Token]) -> Result<(), SyntaxError> {
    for (at, token) in tokens.iter().enumerate().filter(|(_, token)| token.kind == TokenKind::Name) {
        let name = &text[token.at.clone()];
        let is_call = sign(tokens, at + 1) == Some(b'(');
        let (what, known) = match role(text, tokens, at) {
            Role::Filter => ("filter", FILTERS),
            Role::Test => ("test", TESTS),
            Role::Variable if is_call => ("function", FUNCTIONS),
            _ => continue,
        };
        if !known.contains(&name) {
            let help = match closest(name, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known: {}", known.join(", ")),
            };
            let message = format!("there is no {what} `{name}` in templates");
            return Err(SyntaxError { message, at: token.at.clone(), help: Some(help) });
        }
    }
    Ok(())
}

fn closest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|&candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|&(distance, _)| distance <= 2)
        .min()
        .map(|(_, candidate)| candidate)
}

fn check_statement(text: &str, piece: &Segment) -> Result<(), SyntaxError> {
    let list = tokens(text, piece.inner.clone());
    match word(text, &list, 0) {
        Some(name) if !STATEMENTS.contains(&name) => Err(SyntaxError {
            message: format!("a template has no statement `{name}`"),
            at: list[0].at.clone(),
            help: Some("only `if` and `for` are there; work values out in expressions".to_owned()),
        }),
        _ => Ok(()),
    }
}

/// `free`: names that are not made by the text itself; all of them when `None`.
fn paths(text: &str, range: Range<usize>, free: Option<&HashSet<String>>) -> Vec<Reference> {
    let list = tokens(text, range);
    let mut found = Vec::new();
    for (at, token) in list.iter().enumerate().filter(|(_, token)| token.kind == TokenKind::Name) {
        let name = &text[token.at.clone()];
        let is_call = sign(&list, at + 1) == Some(b'(');
        let is_free = free.is_none_or(|free| free.contains(name)) && !(is_call && FUNCTIONS.contains(&name));
        if is_free && role(text, &list, at) == Role::Variable {
            found.push(path(text, &list, at));
        }
    }
    found
}

/// Follows `.name`, `['name']` and `[0]` from the name at `start`.
fn path(text: &str, list: &[Token], start: usize) -> Reference {
    let mut segments = vec![text[list[start].at.clone()].to_owned()];
    let mut ends = vec![start];
    let mut at = start + 1;
    let mut dynamic = false;
    loop {
        let next = list.get(at + 1);
        match sign(list, at) {
            Some(b'.') if next.is_some_and(|t| matches!(t.kind, TokenKind::Name | TokenKind::Number)) => {
                segments.push(text[list[at + 1].at.clone()].to_owned());
                at += 2;
            }
            Some(b'[') if sign(list, at + 2) == Some(b']') && next.is_some_and(is_constant) => {
                segments.push(unquoted(&text[list[at + 1].at.clone()]));
                at += 3;
            }
            Some(b'[') => {
                dynamic = true;
                break;
            }
            // A method: the value it is called on is what is read.
            Some(b'(') if segments.len() > 1 => {
                segments.pop();
                ends.pop();
                break;
            }
            _ => break,
        }
        ends.push(at - 1);
    }
    let end = ends.last().map_or(start, |&last| last);
    let alone = start == 0 && end + 1 == list.len();
    let hyphen = (sign(list, at) == Some(b'-'))
        .then(|| list.get(at + 1).filter(|t| t.kind == TokenKind::Name && t.at.start == list[at].at.end))
        .flatten()
        .map(|t| text[t.at.clone()].to_owned());
    Reference { path: segments, at: list[start].at.start..list[end].at.end, dynamic, alone, hyphen }
}

fn is_constant(token: &Token) -> bool {
    matches!(token.kind, TokenKind::Text | TokenKind::Number)
}

fn unquoted(literal: &str) -> String {
    literal.trim_matches(['\'', '"']).to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(text: &str) -> Vec<String> {
        references(text).into_iter().map(|r| r.path.join(".")).collect()
    }

    #[test]
    fn paths_are_found_with_their_places() {
        let text = "x {{ steps.database.api_url }} {{ inputs['a-b'][0].c | default(vars.d) }}";
        let found = references(text);
        let paths: Vec<_> = found.iter().map(|r| (r.path.join("."), &text[r.at.clone()], r.alone)).collect();
        assert_eq!(
            paths,
            [
                ("steps.database.api_url".into(), "steps.database.api_url", true),
                ("inputs.a-b.0.c".into(), "inputs['a-b'][0].c", false),
                ("vars.d".into(), "vars.d", false),
            ]
        );
    }

    #[test]
    fn what_is_no_name_is_not_found() {
        assert_eq!(names("{{ 'inputs.a' ~ b }}"), ["b"]);
        assert_eq!(names("{{ a is not none and b is defined }}"), ["a", "b"]);
        assert_eq!(names("{{ m.items() }} {{ range(3) }}"), ["m"]);
        assert_eq!(names("{{ l | map(attribute='x') | join(',') }}"), ["l"]);
        assert_eq!(names("{% for x in l %}{{ x.a }}{{ loop.index }}{% endfor %}"), ["l"]);
        assert_eq!(names("{# inputs.a #}{% raw %}{{ inputs.b }}{% endraw %}{{ c }}"), ["c"]);
    }

    #[test]
    fn a_dynamic_path_says_so() {
        let found = references("{{ steps[inputs.name].x }}");
        assert!(found[0].dynamic);
        assert_eq!(found[0].path, ["steps"]);
        assert_eq!(found[1].path, ["inputs", "name"]);
    }

    #[test]
    fn an_id_with_a_hyphen_is_noticed() {
        let found = references("{{ steps.restore-data.ok }}");
        assert_eq!(found[0].hyphen.as_deref(), Some("data"));
    }

    #[test]
    fn syntax_errors_have_a_place() {
        for (text, snippet) in [
            ("a {{ b. }} c", "}}"),
            ("{{ a | uper }}", "uper"),
            ("{{ a is nothing }}", "nothing"),
            ("{{ now() }}", "now"),
            ("{% set a = 1 %}", "set"),
            ("{% include 'x' %}", "include"),
        ] {
            let error = check_text(text).unwrap_err();
            assert_eq!(&text[error.at.clone()], snippet, "{text}: {error:?}");
        }
        assert!(check_text("{{ a").is_err());
        assert!(check_text("{{ a }} {% if a %}x{% endif %}").is_ok());
        assert_eq!(
            check_expression("{{ a }} == 1").unwrap_err().help.as_deref(),
            Some("write it without the braces")
        );
    }

    proptest! {
        #[test]
        fn any_text_is_scanned_within_its_bounds(text in "[{}%#'\"a-cé.|\\[\\]() =-]{0,60}") {
            let _ = check_text(&text);
            let _ = check_expression(&text);
            for reference in references(&text) {
                prop_assert!(text.get(reference.at).is_some());
            }
        }
    }
}
