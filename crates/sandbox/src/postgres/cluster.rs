//! Starts and stops the server. It is a child of the daemon; one that outlived its daemon is ended
//! before a new one starts, and only when its working directory proves that it is ours.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Child;
use tokio_postgres::{Client, NoTls};

use super::binaries::{Binaries, run};
use super::place::Place;
use super::shelf::Shelf;
use crate::disk;
use crate::error::SandboxError;

/// How often a server that starts is asked whether it is ready.
const POLL: Duration = Duration::from_millis(25);
/// The bootstrap superuser, as in a Supabase project.
pub(super) const SUPERUSER: &str = "supabase_admin";
/// Database that every new project is copied from.
pub(super) const TEMPLATE: &str = "supabase_template";
/// Sandboxes share a machine with everything else; durability stays on.
pub(super) const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 120
shared_buffers = 48MB
max_wal_size = 512MB
min_wal_size = 64MB
wal_level = logical
password_encryption = 'scram-sha-256'
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %q%u@%d '
jit = off
";
const ACCESS: &str = "host all all 127.0.0.1/32 scram-sha-256\n";

/// A running server.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) binaries: Binaries,
    pub(crate) place: Place,
    pub(crate) port: u16,
    pub(super) password: String,
    child: tokio::sync::Mutex<Child>,
}

impl Cluster {
    /// Makes the cluster when there is none, ends an orphan of an earlier daemon, starts the server and
    /// waits until it answers.
    pub(crate) async fn start(place: Place, port: u16, password: String) -> Result<Arc<Self>, SandboxError> {
        let binaries = Binaries::find().await?;
        let fresh = !place.is_made();
        let shelf = if fresh { Shelf::named(&binaries) } else { None };
        let kept = shelf.as_ref().map_or(Ok(None), |shelf| shelf.take(&place))?;
        if fresh && kept.is_none() {
            init(&binaries, &place, &password).await?;
        }
        end_orphan(&place).await?;
        let child = launch(&binaries, &place, port, kept.as_ref().unwrap_or(&password)).await?;
        let mut cluster = Self { binaries, place, port, password, child: tokio::sync::Mutex::new(child) };
        if fresh {
            match &kept {
                Some(known) => cluster.own(known).await?,
                None => cluster.lay_out().await?,
            }
            disk::write_private(&cluster.place.ready(), b"")?;
        }
        if let (Some(shelf), None) = (&shelf, &kept) {
            cluster.stop().await?;
            shelf.keep(&cluster.place, &cluster.password)?;
            let again = launch(&cluster.binaries, &cluster.place, port, &cluster.password).await?;
            cluster.child = tokio::sync::Mutex::new(again);
        }
        Ok(Arc::new(cluster))
    }

    /// A kept cluster knows another sandbox's password.
    async fn own(&self, known: &str) -> Result<(), SandboxError> {
        let admin = connect(self.port, SUPERUSER, known, "postgres").await?;
        // Made of letters and digits.
        let sql = format!("alter role {SUPERUSER} password '{}'", self.password);
        admin.batch_execute(&sql).await.map_err(SandboxError::database("set the password of", SUPERUSER))
    }

    /// Roles and the template, once.
    async fn lay_out(&self) -> Result<(), SandboxError> {
        let admin = self.admin("postgres").await?;
        let batch = |what, sql: String| {
            let admin = &admin;
            async move { admin.batch_execute(&sql).await.map_err(SandboxError::database(what, "postgres")) }
        };
        batch("make the roles", include_str!("../../sql/roles.sql").to_owned()).await?;
        batch("make the template", format!("create database {TEMPLATE} owner postgres")).await?;
        batch(
            "configure the template",
            format!("alter database {TEMPLATE} set search_path to \"$user\", public, extensions"),
        )
        .await?;
        {
            let template = self.admin(TEMPLATE).await?;
            template
                .batch_execute(include_str!("../../sql/template.sql"))
                .await
                .map_err(SandboxError::database("lay out the template", TEMPLATE))?;
        }
        Ok(())
    }

    /// A connection as superuser.
    pub(crate) async fn admin(&self, database: &str) -> Result<Client, SandboxError> {
        connect(self.port, SUPERUSER, &self.password, database).await
    }

    /// Stops the server at once but in order. Does nothing when it is gone already.
    pub(crate) async fn stop(&self) -> Result<(), SandboxError> {
        let mut child = self.child.lock().await;
        if matches!(child.try_wait(), Ok(Some(_))) {
            return Ok(());
        }
        pg_ctl_stop(&self.binaries, &self.place).await?;
        child.wait().await.map_err(SandboxError::disk("wait for", self.binaries.program("postgres")))?;
        Ok(())
    }
}

/// Starts the server and waits until it answers.
async fn launch(
    binaries: &Binaries,
    place: &Place,
    port: u16,
    password: &str,
) -> Result<Child, SandboxError> {
    let log = fs::File::create(place.log()).map_err(SandboxError::disk("make", place.log()))?;
    let mut command = binaries.command("postgres", &place.account, &place.folder);
    command.arg("-D").arg(place.data()).arg("-p").arg(port.to_string());
    command.stdout(log.try_clone().map_err(SandboxError::disk("share", place.log()))?).stderr(log);
    // A Ctrl-C at the terminal must reach the daemon first: it stops the server in order.
    command.process_group(0);
    let mut child = command.spawn().map_err(SandboxError::disk("run", binaries.program("postgres")))?;
    wait_ready(&mut child, place, port, password).await?;
    Ok(child)
}

/// A connection on loopback; its driver ends with it.
pub(crate) async fn connect(
    port: u16,
    user: &str,
    password: &str,
    database: &str,
) -> Result<Client, SandboxError> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).user(user).password(password).dbname(database);
    config.application_name("runbook-sandbox").connect_timeout(Duration::from_secs(5));
    let (client, connection) =
        config.connect(NoTls).await.map_err(SandboxError::database("connect", database))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a database connection ended");
        }
    });
    Ok(client)
}

async fn init(binaries: &Binaries, place: &Place, password: &str) -> Result<(), SandboxError> {
    let data = place.data();
    if data.exists() {
        // A daemon died while it made the cluster; nothing in it was ever used.
        end_orphan(place).await?;
        fs::remove_dir_all(&data).map_err(SandboxError::disk("clear", &data))?;
    }
    disk::private_dir(&data)?;
    place.account.give(&data)?;
    let secret = place.folder.join("first-password");
    disk::write_private(&secret, password.as_bytes())?;
    place.account.give(&secret)?;
    let mut command = binaries.command("initdb", &place.account, &place.folder);
    command.arg("-D").arg(&data).args(["-U", SUPERUSER, "-E", "UTF8", "--locale=C", "--no-sync"]);
    command.arg("--auth=scram-sha-256").arg(format!("--pwfile={}", secret.display()));
    let made = run(command).await;
    fs::remove_file(&secret).map_err(SandboxError::disk("remove", &secret))?;
    made?;
    append(&data.join("postgresql.conf"), SETTINGS)?;
    fs::write(data.join("pg_hba.conf"), ACCESS).map_err(SandboxError::disk("write", data.join("pg_hba.conf")))
}

pub(super) fn append(path: &Path, text: &str) -> Result<(), SandboxError> {
    use std::io::Write as _;
    fs::OpenOptions::new()
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(SandboxError::disk("write", path))
}

async fn wait_ready(child: &mut Child, place: &Place, port: u16, password: &str) -> Result<(), SandboxError> {
    loop {
        match connect(port, SUPERUSER, password, "postgres").await {
            Ok(_) => return Ok(()),
            Err(_) if matches!(child.try_wait(), Ok(None)) => tokio::time::sleep(POLL).await,
            Err(_) => return Err(SandboxError::PostgresDied { log: disk::tail(&place.log(), 2000) }),
        }
    }
}

/// Ends a server that an earlier daemon left behind, and clears a lock file that another process's
/// number would keep alive.
pub(crate) async fn end_orphan(place: &Place) -> Result<(), SandboxError> {
    let data = place.data();
    let lock = data.join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&lock) else { return Ok(()) };
    let mut lines = text.lines();
    let pid = lines.next().and_then(|line| line.trim().parse::<i32>().ok());
    let named_here = lines.next().is_some_and(|line| Path::new(line.trim()) == data);
    if named_here && pid.is_some_and(|pid| works_in(pid, &data)) {
        tracing::warn!(pid, "ending the PostgreSQL server that an earlier sandbox left behind");
        return pg_ctl_stop(&Binaries::find().await?, place).await;
    }
    fs::remove_file(&lock).map_err(SandboxError::disk("remove the stale", lock))
}

/// Whether process `pid` is alive and works in `folder`, which a server does from its first moment.
fn works_in(pid: i32, folder: &Path) -> bool {
    if cfg!(target_os = "linux") {
        return fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder);
    }
    // Elsewhere the lock file names pid and folder; a live process is then taken for the server.
    rustix::process::Pid::from_raw(pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}

async fn pg_ctl_stop(binaries: &Binaries, place: &Place) -> Result<(), SandboxError> {
    let mut command = binaries.command("pg_ctl", &place.account, &place.folder);
    command.arg("stop").arg("-D").arg(place.data()).args(["-m", "fast", "-w", "-t", "60", "-s"]);
    run(command).await.map(drop)
}
