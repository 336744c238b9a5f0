//! A session that names its run, step and epoch, so that a successor can find it on the server and end
//! it (P4). Every action that talks to a database goes through here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use runbook_core::action::{ActionError, Aftermath, Context, Progress};
use runbook_core::types::{Connection, Tls};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A database that does not answer within this is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// What a question about the catalog may take; loading and migrating set their own.
pub(super) const QUERY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an old backend may take to die: it may be in the middle of a rollback.
const FENCE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it is waited between two looks at them, at most.
const FENCE_PAUSE: Duration = Duration::from_millis(250);
/// What a text of statements begins with that the server comes to the end of without its client: the last one commits.
/// Such a text is waited for, not ended.
pub(super) const WHOLE: &str = "/* whole */";
/// Where systems keep the certificates they trust.
const CA_FILES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// A live session. Dropping it closes the connection.
#[derive(Debug)]
pub struct Session {
    /// To send statements with.
    pub client: Client,
    /// `user@host:port/database`.
    pub label: String,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // The server would otherwise go on with a statement whose client is gone.
        self.driver.abort();
    }
}

/// Opens a session under the name of this attempt.
pub async fn connect(ctx: &Context, to: &Connection) -> Result<Session, ActionError> {
    connect_as(ctx, to, &ctx.session_name()).await
}

async fn connect_as(ctx: &Context, to: &Connection, name: &str) -> Result<Session, ActionError> {
    let label = to.label();
    let password = ctx.secrets.reveal(&to.password)?;
    let mut config = Config::new();
    config
        .host(&to.host)
        .port(to.port)
        .user(&to.user)
        .dbname(&to.database)
        .application_name(name)
        .connect_timeout(CONNECT_TIMEOUT)
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(30))
        .keepalives_interval(Duration::from_secs(10))
        .keepalives_retries(3)
        .tcp_user_timeout(Duration::from_secs(120));
    if !password.expose().is_empty() {
        config.password(password.expose());
    }
    let encrypted = wants_tls(to);
    let attempted = || format!("connect to `{label}`");
    let late = |_| ActionError::unchanged(format!("{}: no answer within {CONNECT_TIMEOUT:?}", attempted()));
    let (client, driver) = if encrypted {
        config.ssl_mode(tokio_postgres::config::SslMode::Require);
        let connecting = config.connect(tls(ctx, to)?);
        let (client, connection) = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(late)?
            .map_err(|error| failed(attempted(), error))?;
        (client, tokio::spawn(drive(connection)))
    } else {
        config.ssl_mode(tokio_postgres::config::SslMode::Disable);
        let (client, connection) = tokio::time::timeout(CONNECT_TIMEOUT, config.connect(NoTls))
            .await
            .map_err(late)?
            .map_err(|error| failed(attempted(), error))?;
        (client, tokio::spawn(drive(connection)))
    };
    Ok(Session { client, label, driver })
}

async fn drive(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    if let Err(error) = connection.await {
        // Whoever waits for an answer gets the error as well.
        tracing::debug!(%error, "a database connection ended");
    }
}

/// Whether a connection is encrypted.
pub(super) fn wants_tls(to: &Connection) -> bool {
    match to.tls {
        Tls::Auto => !is_loopback(&to.host),
        Tls::Require => true,
        Tls::Disable => false,
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.starts_with('/') || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Checks certificates against the connection's `ca`, else `PGSSLROOTCERT` (as libpq), else `SSL_CERT_FILE`, else the system's.
/// Supabase's database certificates are signed by its own authority, which the dashboard offers.
fn tls(ctx: &Context, to: &Connection) -> Result<MakeRustlsConnect, ActionError> {
    let file = ca_file(ctx, to)?;
    let mut roots = rustls::RootCertStore::empty();
    let read = CertificateDer::pem_file_iter(&file)
        .map_err(|error| ActionError::refused(format!("{LOAD_CA}: `{file}`")).because(error))?;
    roots.add_parsable_certificates(read.filter_map(Result::ok));
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| ActionError::refused("set up TLS").because(error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

const LOAD_CA: &str = "load the certificates to check a database with";

/// The file of the authorities that a database's certificate is checked against.
pub(super) fn ca_file(ctx: &Context, to: &Connection) -> Result<String, ActionError> {
    let own = to.ca.as_ref().map(|ca| ctx.base.join(ca).to_string_lossy().into_owned());
    let named =
        own.or_else(|| ["PGSSLROOTCERT", "SSL_CERT_FILE"].iter().find_map(|name| std::env::var(name).ok()));
    let file = named.or_else(|| {
        CA_FILES.iter().find(|path| std::path::Path::new(path).exists()).map(|path| (*path).to_string())
    });
    file.ok_or_else(|| {
        ActionError::refused(format!("{LOAD_CA}: this system has none"))
            .hint("Put the authority's certificate in a file and name it as the connection's `ca`.")
    })
}

/// Proves that no session of an older epoch of this step instance lives: ends what it finds in any
/// database of the cluster and waits until it is gone. Says how many it ended. One that is at a [`WHOLE`] text comes to
/// its end without anybody, and what it makes is wanted: it is waited for, unless a stop is asked for.
pub async fn fence(ctx: &Context, to: &Connection) -> Result<u32, ActionError> {
    let session = connect_as(ctx, to, "runbook/fence").await?;
    let attempted = || format!("end the old sessions of step `{}` on `{}`", ctx.step, session.label);
    let prefix = ctx.session_prefix();
    let mine = ctx.session_name();
    // What follows the prefix must be an epoch: a step below this one has a longer path. What waits for a lock may wait
    // for ever.
    let find = "select pid, state = 'active' and starts_with(query, $3) and wait_event_type is distinct from 'Lock' \
                from pg_catalog.pg_stat_activity where pid <> pg_catalog.pg_backend_pid() \
                and starts_with(application_name, $1) and application_name <> $2 \
                and substr(application_name, length($1) + 1) ~ '^[0-9]+$'";
    let mut ended = std::collections::BTreeSet::new();
    let began = tokio::time::Instant::now();
    let mut deadline = began + FENCE_TIMEOUT;
    let mut waits = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(FENCE_PAUSE)
        .without_max_times()
        .build();
    loop {
        let rows = timed(session.client.query(find, &[&prefix, &mine, &WHOLE]), attempted).await?;
        if rows.is_empty() {
            return Ok(u32::try_from(ended.len()).unwrap_or(u32::MAX));
        }
        let stops = ctx.stop.requested();
        let comes_to_its_end =
            |row: &tokio_postgres::Row| !stops && row.get::<_, Option<bool>>(1) == Some(true);
        let to_end: Vec<i32> =
            rows.iter().filter(|row| !comes_to_its_end(row)).map(|row| row.get(0)).collect();
        for pid in &to_end {
            let kill = "select pg_catalog.pg_terminate_backend($1)";
            timed(session.client.query(kill, &[pid]), attempted).await?;
            ended.insert(*pid);
        }
        let now = tokio::time::Instant::now();
        if to_end.is_empty() {
            deadline = now + FENCE_TIMEOUT;
            let message = "the server finishes what an earlier attempt began".into();
            ctx.progress.report(Progress { done: (now - began).as_secs(), total: None, unit: "s", message });
        } else if now >= deadline {
            return Err(ActionError::unknown(format!(
                "{}: they still live after {FENCE_TIMEOUT:?}",
                attempted()
            )));
        }
        let pause = tokio::time::sleep(waits.next().unwrap_or(FENCE_PAUSE));
        tokio::select! {
            () = pause => {}
            () = ctx.stop.wait(), if !stops => {}
        }
    }
}

/// Waits for an answer, at most [`QUERY_TIMEOUT`].
pub(super) async fn timed<T>(
    asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
    attempted: impl Fn() -> String,
) -> Result<T, ActionError> {
    match tokio::time::timeout(QUERY_TIMEOUT, asked).await {
        Ok(answer) => answer.map_err(|error| failed(attempted(), error)),
        Err(_) => Err(ActionError::unchanged(format!("{}: no answer within {QUERY_TIMEOUT:?}", attempted()))),
    }
}

/// The server's words. Without its DETAIL, which quotes rows.
#[derive(Debug, thiserror::Error)]
#[error("{message} (SQLSTATE {code})")]
pub(super) struct ServerSaid {
    pub(super) message: String,
    pub(super) code: String,
}

/// What failed, and whether trying again may help: a lost connection, a full or restarting server, a lock.
pub(super) fn failed(attempted: impl Into<String>, error: tokio_postgres::Error) -> ActionError {
    let Some(said) = error.as_db_error() else {
        let broken = std::error::Error::source(&error)
            .and_then(|source| source.downcast_ref::<std::io::Error>())
            .is_some()
            || error.is_closed();
        let aftermath = if broken { Aftermath::Unchanged { retry_after: None } } else { Aftermath::Refused };
        return ActionError::new(attempted, aftermath).because(error);
    };
    let code = said.code().code();
    let passing = code.starts_with("08")
        || code.starts_with("53")
        || code.starts_with("57P")
        || [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::LOCK_NOT_AVAILABLE,
        ]
        .contains(said.code());
    let aftermath = if passing { Aftermath::Unchanged { retry_after: None } } else { Aftermath::Refused };
    let hint = said.hint().map(str::to_string);
    let mut made = ActionError::new(attempted, aftermath)
        .because(ServerSaid { message: said.message().into(), code: code.into() });
    made.hint = hint;
    made
}
