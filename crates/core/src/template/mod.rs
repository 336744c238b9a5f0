//! `{{ … }}` and bare expressions: strict, bounded, without file, network or clock.
//!
//! | part     | what it holds                                                             |
//! |----------|---------------------------------------------------------------------------|
//! | `scan`   | where the expressions of a text are, and which names they use, with places |
//! | `token`  | an expression cut into names, texts, numbers and signs                     |
//! | `engine` | which filters and functions there are, and the limits                     |
//! | `render` | text and expressions to values                                            |
//!
//! The one rule: a name that does not exist is an error, also as the whole expression, never an
//! empty string and never false.

mod engine;
mod render;
mod scan;
mod token;

pub use engine::{FILTERS, FUNCTIONS, TESTS, VALUE_BYTES_MAX};
pub use render::{TemplateError, evaluate, render};
pub use scan::{
    Reference, SyntaxError, check_expression, check_text, expression_references, has_expression, references,
    whole_expression,
};
