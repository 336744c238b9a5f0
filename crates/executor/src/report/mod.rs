//! A run as a report tells it, to somebody who was not there: one plain struct, made from the journal alone, so that it is
//! there for a run that crashed or is still going, too. The same journal always gives the same report: nothing here
//! looks at a clock, a file or a lease. Says nothing about how a report looks.

mod measure;
mod proof;
mod steps;
mod timeline;

use std::collections::BTreeMap;

use jiff::Timestamp;
use runbook_core::document::Kind;
use runbook_core::evidence::Check;
use runbook_core::workflow::{Step, StepPath, Work};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::driver::{Loaded, RunOutcome};
use crate::machine::{Instance, State};

/// What the JSON form says it is.
const KIND: &str = "report";

/// A whole report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this form.
    pub v: u32,
    /// `report`
    pub kind: String,
    /// What happened to whom, and how it ended.
    pub head: Head,
    /// What was promised and what was measured.
    pub objectives: Objectives,
    /// Where the time went, from the declaration to the reopening.
    pub phases: Vec<PhaseTime>,
    /// Every step that calls an action.
    pub steps: Vec<StepLine>,
    /// Stretches in which no process worked on the run.
    pub idle: Vec<Stretch>,
    /// What happened, in order.
    pub timeline: Vec<Moment>,
    /// What people decided.
    pub decisions: Vec<Decision>,
    /// What was changed, by system.
    pub changes: Vec<SystemChanges>,
    /// What was proven.
    pub evidence: Evidence,
    /// What was not done, and rules that were set aside.
    pub left_out: Vec<LeftOut>,
    /// What is still in force.
    pub in_force: Vec<ForceLine>,
    /// What is left to do.
    pub follow_ups: Vec<FollowUp>,
    /// What makes it provable.
    pub chain: Chain,
}

/// Who, what, where, when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// The run's id.
    pub run: String,
    /// The runbook's name.
    pub runbook: String,
    /// Its title.
    pub title: String,
    /// What it is for.
    pub purpose: Kind,
    /// The environment's name.
    pub environment: String,
    /// Id of the declared incident.
    pub incident: Option<String>,
    /// What happened, as it was declared.
    pub incident_title: Option<String>,
    /// How bad.
    pub severity: Option<String>,
    /// Who led.
    pub owner: Option<String>,
    /// Who would have taken over.
    pub backup_person: Option<String>,
    /// Who started the run.
    pub started_by: String,
    /// When.
    pub started_at: Timestamp,
    /// The last record's moment.
    pub last_at: Timestamp,
    /// Whether nothing more will happen.
    pub finished: bool,
    /// How it ended, or how it stands.
    pub outcome: RunOutcome,
    /// The same in words.
    pub outcome_words: String,
    /// Why, where a step stands in the way.
    pub reasons: Vec<String>,
    /// How often a process took it up.
    pub sittings: u64,
    /// Version of the program that started it.
    pub version: String,
    /// Inputs of the run.
    pub inputs: BTreeMap<String, Value>,
}

/// What was promised and what was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Objectives {
    /// When the clock began: the declaration, or the start of the run.
    pub declared_at: Timestamp,
    /// Whether somebody declared it.
    pub declared: bool,
    /// The backup.
    pub backup: Option<BackupLine>,
    /// Data lost.
    pub rpo: Measured,
    /// Time taken.
    pub rto: Measured,
    /// The window whose data is not in what was restored.
    pub data_loss: Option<Stretch>,
    /// When writes were frozen.
    pub frozen_at: Option<Timestamp>,
    /// When the last thing that was closed was open again; for a drill, when the copy was proven.
    pub reopened_at: Option<Timestamp>,
}

/// One objective.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// What was promised.
    pub target_seconds: Option<u64>,
    /// What was measured; for the RTO of a run that is not over, so far.
    pub seconds: Option<f64>,
    /// Whether it was kept; none when it cannot be told yet.
    pub met: Option<bool>,
}

/// The backup that was chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupLine {
    /// Where it is.
    pub url: String,
    /// Recorded sha256.
    pub sha256: Option<String>,
    /// Size in bytes.
    pub size_bytes: Option<u64>,
    /// The moment whose data it holds.
    pub taken_at: Option<Timestamp>,
    /// Whether it was restored.
    pub restored: bool,
}

/// From one moment to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stretch {
    /// Beginning.
    pub from: Timestamp,
    /// End.
    pub until: Timestamp,
    /// Length.
    pub seconds: f64,
    /// What it is about.
    pub why: String,
}

/// How long a part of the procedure took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseTime {
    /// `freeze`, `backup`, `restore`, `validate`, `expose`, `verify`, or the author's own by a tag `phase:NAME`.
    pub name: String,
    /// Beginning: the end of the phase before.
    pub from: Timestamp,
    /// End: that of its last step.
    pub until: Timestamp,
    /// Length.
    pub seconds: f64,
    /// How many steps.
    pub steps: u32,
}

/// One step instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepLine {
    /// Its path.
    pub step: StepPath,
    /// Its title.
    pub title: String,
    /// What it calls.
    pub action: String,
    /// The phase that it counts to.
    pub phase: String,
    /// `on_failure` or `finally`, for a step that is no ordinary one.
    pub handler: Option<String>,
    /// Where it stands, in a word or two.
    pub state: String,
    /// Whether that is good, bad, or neither.
    pub mood: Mood,
    /// Attempts in all.
    pub attempts: u32,
    /// When its first attempt started.
    pub started_at: Option<Timestamp>,
    /// When it was settled.
    pub ended_at: Option<Timestamp>,
    /// From the one to the other.
    pub seconds: Option<f64>,
    /// How long it was expected to take.
    pub expected_seconds: Option<u64>,
    /// What came of it.
    pub summary: Option<String>,
    /// Why it failed, is refused or in doubt.
    pub message: Option<String>,
    /// When something was under way with it.
    pub bars: Vec<Bar>,
}

/// A piece of time in which something was under way with a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// Beginning.
    pub from: Timestamp,
    /// End; the last record's moment when it is not over.
    pub until: Timestamp,
    /// What.
    pub what: BarKind,
}

/// What was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BarKind {
    /// An attempt that succeeded.
    Done,
    /// An attempt that did not.
    Failed,
    /// An attempt whose process died.
    Cut,
    /// An attempt that has no end yet.
    Running,
    /// A question to people.
    Asked,
    /// It was taken back.
    Undone,
}

/// How something is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mood {
    /// It went well.
    Good,
    /// It did not.
    Bad,
    /// A person decided, or should look.
    Ask,
    /// News.
    Plain,
}

/// One line of the timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Number of the record.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Seconds since the declaration; negative before it.
    pub offset_seconds: f64,
    /// How it is meant.
    pub mood: Mood,
    /// The step.
    pub step: Option<StepPath>,
    /// Who.
    pub by: Option<String>,
    /// What happened, in a sentence without a full stop.
    pub text: String,
}

/// What a person decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// Who; nobody when a question expired.
    pub by: Option<String>,
    /// `approved`, `denied`, `waived G07` …
    pub verdict: String,
    /// How it is meant.
    pub mood: Mood,
    /// About which step.
    pub step: Option<StepPath>,
    /// The question, or what was decided about.
    pub about: String,
    /// Why, in their words.
    pub reason: Option<String>,
}

/// What was changed in one system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SystemChanges {
    /// Its name.
    pub system: String,
    /// The changes, in order.
    pub changes: Vec<Change>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// By which step.
    pub step: StepPath,
    /// When it was done.
    pub at: Option<Timestamp>,
    /// What was done.
    pub text: String,
    /// Set when it is not simply in place: taken back, perhaps done, done by another run.
    pub note: Option<String>,
}

/// What was proven.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// V0 to V7, all of them.
    pub levels: Vec<Level>,
    /// Every check.
    pub checks: Vec<CheckLine>,
}

/// One level of proof.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// `V0`
    pub level: String,
    /// What it says.
    pub meaning: String,
    /// Steps that proved it; none: it is not proven.
    pub proven_by: Vec<StepPath>,
}

/// One check of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckLine {
    /// Of which step.
    pub step: StepPath,
    /// When the step ended.
    pub at: Option<Timestamp>,
    /// The check.
    #[serde(flatten)]
    pub check: Check,
}

/// Something that was not done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    /// `skipped`, `waived`, `not started`, `failed, and the run went on`.
    pub how: String,
    /// A step, or a guard.
    pub what: String,
    /// Its title.
    pub title: String,
    /// Why.
    pub why: String,
}

/// Something in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ForceLine {
    /// In words.
    pub text: String,
    /// The step that brought it.
    pub step: StepPath,
    /// Since when.
    pub since: Timestamp,
}

/// Something left to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FollowUp {
    /// `ticket`, `note`, `problem`.
    pub how: String,
    /// What.
    pub text: String,
    /// Where it is followed.
    pub url: Option<String>,
    /// By whom or by which step.
    pub from: String,
}

/// What makes a report provable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Records that the report is made of.
    pub records: u64,
    /// Hash of the last of them, in hex; it covers all before.
    pub head: String,
    /// Whether each follows from the one before.
    pub verifies: bool,
    /// Plan digest.
    pub plan: String,
}

impl Report {
    /// The report of a run. `head` is what the chain was proven to end with.
    pub fn of(loaded: &Loaded, head: [u8; 32]) -> Self {
        let facts = Facts::new(loaded);
        let objectives = measure::objectives(&facts);
        let steps = steps::lines(&facts);
        let chain = Chain {
            records: loaded.records.len() as u64,
            head: hex::encode(head),
            verifies: true,
            plan: loaded.workflow.digest.clone(),
        };
        Self {
            v: 1,
            kind: KIND.to_owned(),
            head: facts.head(),
            phases: measure::phases(&facts, &steps, &objectives),
            idle: steps::idle(loaded),
            timeline: timeline::moments(&facts, objectives.declared_at),
            decisions: timeline::decisions(&facts),
            changes: proof::changes(&facts),
            evidence: proof::evidence(&facts),
            left_out: proof::left_out(&facts),
            in_force: proof::in_force(loaded),
            follow_ups: proof::follow_ups(&facts),
            objectives,
            steps,
            chain,
        }
    }
}

/// The run with its steps looked up.
struct Facts<'a> {
    loaded: &'a Loaded,
    /// Every instance with its step, in the order of the workflow.
    instances: Vec<(&'a Step, &'a Instance)>,
    /// The last record's moment.
    last_at: Timestamp,
}

impl<'a> Facts<'a> {
    fn new(loaded: &'a Loaded) -> Self {
        let nodes = loaded.machine.nodes().zip(&loaded.workflow.steps);
        let instances =
            nodes.flat_map(|(node, step)| node.instances.iter().map(move |i| (step, i))).collect();
        let last_at = loaded.records.last().map_or(Timestamp::UNIX_EPOCH, |(at, _)| *at);
        Self { loaded, instances, last_at }
    }

    /// What the finished steps of an action gave, in the order in which they ended.
    fn outputs(&self, wanted: impl Fn(&str) -> bool) -> Vec<(&'a Step, &'a Instance, &'a Value)> {
        let mut found: Vec<_> = self
            .instances
            .iter()
            .filter(|(step, _)| action_of(step).is_some_and(&wanted))
            .filter_map(|&(step, i)| Some((step, i, &i.outcome.as_ref()?.outputs)))
            .collect();
        found.sort_by_key(|(_, i, _)| i.settled_seq);
        found
    }

    fn head(&self) -> Head {
        let (machine, workflow) = (&self.loaded.machine, &self.loaded.workflow);
        let facts = self.loaded.facts();
        let declared = self.outputs(|action| action == "incident.declare");
        let declared = declared.first().map_or(&Value::Null, |(.., outputs)| *outputs);
        let said = |field: &str| declared[field].as_str().map(str::to_owned);
        let outcome = crate::driver::outcome_of(machine);
        let reasons = crate::driver::problems_of(machine, workflow);
        Head {
            run: self.loaded.run.clone(),
            runbook: workflow.name.clone(),
            title: workflow.title.clone(),
            purpose: workflow.kind,
            environment: self.loaded.environment.name.clone(),
            incident: said("id"),
            incident_title: said("title"),
            severity: said("severity"),
            owner: said("owner"),
            backup_person: said("backup_person"),
            started_by: facts.actor,
            started_at: facts.started_at,
            last_at: self.last_at,
            finished: machine.finished().is_some(),
            outcome,
            outcome_words: words(outcome, machine.epoch() == 0).to_owned(),
            reasons: reasons
                .into_iter()
                .map(|problem| format!("{}: {}", problem.step, problem.message))
                .collect(),
            sittings: machine.epoch(),
            version: self.loaded.first.version.clone(),
            inputs: workflow.inputs.clone(),
        }
    }
}

fn words(outcome: RunOutcome, never_driven: bool) -> &'static str {
    match outcome {
        _ if never_driven => "not started",
        RunOutcome::Succeeded => "succeeded",
        RunOutcome::Failed => "stopped: a step failed; it can be resumed",
        RunOutcome::GivenUp => "failed",
        RunOutcome::Refused => "stopped: a step was refused; it can be resumed",
        RunOutcome::InDoubt => "stopped: a step is in doubt",
        RunOutcome::Paused => "paused",
        RunOutcome::DeadlinePassed => "stopped at its deadline; it can be resumed",
        RunOutcome::Waiting => "waits for people",
        RunOutcome::Stopped => "stopped as asked; it can be resumed",
        RunOutcome::Cancelled => "cancelled",
        RunOutcome::RolledBack => "rolled back",
        RunOutcome::Interrupted => "not over: it is going on, or its process was killed",
    }
}

/// The name of the action that a step calls.
fn action_of(step: &Step) -> Option<&str> {
    match &step.work {
        Work::Action { name } => Some(name),
        Work::Begin | Work::End { .. } => None,
    }
}

/// Seconds between two moments, never negative.
fn seconds(from: Timestamp, until: Timestamp) -> f64 {
    until.duration_since(from).as_secs_f64().max(0.0)
}

/// A moment in the outputs of a step.
fn moment(outputs: &Value, field: &str) -> Option<Timestamp> {
    outputs.get(field)?.as_str()?.parse().ok()
}

fn mood_of(state: State) -> Mood {
    match state {
        State::Done => Mood::Good,
        State::Failed | State::Refused => Mood::Bad,
        State::InDoubt | State::Asked | State::Interrupted { .. } => Mood::Ask,
        State::Waiting | State::Running | State::Retrying { .. } | State::Skipped => Mood::Plain,
    }
}

#[cfg(test)]
mod tests;
