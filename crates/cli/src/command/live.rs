//! Who the live databases of all environments are, for a drill that must not write to them (G02): asks each,
//! and takes what its environment file records. Looks only; decides nothing.

use std::path::Path;
use std::time::Duration;

use runbook_core::environment::{EnvironmentKind, LiveDatabase};
use runbook_core::types::Connection;
use runbook_core::workflow::StepPath;
use tokio::task::JoinSet;

use crate::failure::Failure;
use crate::project;
use crate::reading::Reading;

/// A live database that takes longer to say who it is counts as one that cannot be reached.
const PATIENCE: Duration = Duration::from_secs(10);

/// Every live database of the environments beside a folder's runbooks. One that is both reached and recorded
/// stands there under each identity: a record may be of what was live before.
pub(crate) async fn databases(
    folder: &Path,
    state_dir: &Path,
    actor: &str,
) -> Result<Vec<LiveDatabase>, Failure> {
    let mut asked = JoinSet::new();
    let mut found = Vec::new();
    for name in project::environments(folder) {
        let loaded = project::environment(folder, &name, state_dir)?;
        let Some(environment) = loaded.environment else {
            // An environment on a sandbox that was never started has no database.
            if loaded.base.is_some() || !project::wants_sandbox(folder, &name) {
                found.push(LiveDatabase {
                    environment: name,
                    connection: "its file has mistakes".into(),
                    identity: None,
                });
            }
            continue;
        };
        let kind = environment.kind;
        let connections = environment.connections.clone();
        let live: Vec<_> = connections.into_iter().filter(|(_, connection)| connection.live).collect();
        if live.is_empty() {
            continue;
        }
        let reading = std::sync::Arc::new(Reading::new(environment, folder, state_dir, actor)?);
        for (connection_name, connection) in live {
            asked.spawn(look(reading.clone(), name.clone(), kind, connection_name, connection));
        }
    }
    while let Some(seen) = asked.join_next().await {
        found.extend(seen.map_err(|error| Failure::io("ask the live databases who they are", error))?);
    }
    found.sort_by_key(LiveDatabase::label);
    Ok(found)
}

async fn look(
    reading: std::sync::Arc<Reading>,
    environment: String,
    kind: EnvironmentKind,
    name: String,
    connection: Connection,
) -> Vec<LiveDatabase> {
    let recorded = connection.identity.clone();
    let context = reading.context(&StepPath::new("live"));
    let asking = runbook_actions::postgres::identity(&context, &connection);
    let reached = match tokio::time::timeout(PATIENCE, asking).await {
        Ok(Ok(identity)) => Some(identity),
        Ok(Err(error)) => {
            tracing::debug!(%environment, %name, error = %reading.redact(&error.to_string()), "not reached");
            None
        }
        Err(_) => None,
    };
    let mut identities: Vec<Option<String>> = [reached, recorded].into_iter().flatten().map(Some).collect();
    identities.dedup();
    // A sandbox that does not answer is not running: nothing can be written to it by any name.
    if identities.is_empty() && kind != EnvironmentKind::Local {
        identities.push(None);
    }
    let database =
        |identity| LiveDatabase { environment: environment.clone(), connection: name.clone(), identity };
    identities.into_iter().map(database).collect()
}
