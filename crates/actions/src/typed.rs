//! Makes an [`Action`] of typed code: parameters and outputs are structs, their schemas and help come
//! from the types. Parameters that do not fit are refused with the field's name.

use runbook_core::action::{
    Access, Action, ActionError, BoxFuture, Context, Description, Effect, Outcome, Preview, Probed, Target,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What an action states about itself, beside its types.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// `system.verb`
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// What may be repeated.
    pub effect: Effect,
    /// Parameters that name databases, and what happens to them.
    pub targets: &'static [(&'static str, Access)],
    /// It changes what users are served.
    pub exposes: bool,
    /// It asks a person and does nothing else.
    pub asks: bool,
    /// The answer is one of several options.
    pub chooses: bool,
    /// Permissions it needs.
    pub permissions: &'static [&'static str],
    /// One step in YAML.
    pub example: &'static str,
    /// `probe` is implemented.
    pub has_probe: bool,
    /// `undo` is implemented.
    pub has_undo: bool,
    /// `plan` looks at the real target.
    pub has_plan: bool,
}

impl About {
    /// An action that has no target, no probe, no undo and no preview; override what differs with
    /// struct update syntax.
    pub const fn new(
        name: &'static str,
        summary: &'static str,
        effect: Effect,
        example: &'static str,
    ) -> Self {
        Self {
            name,
            summary,
            effect,
            targets: &[],
            exposes: false,
            asks: false,
            chooses: false,
            permissions: &[],
            example,
            has_probe: false,
            has_undo: false,
            has_plan: false,
        }
    }
}

/// What a typed action returns: outputs and what to tell.
#[derive(Debug, Clone)]
pub struct Done<O> {
    /// The outputs.
    pub outputs: O,
    /// One short phrase for people.
    pub summary: String,
    /// What is now in force.
    pub in_force: Vec<runbook_core::action::InForce>,
    /// Keys of what is no longer in force.
    pub released: Vec<String>,
}

impl<O> Done<O> {
    /// Outputs and a phrase, nothing in force.
    pub fn new(outputs: O, summary: impl Into<String>) -> Self {
        Self { outputs, summary: summary.into(), in_force: Vec::new(), released: Vec::new() }
    }
    /// Adds something that stays in force.
    #[must_use]
    pub fn in_force(mut self, key: impl Into<String>, text: impl Into<String>) -> Self {
        self.in_force.push(runbook_core::action::InForce { key: key.into(), text: text.into() });
        self
    }
    /// Ends something that was in force.
    #[must_use]
    pub fn released(mut self, key: impl Into<String>) -> Self {
        self.released.push(key.into());
        self
    }
}

/// The outcome of an undo that finds nothing to take back.
pub(crate) fn nothing_to_undo() -> Outcome {
    Outcome { summary: "it had changed nothing".into(), ..Outcome::default() }
}

/// What a typed probe found.
#[derive(Debug)]
pub enum Found<O> {
    /// The effect is there.
    Happened(Done<O>),
    /// It is not.
    Absent,
    /// It cannot be told; says why.
    Unclear(String),
}

/// The typed side of an action. Implement `run`, and what `ABOUT` promises beside it.
pub trait Typed: Send + Sync + 'static {
    /// `with`, as a struct with `deny_unknown_fields`.
    type Params: DeserializeOwned + JsonSchema + Send;
    /// Outputs.
    type Outputs: Serialize + DeserializeOwned + JsonSchema + Send;
    /// What it states about itself.
    const ABOUT: About;

    /// Does it.
    fn run(
        &self,
        ctx: &Context,
        params: Self::Params,
    ) -> impl Future<Output = Result<Done<Self::Outputs>, ActionError>> + Send;

    /// What would happen. Read-only.
    fn plan(
        &self,
        _ctx: &Context,
        _params: Self::Params,
    ) -> impl Future<Output = Result<Preview, ActionError>> + Send {
        async { Ok(Preview::Unknown("this action cannot look ahead".into())) }
    }

    /// Did it happen? Read-only.
    fn probe(
        &self,
        _ctx: &Context,
        _params: Self::Params,
    ) -> impl Future<Output = Result<Found<Self::Outputs>, ActionError>> + Send {
        async { Ok(Found::Unclear("this action has no probe".into())) }
    }

    /// Takes it back.
    fn undo(
        &self,
        _ctx: &Context,
        _params: Self::Params,
        _outputs: Self::Outputs,
    ) -> impl Future<Output = Result<Outcome, ActionError>> + Send {
        async { Err(ActionError::refused(format!("undo `{}`: it has no undo", Self::ABOUT.name))) }
    }

    /// Takes back what attempts left that gave no outputs: they failed half-way, or somebody else said that it
    /// is done. Works from the checkpoints; the key in the context is the undo's own.
    fn undo_unfinished(
        &self,
        _ctx: &Context,
        _params: Self::Params,
    ) -> impl Future<Output = Result<Outcome, ActionError>> + Send {
        async {
            let name = Self::ABOUT.name;
            Err(ActionError::refused(format!(
                "undo `{name}`: it did not finish, so what it left is not known"
            )))
        }
    }

    /// Ends server-side work of older epochs.
    fn fence(
        &self,
        _ctx: &Context,
        _params: Self::Params,
    ) -> impl Future<Output = Result<u32, ActionError>> + Send {
        async { Ok(0) }
    }
}

/// Wraps a [`Typed`] as an [`Action`].
pub struct Erased<T> {
    inner: T,
    description: Description,
}

/// Boxes a typed action for the registry.
pub fn action<T: Typed>(inner: T) -> Box<dyn Action> {
    let about = T::ABOUT;
    let schema = |s: schemars::Schema| s.to_value();
    let mut generator = schemars::generate::SchemaSettings::draft2020_12()
        .with(|s| s.inline_subschemas = true)
        .into_generator();
    let description = Description {
        name: about.name,
        summary: about.summary,
        effect: about.effect,
        params: schema(generator.root_schema_for::<T::Params>()),
        outputs: schema(generator.root_schema_for::<T::Outputs>()),
        targets: about.targets.iter().map(|&(param, access)| Target { param, access }).collect(),
        exposes: about.exposes,
        asks: about.asks,
        chooses: about.chooses,
        permissions: about.permissions,
        example: about.example,
        has_probe: about.has_probe,
        has_undo: about.has_undo,
        has_plan: about.has_plan,
    };
    Box::new(Erased { inner, description })
}

impl<T: Typed> Erased<T> {
    fn params(&self, params: Value) -> Result<T::Params, ActionError> {
        serde_json::from_value(params).map_err(|error| {
            ActionError::refused(format!("read the parameters of `{}`", T::ABOUT.name))
                .because(error)
                .hint(format!("`runbook actions {}` lists them", T::ABOUT.name))
        })
    }

    /// In a drill: that no target is a live database by another name.
    async fn guarded(ctx: &Context, params: &Value) -> Result<(), ActionError> {
        match &ctx.environment.guarded {
            Some(live) => crate::postgres::outside(ctx, T::ABOUT.targets, params, live).await,
            None => Ok(()),
        }
    }

    fn outcome(done: Done<T::Outputs>) -> Result<Outcome, ActionError> {
        let outputs = serde_json::to_value(&done.outputs).map_err(|error| {
            ActionError::unknown(format!("write down the outputs of `{}`", T::ABOUT.name)).because(error)
        })?;
        Ok(Outcome { outputs, summary: done.summary, in_force: done.in_force, released: done.released })
    }
}

impl<T: Typed> Action for Erased<T> {
    fn description(&self) -> &Description {
        &self.description
    }

    fn plan<'a>(&'a self, ctx: &'a Context, params: Value) -> BoxFuture<'a, Result<Preview, ActionError>> {
        Box::pin(async move {
            Self::guarded(ctx, &params).await?;
            self.inner.plan(ctx, self.params(params)?).await
        })
    }

    fn run<'a>(&'a self, ctx: &'a Context, params: Value) -> BoxFuture<'a, Result<Outcome, ActionError>> {
        Box::pin(async move {
            Self::guarded(ctx, &params).await?;
            Self::outcome(self.inner.run(ctx, self.params(params)?).await?)
        })
    }

    fn probe<'a>(&'a self, ctx: &'a Context, params: Value) -> BoxFuture<'a, Result<Probed, ActionError>> {
        Box::pin(async move {
            Ok(match self.inner.probe(ctx, self.params(params)?).await? {
                Found::Happened(done) => Probed::Happened(Self::outcome(done)?),
                Found::Absent => Probed::Absent,
                Found::Unclear(why) => Probed::Unclear(why),
            })
        })
    }

    fn undo<'a>(
        &'a self,
        ctx: &'a Context,
        params: Value,
        outputs: Value,
    ) -> BoxFuture<'a, Result<Outcome, ActionError>> {
        Box::pin(async move {
            Self::guarded(ctx, &params).await?;
            if outputs.is_null() {
                return self.inner.undo_unfinished(ctx, self.params(params)?).await;
            }
            let outputs = serde_json::from_value(outputs).map_err(|error| {
                ActionError::refused(format!("read the outputs of `{}`", T::ABOUT.name)).because(error)
            })?;
            self.inner.undo(ctx, self.params(params)?, outputs).await
        })
    }

    fn fence<'a>(&'a self, ctx: &'a Context, params: Value) -> BoxFuture<'a, Result<u32, ActionError>> {
        Box::pin(async move { self.inner.fence(ctx, self.params(params)?).await })
    }
}
