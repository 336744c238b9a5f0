//! The plain format: SQL text with COPY rows in it.

mod copy;
mod event;
mod kind;
mod lexer;
mod meta;
mod reader;
mod settings;
mod statements;
mod token;

pub use copy::{Copy, QualifiedName};
pub use event::{Banner, Event, Meta, Position, Statement};
pub use kind::Kind;
pub use reader::SqlReader;
pub(crate) use statements::{Lead, Splitter};
pub(crate) use token::{Token, Tokens};
