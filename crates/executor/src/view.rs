//! A run as `status` and `report` show it: from records only, so that it is the same for a live run, a finished
//! one and one that was killed.

use std::time::Duration;

use jiff::Timestamp;
use runbook_core::workflow::{Phase, StepPath};
use serde::Serialize;

use crate::driver::{Loaded, Problem, RunOutcome};
use crate::machine::{Answer, Instance, State, UndoState};
use crate::record::{Choice, Record, SkippedWhy, Waived};

/// A whole run.
#[derive(Debug, Clone, Serialize)]
pub struct RunView {
    /// Its id.
    pub run: String,
    /// The runbook's title.
    pub title: String,
    /// The runbook's name.
    pub runbook: String,
    /// The environment's name.
    pub environment: String,
    /// Plan digest.
    pub digest: String,
    /// Who started it.
    pub actor: String,
    /// When.
    pub started_at: Timestamp,
    /// When it was finished, or when the last process stopped working on it.
    pub ended_at: Option<Timestamp>,
    /// How it ended; none while a process works on it, as far as the journal knows. The lease knows whether
    /// that process lives.
    pub outcome: Option<RunOutcome>,
    /// RTO that it is measured against.
    pub rto_seconds: Option<u64>,
    /// RPO that it is measured against.
    pub rpo_seconds: Option<u64>,
    /// Who asked for a cancel, a pause, a rollback.
    pub requests: Requests,
    /// All step instances in the order of the workflow.
    pub steps: Vec<StepView>,
    /// Steps that stand in the way.
    pub problems: Vec<Problem>,
    /// What is in force (P12).
    pub in_force: Vec<ForceView>,
    /// Guards that do not hold for this run; in force as well.
    pub waived: Vec<Waived>,
    /// Whether a rollback would be refused.
    pub passed_no_return: bool,
}

/// What people asked of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Requests {
    /// Who cancelled.
    pub cancelled_by: Option<String>,
    /// Who paused.
    pub paused_by: Option<String>,
    /// Who wants it rolled back.
    pub rollback_by: Option<String>,
}

/// Something in force.
#[derive(Debug, Clone, Serialize)]
pub struct ForceView {
    /// Its key.
    pub key: String,
    /// In words.
    pub text: String,
    /// The step that brought it.
    pub step: StepPath,
    /// Since when.
    pub since: Timestamp,
}

/// One step instance, or a step whose items are not known.
#[derive(Debug, Clone, Serialize)]
pub struct StepView {
    /// Its path.
    pub step: StepPath,
    /// Its title.
    pub title: String,
    /// What it calls; none for the entry and exit of a runbook used as a step.
    pub action: Option<String>,
    /// When it may run.
    pub phase: Phase,
    /// Where it stands; none while its items are not known.
    pub state: Option<State>,
    /// The state in one or two words.
    pub word: &'static str,
    /// Why it does not apply.
    pub skipped: Option<SkippedWhy>,
    /// Attempts in all.
    pub attempts: u32,
    /// When its first attempt started.
    pub started_at: Option<Timestamp>,
    /// When it was settled.
    pub ended_at: Option<Timestamp>,
    /// What came of it, in a phrase.
    pub summary: Option<String>,
    /// Why it failed, is refused or in doubt.
    pub message: Option<String>,
    /// The question to people.
    pub question: Option<QuestionView>,
    /// `RUN/STEP` that did it under the same key.
    pub by_key_of: Option<String>,
    /// Where a rollback stands with it.
    pub undo: Option<String>,
    /// How long it is expected to take.
    pub expected_seconds: Option<u64>,
}

/// A question to people.
#[derive(Debug, Clone, Serialize)]
pub struct QuestionView {
    /// The question.
    pub prompt: String,
    /// What an answer is bound to.
    pub digest: String,
    /// How many must say yes.
    pub min: u32,
    /// Who did.
    pub given: Vec<Answer>,
    /// Who may answer; empty means anybody.
    pub approvers: Vec<String>,
    /// Until when.
    pub expires_at: Timestamp,
    /// What there is to choose from; empty when the answer is yes or no.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<Choice>,
}

/// One line of the timeline.
#[derive(Debug, Clone, Serialize)]
pub struct TimelineEntry {
    /// Number of the record.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// The record.
    pub record: Record,
}

impl RunView {
    /// The view of a run.
    pub fn of(loaded: &Loaded) -> Self {
        let (machine, workflow) = (&loaded.machine, &loaded.workflow);
        let is_live = machine.sitting().is_some() && machine.finished().is_none();
        let never_driven = machine.epoch() == 0;
        let facts = loaded.facts();
        let outcome = crate::driver::outcome_of(machine);
        let force = |f: &crate::machine::Force| ForceView {
            key: f.what.key.clone(),
            text: f.what.text.clone(),
            step: f.step.clone(),
            since: f.since,
        };
        Self {
            run: loaded.run.clone(),
            title: workflow.title.clone(),
            runbook: workflow.name.clone(),
            environment: loaded.environment.name.clone(),
            digest: workflow.digest.clone(),
            actor: facts.actor,
            started_at: facts.started_at,
            ended_at: loaded.records.last().map(|(at, _)| *at).filter(|_| !is_live && !never_driven),
            outcome: (!is_live && !never_driven).then_some(outcome),
            rto_seconds: workflow.rto.map(|d| d.as_secs()),
            rpo_seconds: workflow.rpo.map(|d| d.as_secs()),
            requests: Requests {
                cancelled_by: machine.cancelled().map(str::to_owned),
                paused_by: machine.paused().map(str::to_owned),
                rollback_by: machine.rolling_back().map(str::to_owned),
            },
            steps: steps(loaded),
            problems: crate::driver::problems_of(machine, workflow),
            in_force: machine.in_force().iter().map(force).collect(),
            waived: machine.waived().to_vec(),
            passed_no_return: machine
                .nodes()
                .any(|n| n.bone.point_of_no_return && n.instances.iter().any(Instance::may_have_effect)),
        }
    }

    /// All records, for a report.
    pub fn timeline(loaded: &Loaded) -> Vec<TimelineEntry> {
        let entry = |(n, (at, record)): (usize, &(Timestamp, Record))| TimelineEntry {
            seq: n as u64 + 1,
            at: *at,
            record: record.clone(),
        };
        loaded.records.iter().enumerate().map(entry).collect()
    }

    /// Since the run was started, up to its end or to `now`.
    pub fn elapsed(&self, now: Timestamp) -> Duration {
        let end = self.ended_at.unwrap_or(now);
        end.duration_since(self.started_at).try_into().unwrap_or_default()
    }
}

fn steps(loaded: &Loaded) -> Vec<StepView> {
    let mut views = Vec::new();
    for (node, step) in loaded.machine.nodes().zip(&loaded.workflow.steps) {
        let action = match &step.work {
            runbook_core::workflow::Work::Action { name } => Some(name.clone()),
            _ => None,
        };
        let blank = StepView {
            step: step.path.clone(),
            title: step.title.clone(),
            action,
            phase: step.phase,
            state: None,
            word: if node.skipped.is_some() {
                "skipped"
            } else if node.settled {
                "done"
            } else {
                "waiting"
            },
            skipped: node.skipped,
            attempts: 0,
            started_at: None,
            ended_at: None,
            summary: None,
            message: None,
            question: None,
            by_key_of: None,
            undo: None,
            expected_seconds: step.expect_duration.map(|d| d.as_secs()),
        };
        if node.instances.is_empty() {
            views.push(blank);
        } else {
            views.extend(node.instances.iter().map(|i| filled(blank.clone(), i)));
        }
    }
    views
}

fn filled(view: StepView, i: &Instance) -> StepView {
    let undo = i.undo.as_ref().map(|undo| match undo {
        UndoState::Started(_) => "being taken back".to_owned(),
        UndoState::Done => "taken back".to_owned(),
        UndoState::Failed(why) => format!("could not be taken back: {why}"),
        UndoState::Skipped(why) => format!("left as it is: {why}"),
    });
    StepView {
        step: i.path.clone(),
        state: Some(i.state),
        word: i.state.word(),
        attempts: i.attempts,
        started_at: i.first_started_at,
        ended_at: i.ended_at,
        summary: i.outcome.as_ref().map(|o| o.summary.clone()).filter(|s| !s.is_empty()),
        message: i.failure.as_ref().map(|f| f.message.clone()),
        question: i.approval.as_ref().map(|a| QuestionView {
            prompt: a.request.prompt.clone(),
            digest: a.request.digest.clone(),
            min: a.request.min,
            given: a.given.clone(),
            approvers: a.request.approvers.clone(),
            expires_at: a.request.expires_at,
            options: a.request.options.clone(),
        }),
        by_key_of: i.by_key_of.clone(),
        undo,
        ..view
    }
}
