//! Objects in an S3 store and in plain files, read the same way: listed, asked for their checksum, and
//! streamed as one object that may not change on the way. Nothing here writes.

mod location;
mod record;
mod source;
mod store;

pub use location::Location;
pub use source::{Failure, ObjectInfo, Tap, inspect, read};
pub use store::{Listed, Store};
