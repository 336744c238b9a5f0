//! `manual`: work that a person does by hand, as a step with evidence.

use jiff::Timestamp;
use runbook_core::action::{ActionError, Context, Effect, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answers::{Answer, sum_up};
use crate::typed::{About, Done, Typed};

/// Parameters of `manual`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// What is to be done, as a question that is answered with yes once it is: `Is the DNS record changed?`
    pub prompt: String,
    /// How to do it, in Markdown.
    #[serde(default)]
    pub instructions: Option<String>,
    /// What to write down as evidence: `the new record's id`. When given, an answer without words is refused.
    #[serde(default)]
    pub evidence: Option<String>,
    /// Handed in by the executor; an author cannot write it, as it is in no schema.
    #[serde(default)]
    #[schemars(skip)]
    pub answers: Vec<Answer>,
}

/// Outputs of `manual`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Who did it, joined by commas.
    pub done_by: String,
    /// When the last of them said so.
    pub at: Timestamp,
    /// What they wrote down.
    #[serde(default)]
    pub evidence: Option<String>,
}

/// The action `manual`.
pub struct Manual;

impl Typed for Manual {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        asks: true,
        ..About::new(
            "manual",
            "Asks a person to do something by hand and to say what they saw.",
            Effect::Idempotent,
            r"id: providers
uses: manual
with:
  prompt: Are the webhooks of the payment providers paused?
  instructions: |
    1. PayPal: Developer dashboard, Webhooks, pause each.
    2. PayMongo: Developers, Webhooks, disable each.
  evidence: how many webhooks were paused, for each provider
",
        )
    };

    async fn plan(&self, _ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        Ok(Preview::Changes { lines: vec![format!("a person does: {}", params.prompt)], destroys: None })
    }

    async fn run(&self, _ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let (done_by, at, evidence) = sum_up(&params.prompt, &params.answers)?;
        if let (Some(wanted), None) = (&params.evidence, &evidence) {
            return Err(ActionError::refused(format!(
                "accept the answer of {done_by}: it does not say {}",
                wanted.escape_debug()
            ))
            .code("no-evidence")
            .hint("Answer again with `--reason`."));
        }
        let summary = format!("done by {done_by}");
        Ok(Done::new(Outputs { done_by, at, evidence }, summary))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::stand_in::World;
    use runbook_core::action::Aftermath;

    fn params(evidence: Option<&str>, reason: Option<&str>, people: &[&str]) -> Params {
        let answer = |by: &&str| Answer {
            by: (*by).to_owned(),
            at: "2026-01-01T00:00:00Z".parse().unwrap(),
            reason: reason.map(str::to_owned),
            choice: None,
        };
        Params {
            prompt: "Done?".into(),
            instructions: None,
            evidence: evidence.map(str::to_owned),
            answers: people.iter().map(answer).collect(),
        }
    }

    #[tokio::test]
    async fn nobody_is_not_a_yes() {
        let error = Manual.run(&World::new().ctx, params(None, None, &[])).await.unwrap_err();
        assert_eq!(error.aftermath, Aftermath::Refused);
    }

    #[tokio::test]
    async fn evidence_that_was_asked_for_must_be_given() {
        let world = World::new();
        let error = Manual.run(&world.ctx, params(Some("the id"), Some("  "), &["ana"])).await.unwrap_err();
        assert_eq!(error.code, Some("no-evidence"));
        let done =
            Manual.run(&world.ctx, params(Some("the id"), Some("rec_1"), &["ana", "ben"])).await.unwrap();
        assert_eq!(done.outputs.done_by, "ana, ben");
        assert_eq!(done.outputs.evidence.as_deref(), Some("rec_1; rec_1"));
    }

    #[test]
    fn an_author_cannot_write_the_answers() {
        for action in [crate::typed::action(Manual), crate::typed::action(super::super::Approval)] {
            let schema = &action.description().params;
            assert!(schema["properties"].get("answers").is_none(), "{schema}");
            assert_eq!(schema["additionalProperties"], serde_json::json!(false));
        }
    }
}
