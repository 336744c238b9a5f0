//! `objectives.measure`: how much data is lost and how long it took, to the second, and whether that is within what was
//! promised. Looks at the clock once; a repeat does not move the moment.

use std::time::Duration;

use jiff::Timestamp;
use runbook_core::action::{ActionError, Context, Effect, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::period::Period;
use crate::typed::{About, Done, Typed};

/// Parameters of `objectives.measure`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// When the clock of the RTO began; the start of the run when left out.
    #[serde(default)]
    pub declared_at: Option<Timestamp>,
    /// The moment whose data is back: `taken_at` of the backup. Without it no data loss is measured.
    #[serde(default)]
    pub restore_point: Option<Timestamp>,
    /// The last moment at which something could be written that is now lost, such as when writes were frozen;
    /// `declared_at` when left out.
    #[serde(default)]
    pub written_until: Option<Timestamp>,
    /// Data that may be lost at most.
    #[serde(default)]
    pub rpo: Option<Period>,
    /// Time that it may take at most.
    #[serde(default)]
    pub rto: Option<Period>,
    /// Whether missing an objective fails the step; `false` leaves the judgement to conditions and people.
    #[serde(default)]
    pub fail: bool,
}

/// Outputs of `objectives.measure`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// The moment of the measurement. With no parameters at all the step notes just that.
    pub measured_at: Timestamp,
    /// When the clock of the RTO began.
    pub declared_at: Timestamp,
    /// Beginning of the window whose data is lost: the restore point.
    pub lost_from: Option<Timestamp>,
    /// End of that window.
    pub lost_until: Option<Timestamp>,
    /// Its length in seconds.
    pub rpo_seconds: Option<f64>,
    /// From the declaration to the measurement, in seconds.
    pub rto_seconds: f64,
    /// Whether the RPO is kept; none when it was not given or nothing was lost to measure.
    pub rpo_met: Option<bool>,
    /// Whether the RTO is kept; none when it was not given.
    pub rto_met: Option<bool>,
    /// All of it in sentences, for a message or a document.
    pub statement: String,
}

/// The action `objectives.measure`.
pub struct Measure;

impl Typed for Measure {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        has_plan: true,
        ..About::new(
            "objectives.measure",
            "Measures the data-loss window and the duration against RPO and RTO.",
            Effect::Read,
            r#"id: measured
uses: objectives.measure
with:
  restore_point: "{{ steps.backup.taken_at }}"
  rpo: 24h
  rto: 1h
"#,
        )
    };

    async fn plan(&self, _ctx: &Context, _params: Params) -> Result<Preview, ActionError> {
        let line = "notes the moment and measures from it; changes nothing".to_owned();
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let saved = ctx.checkpoints.get("measured_at").and_then(|value| value.as_str()?.parse().ok());
        let measured_at = match saved {
            Some(at) => at,
            None => {
                let now = Timestamp::now();
                ctx.checkpoints.save("measured_at", json!(now)).await?;
                now
            }
        };
        let outputs = measure(&params, ctx.started_at, measured_at)?;
        let missed = [(outputs.rpo_met, "RPO"), (outputs.rto_met, "RTO")];
        let missed: Vec<&str> =
            missed.into_iter().filter(|(met, _)| *met == Some(false)).map(|(_, name)| name).collect();
        if params.fail && !missed.is_empty() {
            let text = format!("keep the {}: {}", missed.join(" and the "), outputs.statement);
            return Err(ActionError::refused(text).code("objective-missed"));
        }
        let summary = outputs.statement.clone();
        Ok(Done::new(outputs, summary))
    }
}

fn measure(params: &Params, started_at: Timestamp, measured_at: Timestamp) -> Result<Outputs, ActionError> {
    let declared_at = params.declared_at.unwrap_or(started_at);
    let written_until = params.written_until.unwrap_or(declared_at);
    let rto = between(declared_at, measured_at)
        .ok_or_else(|| refuse("`declared_at` is later than now", declared_at, measured_at))?;
    let lost = match params.restore_point {
        None => None,
        Some(from) => Some((
            from,
            between(from, written_until)
                .ok_or_else(|| refuse("`restore_point` is later than the last write", from, written_until))?,
        )),
    };
    let met = |limit: Option<Period>, took: Duration| limit.map(|limit| took <= limit.0);
    let (rpo_met, rto_met) = (lost.and_then(|(_, loss)| met(params.rpo, loss)), met(params.rto, rto));
    let mut statement = String::new();
    if let Some((from, loss)) = lost {
        let judged = judged(rpo_met, "RPO", params.rpo);
        statement =
            format!("Data-loss window {} to {}: {}{judged}.", at(from), at(written_until), long(loss));
    }
    if lost.is_none() || params.rto.is_some() {
        let space = if statement.is_empty() { "" } else { " " };
        let judged = judged(rto_met, "RTO", params.rto);
        let (from, until) = (at(declared_at), at(measured_at));
        statement.push_str(&format!("{space}Duration {from} to {until}: {}{judged}.", long(rto)));
    }
    Ok(Outputs {
        measured_at,
        declared_at,
        lost_from: lost.map(|(from, _)| from),
        lost_until: lost.map(|_| written_until),
        rpo_seconds: lost.map(|(_, loss)| loss.as_secs_f64()),
        rto_seconds: rto.as_secs_f64(),
        rpo_met,
        rto_met,
        statement,
    })
}

fn judged(met: Option<bool>, name: &str, limit: Option<Period>) -> String {
    match (met, limit) {
        (Some(true), Some(limit)) => format!(", within the {name} of {limit}"),
        (Some(false), Some(limit)) => format!(", OVER the {name} of {limit}"),
        _ => String::new(),
    }
}

fn refuse(why: &str, from: Timestamp, until: Timestamp) -> ActionError {
    ActionError::refused(format!("measure from {from} to {until}: {why}"))
}

fn between(from: Timestamp, until: Timestamp) -> Option<Duration> {
    Duration::try_from(until.duration_since(from)).ok()
}

/// To the second, in UTC: it is read aloud and compared by people in several places.
fn at(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn long(took: Duration) -> Period {
    let whole = if took >= Duration::from_secs(10) { Duration::from_secs(took.as_secs()) } else { took };
    Period(Duration::from_millis(u64::try_from(whole.as_millis()).unwrap_or(u64::MAX)))
}
