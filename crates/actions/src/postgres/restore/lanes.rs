//! Opens the connections that load: how many, and how much memory each may take to build an index. Asks the server;
//! nothing needs to be set by hand.

use runbook_core::action::{ActionError, Aftermath, Context};
use runbook_core::types::Connection;

use crate::postgres::session::{Session, timed};

use super::lane::Lane;

/// How many connections may be asked for.
const JOBS: std::ops::RangeInclusive<u64> = 1..=16;
/// More `maintenance_work_mem` than this, in KiB, makes no index faster.
const MAINTENANCE_KB_MAX: u64 = 1 << 20;
/// The connections that load. Where the server has no room for all of them, fewer do.
pub(super) async fn open(
    ctx: &Context,
    session: &Session,
    to: &Connection,
    asked_for: Option<u64>,
) -> Result<Vec<Lane>, ActionError> {
    let asked = "select pg_catalog.current_setting('max_parallel_workers')::int8, \
                 (select setting::int8 * 8 from pg_catalog.pg_settings where name = 'effective_cache_size'), \
                 (select setting::int8 from pg_catalog.pg_settings where name = 'maintenance_work_mem')";
    let attempted = || format!("ask `{}` for its settings", session.label);
    let row = timed(session.client.query_one(asked, &[]), attempted).await?;
    let setting = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
    let jobs = match asked_for {
        Some(jobs) if JOBS.contains(&jobs) => jobs,
        Some(_) => {
            return Err(ActionError::refused("restore with so many connections: `jobs` goes from 1 to 16"));
        }
        None => setting(0).clamp(2, 4),
    };
    // An eighth of what the server says it has for its data, shared by those that build.
    let memory_kb = (setting(1) / 8 / jobs).clamp(setting(2), MAINTENANCE_KB_MAX.max(setting(2)));
    let mut lanes = Vec::new();
    for at in 0..jobs {
        match Lane::open(ctx, to, memory_kb).await {
            Ok(lane) => lanes.push(lane),
            Err(error) if at > 0 && error.aftermath != Aftermath::Refused => {
                tracing::warn!(%error, "loading over {at} connections instead of {jobs}");
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(lanes)
}
