//! `decide`: a question with several answers, one of which a person chooses. Allows nothing: a step that
//! must be allowed has an `approval` of its own.

use std::collections::BTreeMap;

use jiff::Timestamp;
use runbook_core::action::{ActionError, Context, Effect, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answers::Answer;
use crate::typed::{About, Done, Typed};

/// Parameters of `decide`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// What is to be decided: `What was seen?`
    pub question: String,
    /// The answers to choose from, each with what it means; whoever decides says the name.
    pub options: BTreeMap<String, String>,
    /// The answer, when it is known before: an input of the runbook, for one. Nobody is asked then.
    #[serde(default)]
    pub answer: Option<String>,
    /// Why, when the answer is known before.
    #[serde(default)]
    pub reason: Option<String>,
    /// Handed in by the executor; an author cannot write it, as it is in no schema.
    #[serde(default)]
    #[schemars(skip)]
    pub answers: Vec<Answer>,
}

/// Outputs of `decide`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Name of the option that was chosen.
    pub choice: String,
    /// What it means, as the runbook says it.
    pub meaning: String,
    /// Why, in the words of whoever decided.
    pub reason: String,
    /// Who decided.
    pub decided_by: String,
    /// When.
    pub at: Timestamp,
}

/// The action `decide`.
pub struct Decide;

impl Typed for Decide {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        asks: true,
        chooses: true,
        has_plan: true,
        ..About::new(
            "decide",
            "Asks a person to choose one of several answers, and records who chose and why.",
            Effect::Idempotent,
            r#"id: seen
uses: decide
with:
  question: What was seen?
  options:
    rows: Rows are missing, and their keys are known.
    schema: The schema or its policies are broken.
  answer: "{{ inputs.seen }}"
"#,
        )
    };

    async fn plan(&self, _ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        if let Some(answer) = params.answer.as_ref().filter(|answer| !answer.is_empty()) {
            let meaning = meaning(&params.options, answer)?;
            return Ok(Preview::Changes {
                lines: vec![format!("{} {answer}: {meaning}", params.question)],
                destroys: None,
            });
        }
        let mut lines = vec![format!("asks: {}", params.question)];
        lines.extend(params.options.iter().map(|(name, text)| format!("  {name}: {text}")));
        Ok(Preview::Changes { lines, destroys: None })
    }

    async fn run(&self, _ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let given = params.answers.last().and_then(|answer| Some((answer, answer.choice.as_ref()?)));
        let Some((answer, choice)) = given else {
            return Err(ActionError::refused(format!(
                "go on: nobody answered `{}`",
                params.question.escape_debug()
            )));
        };
        let meaning = meaning(&params.options, choice)?.to_owned();
        let reason = answer.reason.as_deref().map(str::trim).unwrap_or_default().to_owned();
        let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        let summary = format!("{} chose {choice}{because}", answer.by);
        let outputs =
            Outputs { choice: choice.clone(), meaning, reason, decided_by: answer.by.clone(), at: answer.at };
        Ok(Done::new(outputs, summary))
    }
}

fn meaning<'p>(options: &'p BTreeMap<String, String>, choice: &str) -> Result<&'p str, ActionError> {
    options.get(choice).map(String::as_str).ok_or_else(|| {
        let names: Vec<&str> = options.keys().map(String::as_str).collect();
        ActionError::refused(format!(
            "take the answer `{}`: it is none of the options",
            choice.escape_debug()
        ))
        .hint(format!("They are {}.", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::stand_in::World;
    use serde_json::{Value, json};

    fn params(answer: Value, answers: Value) -> Params {
        serde_json::from_value(json!({
            "question": "Which?", "options": { "a": "the first", "b": "the second" },
            "answer": answer, "answers": answers,
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn what_was_chosen_comes_out_with_its_meaning_and_who_and_why() {
        let given = json!([{ "by": "ana", "at": "2026-01-01T00:00:00Z", "reason": " seen ", "choice": "b" }]);
        let done = Decide.run(&World::new().ctx, params(Value::Null, given)).await.unwrap();
        let Outputs { choice, meaning, reason, decided_by, .. } = done.outputs;
        assert_eq!(
            (choice, meaning, reason, decided_by),
            ("b".into(), "the second".into(), "seen".into(), "ana".into())
        );
        assert_eq!(done.summary, "ana chose b: seen");
    }

    #[tokio::test]
    async fn an_answer_in_the_parameters_alone_is_nobodys_decision() {
        let error = Decide.run(&World::new().ctx, params(json!("a"), json!([]))).await.unwrap_err();
        assert_eq!(error.attempted, "go on: nobody answered `Which?`");
    }

    #[tokio::test]
    async fn a_plan_refuses_an_answer_that_is_no_option() {
        let world = World::new();
        let error = Decide.plan(&world.ctx, params(json!("c"), json!([]))).await.unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("They are a, b."));
        let asks = Decide.plan(&world.ctx, params(Value::Null, json!([]))).await.unwrap();
        let Preview::Changes { lines, .. } = asks else { panic!("{asks:?}") };
        assert_eq!(lines, ["asks: Which?", "  a: the first", "  b: the second"]);
    }
}
