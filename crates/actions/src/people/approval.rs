//! `approval`: a question that only a person can answer, as a step of its own.

use jiff::Timestamp;
use runbook_core::action::{ActionError, Context, Effect, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answers::{Answer, sum_up};
use crate::typed::{About, Done, Typed};

/// Parameters of `approval`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The question, answered with yes or no.
    pub prompt: String,
    /// Handed in by the executor; an author cannot write it, as it is in no schema.
    #[serde(default)]
    #[schemars(skip)]
    pub answers: Vec<Answer>,
}

/// Outputs of `approval`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Who said yes, joined by commas.
    pub approved_by: String,
    /// When the last of them did.
    pub at: Timestamp,
    /// What they wrote beside it.
    #[serde(default)]
    pub evidence: Option<String>,
}

/// The action `approval`.
pub struct Approval;

impl Typed for Approval {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        asks: true,
        ..About::new(
            "approval",
            "Asks a person to allow what follows; does nothing else.",
            Effect::Idempotent,
            r"id: go
uses: approval
with:
  prompt: Send traffic to the restored database?
",
        )
    };

    async fn plan(&self, _ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        Ok(Preview::Changes { lines: vec![format!("asks: {}", params.prompt)], destroys: None })
    }

    async fn run(&self, _ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let (approved_by, at, evidence) = sum_up(&params.prompt, &params.answers)?;
        let summary = format!("approved by {approved_by}");
        Ok(Done::new(Outputs { approved_by, at, evidence }, summary))
    }
}
