//! Objects in an S3 store and in plain files, read the same way: listed, asked for their checksum, and
//! streamed as one object that may not change on the way. Nothing here writes.

mod location;
mod source;
mod store;

pub use location::Location;
pub use source::{Failure, ObjectInfo, Tap, inspect, inspect_from, read, read_from};
pub(crate) use store::settings;
pub use store::{Listed, Store};
