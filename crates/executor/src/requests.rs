//! What people ask of a run, from any process: one record each, checked against the state, appended. A live
//! engine sees it within a tenth of a second; without one it waits for the next resume.

use runbook_core::workflow::StepPath;
use serde_json::Value;

use crate::driver::{Engine, EngineError, Loaded};
use crate::machine::{IllegalRecord, State};
use crate::record::{Record, Verdict};
use crate::store::AppendError;

/// How often a request is tried again when others append at the same time.
const TRIES_MAX: usize = 50;

/// What a person says about a step in doubt, or about one that failed and was mended by hand.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolution {
    /// The effect is there, or it is to be done again.
    pub verdict: Verdict,
    /// Why they say so.
    pub reason: String,
    /// The step's outputs, when they are known and its effect is there.
    pub outputs: Option<Value>,
}

/// Why a request was not accepted; says what to do instead.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It does not fit the state of the run.
    #[error("{0}; {1}")]
    Refused(#[source] IllegalRecord, String),
    /// No such step, or nothing to answer there.
    #[error("{what}; {next}")]
    Nothing {
        /// What is missing.
        what: String,
        /// What to do instead.
        next: String,
    },
    /// The engine or its journal.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The run is so busy that no gap was found.
    #[error("append to run {0}: it is written to without a pause; try again")]
    Busy(String),
}

impl Engine {
    /// Says yes to the open question of a step. Gives the prompt that was answered.
    pub fn approve(
        &self,
        run: &str,
        step: &StepPath,
        by: &str,
        reason: Option<String>,
    ) -> Result<String, RequestError> {
        self.answer(run, step, by, reason, None)
    }

    /// Says which of its options is the answer to the open question of a step. Gives the prompt that was answered.
    pub fn choose(
        &self,
        run: &str,
        step: &StepPath,
        by: &str,
        reason: String,
        choice: &str,
    ) -> Result<String, RequestError> {
        self.answer(run, step, by, Some(reason), Some(choice))
    }

    fn answer(
        &self,
        run: &str,
        step: &StepPath,
        by: &str,
        reason: Option<String>,
        choice: Option<&str>,
    ) -> Result<String, RequestError> {
        let mut prompt = String::new();
        self.request(run, |loaded| {
            let (digest, asked) = open_question(loaded, step)?;
            prompt = asked;
            Ok(Record::ApprovalGiven {
                step: step.clone(),
                digest,
                by: by.to_owned(),
                reason: reason.clone(),
                choice: choice.map(str::to_owned),
            })
        })?;
        Ok(prompt)
    }

    /// Says yes to exactly one question, by the digest of the approval: what anything else would be is refused.
    pub fn approve_digest(
        &self,
        run: &str,
        digest: &str,
        by: &str,
        reason: Option<String>,
    ) -> Result<StepPath, RequestError> {
        let mut answered = None;
        self.request(run, |loaded| {
            let mut asked = open_questions(loaded).filter(|(_, open)| open == digest).map(|(step, _)| step);
            let step = asked.next().ok_or_else(|| RequestError::Nothing {
                what: format!("find an open question with the digest {digest}"),
                next: format!("see what is asked with `runbook status {run}`"),
            })?;
            answered = Some(step.clone());
            Ok(Record::ApprovalGiven {
                step,
                digest: digest.to_owned(),
                by: by.to_owned(),
                reason: reason.clone(),
                choice: None,
            })
        })?;
        answered.ok_or_else(|| RequestError::Busy(run.to_owned()))
    }

    /// Says no to the open question of a step.
    pub fn deny(
        &self,
        run: &str,
        step: &StepPath,
        by: &str,
        reason: Option<String>,
    ) -> Result<(), RequestError> {
        self.request(run, |loaded| {
            let (digest, _) = open_question(loaded, step)?;
            Ok(Record::ApprovalDenied {
                step: step.clone(),
                digest,
                by: by.to_owned(),
                reason: reason.clone(),
            })
        })
    }

    /// Stops the run where it can go on later.
    pub fn pause(&self, run: &str, by: &str, reason: Option<String>) -> Result<(), RequestError> {
        self.request(run, |_| Ok(Record::PauseRequested { by: by.to_owned(), reason: reason.clone() }))
    }

    /// Gives the run up: nothing of its main phase starts any more. A second time: nor of its handlers.
    pub fn cancel(&self, run: &str, by: &str, reason: Option<String>) -> Result<(), RequestError> {
        self.request(run, |_| Ok(Record::CancelRequested { by: by.to_owned(), reason: reason.clone() }))
    }

    /// Has the effects taken back; the next [`Engine::drive`] does it.
    pub fn rollback(&self, run: &str, by: &str, reason: Option<String>) -> Result<(), RequestError> {
        self.request(run, |_| Ok(Record::RollbackRequested { by: by.to_owned(), reason: reason.clone() }))
    }

    /// Settles a step that is in doubt, or that failed and was mended by hand.
    pub fn resolve(
        &self,
        run: &str,
        step: &StepPath,
        by: &str,
        answer: Resolution,
    ) -> Result<(), RequestError> {
        self.request(run, |loaded| {
            known(loaded, step)?;
            Ok(Record::Resolved {
                step: step.clone(),
                verdict: answer.verdict,
                by: by.to_owned(),
                reason: answer.reason.clone(),
                outputs: answer.outputs.clone(),
            })
        })
    }

    /// Has a finished step done once more, under a new key (P2).
    pub fn rerun(&self, run: &str, step: &StepPath, by: &str, reason: &str) -> Result<(), RequestError> {
        self.request(run, |loaded| {
            known(loaded, step)?;
            Ok(Record::Rerun { step: step.clone(), by: by.to_owned(), reason: reason.to_owned() })
        })
    }

    /// Adds a line to the timeline.
    pub fn note(&self, run: &str, by: &str, text: &str) -> Result<(), RequestError> {
        self.request(run, |_| Ok(Record::Noted { by: by.to_owned(), text: text.to_owned() }))
    }

    /// Sets a guard aside for this run, as far as it is checked at run time.
    pub fn waive(&self, run: &str, guard: &str, by: &str, reason: &str) -> Result<(), RequestError> {
        self.request(run, |_| {
            let (guard, by, reason) = (guard.to_owned(), by.to_owned(), reason.to_owned());
            Ok(Record::GuardWaived { guard, by, reason })
        })
    }

    /// Read, fold, check, append; again when somebody else was faster.
    fn request(
        &self,
        run: &str,
        mut record: impl FnMut(&Loaded) -> Result<Record, RequestError>,
    ) -> Result<(), RequestError> {
        for _ in 0..TRIES_MAX {
            let loaded = self.load(run)?;
            let record = record(&loaded)?;
            let at = (self.clock)();
            loaded.machine.check(at, &record).map_err(|illegal| {
                let next = next_command(run, &loaded);
                RequestError::Refused(illegal, next)
            })?;
            let seq = loaded.machine.seq();
            let body =
                record.encode().map_err(|source| EngineError::Record { run: run.to_owned(), seq, source })?;
            match self.journal.append(run, seq, &[(at, body)], None) {
                Ok(_) => return Ok(()),
                Err(AppendError::Moved { .. }) => {}
                Err(AppendError::Store(error)) => return Err(EngineError::from(error).into()),
                Err(error @ AppendError::Fenced { .. }) => return Err(EngineError::Fenced(error).into()),
            }
        }
        Err(RequestError::Busy(run.to_owned()))
    }
}

fn known(loaded: &Loaded, step: &StepPath) -> Result<(), RequestError> {
    if loaded.machine.instance(step).is_some() {
        return Ok(());
    }
    Err(RequestError::Nothing {
        what: format!("find step `{step}` in run {}", loaded.run),
        next: format!("see its steps with `runbook status {}`", loaded.run),
    })
}

fn open_questions(loaded: &Loaded) -> impl Iterator<Item = (StepPath, String)> {
    let instances = loaded.machine.nodes().flat_map(|n| n.instances);
    let asked = instances.filter(|i| i.state == State::Asked);
    asked.filter_map(|i| Some((i.path.clone(), i.approval.as_ref()?.request.digest.clone())))
}

fn open_question(loaded: &Loaded, step: &StepPath) -> Result<(String, String), RequestError> {
    known(loaded, step)?;
    let instance = loaded.machine.instance(step).filter(|i| i.state == State::Asked);
    let asked = instance.and_then(|i| i.approval.as_ref()).ok_or_else(|| {
        let open: Vec<_> = open_questions(loaded).map(|(step, _)| format!("`{step}`")).collect();
        let next = match open.is_empty() {
            true => format!("nothing waits for approval; see `runbook status {}`", loaded.run),
            false => format!("waiting for approval: {}", open.join(", ")),
        };
        RequestError::Nothing {
            what: format!("answer for step `{step}`: nothing is asked about it now"),
            next,
        }
    })?;
    Ok((asked.request.digest.clone(), asked.request.prompt.clone()))
}

fn next_command(run: &str, loaded: &Loaded) -> String {
    let machine = &loaded.machine;
    if machine.finished().is_some() {
        return format!("see how it ended with `runbook status {run}`");
    }
    if machine.sitting().is_none() {
        return format!("go on with `runbook resume {run}`");
    }
    format!("see where it stands with `runbook status {run}`")
}
