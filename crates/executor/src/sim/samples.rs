//! One record of each kind, for round trips.

use std::collections::BTreeMap;

use jiff::Timestamp;
use runbook_core::action::{Aftermath, Outcome};
use runbook_core::workflow::StepPath;
use serde_json::json;

use crate::record::{
    ApprovalRequested, AttemptFailed, AttemptStarted, Choice, Ended, Final, Found, Item, Record, RefusedWhy,
    RunStarted, SkippedWhy, StepDone, Then, Verdict, Waived,
};

fn step() -> StepPath {
    StepPath::new("triage/freeze[eu]")
}

fn text(text: &str) -> String {
    text.to_owned()
}

/// The first record of a run.
pub(crate) fn run_started(actor: &str) -> Record {
    Record::RunStarted(Box::new(RunStarted {
        sources: Vec::new(),
        runbook: text("runbooks/path-b.yaml"),
        name: text("path-b"),
        environment: text("runbooks/environments/local.yaml"),
        environment_base: None,
        environment_name: text("local"),
        base: text("runbooks"),
        inputs: BTreeMap::new(),
        digest: text("plan"),
        actor: text(actor),
        waivers: vec![Waived { guard: text("G03"), by: text("ada"), reason: text("drill") }],
        version: text("0.1.0"),
        writes: true,
        guarded: None,
    }))
}

pub(crate) fn one_of_each() -> Vec<Record> {
    let at = Timestamp::UNIX_EPOCH;
    let outcome = || Outcome { outputs: json!({"n": 1}), summary: text("one"), ..Outcome::default() };
    let (by, reason) = (text("ada"), Some(text("seen")));
    let mut all = people(&by, &reason);
    all.extend([
        run_started("ada"),
        Record::Opened { epoch: 1, actor: by.clone(), host: text("h"), pid: 7 },
        Record::Closed { epoch: 1, why: Ended::InDoubt },
        Record::Condition { step: step(), result: false },
        Record::Expanded { step: step(), items: vec![Item { key: text("eu"), value: json!(1) }] },
        Record::ApprovalRequested(Box::new(ApprovalRequested {
            step: step(),
            digest: text("d"),
            prompt: text("Sure?"),
            min: 1,
            approvers: vec![],
            four_eyes: true,
            expires_at: at,
            options: vec![Choice { name: text("a"), text: text("the first") }],
        })),
        Record::ApprovalExpired { step: step() },
        Record::ApprovalVoided { step: step(), why: text("changed") },
        Record::AttemptStarted(Box::new(AttemptStarted {
            step: step(),
            attempt: 1,
            epoch: 1,
            key: text("k"),
            params: json!({"a": [1]}),
            params_digest: text("p"),
        })),
        Record::Checkpoint { step: step(), name: text("table"), value: json!("x") },
        Record::AttemptFailed(Box::new(AttemptFailed {
            step: step(),
            attempt: 1,
            message: text("reach it"),
            hint: None,
            code: None,
            aftermath: Aftermath::Unknown,
            then: Then::GiveUp,
            duration_ms: 3,
        })),
        Record::Fenced { step: step(), epoch: 1, ended: 2 },
        Record::Probed { step: step(), found: Found::Unclear, why: Some(text("no answer")) },
        Record::StepDone(Box::new(StepDone {
            step: step(),
            outcome: outcome(),
            duration_ms: 3,
            by_key_of: Some(text("r/s")),
        })),
        Record::StepSkipped { step: step(), why: SkippedWhy::Within },
        Record::StepRefused { step: step(), why: RefusedWhy::Guard, message: text("m"), hint: None },
        Record::StepFailed { step: step(), message: text("m"), hint: None },
        Record::StepInDoubt { step: step(), why: text("no probe") },
        Record::UndoStarted { step: step(), epoch: 1 },
        Record::Undone { step: step(), outcome: outcome() },
        Record::UndoFailed { step: step(), message: text("m"), hint: None },
        Record::UndoSkipped { step: step(), why: text("kept") },
        Record::RunFinished { outcome: Final::RolledBack },
    ]);
    all
}

fn people(by: &str, reason: &Option<String>) -> Vec<Record> {
    let (by, digest, reason) = (by.to_owned(), text("d"), reason.clone());
    vec![
        Record::ApprovalGiven {
            step: step(),
            digest: digest.clone(),
            by: by.clone(),
            reason: reason.clone(),
            choice: reason.clone(),
        },
        Record::ApprovalDenied { step: step(), digest, by: by.clone(), reason: reason.clone() },
        Record::Resolved {
            step: step(),
            verdict: Verdict::Again,
            by: by.clone(),
            reason: text("looked"),
            outputs: Some(json!({})),
        },
        Record::PauseRequested { by: by.clone(), reason: reason.clone() },
        Record::CancelRequested { by: by.clone(), reason: reason.clone() },
        Record::RollbackRequested { by: by.clone(), reason },
        Record::Rerun { step: step(), by: by.clone(), reason: text("again") },
        Record::Noted { by: by.clone(), text: text("hm") },
        Record::GuardWaived { guard: text("G01"), by, reason: text("drill") },
    ]
}
