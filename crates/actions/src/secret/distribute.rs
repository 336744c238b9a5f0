//! `secret.distribute`: takes a new value to every place that the environment lists for it, and proves each;
//! G09 at run time. One place that fails does not keep the others from getting the value.

use runbook_core::action::{ActionError, Aftermath, Context, Effect, Preview, Progress};
use runbook_core::environment::Place;
use runbook_core::secret::{Revealed, SecretText};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::places::{counted, parts, places, shown};
use crate::typed::{About, Done, Typed};
use crate::{supabase, vercel};

/// Parameters of `secret.distribute`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Name of the secret under `places` of the environment.
    pub secret: String,
    /// Its new value.
    pub value: SecretText,
    /// Ref of the Supabase project for `supabase_secret` places; the environment's live project when left out.
    #[serde(default)]
    pub project: Option<String>,
    /// Names of `manual` places that a person has confirmed in an earlier `manual` step.
    #[serde(default)]
    pub manual_done: Vec<String>,
}

/// Outputs of `secret.distribute`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Name of the secret.
    pub secret: String,
    /// Every place that the environment lists.
    pub places: Vec<Reached>,
}

/// A place and whether it has the new value.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Reached {
    /// `vercel_env`, `supabase_secret` or `manual`.
    pub kind: String,
    /// Name of the variable or secret, or where it is.
    pub name: String,
    /// Always true: a place that was not reached fails the step.
    pub ok: bool,
}

/// The action `secret.distribute`.
pub struct Distribute;

impl Typed for Distribute {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &[
            "Vercel: a token of a team member who may edit and decrypt the project's environment variables",
            "Supabase: edge_functions_secrets_read, edge_functions_secrets_write (OAuth secrets:read, secrets:write)",
        ],
        has_plan: true,
        ..About::new(
            "secret.distribute",
            "Takes a secret's new value to every place that the environment lists, or fails and names those left.",
            Effect::Idempotent,
            r#"- id: cron
  uses: secret.rotate
  with:
    secret: cron_secret
- id: cron-places
  uses: secret.distribute
  with:
    secret: cron_secret
    value: "{{ steps.cron.value }}"
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let line = |place: &Place| match place {
            Place::Manual(name) if params.manual_done.contains(name) => {
                format!("a person has confirmed {name}")
            }
            Place::Manual(name) => format!("{name} wants a person, and nobody has confirmed it"),
            place => format!("{} gets the new value", shown(place)),
        };
        let lines = places(ctx, &params.secret)?.iter().map(line).collect();
        Ok(Preview::Changes { lines, destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let places = places(ctx, &params.secret)?;
        check_manual(places, &params)?;
        let value = ctx.secrets.reveal(&params.value)?;
        if value.expose().is_empty() {
            return Err(ActionError::refused(format!(
                "distribute secret `{}`: its value is empty",
                params.secret
            )));
        }
        let mut left = Vec::new();
        for (done, place) in (1..).zip(places) {
            if let Err(error) = reach(ctx, &params, place, &value).await {
                left.push((place, error));
            }
            let total = u64::try_from(places.len()).ok();
            ctx.progress.report(Progress { done, total, unit: "places", message: shown(place) });
        }
        if !left.is_empty() {
            return Err(failure(&params.secret, places.len(), left));
        }
        let summary = format!("{} reached {}", params.secret, counted(places.len()));
        let reached = |place| {
            let (kind, name) = parts(place);
            Reached { kind: kind.to_owned(), name: name.to_owned(), ok: true }
        };
        let places = places.iter().map(reached).collect();
        Ok(Done::new(Outputs { secret: params.secret, places }, summary))
    }
}

/// A name in `manual_done` that is no place confirms nothing, while its author believes it does.
fn check_manual(places: &[Place], params: &Params) -> Result<(), ActionError> {
    let is_place =
        |name: &&String| places.iter().any(|place| matches!(place, Place::Manual(known) if known == *name));
    match params.manual_done.iter().find(|name| !is_place(name)) {
        Some(name) => Err(ActionError::refused(format!(
            "take `{}` for confirmed: secret `{}` has no such manual place",
            name.escape_debug(),
            params.secret
        ))),
        None => Ok(()),
    }
}

async fn reach(ctx: &Context, params: &Params, place: &Place, value: &Revealed) -> Result<(), ActionError> {
    match place {
        Place::VercelEnv(name) => vercel::put_secret(ctx, name, value).await,
        Place::SupabaseSecret(name) => supabase::put_secret(ctx, params.project.clone(), name, value).await,
        Place::Manual(name) if params.manual_done.contains(name) => Ok(()),
        Place::Manual(_) => Err(ActionError::refused("hear from a person that it has the new value")),
    }
}

/// One failure for all places that are left. Trying again helps unless every one of them was refused.
fn failure(secret: &str, all: usize, left: Vec<(&Place, ActionError)>) -> ActionError {
    let names: Vec<String> =
        left.iter().map(|(place, error)| format!("{} (could not {error})", shown(place))).collect();
    let text = format!(
        "distribute secret `{secret}`: {} of {all} places are left: {}",
        left.len(),
        names.join("; ")
    );
    let by_hand = left.iter().any(|(place, _)| matches!(place, Place::Manual(_)));
    let waits = left.iter().filter_map(|(_, error)| match error.aftermath {
        Aftermath::Unchanged { retry_after } => Some(retry_after),
        // A value that may have been written is written again: twice is once.
        Aftermath::Unknown => Some(None),
        Aftermath::Refused => None,
    });
    let aftermath = match waits.max() {
        Some(retry_after) => Aftermath::Unchanged { retry_after },
        None => Aftermath::Refused,
    };
    let hint = if by_hand {
        "Put the new value there by hand, ask for it in a `manual` step before this one, and name the place in `manual_done`."
    } else {
        "The old value is still in force there. Mend the cause and resume: the other places are done."
    };
    let error = ActionError::new(text, aftermath).code("G09").hint(hint);
    match left.into_iter().next() {
        Some((_, first)) => error.because(first),
        None => error,
    }
}

#[cfg(test)]
mod tests;
