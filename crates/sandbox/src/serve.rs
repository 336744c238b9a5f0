//! The daemon's body: starts everything, says when it is ready, and stops in order.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::{Router, middleware};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::disk;
use crate::endpoints::{Endpoints, Layout};
use crate::error::SandboxError;
use crate::postgres::{Cluster, Place};
use crate::s3::{self, BUCKET, Store};
use crate::shared::{Ctx, Parts, Shared, Tokens};
use crate::supabase::{self, Phase, Project};
use crate::vercel::{self, Vercel};
use crate::web::{self, Service};
use crate::world::World;
use crate::{control, environment, polaris, providers, seed};

/// Open requests get so long when the daemon stops.
const GRACE: Duration = Duration::from_secs(2);

/// Ports, chosen once: journals, environment files and deployments remember them.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
struct Ports {
    postgres: u16,
    s3: u16,
    supabase: u16,
    vercel: u16,
    app: u16,
    #[serde(default)]
    providers: u16,
    control: u16,
}

struct Listeners {
    s3: TcpListener,
    supabase: TcpListener,
    vercel: TcpListener,
    app: TcpListener,
    providers: TcpListener,
    control: TcpListener,
}

/// Serves the sandbox of a state directory until SIGTERM, SIGINT or a stop over the control API.
/// `ready` is called once everything answers.
///
/// # Errors
///
/// When another daemon serves the directory, PostgreSQL is missing, or something cannot be started.
pub async fn serve(state_dir: &Path, ready: impl FnOnce(&Endpoints)) -> Result<(), SandboxError> {
    let layout = Layout::of(state_dir);
    disk::private_dir(layout.root())?;
    disk::private_dir(&layout.root().join("secrets"))?;
    disk::private_dir(&layout.s3())?;
    let _lock = hold(&layout)?;
    let (stop, stopping) = watch::channel(false);
    // From here on a signal is a request to stop in order, also while things are being started.
    let signals = tokio::spawn(signals(stop.clone())?);
    let outcome = serve_held(&layout, stop, stopping, ready).await;
    signals.abort();
    outcome
}

async fn serve_held(
    layout: &Layout,
    stop: watch::Sender<bool>,
    stopping: watch::Receiver<bool>,
    ready: impl FnOnce(&Endpoints),
) -> Result<(), SandboxError> {
    let (ports, listeners) = listen(layout).await?;
    let password = disk::remembered(&layout.secret("admin_password"), disk::random_secret)?;
    let place = Place::choose(layout)?;
    if layout.world().exists() && !place.is_made() {
        let message = format!(
            "start the sandbox: its database files in `{}` are gone; begin anew with `runbook sandbox reset`",
            place.folder.display()
        );
        return Err(SandboxError::Refused { message });
    }
    let cluster = Cluster::start(place, ports.postgres, password).await?;
    let served = async {
        let ctx = assemble(layout, ports, cluster.clone(), stop).await?;
        let mut tasks = start(&ctx, listeners, &stopping);
        ctx.endpoints.save()?;
        ready(&ctx.endpoints);
        let mut stopping = stopping;
        // An error means that nobody is left who could ask for a stop.
        drop(stopping.wait_for(|stop| *stop).await);
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, ended).await.is_err() {
            tasks.abort_all();
        }
        Ok(())
    }
    .await;
    let stopped = cluster.stop().await;
    served.and(stopped)
}

/// One daemon for each state directory; the lock ends with the process, however it ends.
fn hold(layout: &Layout) -> Result<File, SandboxError> {
    let path = layout.lock();
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(SandboxError::disk("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(SandboxError::Held { path: layout.root().to_owned() }),
        Err(std::fs::TryLockError::Error(error)) => Err(SandboxError::disk("lock", path)(error)),
    }
}

fn signals(stop: watch::Sender<bool>) -> Result<impl Future<Output = ()>, SandboxError> {
    let listen = |kind| signal(kind).map_err(SandboxError::disk("listen for signals of", "this process"));
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    // The terminal that started the daemon may close; the daemon stays.
    let mut hangup = listen(SignalKind::hangup())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => {}
            }
        }
        stop.send_replace(true);
    })
}

async fn listen(layout: &Layout) -> Result<(Ports, Listeners), SandboxError> {
    let path = layout.ports();
    let known: Ports = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|source| SandboxError::Damaged { path: path.clone(), source })?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ports::default(),
        Err(e) => return Err(SandboxError::disk("read", path)(e)),
    };
    let listeners = Listeners {
        s3: web::bind(known.s3).await?,
        supabase: web::bind(known.supabase).await?,
        vercel: web::bind(known.vercel).await?,
        app: web::bind(known.app).await?,
        providers: web::bind(known.providers).await?,
        control: web::bind(known.control).await?,
    };
    let port = |listener: &TcpListener| {
        listener.local_addr().map(|a| a.port()).map_err(SandboxError::disk("read the port of", "a listener"))
    };
    let ports = Ports {
        postgres: if known.postgres == 0 { free_port()? } else { known.postgres },
        s3: port(&listeners.s3)?,
        supabase: port(&listeners.supabase)?,
        vercel: port(&listeners.vercel)?,
        app: port(&listeners.app)?,
        providers: port(&listeners.providers)?,
        control: port(&listeners.control)?,
    };
    let text =
        serde_json::to_vec(&ports).map_err(|source| SandboxError::Damaged { path: path.clone(), source })?;
    disk::write_private(&path, &text)?;
    Ok((ports, listeners))
}

/// Below the ports that systems give to clients: one of those could be gone before PostgreSQL, which cannot be handed a
/// listener, has bound it.
const POSTGRES_PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How many of them are tried.
const PORT_TRIES: usize = 64;

/// A port that nobody listens on. PostgreSQL binds it a moment later.
fn free_port() -> Result<u16, SandboxError> {
    let mut left = PORT_TRIES;
    loop {
        let port = rand::random_range(POSTGRES_PORTS);
        match std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(source) if left == 0 => return Err(SandboxError::PortTaken { port, source }),
            Err(_) => left -= 1,
        }
    }
}

async fn assemble(
    layout: &Layout,
    ports: Ports,
    cluster: Arc<Cluster>,
    stop: watch::Sender<bool>,
) -> Result<Ctx, SandboxError> {
    let secret = |name: &str| disk::remembered(&layout.secret(name), disk::random_secret);
    let token = |name: &str, prefix: &str| {
        disk::remembered(&layout.secret(name), || format!("{prefix}{}", disk::random_secret()))
    };
    let key_id = disk::remembered(&layout.secret("s3_access_key_id"), || {
        format!("AKIA{}", disk::random_text(16, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
    })?;
    let store = Store::open(&layout.s3(), key_id, secret("s3_secret_access_key")?)?;
    // Whom smoke tests sign in as; `seed` gives that account this password.
    secret(seed::SMOKE_PASSWORD)?;
    let tokens = Tokens {
        supabase: token("supabase_token", "sbp_")?,
        vercel: secret("vercel_token")?,
        control: secret("control_token")?,
        providers: providers::tokens(layout)?,
    };
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let hooks_url = format!("{}/hooks", url(ports.app));
    disk::remembered(&layout.secret("masking_key"), disk::random_secret)?;
    for (secret, hook) in [("chat_webhook", "chat"), ("users_webhook", "users")] {
        disk::write_private(&layout.secret(secret), format!("{hooks_url}/{hook}\n").as_bytes())?;
    }
    let mut world = match World::load(&layout.world())? {
        Some(world) => world,
        None => found_world(layout, ports, &cluster).await?,
    };
    let endpoints = Endpoints {
        pid: std::process::id(),
        folder: layout.root().to_owned(),
        environment_file: layout.environment(),
        postgres_port: ports.postgres,
        live_user: format!("postgres.{}", world.live),
        live_project: world.live.clone(),
        s3_url: url(ports.s3),
        bucket: BUCKET.to_owned(),
        supabase_url: url(ports.supabase),
        vercel_url: url(ports.vercel),
        app_url: url(ports.app),
        hooks_url,
        providers_url: url(ports.providers),
        control_url: url(ports.control),
    };
    world.vercel.app_url.clone_from(&endpoints.app_url);
    seed::unpack(layout)?;
    environment::write(layout, &endpoints, &world.vercel.global_config)?;
    let unfinished: Vec<String> = world
        .projects
        .values()
        .filter(|project| project.phase == Phase::Provisioning)
        .map(|project| project.reference.clone())
        .collect();
    let effects = web::Effects::open(&layout.effects())?;
    let parts = Parts { layout: layout.clone(), endpoints, tokens, cluster, store, stop, effects, world };
    let ctx = Shared::new(parts);
    for reference in unfinished {
        tokio::spawn(supabase::provision(ctx.clone(), reference));
    }
    Ok(ctx)
}

/// The first world: a live project, deployed.
async fn found_world(layout: &Layout, ports: Ports, cluster: &Cluster) -> Result<World, SandboxError> {
    let now = Timestamp::now();
    let password = disk::remembered(&layout.secret("live_password"), disk::random_secret)?;
    let mut project = Project::new("polaris", supabase::REGION, password.clone(), 0)?;
    cluster.provision(&project.reference, &password).await?;
    project.phase = Phase::Made;
    let reference = project.reference.clone();
    let key = |id: &str| {
        project.api_keys.iter().find(|key| key.id == id).map(|key| key.value.clone()).unwrap_or_default()
    };
    let mut vercel = Vercel::new(now);
    let database =
        format!("postgres://postgres.{reference}:{password}@127.0.0.1:{}/{reference}", ports.postgres);
    let project_url = format!("http://127.0.0.1:{}/projects/{reference}", ports.supabase);
    vercel.set_production("DATABASE_URL", database, "encrypted", now);
    vercel.set_production("NEXT_PUBLIC_SUPABASE_URL", project_url, "plain", now);
    vercel.set_production("NEXT_PUBLIC_SUPABASE_ANON_KEY", key("anon"), "plain", now);
    vercel.set_production("SUPABASE_SERVICE_ROLE_KEY", key("service_role"), "encrypted", now);
    let app_url = format!("http://127.0.0.1:{}", ports.app);
    let (providers, told) = providers::Providers::founded(&app_url, now);
    let cron_secret = disk::remembered(&layout.secret("cron_secret"), disk::random_secret)?;
    project.secrets.insert("CRON_SECRET".to_owned(), (hex::encode(Sha256::digest(&cron_secret)), now));
    vercel.set_production("BILLING_PROVIDER", "paypal,paymongo".to_owned(), "plain", now);
    vercel.set_production("PAYPAL_WEBHOOK_ID", told.paypal_webhook, "plain", now);
    vercel.set_production("PAYMONGO_WEBHOOK_SECRET", told.paymongo_secret, "encrypted", now);
    vercel.set_production("RESEND_API_KEY", told.email_key, "encrypted", now);
    vercel.set_production("CRON_SECRET", cron_secret, "encrypted", now);
    vercel.deploy(Some("production".to_owned()), [("action".to_owned(), "first".to_owned())].into(), now, 0);
    let mut world = World { live: reference.clone(), vercel, providers, ..World::default() };
    world.projects.insert(reference, project);
    world.advance(now);
    world.save(&layout.world())?;
    Ok(world)
}

fn start(ctx: &Ctx, listeners: Listeners, stopping: &watch::Receiver<bool>) -> JoinSet<()> {
    let faulty = |router: Router, service: Service| {
        router.layer(middleware::from_fn_with_state((ctx.clone(), service), web::layer))
    };
    let bucket = Router::new().fallback(s3::handle).with_state(ctx.clone());
    let mut tasks = JoinSet::new();
    for (listener, router) in [
        (listeners.s3, faulty(bucket, Service::S3)),
        (listeners.supabase, faulty(supabase::router(ctx), Service::Supabase)),
        (listeners.vercel, faulty(vercel::router(ctx), Service::Vercel)),
        (listeners.app, faulty(polaris::router(ctx), Service::App)),
        // The path says which of them.
        (listeners.providers, faulty(providers::router(ctx), Service::Paypal)),
        (listeners.control, control::router(ctx)),
    ] {
        tasks.spawn(web::serve(listener, router, stopping.clone()));
    }
    tasks
}
