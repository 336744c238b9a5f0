//! `secret.rotate`: a new random value for a secret that the environment lists under `places`.

use runbook_core::action::{ActionError, Context, Effect, Preview};
use runbook_core::secret::SecretText;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::generate::{Format, Params as Shape, kept_or_made};
use super::places::{counted, places, shown};
use crate::typed::{About, Done, Typed};

/// Parameters of `secret.rotate`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Name of the secret under `places` of the environment.
    pub secret: String,
    /// Characters (`password`) or bytes (`hex`, `base64`).
    #[serde(default = "length")]
    #[schemars(default = "length", range(min = 12, max = 1024))]
    pub length: u32,
    /// How the value is written.
    #[serde(default)]
    pub format: Format,
}

fn length() -> u32 {
    40
}

/// Outputs of `secret.rotate`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Name of the secret.
    pub secret: String,
    /// The new value; distribute it.
    pub value: SecretText,
    /// How many places it has to reach.
    pub places: u64,
}

/// The action `secret.rotate`.
pub struct Rotate;

impl Typed for Rotate {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        has_plan: true,
        ..About::new(
            "secret.rotate",
            "Makes a new random value for a secret; `secret.distribute` takes it to every place.",
            Effect::Idempotent,
            r#"- id: cron
  uses: secret.rotate
  with:
    secret: cron_secret
- id: cron-places
  uses: secret.distribute
  with:
    secret: cron_secret
    value: "{{ steps.cron.value }}"
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let mut lines = vec![format!("makes a new value for secret {}", params.secret)];
        lines.extend(
            places(ctx, &params.secret)?.iter().map(|place| format!("it has to reach {}", shown(place))),
        );
        Ok(Preview::Changes { lines, destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let count = places(ctx, &params.secret)?.len();
        let shape = Shape { length: params.length, format: params.format, alphabet: None };
        let value = kept_or_made(ctx, &shape)?;
        let summary = format!("a new value for {}, which has to reach {}", params.secret, counted(count));
        let places = u64::try_from(count).unwrap_or(u64::MAX);
        Ok(Done::new(Outputs { secret: params.secret, value, places }, summary))
    }
}
