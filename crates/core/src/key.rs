//! Names under which an effect is done at most once, and digests that do not depend on the order in
//! which fields were written.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::workflow::StepPath;

/// The idempotency key of a step instance when the author gives none: 32 lower-case hex digits over run
/// and step path, item key included. No attempt number, no time, no digest of the definition.
pub fn default_key(run: &str, path: &StepPath) -> String {
    let mut hash = Sha256::new();
    // Lengths keep (`ab`, `c`) and (`a`, `bc`) apart.
    for part in ["runbook.key.v1", run, path.as_str()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(&hash.finalize()[..16])
}

/// Lower-case hex sha256 of a value's [`canonical`] text.
pub fn params_digest(value: &Value) -> String {
    let mut hash = Sha256::new();
    write(value, &mut |text| hash.update(text));
    hex::encode(hash.finalize())
}

/// [`params_digest`] of a map that has one more field, a list whose items are made one at a time: the steps of a
/// large runbook as one value take many times the room of its text.
pub(crate) fn digest_with_list(
    fields: &Map<String, Value>,
    name: &str,
    items: impl Iterator<Item = Value>,
) -> String {
    let mut hash = Sha256::new();
    let mut list = Some(items);
    let mut names: Vec<&str> = fields.keys().map(String::as_str).chain([name]).collect();
    names.sort_unstable();
    for (at, key) in names.into_iter().enumerate() {
        hash.update(if at == 0 { "{" } else { "," });
        hash.update(Value::from(key).to_string());
        hash.update(":");
        match fields.get(key) {
            Some(field) => write(field, &mut |text| hash.update(text)),
            None => {
                hash.update("[");
                for (at, item) in list.take().into_iter().flatten().enumerate() {
                    if at > 0 {
                        hash.update(",");
                    }
                    write(&item, &mut |text| hash.update(text));
                }
                hash.update("]");
            }
        }
    }
    hash.update("}");
    hex::encode(hash.finalize())
}

/// JSON without white space and with the keys of every map sorted.
pub fn canonical(value: &Value) -> String {
    let mut all = String::new();
    write(value, &mut |text| all.push_str(text));
    all
}

fn write(value: &Value, out: &mut dyn FnMut(&str)) {
    match value {
        Value::Null => out("null"),
        Value::Bool(true) => out("true"),
        Value::Bool(false) => out("false"),
        Value::Array(items) => {
            out("[");
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out(",");
                }
                write(item, out);
            }
            out("]");
        }
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_unstable_by_key(|(key, _)| *key);
            out("{");
            for (at, (key, field)) in sorted.into_iter().enumerate() {
                if at > 0 {
                    out(",");
                }
                out(&Value::from(key.as_str()).to_string());
                out(":");
                write(field, out);
            }
            out("}");
        }
        plain => out(&plain.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn shuffled(value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                Value::Object(fields.iter().rev().map(|(k, v)| (k.clone(), shuffled(v))).collect())
            }
            Value::Array(items) => Value::Array(items.iter().map(shuffled).collect()),
            plain => plain.clone(),
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[a-zé\"]{0,4}", inner, 0..5)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    #[test]
    fn a_key_is_fixed_by_run_step_and_item() {
        let step = StepPath::new("copy");
        assert_eq!(default_key("r1", &step), default_key("r1", &step));
        assert_eq!(default_key("r1", &step).len(), 32);
        assert_ne!(default_key("r1", &step), default_key("r2", &step));
        assert_ne!(default_key("r1", &step), default_key("r1", &step.item("eu")));
        assert_ne!(default_key("r1", &StepPath::new("2copy")), default_key("r12", &step));
    }

    #[test]
    fn the_key_format_is_a_promise_to_earlier_journals() {
        let key = default_key("0190", &StepPath::new("triage/freeze"));
        assert_eq!(key, "39cce34b1237503781cc387e2309f9e6");
    }

    #[test]
    fn canonical_text_is_still_that_json() {
        let value = json!({ "b": [1, 2.5, "é\n\""], "a": { "z": null, "y": true } });
        assert_eq!(canonical(&value), r#"{"a":{"y":true,"z":null},"b":[1,2.5,"é\n\""]}"#);
    }

    proptest! {
        #[test]
        fn a_list_made_item_by_item_gives_the_digest_of_the_whole(
            fields in prop::collection::btree_map("[a-zé\"]{0,4}", any_value(), 0..5),
            name in "[A-Z]{1,2}",
            items in prop::collection::vec(any_value(), 0..4),
        ) {
            let fields: Map<_, _> = fields.into_iter().collect();
            let mut whole = fields.clone();
            whole.insert(name.clone(), Value::from(items.clone()));
            let streamed = digest_with_list(&fields, &name, items.into_iter());
            prop_assert_eq!(streamed, params_digest(&Value::from(whole)));
        }

        #[test]
        fn a_digest_is_stable_across_field_order(value in any_value()) {
            prop_assert_eq!(params_digest(&value), params_digest(&shuffled(&value)));
            let read_back: Value = serde_json::from_str(&canonical(&value)).unwrap();
            prop_assert_eq!(read_back, value);
        }
    }
}
