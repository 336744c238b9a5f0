//! The places that hold a copy of a secret, as the environment lists them.

use runbook_core::action::{ActionError, Context};
use runbook_core::environment::Place;

/// The places of a secret, at least one: a rotation that reaches nothing is a mistake.
pub(super) fn places<'c>(ctx: &'c Context, secret: &str) -> Result<&'c [Place], ActionError> {
    let found = ctx.environment.places.get(secret).map(Vec::as_slice).filter(|places| !places.is_empty());
    found.ok_or_else(|| {
        let name = secret.escape_debug();
        ActionError::refused(format!(
            "find the places of secret `{name}`: environment `{}` lists none",
            ctx.environment.name
        ))
        .code("G09")
        .hint(format!("Add `places: {{ {name}: [{{ vercel_env: NAME }}] }}` to the environment file."))
    })
}

/// Kind and name of a place.
pub(super) fn parts(place: &Place) -> (&'static str, &str) {
    match place {
        Place::VercelEnv(name) => ("vercel_env", name),
        Place::SupabaseSecret(name) => ("supabase_secret", name),
        Place::Manual(name) => ("manual", name),
    }
}

/// A place in words.
pub(super) fn shown(place: &Place) -> String {
    match place {
        Place::VercelEnv(name) => format!("variable {name} at Vercel"),
        Place::SupabaseSecret(name) => format!("secret {name} of the Edge Functions at Supabase"),
        Place::Manual(name) => format!("{name} (by hand)"),
    }
}

/// So many places, in words.
pub(super) fn counted(count: usize) -> String {
    if count == 1 { "1 place".to_owned() } else { format!("{count} places") }
}
