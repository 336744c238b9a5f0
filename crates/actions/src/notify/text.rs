//! The text of a message: a template, filled strictly. Holds no secret, ever.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use minijinja::{Environment, UndefinedBehavior};
use runbook_core::action::{ActionError, Context};
use runbook_core::secret::holds_marker;
use serde_json::{Value, json};

/// Largest template file.
const TEMPLATE_BYTES_MAX: u64 = 64 << 10;
/// Longest message; chat systems cut or refuse longer ones.
const TEXT_CHARS_MAX: usize = 30_000;
/// Instructions that a template may take; a message needs some hundreds.
const FUEL: u64 = 200_000;

/// The template's source, from a file beside the runbook.
pub(crate) async fn read(ctx: &Context, file: &str) -> Result<String, ActionError> {
    let path = Path::new(file);
    if !path
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir | Component::ParentDir))
    {
        return Err(ActionError::refused(format!(
            "read template `{file}`: write it relative to the runbook"
        )));
    }
    let path = ctx.base.join(path);
    let shown = path.display();
    let failed = |error| ActionError::refused(format!("read template `{shown}`")).because(error);
    let size = tokio::fs::metadata(&path).await.map_err(failed)?.len();
    if size > TEMPLATE_BYTES_MAX {
        return Err(ActionError::refused(format!(
            "read template `{shown}`: it is larger than {TEMPLATE_BYTES_MAX} bytes"
        )));
    }
    tokio::fs::read_to_string(&path).await.map_err(failed)
}

/// Fills a template with the step's values and with `run` and `env`. An unknown name is an error, and so
/// is a secret among the values that the template shows.
pub(crate) fn fill(
    ctx: &Context,
    name: &str,
    source: &str,
    values: &BTreeMap<String, Value>,
) -> Result<String, ActionError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    // A line that holds only `{% for … %}` leaves no empty line behind.
    let tidy = minijinja::syntax::SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(tidy.map_err(|error| {
        ActionError::refused(format!("fill template `{name}`")).because(error.to_string())
    })?);
    let mut scope = values.clone();
    scope.insert(
        "run".into(),
        json!({ "id": ctx.run, "short_id": ctx.run_short, "actor": ctx.actor, "started_at": ctx.started_at }),
    );
    scope.insert(
        "env".into(),
        json!({ "name": ctx.environment.name, "kind": ctx.environment.kind, "region": ctx.environment.region }),
    );
    let failed = |error: minijinja::Error| {
        ActionError::refused(format!("fill template `{name}`")).because(error.to_string())
    };
    let template = environment.template_from_str(source).map_err(failed)?;
    let text = template.render(minijinja::value::Serde(&scope)).map_err(failed)?;
    check(name, &text)?;
    Ok(text)
}

/// Refuses what may not be sent.
pub(crate) fn check(name: &str, text: &str) -> Result<(), ActionError> {
    if holds_marker(text) {
        return Err(ActionError::refused(format!("send the message of `{name}`: there is a secret in it"))
            .code("secret-in-message"));
    }
    let length = text.chars().count();
    if text.trim().is_empty() || length > TEXT_CHARS_MAX {
        return Err(ActionError::refused(format!(
            "send the message of `{name}`: it has {length} characters, 1 to {TEXT_CHARS_MAX} are allowed"
        )));
    }
    Ok(())
}
