//! `{{ secrets.NAME }}` and `{{ vars.NAME }}` in the strings of an environment file. Nothing else may
//! stand in the braces: an environment is data, and templates belong to runbooks.

use std::collections::BTreeMap;

use crate::decode::fields::{Mistakes, shown};
use crate::diagnostic::{Diagnostic, Span, Spanned};
use crate::document::{Tree, TreeKind};
use crate::secret::SecretText;
use crate::suggest;

/// What may be referred to.
pub(super) struct Names {
    secrets: Vec<String>,
    /// Scalars as themselves, with the secrets in them resolved; lists and maps as they are.
    vars: BTreeMap<String, Tree>,
}

/// Which references a part of the file may hold, and why not the others.
#[derive(Clone, Copy)]
struct Rules {
    secrets: Result<(), &'static str>,
    vars: Result<(), &'static str>,
}

const ALL: Rules = Rules { secrets: Ok(()), vars: Ok(()) };
const IN_VARS: Rules = Rules { secrets: Ok(()), vars: Err("a variable cannot refer to a variable") };
const IN_SECRETS: Rules = Rules { secrets: Err("a secret cannot come from a secret"), vars: Ok(()) };

/// The file with every reference replaced: a secret by its mark, a variable by its value. Text that is
/// one variable whole takes the variable's type.
pub(super) fn resolve(tree: Tree, mistakes: &mut Mistakes) -> Tree {
    let names = Names::of(&tree, mistakes);
    let TreeKind::Map(entries) = tree.kind else { return tree };
    let entries = entries.into_iter().map(|(key, value)| {
        let value = match key.value.as_str() {
            // Done while the names were read.
            "vars" => names.resolved_vars(value),
            "secrets" => names.tree(value, IN_SECRETS, mistakes),
            _ => names.tree(value, ALL, mistakes),
        };
        (key, value)
    });
    Tree { kind: TreeKind::Map(entries.collect()), span: tree.span }
}

impl Names {
    fn of(tree: &Tree, mistakes: &mut Mistakes) -> Self {
        let entries = |key: &str| match tree.get(key).map(|tree| &tree.kind) {
            Some(TreeKind::Map(entries)) => entries.clone(),
            _ => Vec::new(),
        };
        let secrets = entries("secrets").into_iter().map(|(name, _)| name.value).collect();
        let mut names = Self { secrets, vars: BTreeMap::new() };
        for (name, value) in entries("vars") {
            let value = names.tree(value, IN_VARS, mistakes);
            names.vars.insert(name.value, value);
        }
        names
    }

    fn resolved_vars(&self, tree: Tree) -> Tree {
        let TreeKind::Map(entries) = tree.kind else { return tree };
        let entries = entries.into_iter().map(|(name, value)| {
            let value = self.vars.get(&name.value).cloned().unwrap_or(value);
            (name, value)
        });
        Tree { kind: TreeKind::Map(entries.collect()), span: tree.span }
    }

    fn tree(&self, tree: Tree, rules: Rules, mistakes: &mut Mistakes) -> Tree {
        let kind = match tree.kind {
            TreeKind::String(text) if text.contains("{{") => self.text(&text, tree.span, rules, mistakes),
            TreeKind::List(items) => {
                TreeKind::List(items.into_iter().map(|item| self.tree(item, rules, mistakes)).collect())
            }
            TreeKind::Map(entries) => TreeKind::Map(
                entries
                    .into_iter()
                    .map(|(key, value): (Spanned<String>, Tree)| (key, self.tree(value, rules, mistakes)))
                    .collect(),
            ),
            other => other,
        };
        Tree { kind, span: tree.span }
    }

    fn text(&self, text: &str, span: Span, rules: Rules, mistakes: &mut Mistakes) -> TreeKind {
        let mut done = String::new();
        let mut rest = text;
        while let Some(open) = rest.find("{{") {
            done.push_str(&rest[..open]);
            let Some(close) = rest[open..].find("}}") else {
                mistakes.push(
                    Diagnostic::error("bad-template", span, "a `{{` is never closed")
                        .help("write `{{ secrets.NAME }}` or `{{ vars.NAME }}`"),
                );
                return TreeKind::String(text.to_owned());
            };
            let inner = rest[open + 2..open + close].trim();
            let after = &rest[open + close + 2..];
            if let Some(value) = self.reference(inner, span, rules, mistakes) {
                if done.is_empty() && after.is_empty() {
                    return value;
                }
                done.push_str(&plain(&value, inner, span, mistakes));
            } else {
                // Reported. A mark that names nothing keeps a password from looking like a literal too.
                done.push_str(SecretText::reference("").marked());
            }
            rest = after;
        }
        done.push_str(rest);
        TreeKind::String(done)
    }

    fn reference(&self, inner: &str, span: Span, rules: Rules, mistakes: &mut Mistakes) -> Option<TreeKind> {
        let (root, name) = inner.split_once('.').unwrap_or((inner, ""));
        let (root, name) = (root.trim(), name.trim());
        let (what, allowed) = match root {
            "secrets" => ("secret", rules.secrets),
            "vars" => ("variable", rules.vars),
            _ => {
                let message = format!("`{}` cannot stand in an environment file", shown(inner));
                mistakes.push(
                    Diagnostic::error("bad-template", span, message)
                        .help("only `{{ secrets.NAME }}` and `{{ vars.NAME }}` can"),
                );
                return None;
            }
        };
        if let Err(why) = allowed {
            mistakes.push(Diagnostic::error("bad-template", span, why).help("write the value itself here"));
            return None;
        }
        let found = match what {
            "secret" => self
                .secrets
                .iter()
                .any(|known| known == name)
                .then(|| TreeKind::String(SecretText::reference(name).marked().to_owned())),
            _ => self.vars.get(name).map(|tree| tree.kind.clone()),
        };
        if found.is_none() {
            self.report_unknown(what, name, span, mistakes);
        }
        found
    }

    fn report_unknown(&self, what: &str, name: &str, span: Span, mistakes: &mut Mistakes) {
        let (code, section, help) = if what == "secret" {
            let known = self.secrets.iter().map(String::as_str);
            ("unknown-secret", "secrets", suggest::did_you_mean(name, known))
        } else {
            ("unknown-var", "vars", suggest::did_you_mean(name, self.vars.keys().map(String::as_str)))
        };
        let message = format!("there is no {what} `{}`", shown(name));
        let help = help.unwrap_or_else(|| format!("declare it under `{section}:`"));
        mistakes.push(Diagnostic::error(code, span, message).help(help));
    }
}

/// A variable's value inside longer text.
fn plain(value: &TreeKind, inner: &str, span: Span, mistakes: &mut Mistakes) -> String {
    match value {
        TreeKind::String(text) => text.clone(),
        TreeKind::Number(number) => number.to_string(),
        TreeKind::Bool(value) => value.to_string(),
        TreeKind::Null | TreeKind::List(_) | TreeKind::Map(_) => {
            let message = format!("`{}` is no text, number or boolean", shown(inner));
            mistakes.push(
                Diagnostic::error("bad-template", span, message)
                    .help("only such a value can stand inside longer text"),
            );
            String::new()
        }
    }
}
