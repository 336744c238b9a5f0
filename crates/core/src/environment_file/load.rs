//! From the text of an environment file, and of the one it extends, to the environment.

use super::providers;
use super::sections;
use super::shapes;
use super::{merge, text};
use crate::decode::fields::{Fields, Mistakes, shown};
use crate::decode::scalar::{self, NameKind};
use crate::diagnostic::{Diagnostic, Severity, SourceId, Sources};
use crate::document::{Tree, TreeKind};
use crate::environment::{DataKind, Environment, EnvironmentKind};
use crate::yaml;

/// What came of an environment file.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The environment. Also there when there were mistakes, with holes filled by harmless values, so
    /// that later checks find more; nothing may run on it then. None when the file (or the one it
    /// extends) could not be read at all.
    pub environment: Option<Environment>,
    /// Everything that is wrong. A literal secret has the code `literal-secret`; whoever shows the
    /// mistake must not print its source line.
    pub diagnostics: Vec<Diagnostic>,
}

impl Loaded {
    /// The environment when nothing is wrong with it.
    pub fn ok(self) -> Result<Environment, Vec<Diagnostic>> {
        let has_errors = self.diagnostics.iter().any(|one| one.severity == Severity::Error);
        match self.environment {
            Some(environment) if !has_errors => Ok(environment),
            _ => Err(self.diagnostics),
        }
    }
}

/// The name under `extends`, so that the caller can read that file; none when there is none or the file
/// cannot be read.
pub fn extends(sources: &Sources, id: SourceId) -> Option<String> {
    let (tree, _) = yaml::parse(sources, id);
    tree?.get("extends")?.as_str().map(str::to_owned)
}

/// Decodes one environment file, laid over `base` when it says `extends`. A base that is given and not
/// asked for is not read.
pub fn decode(sources: &Sources, id: SourceId, base: Option<SourceId>) -> Loaded {
    let (tree, found) = yaml::parse(sources, id);
    let mut mistakes = Mistakes::with(found);
    let Some(mut tree) = tree else {
        return Loaded { environment: None, diagnostics: mistakes.into_list(sources) };
    };
    let wanted = take(&mut tree, "extends");
    let mut is_whole = true;
    if let Some(wanted) = wanted {
        let base = wanted_base(sources, &wanted, base, &mut mistakes);
        is_whole = base.is_some();
        if let Some(base) = base {
            tree = merge::over(base, tree);
        }
    }
    let tree = text::resolve(tree, &mut mistakes);
    let environment = environment(&tree, id, &mut mistakes);
    let mut diagnostics = mistakes.into_list(sources);
    if !is_whole {
        // What the missing file would have brought is not the author's mistake.
        const MISSING: [&str; 3] = ["missing-key", "unknown-secret", "unknown-var"];
        diagnostics.retain(|one| !MISSING.contains(&one.code));
        return Loaded { environment: None, diagnostics };
    }
    Loaded { environment, diagnostics }
}

/// The file that this one extends; what keeps it from being read is reported.
fn wanted_base(
    sources: &Sources,
    wanted: &Tree,
    base: Option<SourceId>,
    mistakes: &mut Mistakes,
) -> Option<Tree> {
    let name = scalar::text(wanted, "extends", mistakes)?.value;
    if let Some(base) = base {
        return base_tree(sources, base, mistakes);
    }
    let message = format!("`{}`, which this file extends, is not there", shown(&name));
    let help = if name == "sandbox" {
        "start it: runbook sandbox start"
    } else {
        "`sandbox` can be extended, or an environment file beside this one"
    };
    mistakes.push(Diagnostic::error("missing-base", wanted.span, message).help(help));
    None
}

fn base_tree(sources: &Sources, base: SourceId, mistakes: &mut Mistakes) -> Option<Tree> {
    let (tree, found) = yaml::parse(sources, base);
    found.into_iter().for_each(|one| mistakes.push(one));
    let mut tree = tree?;
    if let Some(again) = take(&mut tree, "extends") {
        mistakes.push(
            Diagnostic::error(
                "bad-value",
                again.span,
                "an environment that is extended cannot extend another",
            )
            .help("one level is all there is: copy what is needed"),
        );
    }
    Some(tree)
}

/// Removes a key from a map and gives its value.
fn take(tree: &mut Tree, key: &str) -> Option<Tree> {
    let TreeKind::Map(entries) = &mut tree.kind else { return None };
    let at = entries.iter().position(|(have, _)| have.value == key)?;
    Some(entries.remove(at).1)
}

fn environment(tree: &Tree, own: SourceId, mistakes: &mut Mistakes) -> Option<Environment> {
    const KINDS: [(&str, EnvironmentKind); 3] = [
        ("local", EnvironmentKind::Local),
        ("staging", EnvironmentKind::Staging),
        ("production", EnvironmentKind::Production),
    ];
    let fields = Fields::open(tree, &shapes::ENVIRONMENT, mistakes)?;
    let kind = fields
        .required("kind", "add `kind: local`, `kind: staging` or `kind: production`", mistakes)
        .and_then(|tree| scalar::keyword(tree, "kind", &KINDS, mistakes));
    let data = fields
        .required(
            "data",
            "add what its databases hold: `data: synthetic`, `masked` or `production`",
            mistakes,
        )
        .and_then(|tree| scalar::keyword(tree, "data", &sections::DATA, mistakes));
    // When in doubt the careful kind.
    let kind = kind.map_or(EnvironmentKind::Production, |word| word.value);
    let data = data.map_or(DataKind::Production, |word| word.value);
    let mut environment = Environment {
        region: sections::text(&fields, "region", mistakes),
        connections: sections::connections(&fields, mistakes),
        backups: sections::backups(&fields, mistakes),
        backup_sources: sections::backup_sources(&fields, mistakes),
        supabase: sections::supabase(&fields, mistakes),
        vercel: sections::vercel(&fields, mistakes),
        notify: sections::notify(&fields, mistakes),
        secrets: sections::secrets(&fields, mistakes),
        approvers: sections::approvers(&fields, mistakes),
        vars: sections::vars(&fields, mistakes),
        ..Environment::new(environment_name(&fields, own, mistakes), kind, data)
    };
    providers::fill(&mut environment, &fields, mistakes);
    Some(environment)
}

/// The name is the file's own, never that of the file it extends.
fn environment_name(fields: &Fields<'_>, own: SourceId, mistakes: &mut Mistakes) -> String {
    let tree = fields.get("name").filter(|tree| tree.span.source == own);
    if tree.is_none() {
        mistakes.push(
            Diagnostic::error("missing-key", fields.head(), "the environment has no `name`")
                .help("add `name: …`, what is given to `--env`"),
        );
    }
    tree.and_then(|tree| scalar::name(tree, "name", "an environment", NameKind::Id, mistakes))
        .map_or_else(|| "unnamed".to_owned(), |name| name.value)
}
