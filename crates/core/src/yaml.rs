//! Text to a [`Tree`] in which every key and value knows where it stands. The only file that knows
//! the YAML library; decides nothing about what the values mean.
//!
//! YAML 1.2, read strictly: `no` and `on` are text, `0755` is text, a key stands once, a tag of an
//! application is refused. Everything is bounded: size, number of values, depth, alias expansion.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_yaml::{Location, Spanned as At};

use crate::diagnostic::{Diagnostic, SourceId, Sources, Span, Spanned};
use crate::document::{Tree, TreeKind};
use crate::secret::holds_marker;

/// A generated runbook of 10,000 steps has about 3 MB; nobody reads one that is larger.
pub const FILE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Keys and values in one file: forty for each of 10,000 steps.
const NODES_MAX: usize = 400_000;
/// Maps and lists inside each other. A runbook needs about ten; each level costs stack.
const DEPTH_MAX: usize = 48;
/// Values that come from aliases: plenty for sharing a `retry`, refused at once for an alias bomb.
const ALIASED_NODES_MAX: usize = 10_000;
/// Aliases inside aliased text.
const ALIAS_DEPTH_MAX: usize = 8;

/// Reads one file. Without a tree there is exactly one diagnostic; with one there may be several
/// (duplicate keys, of which the first counts).
pub fn parse(sources: &Sources, id: SourceId) -> (Option<Tree>, Vec<Diagnostic>) {
    let whole = &sources.get(id).text;
    let start = Span { source: id, start: 0, end: 0 };
    if whole.len() > FILE_BYTES_MAX {
        let mistake = Diagnostic::error(
            "file-too-large",
            start,
            format!("the file has {} bytes, more than {FILE_BYTES_MAX}", whole.len()),
        )
        .help("move parts of it to runbooks of their own and use them as steps");
        return (None, vec![mistake]);
    }
    // Editors on some systems put a byte order mark in front; columns are counted without it.
    let text = whole.strip_prefix('\u{feff}').unwrap_or(whole);
    let place = Place { id, shift: whole.len() - text.len(), text };
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        let mistake = Diagnostic::error("empty-file", start, "the file is empty")
            .help("`runbook new` writes a runbook to start from");
        return (None, vec![mistake]);
    }
    match serde_yaml::from_str_with_options::<At<Node>>(text, options()) {
        Ok(root) => {
            let mut mistakes = Vec::new();
            let tree = place.tree(root, &mut mistakes);
            (Some(tree), mistakes)
        }
        Err(error) => (None, vec![place.mistake(error.without_snippet())]),
    }
}

fn options() -> serde_yaml::Options {
    serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_nodes: NODES_MAX,
            max_events: NODES_MAX * 2,
            max_depth: DEPTH_MAX,
            // One more, so that the depth is what is told.
            flow_nesting_limit: DEPTH_MAX + 1,
            max_documents: 1,
            max_aliases: ALIASED_NODES_MAX,
            max_anchors: ALIASED_NODES_MAX,
            max_recorded_anchor_events: ALIASED_NODES_MAX * 4,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: ALIASED_NODES_MAX,
            max_replay_stack_depth: ALIAS_DEPTH_MAX,
        },
        // Both places of a duplicate key are wanted, so the visitor takes all of them.
        duplicate_keys: serde_yaml::options::DuplicateKeyPolicy::PassThrough,
        merge_keys: serde_yaml::options::MergeKeyPolicy::Error,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        strict_indentation: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

/// A value as the library gives it.
enum Node {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    List(Vec<At<Node>>),
    Map(Vec<(At<String>, At<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        Number::from_f64(value).map(Node::Number).ok_or_else(|| E::custom("not a finite number"))
    }
    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::String(value.to_owned()))
    }
    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::String(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<At<String>>()? {
            entries.push((key, access.next_value()?));
        }
        Ok(Node::Map(entries))
    }
}

/// Turns the library's places into ours.
struct Place<'a> {
    id: SourceId,
    /// Bytes in front of what the library saw.
    shift: usize,
    /// What the library saw.
    text: &'a str,
}

impl Place<'_> {
    /// The value as a [`Tree`]. Depth is bounded by the library's budget.
    fn tree(&self, node: At<Node>, mistakes: &mut Vec<Diagnostic>) -> Tree {
        let mut span = self.span(node.defined);
        let kind = match node.value {
            Node::Null => TreeKind::Null,
            Node::Bool(value) => TreeKind::Bool(value),
            Node::Number(value) => {
                self.refuse_rounding(&value, span, mistakes);
                TreeKind::Number(value)
            }
            Node::String(value) => {
                refuse_marker(&value, span, mistakes);
                TreeKind::String(value)
            }
            Node::List(items) => {
                let items: Vec<Tree> = items.into_iter().map(|item| self.tree(item, mistakes)).collect();
                self.close(&mut span, items.last().map(|last| last.span.end));
                TreeKind::List(items)
            }
            Node::Map(entries) => {
                let entries = self.entries(entries, mistakes);
                self.close(&mut span, entries.last().map(|(key, value)| key.span.end.max(value.span.end)));
                TreeKind::Map(entries)
            }
        };
        Tree { kind, span }
    }

    /// Entries with unique keys: the first of two equal ones counts.
    fn entries(
        &self,
        entries: Vec<(At<String>, At<Node>)>,
        mistakes: &mut Vec<Diagnostic>,
    ) -> Vec<(Spanned<String>, Tree)> {
        let mut seen: HashMap<String, Span> = HashMap::with_capacity(entries.len());
        let mut kept = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let key = Spanned::new(key.value, self.span(key.defined));
            let value = self.tree(value, mistakes);
            refuse_marker(&key.value, key.span, mistakes);
            if let Some(first) = seen.get(&key.value) {
                mistakes.push(
                    Diagnostic::error("duplicate-key", key.span, format!("`{}` is written twice", key.value))
                        .related(*first, "first written here")
                        .help("keep one of the two"),
                );
            } else {
                seen.insert(key.value.clone(), key.span);
                kept.push((key, value));
            }
        }
        kept
    }

    fn span(&self, at: Location) -> Span {
        let start = at.span().byte_offset().and_then(|n| usize::try_from(n).ok());
        let length = at.span().byte_len().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let start = start.unwrap_or_else(|| self.offset(at)).min(self.text.len());
        let mut end = start.saturating_add(length).min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        // A block scalar's or an empty value's place reaches over the line end.
        let end = start + self.text.get(start..end).map_or(0, |part| part.trim_end().len());
        Span { source: self.id, start: start + self.shift, end: end + self.shift }
    }

    /// Byte offset of a line and column, for places that come without one.
    fn offset(&self, at: Location) -> usize {
        let line = usize::try_from(at.line()).unwrap_or(1).saturating_sub(1);
        let column = usize::try_from(at.column()).unwrap_or(1).saturating_sub(1);
        let start: usize = self.text.split_inclusive('\n').take(line).map(str::len).sum();
        let rest = self.text[start..].split('\n').next().unwrap_or("");
        start + rest.char_indices().nth(column).map_or(rest.len(), |(offset, _)| offset)
    }

    /// The library gives the place where a map or list opens; it reaches to its last value, and to the
    /// bracket that closes it.
    fn close(&self, span: &mut Span, last: Option<usize>) {
        span.end = span.end.max(last.unwrap_or(0));
        let closing = match self.text.as_bytes().get(span.start - self.shift) {
            Some(b'{') => b'}',
            Some(b'[') => b']',
            _ => return,
        };
        let rest = self.text.as_bytes().get(span.end - self.shift..).unwrap_or_default();
        let skipped = rest.iter().take_while(|b| b.is_ascii_whitespace() || **b == b',').count();
        if rest.get(skipped) == Some(&closing) {
            span.end += skipped + 1;
        }
    }

    /// A whole number with more digits than fit would silently become another number.
    fn refuse_rounding(&self, value: &Number, span: Span, mistakes: &mut Vec<Diagnostic>) {
        let written = self.text.get(span.start - self.shift..span.end - self.shift).unwrap_or_default();
        let digits = written.trim_start_matches(['+', '-']);
        if value.is_f64() && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            mistakes.push(
                Diagnostic::error("number-too-large", span, format!("`{written}` is too large for a number"))
                    .help(format!("write it as text: \"{written}\"")),
            );
        }
    }

    /// The library's error as a diagnostic.
    fn mistake(&self, error: &serde_yaml::Error) -> Diagnostic {
        use serde_yaml::Error;
        let used = error.locations().map(|both| both.reference_location);
        let at = used.filter(|at| *at != Location::UNKNOWN).or(error.location()).unwrap_or(Location::UNKNOWN);
        let offset = self.offset(at);
        let width = self.text[offset..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
        let span = Span { source: self.id, start: offset + self.shift, end: offset + width + self.shift };
        let cause = match error {
            Error::AliasError { error: inner, .. } => inner.without_snippet(),
            plain => plain,
        };
        let (code, message, help) = match cause {
            Error::Budget { breach, .. } => limit(breach),
            Error::AliasReplayLimitExceeded { .. }
            | Error::AliasReplayStackDepthExceeded { .. }
            | Error::AliasExpansionLimitExceeded { .. }
            | Error::AliasReplayCounterOverflow { .. } => alias_limit(),
            Error::RecursiveReferencesRequireWeakTypes { .. } => {
                ("yaml-limit", "an alias holds itself".into(), "write the value out")
            }
            Error::MergeKeyNotAllowed { .. } => (
                "yaml-merge",
                "merge keys (`<<`) are not part of YAML 1.2".into(),
                "write the keys out, or share a whole value with `&name` and `*name`",
            ),
            Error::MultipleDocuments { .. } => documents(),
            Error::NonFiniteFloat { value, .. } => (
                "number-too-large",
                format!("`{value}` is not a number that can be used"),
                "write a finite number, or text in quotes",
            ),
            Error::UnknownAnchor { .. } => (
                "yaml-syntax",
                "this alias names no anchor above it".into(),
                "define it with `&name` first; text that begins with `*` needs quotes",
            ),
            other => return self.syntax(other, offset, span),
        };
        Diagnostic::error(code, span, message).help(help)
    }

    fn syntax(&self, error: &serde_yaml::Error, offset: usize, mut span: Span) -> Diagnostic {
        use serde_yaml::MessageFormatter as _;
        let message = serde_yaml::UserMessageFormatter.format_message(error).into_owned();
        if message.contains("recursion limit") {
            let (code, message, help) = depth_limit();
            return Diagnostic::error(code, span, message).help(help);
        }
        let help = self.syntax_help(&message, offset);
        if let Some(tab) = self.tab(offset) {
            span = tab;
        } else if message.contains("tag") {
            // The library points at what follows the tag.
            let line_start = self.text[..offset].rfind('\n').map_or(0, |at| at + 1);
            if let Some(mark) = self.text[line_start..offset].rfind('!') {
                let start = line_start + mark + self.shift;
                span = Span { start, end: start + 1, ..span };
            }
        }
        Diagnostic::error("yaml-syntax", span, message).help(help)
    }

    /// What is usually behind an error of syntax.
    fn syntax_help(&self, message: &str, offset: usize) -> &'static str {
        let line_start = self.text[..offset].rfind('\n').map_or(0, |at| at + 1);
        let line = self.text[line_start..].lines().next().unwrap_or("");
        if self.tab(offset).is_some() {
            "indent with spaces: YAML takes no tabs there"
        } else if line.contains("{{") {
            "put quotes around a value that holds `{{`: \"{{ … }}\""
        } else if message.contains("tag") {
            "remove the `!…`: the language has no tags; text that begins with `!` needs quotes"
        } else if message.contains("mapping values") {
            "put quotes around text that holds `: `; keys of one map start in the same column"
        } else if message.contains("quoted scalar") {
            "a quote opened above is not closed; further lines of quoted text are indented"
        } else if message.contains("unclosed") {
            "close what was opened here"
        } else if message.contains("unexpected character") {
            "put quotes around text that begins with a special character"
        } else {
            "check the indentation (keys of one map start in the same column) and the quotes"
        }
    }

    /// A tab in the indentation of this line or the next: the library points at the line before.
    fn tab(&self, offset: usize) -> Option<Span> {
        let mut start = self.text[..offset].rfind('\n').map_or(0, |at| at + 1);
        for line in self.text[start..].split_inclusive('\n').take(2) {
            let indent = &line[..line.len() - line.trim_start().len()];
            if let Some(tab) = indent.find('\t').filter(|_| !line.trim().is_empty()) {
                let at = start + tab + self.shift;
                return Some(Span { source: self.id, start: at, end: at + 1 });
            }
            start += line.len();
        }
        None
    }
}

type Told = (&'static str, String, &'static str);

fn limit(breach: &serde_yaml::budget::BudgetBreach) -> Told {
    use serde_yaml::budget::BudgetBreach;
    let split = "move parts of it to runbooks of their own and use them as steps";
    match breach {
        BudgetBreach::Documents { .. } => documents(),
        BudgetBreach::Depth { .. } => depth_limit(),
        BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. } => {
            ("yaml-limit", format!("the file holds more than {NODES_MAX} values"), split)
        }
        _ => alias_limit(),
    }
}

fn depth_limit() -> Told {
    let message = format!("maps and lists are nested more than {DEPTH_MAX} deep");
    ("yaml-limit", message, "check the brackets; no runbook needs so many levels")
}

fn alias_limit() -> Told {
    let message = format!("aliases add more than {ALIASED_NODES_MAX} values to the file");
    ("yaml-limit", message, "write the values out; share only small ones with `*name`")
}

fn documents() -> Told {
    (
        "yaml-documents",
        "the file holds several documents".into(),
        "one file, one document: remove the `---` and what follows it",
    )
}

/// Markers are made by the tool alone: one that came with a file could name any secret.
fn refuse_marker(text: &str, span: Span, mistakes: &mut Vec<Diagnostic>) {
    if holds_marker(text) {
        mistakes.push(
            Diagnostic::error("secret-marker", span, "this text looks like the mark of a secret")
                .help("name a secret as `{{ secrets.NAME }}` in the environment file"),
        );
    }
}
