//! Objects in an S3 store and in plain files, read the same way: listed, asked for their checksum, and
//! streamed as one object that may not change on the way. Only `write` writes.

mod location;
mod source;
mod store;
mod write;

pub use location::Location;
pub use source::{Failure, ObjectInfo, Tap, inspect, read};
pub use store::{Listed, Store};
pub(crate) use write::{NewObject, Part, Put, ascii};
