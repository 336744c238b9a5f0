//! `flow.noop` and `flow.fail`: steps that touch nothing, for examples, measurements and rehearsals of
//! what a runbook does when a step fails.

use runbook_core::action::{ActionError, Context, Effect, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::typed::{About, Done, Typed};

/// Parameters of `flow.noop`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoopParams {
    /// Any value; it becomes the output.
    #[serde(default)]
    pub value: Value,
}

/// Outputs of `flow.noop`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct NoopOutputs {
    /// The value that was given; null when none was.
    #[serde(default)]
    pub value: Value,
}

/// The action `flow.noop`.
pub struct Noop;

impl Typed for Noop {
    type Params = NoopParams;
    type Outputs = NoopOutputs;
    const ABOUT: About = About::new(
        "flow.noop",
        "Does nothing and gives back its value.",
        Effect::Read,
        r"id: here
uses: flow.noop
with:
  value: 42
",
    );

    async fn plan(&self, _ctx: &Context, _params: NoopParams) -> Result<Preview, ActionError> {
        Ok(Preview::Changes { lines: vec!["does nothing".into()], destroys: None })
    }

    async fn run(&self, _ctx: &Context, params: NoopParams) -> Result<Done<NoopOutputs>, ActionError> {
        Ok(Done::new(NoopOutputs { value: params.value }, "nothing to do"))
    }
}

/// Parameters of `flow.fail`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FailParams {
    /// Why, in the words of the error.
    pub message: String,
}

/// Outputs of `flow.fail`: there are none, as it never succeeds.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct FailOutputs {}

/// The action `flow.fail`.
pub struct Fail;

impl Typed for Fail {
    type Params = FailParams;
    type Outputs = FailOutputs;
    const ABOUT: About = About::new(
        "flow.fail",
        "Fails, always, and is not tried again; for rehearsing what follows a failure.",
        Effect::Read,
        r"id: stop
uses: flow.fail
with:
  message: this path is not written yet
",
    );

    async fn plan(&self, _ctx: &Context, params: FailParams) -> Result<Preview, ActionError> {
        Ok(Preview::Changes { lines: vec![format!("fails: {}", params.message)], destroys: None })
    }

    async fn run(&self, _ctx: &Context, params: FailParams) -> Result<Done<FailOutputs>, ActionError> {
        Err(ActionError::refused(format!("go on: {}", params.message)).code("flow-fail"))
    }
}
