//! Objects in an S3 store and in plain files, read the same way: listed, asked for their checksum, and
//! streamed as one object that may not change on the way. Only `objects` and `write` write.

mod location;
mod objects;
mod parts;
mod record;
mod source;
mod store;
mod write;

pub use location::Location;
pub(crate) use objects::PartedUpload;
pub(crate) use parts::Pinned;
pub use source::{Failure, ObjectInfo, Tap, inspect, read, read_range};
pub(crate) use store::settings;
pub use store::{Listed, Store};
pub(crate) use write::{NewObject, Part, Put, ascii};
