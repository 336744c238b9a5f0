//! When a lease may be taken. Pure, so that every store decides alike.

use jiff::Timestamp;

use super::error::LeaseError;
use super::journal::{LEASE_TTL, LeaseInfo};
use crate::holder::{Holder, Liveness};

/// Refuses while the one who holds `run` may still act.
///
/// Proven dead: at once. Cannot be seen from here: after [`LEASE_TTL`] of silence. Alive but silent (stopped,
/// swapped out): never, because it would go on with what it was doing; a person can end it.
pub(super) fn may_take(run: &str, held: &LeaseInfo, now: Timestamp) -> Result<(), LeaseError> {
    let free = match held.alive {
        Liveness::Dead => true,
        Liveness::Alive => false,
        Liveness::Unknown => silent(held.renewed_at, now),
    };
    if free {
        return Ok(());
    }
    Err(LeaseError::RunHeld {
        run: run.to_owned(),
        holder: Box::new(held.holder.clone()),
        since: held.since,
        renewed_at: held.renewed_at,
        alive: held.alive,
    })
}

/// A clock that runs ahead elsewhere only makes us wait longer.
fn silent(renewed_at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(renewed_at).unsigned_abs() >= LEASE_TTL && now > renewed_at
}

/// The refusal of an environment that belongs to another run.
pub(super) fn environment_held(
    environment: &str,
    run: &str,
    since: Timestamp,
    last: Holder,
    engine: Option<&LeaseInfo>,
) -> LeaseError {
    LeaseError::EnvironmentHeld {
        environment: environment.to_owned(),
        run: run.to_owned(),
        alive: engine.map_or(Liveness::Dead, |info| info.alive),
        holder: Box::new(engine.map_or(last, |info| info.holder.clone())),
        since,
    }
}
