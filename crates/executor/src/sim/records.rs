//! Records as they are kept: round trips, and what a newer program wrote.

use jiff::Timestamp;
use runbook_core::action::Aftermath;
use runbook_core::workflow::StepPath;

use crate::record::{AttemptFailed, Record, RecordError, Then};

#[test]
fn what_is_written_is_read_back() {
    let record = Record::AttemptFailed(Box::new(AttemptFailed {
        step: StepPath::new("copy[eu]"),
        attempt: 2,
        message: "reach the bucket".into(),
        hint: None,
        code: Some("stopped".into()),
        aftermath: Aftermath::Unchanged { retry_after: Some(std::time::Duration::from_secs(3)) },
        then: Then::Retry(Timestamp::UNIX_EPOCH),
        duration_ms: 12,
    }));
    let bytes = record.encode().unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.starts_with(r#"{"v":1,"kind":"attempt_failed","step":"copy[eu]""#), "{text}");
    assert_eq!(Record::decode(&bytes).unwrap(), record);
}

#[test]
fn a_newer_version_and_an_unknown_kind_are_named() {
    let newer = Record::decode(br#"{"v":2,"kind":"noted","by":"a","text":"b"}"#).unwrap_err();
    assert!(newer.to_string().contains("version 2"), "{newer}");
    let unknown = Record::decode(br#"{"v":1,"kind":"step_teleported"}"#).unwrap_err();
    assert!(unknown.to_string().contains("`step_teleported`"), "{unknown}");
    let shape = Record::decode(br#"{"v":1,"kind":"noted"}"#).unwrap_err();
    assert!(matches!(shape, RecordError::Shape { .. }));
    assert!(matches!(Record::decode(b"{"), Err(RecordError::NotARecord(_))));
}

#[test]
fn every_kind_is_known_to_the_reader() {
    for record in super::samples::one_of_each() {
        let bytes = record.encode().unwrap();
        assert_eq!(Record::decode(&bytes).unwrap(), record, "{}", record.kind());
    }
}
