//! The report of a run in three forms: Markdown for tickets and terminals, HTML for people and printers, JSON for
//! programs. Pure functions of the model that `executor::report` makes; the same model gives the same bytes.

mod chart;
mod html;
mod markdown;
mod text;

pub(crate) use html::html;
pub(crate) use markdown::markdown;

#[cfg(test)]
mod tests;
