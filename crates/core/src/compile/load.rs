//! Reads the root and every runbook that it uses, each file once. Refuses a runbook that uses itself.

use std::collections::HashMap;

use super::request::Loader;
use crate::decode;
use crate::diagnostic::{Diagnostic, Severity, SourceId, Sources, Span};
use crate::document::{Document, StepDecl};

/// Runbooks inside each other. The deepest sensible one is about four: path, triage, freeze, a provider.
pub const DEPTH_MAX: usize = 12;
/// Files of one compilation.
pub const FILES_MAX: usize = 200;

/// All files of one compilation.
pub(super) struct Library {
    sources: Sources,
    ids: HashMap<String, SourceId>,
    documents: HashMap<SourceId, Document>,
    root: Option<SourceId>,
}

impl Library {
    pub(super) fn root(&self) -> Option<&Document> {
        self.documents.get(&self.root?)
    }

    pub(super) fn sources(&self) -> &Sources {
        &self.sources
    }

    pub(super) fn into_sources(self) -> Sources {
        self.sources
    }

    /// The runbook that a step of some file uses; `None` when it could not be read, which was reported.
    pub(super) fn used_by(&self, step: &StepDecl) -> Option<&Document> {
        let from = &self.sources.get(step.uses.span.source).path;
        self.documents.get(self.ids.get(&join(from, &step.uses.value))?)
    }
}

/// Whether `uses` names a file and no action.
pub(super) fn is_file(uses: &str) -> bool {
    uses.starts_with("./") || uses.starts_with("../")
}

/// Reads everything that can be reached from the root.
pub(super) fn load(root: &str, loader: &dyn Loader, found: &mut Vec<Diagnostic>) -> Library {
    let mut library =
        Library { sources: Sources::default(), ids: HashMap::new(), documents: HashMap::new(), root: None };
    let mut reader = Reader { library: &mut library, loader, chain: Vec::new(), found };
    let path = join("", root);
    match reader.read(&path) {
        Ok(id) => {
            library.root = Some(id);
        }
        Err(why) => found.push(Diagnostic {
            code: "unreadable-file",
            severity: Severity::Error,
            message: format!("could not read `{path}`: {why}"),
            span: None,
            related: Vec::new(),
            help: Some("check the path; it is relative to where the command runs".to_owned()),
        }),
    }
    library
}

struct Reader<'a> {
    library: &'a mut Library,
    loader: &'a dyn Loader,
    /// Files that use each other, the root first, each with the place that uses it.
    chain: Vec<(String, Option<Span>)>,
    found: &'a mut Vec<Diagnostic>,
}

impl Reader<'_> {
    fn read(&mut self, path: &str) -> Result<SourceId, String> {
        let text = self.loader.read(path)?;
        let id = self.library.sources.add(path, text);
        self.library.ids.insert(path.to_owned(), id);
        let (document, mistakes) = decode::runbook(&self.library.sources, id);
        self.found.extend(mistakes);
        let Some(document) = document else { return Ok(id) };
        if self.chain.is_empty() {
            self.chain.push((path.to_owned(), None));
        }
        for step in steps(&document).filter(|step| is_file(&step.uses.value)) {
            self.follow(path, step);
        }
        self.library.documents.insert(id, document);
        Ok(id)
    }

    fn follow(&mut self, from: &str, step: &StepDecl) {
        let path = join(from, &step.uses.value);
        let span = step.uses.span;
        if let Some(at) = self.chain.iter().position(|(file, _)| *file == path) {
            self.found.push(recursion(&self.chain[at..], &path, span));
            return;
        }
        if self.library.ids.contains_key(&path) {
            return;
        }
        if self.chain.len() >= DEPTH_MAX || self.library.sources.files().len() >= FILES_MAX {
            let message = format!(
                "runbooks are used more than {DEPTH_MAX} deep, or more than {FILES_MAX} files are used"
            );
            self.found.push(Diagnostic::error("too-deep", span, message).help("put some of them together"));
            return;
        }
        self.chain.push((path.clone(), Some(span)));
        if let Err(why) = self.read(&path) {
            let message = format!("could not read `{path}`: {why}");
            let help = "the path is relative to the file that uses it";
            self.found.push(Diagnostic::error("unreadable-file", span, message).help(help));
        }
        self.chain.pop();
    }
}

fn recursion(chain: &[(String, Option<Span>)], path: &str, span: Span) -> Diagnostic {
    let mut names: Vec<&str> = chain.iter().map(|(file, _)| file.as_str()).collect();
    names.push(path);
    let message = format!("a runbook uses itself: {}", names.join(" → "));
    let mut mistake = Diagnostic::error("recursion", span, message)
        .help("take the steps that both need into a third runbook");
    for (file, place) in &chain[1..] {
        if let Some(place) = place {
            mistake = mistake.related(*place, format!("`{file}` is used here"));
        }
    }
    mistake
}

fn steps(document: &Document) -> impl Iterator<Item = &StepDecl> {
    document.steps.iter().chain(&document.on_failure).chain(&document.finally)
}

/// `uses` seen from the folder of `from`, without `.` and `..` where they can be resolved.
fn join(from: &str, uses: &str) -> String {
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let is_absolute = uses.starts_with('/') || (folder.is_empty() && from.starts_with('/'));
    let whole = if uses.starts_with('/') { uses.to_owned() } else { format!("{folder}/{uses}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let path = parts.join("/");
    if is_absolute || whole.starts_with('/') && !folder.is_empty() { format!("/{path}") } else { path }
}

#[cfg(test)]
mod tests {
    use super::join;

    #[test]
    fn paths_start_at_the_file_that_uses_them() {
        assert_eq!(join("", "runbooks/a.yaml"), "runbooks/a.yaml");
        assert_eq!(join("", "./a.yaml"), "a.yaml");
        assert_eq!(join("", "/abs/a.yaml"), "/abs/a.yaml");
        assert_eq!(join("/abs/a.yaml", "./b.yaml"), "/abs/b.yaml");
        assert_eq!(join("/a.yaml", "./b.yaml"), "/b.yaml");
        assert_eq!(join("runbooks/a.yaml", "./b/c.yaml"), "runbooks/b/c.yaml");
        assert_eq!(join("runbooks/a.yaml", "../b.yaml"), "b.yaml");
        assert_eq!(join("a.yaml", "../b.yaml"), "../b.yaml");
    }
}
