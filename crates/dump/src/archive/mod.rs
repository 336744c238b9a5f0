//! The custom format: a header, a table of contents, and blocks of data.

mod chunks;
mod codec;
mod entry;
mod fields;
mod header;
mod inflate;
mod landmark;
mod lz4;
mod objects;
mod payload;
mod reader;
mod rows;
mod statements;
mod toc;

pub use entry::{DataOffset, Entry, Pass, Section, block_ranges};
pub use header::{Compression, CreatedAt, Header, Version};
pub use landmark::{Landmark, Resumed};
pub use objects::{LargeObjectEvent, LargeObjects};
pub use reader::{ArchiveReader, Block, BlockSpan};
pub use rows::RowStream;
pub use statements::StatementStream;
