//! `incident.declare`: the moment from which RTO is measured, and who leads. Writes nothing outside.

use jiff::Timestamp;
use runbook_core::action::{ActionError, Context, Effect, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::period::Period;
use crate::typed::{About, Done, Typed};

/// Parameters of `incident.declare`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// What happened, in one line.
    pub title: String,
    /// How bad: `SEV1`, `SEV2` … as the team counts.
    pub severity: String,
    /// Who leads.
    pub owner: String,
    /// Who takes over when the owner cannot.
    #[serde(default)]
    pub backup_person: Option<String>,
    /// What is known so far.
    #[serde(default)]
    pub summary: Option<String>,
    /// How much data may be lost, told to everybody.
    #[serde(default)]
    pub rpo: Option<Period>,
    /// How long it may take, told to everybody.
    #[serde(default)]
    pub rto: Option<Period>,
    /// When users are told that it is worked on: `21:00 to 22:00 UTC`.
    #[serde(default)]
    pub window: Option<String>,
}

/// Outputs of `incident.declare`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// `inc-` and the run's short id.
    pub id: String,
    /// When the first attempt declared it; a repeat does not move it.
    pub declared_at: Timestamp,
    /// What happened.
    pub title: String,
    /// How bad.
    pub severity: String,
    /// Who leads.
    pub owner: String,
    /// Who takes over.
    #[serde(default)]
    pub backup_person: Option<String>,
    /// When users are told that it is worked on.
    #[serde(default)]
    pub window: Option<String>,
}

/// The action `incident.declare`.
pub struct Declare;

impl Typed for Declare {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About::new(
        "incident.declare",
        "Declares an incident: fixes when it began and who leads.",
        Effect::Idempotent,
        r#"id: declare
uses: incident.declare
with:
  title: Orders are missing after the migration
  severity: SEV1
  owner: "{{ inputs.owner }}"
  rpo: 24h
  rto: 1h
"#,
    );

    async fn plan(&self, _ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let line = format!("declares {} `{}`, led by {}", params.severity, params.title, params.owner);
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        for (name, value) in
            [("title", &params.title), ("severity", &params.severity), ("owner", &params.owner)]
        {
            if value.trim().is_empty() {
                return Err(ActionError::refused(format!("declare an incident: `{name}` is empty")));
            }
        }
        let saved = ctx.checkpoints.get("declared_at").and_then(|v| v.as_str()?.parse().ok());
        let declared_at = match saved {
            Some(at) => at,
            None => {
                let now = Timestamp::now();
                ctx.checkpoints.save("declared_at", json!(now)).await?;
                now
            }
        };
        let objectives = [("RPO", params.rpo), ("RTO", params.rto)]
            .into_iter()
            .filter_map(|(name, period)| period.map(|period| format!(", {name} {period}")))
            .collect::<String>();
        let summary = format!("{}, led by {}{objectives}", params.severity, params.owner);
        let outputs = Outputs {
            id: format!("inc-{}", ctx.run_short),
            declared_at,
            title: params.title,
            severity: params.severity,
            owner: params.owner,
            backup_person: params.backup_person,
            window: params.window,
        };
        Ok(Done::new(outputs, summary))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::stand_in::World;

    #[tokio::test]
    async fn a_repeat_does_not_move_the_beginning() {
        let world = World::new();
        let params = || {
            serde_json::from_value(json!({"title": "t", "severity": "SEV1", "owner": "ana", "rto": "1h"}))
                .unwrap()
        };
        let first = Declare.run(&world.ctx, params()).await.unwrap();
        let again = Declare.run(&world.ctx, params()).await.unwrap();
        assert_eq!(first.outputs.declared_at, again.outputs.declared_at);
        assert_eq!(first.summary, "SEV1, led by ana, RTO 1h");
    }
}
