//! For tests: a world for an action (secrets, checkpoints, progress, stop) and HTTP servers on loopback.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use runbook_core::action::{
    ActionError, BoxFuture, Checkpoints, Context, Progress, ProgressSink, StopSignal,
};
use runbook_core::environment::{
    Cloudflare, DataKind, Environment, EnvironmentKind, Github, Pagerduty, Prometheus, Supabase, Vercel,
};
use runbook_core::secret::{Piece, Revealed, SecretError, SecretText, Secrets};
use runbook_core::workflow::StepPath;
use serde_json::Value;

/// Secrets in memory. `token` is there from the beginning.
#[derive(Default)]
pub(crate) struct MemorySecrets(Mutex<BTreeMap<String, String>>);

impl Secrets for MemorySecrets {
    fn reveal(&self, text: &SecretText) -> Result<Revealed, SecretError> {
        let values = self.0.lock().unwrap();
        let mut clear = String::new();
        for piece in text.pieces() {
            match piece {
                Piece::Text(text) => clear.push_str(text),
                Piece::Secret(name) => {
                    clear.push_str(values.get(name).ok_or_else(|| SecretError::Unknown(name.to_owned()))?);
                }
            }
        }
        Ok(Revealed::new(clear))
    }

    fn keep(&self, field: &str, value: &str) -> Result<SecretText, SecretError> {
        let name = format!("step/{field}");
        self.0.lock().unwrap().insert(name.clone(), value.to_owned());
        Ok(SecretText::reference(&name))
    }

    fn kept(&self, field: &str) -> Result<Option<Revealed>, SecretError> {
        Ok(self.0.lock().unwrap().get(&format!("step/{field}")).map(|v| Revealed::new(v.as_str())))
    }
}

/// Checkpoints in memory.
#[derive(Default)]
pub(crate) struct MemoryCheckpoints(Mutex<BTreeMap<String, Value>>);

impl Checkpoints for MemoryCheckpoints {
    fn get(&self, name: &str) -> Option<Value> {
        self.0.lock().unwrap().get(name).cloned()
    }
    fn save<'a>(&'a self, name: &'a str, value: Value) -> BoxFuture<'a, Result<(), ActionError>> {
        Box::pin(async move {
            self.0.lock().unwrap().insert(name.to_owned(), value);
            Ok(())
        })
    }
}

struct Deaf;

impl ProgressSink for Deaf {
    fn report(&self, _: Progress) {}
}

/// A stop that a test can ask for.
#[derive(Default)]
pub(crate) struct Stop(tokio::sync::watch::Sender<bool>);

impl Stop {
    pub(crate) fn ask(&self) {
        self.0.send_replace(true);
    }
}

impl StopSignal for Stop {
    fn requested(&self) -> bool {
        *self.0.borrow()
    }
    fn wait(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut changes = self.0.subscribe();
            // The sender is `self`, so it cannot be gone.
            let _asked = changes.wait_for(|asked| *asked).await;
        })
    }
}

/// What one step instance lives in. Using the same world again is what a repeat after a crash does.
pub(crate) struct World {
    pub(crate) ctx: Context,
    pub(crate) stop: Arc<Stop>,
    _dir: tempfile::TempDir,
}

impl World {
    /// A world whose environment points nowhere.
    pub(crate) fn new() -> Self {
        Self::at("http://127.0.0.1:9")
    }

    /// A world whose environment points at a server.
    pub(crate) fn at(url: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let secrets = MemorySecrets::default();
        for (name, value) in
            [("token", "sbp_canary_token"), ("pw", "canary-password"), ("new", "canary-new-value")]
        {
            secrets.0.lock().unwrap().insert(name.into(), value.into());
        }
        let stop = Arc::new(Stop::default());
        let ctx = Context {
            run: "0123456789abcdef".into(),
            run_short: "01234567".into(),
            step: StepPath::new("step"),
            attempt: 1,
            epoch: 1,
            key: "k".repeat(32),
            started_at: jiff::Timestamp::now(),
            actor: "ana".into(),
            environment: Arc::new(environment(url)),
            base: dir.path().to_owned(),
            artifacts: dir.path().join("artifacts"),
            secrets: Arc::new(secrets),
            progress: Arc::new(Deaf),
            checkpoints: Arc::new(MemoryCheckpoints::default()),
            stop: stop.clone(),
        };
        Self { ctx, stop, _dir: dir }
    }
}

fn environment(url: &str) -> Environment {
    let token = SecretText::reference("token");
    Environment {
        region: Some("ap-southeast-1".into()),
        supabase: Some(Supabase {
            api_url: Some(url.into()),
            organization: "polaris".into(),
            token: token.clone(),
            project: Some("liveliveliveliveliv".into()),
            project_url: Some(format!("{url}/projects/{{ref}}")),
        }),
        prometheus: Some(Prometheus { url: url.into(), token: Some(token.clone()) }),
        github: Some(Github {
            api_url: Some(url.into()),
            repository: "polaris/polaris".into(),
            token: token.clone(),
        }),
        pagerduty: Some(Pagerduty { api_url: Some(url.into()), routing_key: token.clone() }),
        cloudflare: Some(Cloudflare { api_url: Some(url.into()), zone: "z1".into(), token: token.clone() }),
        vercel: Some(Vercel {
            api_url: Some(url.into()),
            project: "polaris".into(),
            team: Some("team_1".into()),
            token,
            global_config: Some("ecfg_1".into()),
        }),
        notify: BTreeMap::from([(
            "team".to_owned(),
            runbook_core::environment::Webhook {
                url: SecretText::from_marked(format!("{url}/hooks/canary")),
            },
        )]),
        ..Environment::new("test", EnvironmentKind::Local, DataKind::Synthetic)
    }
}

/// Serves a router on loopback until the test's runtime ends; gives its base URL.
pub(crate) async fn serve(router: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// Ends the connection without an answer: what a handler that has acted calls to have its answer lost.
/// Unwinding without the panic hook keeps the test's output clean.
pub(crate) fn lose_the_answer() -> ! {
    std::panic::resume_unwind(Box::new("the answer is lost"))
}
