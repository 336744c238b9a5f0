//! One command of the machine to records and tasks.

use jiff::Timestamp;
use runbook_core::action::Outcome;
use runbook_core::environment::{APPROVAL_TIMEOUT_DEFAULT, EnvironmentKind};
use runbook_core::workflow::{StepPath, Work};
use serde_json::{Value, json};

use super::attempt::{Call, Occasion, TaskKind};
use super::commit::{After, claim_key};
use super::engine::EngineError;
use super::prepare::{NotReady, Ready, rendered};
use super::settle::later;
use super::sitting::Sitting;
use super::stop::Stop;
use crate::machine::{Command, Instance, State, approval_digest};
use crate::record::{ApprovalRequested, AttemptStarted, Record, RefusedWhy, StepDone};
use crate::store::KeyClaim;

/// Steps in flight at once, over the whole run: each may hold sockets and memory.
const CALLS_IN_FLIGHT_MAX: usize = 64;

impl Sitting {
    /// Says whether a record was taken in, so that the machine may offer more.
    pub(super) async fn carry_out(&mut self, command: &Command) -> Result<bool, EngineError> {
        let moved = match command {
            Command::Decide(step) => {
                let decided = self.shared.step(step).map(|s| self.decide(s));
                self.conclude(step, decided, |result| Record::Condition { step: step.clone(), result })
            }
            Command::Expand(step) => {
                let items = self.shared.step(step).map(|s| self.items(s));
                self.conclude(step, items, |items| Record::Expanded { step: step.clone(), items })
            }
            Command::Evaluate(step) => self.evaluate(step),
            Command::Skip(step, why) => {
                self.push(Record::StepSkipped { step: step.clone(), why: *why }, After::Nothing)
            }
            Command::Ask(step) => self.ask(step),
            Command::Expire(step) => {
                self.push(Record::ApprovalExpired { step: step.clone() }, After::Nothing)
            }
            Command::Start(step) if self.tasks.len() < CALLS_IN_FLIGHT_MAX => self.start(step).await?,
            Command::Start(_) => false,
            Command::Fence(step) => self.fence(step),
            Command::Probe(step) => self.probe(step),
            Command::Doubt(step) => {
                let why = "the process died, or lost the answer, after the step was started; its action can \
                           neither be repeated safely nor asked";
                self.push(Record::StepInDoubt { step: step.clone(), why: why.to_owned() }, After::Nothing)
            }
            Command::Undo(step) => self.undo(step),
            Command::KeepEffect(step, why) => {
                self.push(Record::UndoSkipped { step: step.clone(), why: why.clone() }, After::Nothing)
            }
            Command::Finish(_) | Command::Stop(_) => false,
        };
        Ok(moved)
    }

    /// Enters or leaves a runbook used as a step.
    fn evaluate(&mut self, step: &StepPath) -> bool {
        let is_begin = self.shared.step(step).is_some_and(|s| s.work == Work::Begin);
        let Some(instance) = self.instance(step).filter(|_| is_begin) else {
            let outputs = self.shared.step(step).map(|s| self.outputs_of(s));
            return self
                .conclude(step, outputs, |outputs| done(step, Outcome { outputs, ..Outcome::default() }));
        };
        let ready = match self.prepare(&instance) {
            Ok(ready) => ready,
            Err(why) => return self.not_ready(step, why),
        };
        if let Some(why) = self.not_what_was_asked(&instance, &ready) {
            return self.push(why, After::Nothing);
        }
        self.push(done(step, Outcome { outputs: ready.params, ..Outcome::default() }), After::Nothing)
    }

    /// An approval holds for the parameters that were asked about, and no others.
    fn not_what_was_asked(&self, instance: &Instance, ready: &Ready) -> Option<Record> {
        let digest = self.digest(&instance.path, &ready.params_digest);
        instance.approval.as_ref().filter(|approval| approval.request.digest != digest)?;
        let why = "the parameters of the step are not the ones that were asked about".to_owned();
        Some(Record::ApprovalVoided { step: instance.path.clone(), why })
    }

    fn conclude<T>(
        &mut self,
        step: &StepPath,
        result: Option<Result<T, NotReady>>,
        record: impl FnOnce(T) -> Record,
    ) -> bool {
        match result {
            Some(Ok(value)) => self.push(record(value), After::Nothing),
            Some(Err(why)) => self.not_ready(step, why),
            None => {
                let message = "find the step in the workflow".to_owned();
                self.not_ready(step, NotReady::Failed { message, hint: None })
            }
        }
    }

    fn not_ready(&mut self, step: &StepPath, why: NotReady) -> bool {
        let record = match why {
            NotReady::Refused { why, message, hint } => {
                Record::StepRefused { step: step.clone(), why, message: self.clean(&message), hint }
            }
            NotReady::Failed { message, hint } => {
                Record::StepFailed { step: step.clone(), message: self.clean(&message), hint }
            }
        };
        self.push(record, After::Nothing)
    }

    fn instance(&self, step: &StepPath) -> Option<Instance> {
        self.machine.instance(step).cloned()
    }

    fn digest(&self, step: &StepPath, params_digest: &str) -> String {
        approval_digest(&self.shared.workflow.digest, step, params_digest)
    }

    fn ask(&mut self, step: &StepPath) -> bool {
        let Some(instance) = self.instance(step) else { return false };
        let ready = match self.prepare(&instance) {
            Ok(ready) => ready,
            Err(why) => return self.not_ready(step, why),
        };
        let digest = self.digest(step, &ready.params_digest);
        let asked = self.question(step, &digest, &ready, self.now());
        if !self.push(Record::ApprovalRequested(Box::new(asked)), After::Nothing) {
            return false;
        }
        if let Some((choice, reason)) = self.answer_at_hand(step, &ready) {
            let by = self.options.actor.clone();
            let given =
                Record::ApprovalGiven { step: step.clone(), digest, by, reason: Some(reason), choice };
            if self.machine.check(self.now(), &given).is_ok() {
                self.push(given, After::Nothing);
            }
        }
        true
    }

    /// The answer that needs nobody, with where it comes from: `--yes` outside of production, which never
    /// chooses, and a choice that the runbook was started with, unless the step wants an approval too.
    fn answer_at_hand(&self, step: &StepPath, ready: &Ready) -> Option<(Option<String>, String)> {
        if ready.options.is_empty() {
            let may = self.options.yes && self.shared.environment.kind != EnvironmentKind::Production;
            return may.then(|| (None, "--yes".to_owned()));
        }
        let wants_approval = self.step_of(step).is_none_or(|s| s.approval.is_some());
        let choice = ready.answer.clone().filter(|_| !wants_approval)?;
        let reason = ready.params.get("reason").and_then(Value::as_str).map(|reason| self.clean(reason));
        Some((Some(choice), reason.unwrap_or_else(|| "given when the run was started".to_owned())))
    }

    fn question(&self, step: &StepPath, digest: &str, ready: &Ready, now: Timestamp) -> ApprovalRequested {
        let written = self.step_of(step).and_then(|s| s.approval.as_ref());
        let environment = &self.shared.environment.approvers;
        let timeout = written.map_or(APPROVAL_TIMEOUT_DEFAULT, |a| a.timeout);
        let named = written.map(|a| a.approvers.clone()).filter(|names| !names.is_empty());
        // A choice allows nothing, so who may approve does not say who may choose.
        let chooses = written.is_none() && !ready.options.is_empty();
        let by_policy = if chooses { Vec::new() } else { environment.names.clone() };
        ApprovalRequested {
            step: step.clone(),
            digest: digest.to_owned(),
            prompt: ready.prompt.clone(),
            min: if chooses { 1 } else { written.map_or(1, |a| a.min_approvals.max(1)) },
            approvers: named.unwrap_or(by_policy),
            four_eyes: !chooses && (environment.four_eyes || written.is_some_and(|a| a.four_eyes)),
            expires_at: later(now, timeout),
            options: ready.options.clone(),
        }
    }

    async fn start(&mut self, step: &StepPath) -> Result<bool, EngineError> {
        let Some(instance) = self.instance(step) else { return Ok(false) };
        let ready = match self.prepare(&instance) {
            Ok(ready) => ready,
            Err(why) => return Ok(self.not_ready(step, why)),
        };
        if let Some(voided) = self.not_what_was_asked(&instance, &ready) {
            return Ok(self.push(voided, After::Nothing));
        }
        let started = Record::AttemptStarted(Box::new(AttemptStarted {
            step: step.clone(),
            attempt: instance.attempts + 1,
            epoch: self.epoch,
            key: ready.key.clone(),
            params: ready.params.clone(),
            params_digest: ready.params_digest.clone(),
        }));
        if let Err(illegal) = self.machine.check(self.now(), &started) {
            return Ok(self.not_ready(step, NotReady::Failed { message: illegal.why, hint: None }));
        }
        if ready.is_shared_key
            && let Some(moved) = self.claim(step, &ready).await?
        {
            return Ok(moved);
        }
        let call = match self.attempt_call(&instance, ready.params, ready.key) {
            Ok(call) => call,
            Err(why) => return Ok(self.not_ready(step, why)),
        };
        self.busy.insert(step.clone());
        Ok(self.push(started, After::Call(Box::new(call))))
    }

    /// Claims an author's key. `Some` when the step must not start, with whether a record was taken in.
    async fn claim(&mut self, step: &StepPath, ready: &Ready) -> Result<Option<bool>, EngineError> {
        let claim = claim_key(&self.shared, &ready.key, &ready.params_digest, step).await??;
        let refused = |message: String, hint: &str| NotReady::Refused {
            why: RefusedWhy::Key,
            message,
            hint: Some(hint.to_owned()),
        };
        let key = &ready.key;
        let why = match claim {
            KeyClaim::New | KeyClaim::Mine => {
                self.shared_keys.insert(step.clone(), key.clone());
                return Ok(None);
            }
            KeyClaim::DoneBy { run, step: other, outputs } => {
                let summary = format!("done before, by step `{other}` of run {run}");
                let outcome = Outcome { outputs, summary, ..Outcome::default() };
                let by_key_of = Some(format!("{run}/{other}"));
                let done = StepDone { step: step.clone(), outcome, duration_ms: 0, by_key_of };
                return Ok(Some(self.push(Record::StepDone(Box::new(done)), After::Nothing)));
            }
            KeyClaim::InFlightBy { run, step: other } => refused(
                format!(
                    "the idempotency key `{key}` is in use by step `{other}` of run {run}, which is not done"
                ),
                "Bring that run to its end, then resume this one.",
            ),
            KeyClaim::Mismatch { run, step: other } => refused(
                format!(
                    "the idempotency key `{key}` was used with other parameters, by step `{other}` of run {run}"
                ),
                "Give what differs another key.",
            ),
        };
        Ok(Some(self.not_ready(step, why)))
    }

    fn occasion(&self, instance: &Instance, key: String, stop: &Stop) -> Occasion {
        Occasion {
            step: instance.path.clone(),
            attempt: instance.attempts,
            epoch: self.epoch,
            key,
            checkpoints: instance.checkpoints.clone(),
            stop: stop.clone(),
        }
    }

    fn attempt_call(&self, instance: &Instance, params: Value, key: String) -> Result<Call, NotReady> {
        let step = self.step_of(&instance.path);
        let Some((step, Work::Action { name })) = step.map(|s| (s, &s.work)) else {
            return Err(NotReady::Failed { message: "find the action of the step".into(), hint: None });
        };
        let stop = Stop::new();
        let mut occasion = self.occasion(instance, key, &stop);
        occasion.attempt += 1;
        let ctx = self.shared.context(occasion);
        let asks = self.shared.registry.get(name).is_some_and(|a| a.description().asks);
        let params = if asks { with_answers(params, instance) } else { params };
        Ok(Call {
            kind: TaskKind::Attempt,
            action: name.clone(),
            params,
            ctx,
            outputs: Value::Null,
            timeout: step.timeout,
            stop,
            happened: None,
            rehearsal: self.options.rehearsal,
        })
    }

    /// A call that is about an earlier attempt.
    fn call_about(&self, instance: &Instance, kind: TaskKind) -> Result<Call, NotReady> {
        let stop = Stop::new();
        let last = instance.last.as_ref();
        let key = last.map_or_else(String::new, |l| l.key.clone());
        let mut params = last.map_or(Value::Null, |l| l.params.clone());
        let is_interrupted = matches!(instance.state, State::Interrupted { .. });
        let (own, timeout, probe) = match self.step_of(&instance.path) {
            Some(step) => match &step.work {
                Work::Action { name } => (name.clone(), step.timeout, step.probe.clone().map(|p| (step, p))),
                _ => (String::new(), None, None),
            },
            None => (String::new(), None, None),
        };
        let mut action = own;
        let mut occasion = self.occasion(instance, key, &stop);
        let mut happened = None;
        match kind {
            TaskKind::Fence => {
                occasion = occasion.of_fence();
                if !is_interrupted {
                    (action, params) = self.undo_call(instance)?;
                }
            }
            TaskKind::Undo => {
                (action, params) = self.undo_call(instance)?;
                occasion = occasion.of_undo(&self.shared.run);
            }
            TaskKind::Probe => {
                if let Some((step, probe)) = probe {
                    let scope = self.scope_of(step, self.machine.item(&instance.path));
                    params = rendered(&probe.with, &scope)?;
                    action = probe.action;
                    happened = Some((scope, probe.happened));
                }
            }
            TaskKind::Attempt => {}
        }
        let ctx = self.shared.context(occasion);
        let outputs = instance.outcome.as_ref().map_or(Value::Null, |o| o.outputs.clone());
        Ok(Call { kind, action, params, ctx, outputs, timeout, stop, happened, rehearsal: None })
    }

    fn fence(&mut self, step: &StepPath) -> bool {
        let Some(instance) = self.instance(step) else { return false };
        match self.call_about(&instance, TaskKind::Fence) {
            Ok(call) => self.call(call),
            Err(why) => return self.not_ready(step, why),
        }
        false
    }

    fn probe(&mut self, step: &StepPath) -> bool {
        let Some(instance) = self.instance(step) else { return false };
        match self.call_about(&instance, TaskKind::Probe) {
            Ok(call) => self.call(call),
            Err(NotReady::Refused { message, .. } | NotReady::Failed { message, .. }) => {
                let why = format!("its probe could not be asked: {}", self.clean(&message));
                return self.push(Record::StepInDoubt { step: step.clone(), why }, After::Nothing);
            }
        }
        false
    }

    fn undo(&mut self, step: &StepPath) -> bool {
        let Some(instance) = self.instance(step) else { return false };
        let epoch = self.epoch;
        let started = Record::UndoStarted { step: step.clone(), epoch };
        match self.call_about(&instance, TaskKind::Undo) {
            Ok(call) => {
                self.busy.insert(step.clone());
                self.push(started, After::Call(Box::new(call)))
            }
            Err(NotReady::Refused { message, hint, .. } | NotReady::Failed { message, hint }) => {
                let message = self.clean(&message);
                self.push(started, After::Nothing)
                    && self.push(Record::UndoFailed { step: step.clone(), message, hint }, After::Nothing)
            }
        }
    }
}

fn done(step: &StepPath, outcome: Outcome) -> Record {
    Record::StepDone(Box::new(StepDone { step: step.clone(), outcome, duration_ms: 0, by_key_of: None }))
}

/// An action that asks is told who answered.
fn with_answers(mut params: Value, instance: &Instance) -> Value {
    let given = instance.approval.as_ref().map(|a| a.given.clone()).unwrap_or_default();
    if let Some(fields) = params.as_object_mut() {
        fields.insert("answers".to_owned(), json!(given));
    }
    params
}
