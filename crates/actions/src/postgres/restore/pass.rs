//! Rows that are read and go nowhere: they are in the target from an earlier attempt, or are not wanted there. What they
//! are is proven all the same. Touches no database.

use runbook_core::action::ActionError;

use super::batch::{Piece, Rows};
use super::fault::{Stopped, spoiled};
use super::lane::{Shared, collect};

/// Rows that are read and not loaded.
pub(super) struct Pass {
    pub(super) seq: u64,
    pub(super) rows: Rows,
    /// The sum of those that are in the target.
    pub(super) marked: Option<String>,
}

/// Reads rows to their end. Those that are in the target are hashed all the same: for the masking, whose hashes are of all
/// rows, and to see that they are the same.
pub(super) async fn pass_over(
    shared: &Shared<'_>,
    Pass { seq, mut rows, marked }: Pass,
) -> Result<(), Stopped> {
    let sum = match &shared.masker {
        Some(masker) if marked.is_some() => {
            let Some((text, _, sum)) = collect(&mut rows).await else { return Ok(()) };
            masker.rows(&rows.copy, &rows.table, text, false).await.map_err(spoiled)?;
            Some(sum)
        }
        _ => read(&mut rows).await,
    };
    // Without their end the dump could not be read on, which its reader tells.
    match (marked, sum) {
        (Some(marked), Some(sum)) => same(seq, &marked, &sum),
        _ => Ok(()),
    }
}

/// A resumed restore builds only on chunks that came from the bytes that it reads.
pub(super) fn same(seq: u64, marked: &str, read: &str) -> Result<(), Stopped> {
    if marked == read {
        return Ok(());
    }
    let error = ActionError::refused(format!(
        "go on restoring: chunk {seq} was loaded from other bytes than those that are read now"
    ));
    Err(Stopped { error: error.code("checksum-mismatch"), spoiled: true })
}

/// Passes over a chunk; its sum, none when it ended before its end.
async fn read(rows: &mut Rows) -> Option<String> {
    loop {
        match rows.pieces.recv().await? {
            Piece::Text(..) => {}
            Piece::End { sum, .. } => return Some(sum),
        }
    }
}
