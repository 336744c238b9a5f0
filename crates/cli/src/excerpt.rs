//! Mistakes as a person reads them: code, place, the lines themselves, the mend. A pure function.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use runbook_core::diagnostic::{Diagnostic, Severity, Sources, Span};

/// All diagnostics, in the order of the text, each with its excerpt, and a last line that counts them.
pub(crate) fn render(diagnostics: &[Diagnostic], sources: &Sources, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut sorted: Vec<&Diagnostic> = diagnostics.iter().collect();
    sorted.sort_by_key(|d| d.span.map(|s| (s.source, s.start)));
    let mut text = String::new();
    for diagnostic in &sorted {
        text.push_str(&renderer.render(&groups(diagnostic, sources)));
        text.push_str("\n\n");
    }
    text.push_str(&summary(diagnostics));
    text.push('\n');
    text
}

fn groups<'a>(diagnostic: &'a Diagnostic, sources: &'a Sources) -> Vec<Group<'a>> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(diagnostic.message.as_str()).id(diagnostic.code);
    let mut group = match diagnostic.span {
        None => Group::with_title(title),
        Some(span) => title.element(snippet(sources, span, None)),
    };
    for (span, label) in &diagnostic.related {
        group = group.element(snippet(sources, *span, Some(label.as_str())));
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    vec![group]
}

fn snippet<'a>(
    sources: &'a Sources,
    span: Span,
    label: Option<&'a str>,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let file = sources.get(span.source);
    let (start, end) = shown(&file.text, span);
    let annotation = match label {
        None => AnnotationKind::Primary.span(start..end),
        Some(label) => AnnotationKind::Context.span(start..end).label(label),
    };
    Snippet::source(file.text.as_str()).path(file.path.as_str()).annotation(annotation)
}

/// The span cut to its first line and to character boundaries: a whole step would fill the screen.
fn shown(text: &str, span: Span) -> (usize, usize) {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = floor(span.start);
    let end = floor(span.end.max(start));
    let first_line = text[start..end].find('\n').map_or(end, |at| start + at);
    (start, first_line)
}

fn summary(diagnostics: &[Diagnostic]) -> String {
    let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
    let warnings = diagnostics.len() - errors;
    match (errors, warnings) {
        (0, 0) => "no mistakes".to_owned(),
        (0, w) => crate::words::count(w, "warning"),
        (e, 0) => crate::words::count(e, "error"),
        (e, w) => format!("{}, {}", crate::words::count(e, "error"), crate::words::count(w, "warning")),
    }
}
