//! Reads an object of the bucket to its end, for its hash, or for all that it holds. Changes nothing.

use std::time::Duration;

use runbook_core::action::{ActionError, Context, Progress};
use runbook_dump::{Contents, DumpError, Limits};

use crate::s3::{Failure, Location, ObjectInfo, Tap, read};

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// How closely an object is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Its bytes.
    Bytes,
    /// Also what it holds, as a dump.
    Contents,
}

/// What was seen of an object that was read to its end.
#[derive(Debug)]
pub(crate) struct Seen {
    /// sha256 of the whole object, lower-case hex.
    pub(crate) sha256: String,
    /// What it holds, or why it is no whole dump; none when nobody asked.
    pub(crate) contents: Option<Result<Contents, DumpError>>,
}

/// Reads it all. Stops when the run wants to.
pub(crate) async fn read_whole(
    ctx: &Context,
    at: &Location,
    info: &ObjectInfo,
    depth: Depth,
) -> Result<Seen, ActionError> {
    let tap = read(ctx, None, at, info).await?;
    let reader = tap.clone();
    let mut reading = tokio::task::spawn_blocking(move || seen(&reader, depth));
    let _ends_with_us = Cancel(tap.clone());
    let mut cancelled = false;
    loop {
        // Only the thread may ask the tap for its failure: it holds the tap while it waits for bytes.
        tokio::select! {
            done = &mut reading => {
                let done = done.map_err(|error| ActionError::unchanged(format!("read `{at}`")).because(error))?;
                return done.map_err(|failure| failed(at, failure));
            }
            () = ctx.stop.wait(), if !cancelled => {
                tap.cancel();
                cancelled = true;
            }
            () = tokio::time::sleep(TELL_EVERY) => ctx.progress.report(Progress {
                done: tap.bytes_read(),
                total: Some(tap.size_bytes()),
                unit: "bytes",
                message: format!("reading {at}"),
            }),
        }
    }
}

/// The thread that reads ends when nobody waits for it any more.
struct Cancel(Tap);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn seen(tap: &Tap, depth: Depth) -> Result<Seen, Failure> {
    let contents = match depth {
        Depth::Bytes => None,
        Depth::Contents => match runbook_dump::contents(tap.clone(), Limits::default()) {
            Err(DumpError::Read { source }) => {
                return Err(tap.failure().unwrap_or_else(|| Failure::Broken(source.to_string())));
            }
            read => Some(read),
        },
    };
    Ok(Seen { sha256: tap.finish()?, contents })
}

fn failed(at: &Location, failure: Failure) -> ActionError {
    let code = match failure {
        Failure::Changed => "object-changed",
        Failure::Broken(_) => "broken-download",
        Failure::Cancelled => "stopped",
    };
    ActionError::unchanged(format!("read `{at}` to its end")).because(failure).code(code)
}
