//! Files of Supabase Storage: copied into the backup bucket, compared with it, brought back, proven. What the
//! database says of a file is never taken for the file: only reading its bytes is.

mod compare;
mod crew;
mod diff;
mod large;
mod manifest;
mod pace;
mod restore;
mod service;
mod snapshot;
mod vault;
mod verify;
mod which;

pub use diff::Diff;
pub use restore::Restore;
pub use snapshot::Snapshot;
pub use verify::Verify;
