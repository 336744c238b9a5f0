//! The values of the root's inputs.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::decode::coerce_input;
use crate::diagnostic::{Diagnostic, Severity};
use crate::document::Document;
use crate::suggest;

/// Every declared input with its value: what was given, else the default, else none. Without `given`
/// nothing is demanded.
pub(super) fn resolve(
    root: &Document,
    given: Option<&BTreeMap<String, Value>>,
    found: &mut Vec<Diagnostic>,
) -> BTreeMap<String, Value> {
    let mut values = BTreeMap::new();
    for input in &root.inputs {
        let name = &input.name.value;
        let written = given.and_then(|given| given.get(name)).cloned();
        let default = input.default.as_ref().map(crate::document::Tree::to_value);
        let value = match written.or(default) {
            // The decoder reported a default that does not fit.
            Some(value) => match coerce_input(input, &value) {
                Ok(value) => value,
                Err(why) => {
                    if given.is_some_and(|given| given.contains_key(name)) {
                        let message = format!("input `{name}`: {why}");
                        found.push(Diagnostic::error("bad-input", input.span, message));
                    }
                    Value::Null
                }
            },
            None => {
                if input.required && given.is_some() {
                    let message = format!("input `{name}` has no value");
                    let help = "give it one when the run is started, or write a `default`";
                    found.push(Diagnostic::error("missing-input", input.span, message).help(help));
                }
                Value::Null
            }
        };
        values.insert(name.clone(), value);
    }
    for name in given.into_iter().flat_map(BTreeMap::keys).filter(|name| !values.contains_key(*name)) {
        found.push(Diagnostic {
            code: "unknown-input",
            severity: Severity::Error,
            message: format!("runbook `{}` has no input `{name}`", root.name.value),
            span: None,
            related: Vec::new(),
            help: suggest::did_you_mean(name, root.inputs.iter().map(|input| input.name.value.as_str())),
        });
    }
    values
}
