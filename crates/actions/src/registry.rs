//! The list of all actions. Adding one is a line here and a module of its own.

use std::collections::BTreeMap;

use runbook_core::action::{Action, Description, Registry};

struct Actions(BTreeMap<&'static str, Box<dyn Action>>);

impl Registry for Actions {
    fn get(&self, name: &str) -> Option<&dyn Action> {
        self.0.get(name).map(AsRef::as_ref)
    }
    fn descriptions(&self) -> Vec<&Description> {
        self.0.values().map(|a| a.description()).collect()
    }
}

/// Every action of this build.
pub fn registry() -> impl Registry {
    let all: Vec<Box<dyn Action>> = vec![];
    Actions(all.into_iter().map(|a| (a.description().name, a)).collect())
}
