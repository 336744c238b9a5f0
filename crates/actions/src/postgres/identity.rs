//! Who a database is, whatever it is called: for drills, which must not write to a live one (G02).

use runbook_core::action::{Access, ActionError, Context};
use runbook_core::environment::LiveDatabase;
use runbook_core::types::Connection;
use serde_json::Value;

use super::session::{connect, timed};

/// `SYSTEM_IDENTIFIER/DATABASE`: the same for every name, pooler and spelling that leads there. A copy of a
/// cluster's files keeps the identifier, so it counts as the original.
pub async fn identity(ctx: &Context, of: &Connection) -> Result<String, ActionError> {
    let session = connect(ctx, of).await?;
    let asked = session.client.query_one(
        "select system_identifier::text || '/' || pg_catalog.current_database() from pg_catalog.pg_control_system()",
        &[],
    );
    Ok(timed(asked, || format!("ask `{}` who it is", session.label)).await?.get(0))
}

/// Refuses targets that are a live database by another name. Asks each before anything is written.
pub(crate) async fn outside(
    ctx: &Context,
    targets: &[(&str, Access)],
    params: &Value,
    live: &[LiveDatabase],
) -> Result<(), ActionError> {
    for (param, _) in targets.iter().filter(|(_, access)| *access != Access::Read) {
        let Some(value) = params.get(*param).filter(|value| !value.is_null()) else { continue };
        let connection: Connection = serde_json::from_value(value.clone())
            .map_err(|error| ActionError::refused(format!("read `{param}` as a database")).because(error))?;
        let found = identity(ctx, &connection).await?;
        if let Some(one) = live.iter().find(|one| one.identity.as_deref() == Some(found.as_str())) {
            return Err(ActionError::refused(format!(
                "write to `{}` in a drill: it is the live database {} (G02)",
                connection.label(),
                one.label()
            ))
            .code("live-target")
            .hint("Give the drill a database of its own: a step that makes one, or a connection to a scratch database."));
        }
    }
    Ok(())
}
