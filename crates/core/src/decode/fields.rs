//! Reads the entries of one map: knows its keys, reports those it does not know, and goes on as if
//! a misspelt key had been written right, so that one slip does not look like five.

use crate::diagnostic::{Diagnostic, Sources, Span, Spanned};
use crate::document::{Tree, TreeKind};
use crate::suggest;

/// Mistakes kept of one file; what a broken generator writes is not read to the end anyway.
pub(crate) const MISTAKES_MAX: usize = 500;

/// Collects mistakes, bounded.
#[derive(Default)]
pub(crate) struct Mistakes {
    list: Vec<Diagnostic>,
    dropped: usize,
}

impl Mistakes {
    /// Starts with those found before.
    pub(crate) fn with(list: Vec<Diagnostic>) -> Self {
        let mut mistakes = Self::default();
        list.into_iter().for_each(|one| mistakes.push(one));
        mistakes
    }

    /// Adds one.
    pub(crate) fn push(&mut self, mistake: Diagnostic) {
        if self.is_full() {
            self.dropped += 1;
        } else {
            self.list.push(mistake);
        }
    }

    /// Whether more would be dropped; suggestions need not be worked out any more.
    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= MISTAKES_MAX
    }

    /// All, in the order of the text, each once (an alias repeats what it stands for). A place is cut to
    /// its first line: underlining a page helps nobody.
    pub(crate) fn into_list(mut self, sources: &Sources) -> Vec<Diagnostic> {
        for span in self.list.iter_mut().filter_map(|one| one.span.as_mut()) {
            let text = &sources.get(span.source).text;
            let line = text.get(span.start..span.end).and_then(|part| part.lines().next());
            span.end = span.start + line.map_or(0, |line| line.trim_end().len());
        }
        self.list.sort_by_key(|one| one.span.map(|span| (span.source, span.start)));
        self.list.dedup();
        if self.dropped > 0 {
            self.list.push(Diagnostic {
                code: "too-many-mistakes",
                severity: crate::diagnostic::Severity::Error,
                message: format!("{} more mistakes are not shown", self.dropped),
                span: None,
                related: Vec::new(),
                help: None,
            });
        }
        self.list
    }
}

/// A spelling from another system, and the key here.
pub(crate) type Spelling = (&'static str, &'static str);

/// What one kind of map may hold.
pub(crate) struct Shape {
    /// How a person names it: `a step`.
    pub(crate) what: &'static str,
    /// Its keys.
    pub(crate) keys: &'static [&'static str],
    /// Spellings from other systems; wins over distance.
    pub(crate) spellings: &'static [Spelling],
}

/// One map, open for reading.
pub(crate) struct Fields<'a> {
    what: &'static str,
    span: Span,
    /// Known key, the key as written, value.
    entries: Vec<(&'static str, &'a Spanned<String>, &'a Tree)>,
}

impl<'a> Fields<'a> {
    /// Opens a map; `None` (reported) when it is something else.
    pub(crate) fn open(tree: &'a Tree, shape: &Shape, mistakes: &mut Mistakes) -> Option<Self> {
        let TreeKind::Map(written) = &tree.kind else {
            mistakes.push(
                Diagnostic::error(
                    "wrong-type",
                    tree.span,
                    format!("{} must be a map, found {}", shape.what, describe(tree)),
                )
                .help(format!("write its keys below it: {}", suggest::list_of(shape.keys.iter().copied()))),
            );
            return None;
        };
        let known = |key: &str| shape.keys.iter().copied().find(|known| *known == key);
        let mut entries: Vec<_> =
            written.iter().filter_map(|(key, value)| Some((known(&key.value)?, key, value))).collect();
        for (key, value) in written.iter().filter(|(key, _)| known(&key.value).is_none()) {
            // Nobody sees the suggestion any more.
            let meant = if mistakes.is_full() { None } else { meant(&key.value, shape, &entries) };
            if let Some(help) = meant.and_then(|meant| with_unit(&key.value, meant, value)) {
                mistakes.push(unknown(key, shape).help(help));
                continue;
            }
            if value.kind == TreeKind::Null && key.value.contains(' ') {
                let help = "put quotes around text that holds a comma inside `{ … }`";
                mistakes.push(unknown(key, shape).help(help));
                continue;
            }
            report_unknown(key, shape, meant, mistakes);
            if let Some(meant) = meant
                && entries.iter().all(|(have, ..)| *have != meant)
            {
                entries.push((meant, key, value));
            }
        }
        Some(Self { what: shape.what, span: tree.span, entries })
    }

    /// Where the map stands.
    pub(crate) fn span(&self) -> Span {
        self.span
    }

    /// The value of a key, when it was written.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Tree> {
        self.entries.iter().find(|(known, ..)| *known == key).map(|(.., value)| *value)
    }

    /// Where the key itself stands.
    pub(crate) fn key_span(&self, key: &str) -> Option<Span> {
        self.entries.iter().find(|(known, ..)| *known == key).map(|(_, written, _)| written.span)
    }

    /// The value of a key that must be there; reported with `help` when it is not.
    pub(crate) fn required(&self, key: &str, help: &str, mistakes: &mut Mistakes) -> Option<&'a Tree> {
        let value = self.get(key);
        if value.is_none() {
            mistakes.push(
                Diagnostic::error("missing-key", self.head(), format!("{} has no `{key}`", self.what))
                    .help(help),
            );
        }
        value
    }

    /// The first key: pointing at a whole map would underline a page.
    pub(crate) fn head(&self) -> Span {
        let first = self.entries.iter().map(|(_, key, _)| key.span).min_by_key(|span| span.start);
        match first {
            Some(key) if key.source == self.span.source => key,
            _ => Span { end: self.span.end.min(self.span.start + 1), ..self.span },
        }
    }
}

/// The known key that an unknown one stands for.
fn meant<'a>(
    given: &str,
    shape: &Shape,
    have: &[(&'static str, &'a Spanned<String>, &'a Tree)],
) -> Option<&'static str> {
    let absent = |key: &str| have.iter().all(|(known, ..)| *known != key);
    let spelt = shape.spellings.iter().filter(|(other, _)| *other == given).map(|(_, key)| *key);
    // Some spellings stand for either of two keys: the one that is still free.
    spelt
        .clone()
        .find(|key| absent(key))
        .or_else(|| spelt.clone().next())
        .or_else(|| suggest::closest(given, shape.keys.iter().copied()))
        .or_else(|| {
            let near = suggest::closest(given, shape.spellings.iter().map(|(other, _)| *other))?;
            shape.spellings.iter().find(|(other, _)| *other == near).map(|(_, key)| *key)
        })
}

fn report_unknown(key: &Spanned<String>, shape: &Shape, meant: Option<&str>, mistakes: &mut Mistakes) {
    let help = meant.map_or_else(
        || format!("the keys are {}", suggest::list_of(shape.keys.iter().copied())),
        |meant| match meant {
            "id" if shape.keys.contains(&"title") => {
                "did you mean `id`? (the text for people is `title`)".to_owned()
            }
            meant => format!("did you mean `{meant}`?"),
        },
    );
    mistakes.push(unknown(key, shape).help(help));
}

fn unknown(key: &Spanned<String>, shape: &Shape) -> Diagnostic {
    let message = format!("{} has no key `{}`", shape.what, shown(&key.value));
    Diagnostic::error("unknown-key", key.span, message)
}

/// `timeoutSeconds: 30` names its unit in the key; here the value does.
fn with_unit(given: &str, meant: &str, value: &Tree) -> Option<String> {
    let TreeKind::Number(number) = &value.kind else { return None };
    let given = given.to_lowercase();
    let unit =
        [("second", "s"), ("_sec", "s"), ("minute", "m"), ("hour", "h"), ("_ms", "ms"), ("milli", "ms")]
            .iter()
            .find_map(|(word, unit)| given.contains(word).then_some(unit))?;
    Some(format!("write `{meant}: {number}{unit}`"))
}

/// A text of any length as part of a message.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 60;
    let mut short: String =
        text.chars().take(SHOWN_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}

/// What a value is, in words.
pub(crate) fn describe(tree: &Tree) -> &'static str {
    match &tree.kind {
        TreeKind::Null => "nothing",
        TreeKind::Bool(_) => "true or false",
        TreeKind::Number(_) => "a number",
        TreeKind::String(text) if text.is_empty() => "empty text",
        TreeKind::String(_) => "text",
        TreeKind::List(_) => "a list",
        TreeKind::Map(_) => "a map",
    }
}
