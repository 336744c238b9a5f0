//! G09: a rotated secret reaches every place that the environment lists for it. Here: a step that makes a
//! new value is followed by one that takes exactly that value to the places. The action itself fails at run
//! time and names the places that are left.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Explanation;
use super::facts::Facts;
use crate::diagnostic::Diagnostic;
use crate::workflow::{Phase, Step, Work};

pub(super) const EXPLANATION: Explanation = Explanation {
    code: "G09",
    rule: "A rotated secret reaches every place that the environment lists for it: a step that makes a new value \
           (`secret.rotate`, or one tagged `rotate:NAME`) is followed by `secret.distribute` with the same name and \
           that value, which runs whenever the rotation ran. At run time it fails and names the places that are left.",
    why: "A secret that was changed in one place and not in the other takes down what reads the other, and the \
          leaked value stays good there.",
    refused: "\
steps:
  - id: rotate
    uses: secret.rotate
    with: { secret: jwt }
  - id: look
    uses: flow.noop
",
    allowed: "\
steps:
  - id: rotate
    uses: secret.rotate
    with: { secret: jwt }
  - id: places
    uses: secret.distribute
    with: { secret: jwt, value: \"{{ steps.rotate.value }}\" }
",
};

/// The action that makes a value, and the one that takes it to the places.
const ROTATE: &str = "secret.rotate";
const DISTRIBUTE: &str = "secret.distribute";

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Diagnostic>) {
    // Without an environment nothing says which secrets have places.
    let Some(environment) = facts.environment else { return };
    for rotate in &facts.workflow.steps {
        for name in rotated(facts, rotate) {
            if !environment.places.contains_key(&name) {
                continue;
            }
            let takers: Vec<&Step> = facts
                .workflow
                .steps
                .iter()
                .filter(|step| calls(step, DISTRIBUTE) && names(facts, step).contains(&name))
                .collect();
            let wrong: Vec<&'static str> =
                takers.iter().filter_map(|step| missing(facts, rotate, step)).collect();
            if wrong.len() < takers.len() {
                continue;
            }
            let message = format!(
                "step `{}` makes a new value of secret `{name}`, and nothing takes it to every place on every path",
                rotate.path
            );
            let mistake = Diagnostic::error("G09", rotate.span, message);
            found.push(match (takers.first(), wrong.first()) {
                (Some(taker), Some(why)) => mistake
                    .related(taker.span, format!("`{}` distributes `{name}`, but {why}", taker.path))
                    .help("let it need the rotation, take its value, and have no `if` that the rotation does not have"),
                _ => mistake.help(format!(
                    "add a step with `uses: secret.distribute` and `with: {{ secret: {name}, value: … }}` after it"
                )),
            });
        }
    }
}

fn calls(step: &Step, action: &str) -> bool {
    matches!(&step.work, Work::Action { name } if name == action)
}

/// Secrets that a step makes new values of.
fn rotated(facts: &Facts<'_>, step: &Step) -> BTreeSet<String> {
    let tagged = step.tags.iter().filter_map(|tag| tag.strip_prefix("rotate:")).map(str::to_owned);
    let own = if calls(step, ROTATE) { names(facts, step) } else { BTreeSet::new() };
    tagged.chain(own).collect()
}

/// What the parameter `secret` of a step may be, as far as the file says it.
fn names(facts: &Facts<'_>, step: &Step) -> BTreeSet<String> {
    step.with.get("secret").map(|secret| facts.texts(step, secret)).unwrap_or_default()
}

/// Why a distribution does not count for a rotation.
fn missing(facts: &Facts<'_>, rotate: &Step, taker: &Step) -> Option<&'static str> {
    let is_after = taker.phase == Phase::Finally || facts.graph.is_ancestor(&rotate.path, &taker.path);
    let is_sure = taker.for_each.is_none()
        || taker.for_each.as_ref().map(|each| &each.items)
            == rotate.for_each.as_ref().map(|each| &each.items);
    let value = taker.with.get("value").map(|value| facts.origin(taker, value).steps).unwrap_or_default();
    if !is_after {
        Some("not after the rotation")
    } else if !is_sure || !facts.graph.runs_whenever(taker, rotate) {
        Some("not whenever the rotation ran")
    } else if taker.continue_on_error {
        Some("its failure counts as success")
    } else if !value.contains(rotate.path.as_str()) {
        Some("another value")
    } else {
        None
    }
}

/// A text, or the texts of a list.
pub(super) fn literal_texts(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if !text.contains("{{") => {
            found.insert(text.clone());
        }
        Value::Array(items) => items.iter().for_each(|item| literal_texts(item, found)),
        _ => {}
    }
}
