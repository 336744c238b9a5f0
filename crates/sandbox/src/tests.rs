//! The sandbox as its users meet it: a daemon in a process of its own, real PostgreSQL, real HTTP.
//!
//! The daemon is this very test program: it is started with the filters `sandbox serve`, which only
//! [`serve_when_started_as_daemon`] matches. No other test may have those words in its name, nor may
//! its module.

use std::io::{self, Write as _};
use std::path::Path;

use axum::http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

mod storage;

#[test]
fn serve_when_started_as_daemon() {
    // Whoever runs the tests may have set the variable for themselves.
    if !std::env::args().skip(1).eq(["sandbox", "serve"]) {
        return;
    }
    let state_dir = std::env::var_os("RUNBOOK_STATE_DIR").expect("a daemon is told where its state is");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Err(error) = runtime.block_on(serve(Path::new(&state_dir), |_| {})) {
        // Past the test harness, which keeps what is printed: this goes to the daemon's log.
        writeln!(io::stderr(), "could not {error}").unwrap();
        std::process::exit(1);
    }
}

/// A started daemon; stopped and removed at the end of the test.
struct World {
    folder: TempDir,
    endpoints: Endpoints,
}

impl World {
    async fn start() -> Result<Self, SandboxError> {
        let folder = TempDir::new().map_err(SandboxError::disk("make", "a temporary folder"))?;
        let endpoints = Self::up(folder.path()).await?;
        Ok(Self { folder, endpoints })
    }

    async fn up(folder: &Path) -> Result<Endpoints, SandboxError> {
        let exe = std::env::current_exe().map_err(SandboxError::disk("find", "this program"))?;
        ensure_started(folder, &exe).await
    }

    fn secret(&self, name: &str) -> String {
        std::fs::read_to_string(self.endpoints.layout().secret(name))
            .unwrap_or_default()
            .trim_end()
            .to_owned()
    }

    async fn supabase(&self, method: &str, path: &str, body: Value) -> io::Result<Answer> {
        let url = format!("{}{path}", self.endpoints.supabase_url);
        request(
            method,
            &url,
            &[("authorization", &format!("Bearer {}", self.secret("supabase_token")))],
            body,
        )
        .await
    }

    async fn vercel(&self, method: &str, path: &str, body: Value) -> io::Result<Answer> {
        let mark = if path.contains('?') { '&' } else { '?' };
        let url = format!("{}{path}{mark}teamId={}", self.endpoints.vercel_url, vercel::TEAM);
        request(method, &url, &[("authorization", &format!("Bearer {}", self.secret("vercel_token")))], body)
            .await
    }

    async fn app(&self, method: &str, path: &str, body: Value) -> io::Result<Answer> {
        request(method, &format!("{}{path}", self.endpoints.app_url), &[], body).await
    }

    async fn object(&self, method: &str, key: &str, extra: &[(&'static str, &str)]) -> io::Result<Answer> {
        let path = format!("/{}/{key}", self.endpoints.bucket);
        let host = self.endpoints.s3_url.trim_start_matches("http://");
        let mut headers = HeaderMap::new();
        let value = |text: &str| HeaderValue::from_str(text).map_err(io::Error::other);
        headers.insert("host", value(host)?);
        for (name, text) in extra {
            headers.insert(*name, value(text)?);
        }
        let key = (&*self.secret("s3_access_key_id"), &*self.secret("s3_secret_access_key"));
        sigv4::sign(&mut headers, key, (method, &path), Timestamp::now()).map_err(io::Error::other)?;
        let lines: Vec<(&str, &str)> = headers
            .iter()
            .filter(|(name, _)| *name != "host")
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
            .collect();
        request(method, &format!("http://{host}{path}"), &lines, Value::Null).await
    }

    /// A row of one text from the live project, asked as its login role.
    async fn sql(&self, database: &str, password: &str, sql: &str) -> Result<String, SandboxError> {
        let user = format!("postgres.{database}");
        let client = postgres::connect(self.endpoints.postgres_port, &user, password, database).await?;
        let row = client.query_one(sql, &[]).await.map_err(SandboxError::database("ask", database))?;
        Ok(row.get(0))
    }

    async fn live(&self, sql: &str) -> Result<String, SandboxError> {
        self.sql(&self.endpoints.live_project, &self.secret("live_password"), sql).await
    }
}

impl Drop for World {
    /// Also when the test failed: no daemon outlives its test.
    fn drop(&mut self) {
        let folder = self.folder.path();
        let ended = std::thread::scope(|scope| {
            let end = || tokio::runtime::Runtime::new().map(|runtime| runtime.block_on(destroy(folder)));
            scope.spawn(end).join()
        });
        if !matches!(ended, Ok(Ok(Ok(())))) {
            eprintln!("a sandbox stays behind: {ended:?}");
        }
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Value,
}

async fn request(method: &str, url: &str, headers: &[(&str, &str)], body: Value) -> io::Result<Answer> {
    let rest = url.trim_start_matches("http://");
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut text = format!("{method} /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        text += &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    }
    let mut stream = TcpStream::connect(host).await?;
    stream.write_all(format!("{text}\r\n{body}").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    let body = serde_json::from_str(body).unwrap_or_else(|_| json!(body));
    Ok(Answer { status, head: head.to_owned(), body })
}

/// Asks until the answer fits. The waits of the stand-ins are some hundred milliseconds.
async fn until(
    mut ask: impl AsyncFnMut() -> io::Result<Answer>,
    fits: impl Fn(&Value) -> bool,
) -> io::Result<Value> {
    for _ in 0..400 {
        let answer = ask().await?;
        if fits(&answer.body) {
            return Ok(answer.body);
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    Err(io::ErrorKind::TimedOut.into())
}

#[tokio::test]
async fn a_killed_daemon_comes_back_with_the_world_as_it_was() {
    let mut world = World::start().await.unwrap();
    seed(&world.endpoints, SeedSize::Small).await.unwrap();
    let made = world
        .supabase(
            "POST",
            "/v1/projects",
            json!({ "name": "beside", "db_pass": "four'; \\", "organization_slug": "polaris-sandbox",
                    "region_selection": { "type": "specific", "code": "eu-west-1" } }),
        )
        .await
        .unwrap();
    assert_eq!((made.status, &made.body["status"]), (201, &json!("UNKNOWN")), "{}", made.body);
    let reference = made.body["ref"].as_str().unwrap().to_owned();
    let path = format!("/v1/projects/{reference}");
    until(async || world.supabase("GET", &path, Value::Null).await, |p| p["status"] == "ACTIVE_HEALTHY")
        .await
        .unwrap();

    let pid = i32::try_from(world.endpoints.pid).unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    let before = world.endpoints.clone();
    // The daemon was a child of this process; its place is free as soon as it is dead.
    world.endpoints = World::up(world.folder.path()).await.unwrap();

    assert_ne!(world.endpoints.pid, before.pid);
    assert_eq!(
        (&world.endpoints.s3_url, world.endpoints.postgres_port),
        (&before.s3_url, before.postgres_port)
    );
    assert_eq!(world.live("select count(*)::text from public.messages").await.unwrap(), "600");
    let who = world.sql(&reference, "four'; \\", "select current_user::text").await.unwrap();
    assert_eq!(who, "postgres", "a login role becomes postgres in its project");
    let all = world.supabase("GET", "/v1/projects", Value::Null).await.unwrap();
    assert_eq!(all.body.as_array().unwrap().len(), 2);
    let gone = world.supabase("DELETE", &path, Value::Null).await.unwrap();
    assert_eq!(gone.status, 200);
    assert!(
        world.sql(&reference, "four'; \\", "select ''").await.is_err(),
        "the database goes with the project"
    );
}

#[tokio::test]
async fn a_backup_is_what_postgres_may_dump_and_what_a_client_can_read() {
    let world = World::start().await.unwrap();
    seed(&world.endpoints, SeedSize::Small).await.unwrap();
    let at: Timestamp = "2026-03-01T03:04:05Z".parse().unwrap();
    let plain = BackupOptions { compression: Compression::None, at: Some(at), ..BackupOptions::default() };
    let plain = backup(&world.endpoints, plain).await.unwrap();
    let custom = BackupOptions { format: Format::Custom, store_checksum: false, ..BackupOptions::default() };
    let custom = backup(&world.endpoints, custom).await.unwrap();

    assert_eq!(plain.key, "db/local/2026/03/01/polaris-20260301T030405Z.sql");
    let note = world.object("GET", &format!("{}.sha256", plain.key), &[]).await.unwrap();
    assert_eq!(note.body, json!(format!("{}  polaris-20260301T030405Z.sql\n", plain.sha256)));
    let dump = world.object("GET", &plain.key, &[]).await.unwrap();
    let text = dump.body.as_str().unwrap();
    assert!(text.contains("COPY public.messages") && text.contains("CREATE TRIGGER on_auth_user_created"));
    assert!(dump.head.contains("last-modified: Sun, 01 Mar 2026 03:04:05 GMT"), "{}", dump.head);
    assert!(!dump.head.contains("x-amz-checksum-sha256"), "nobody asked for it");

    let asked = [("x-amz-checksum-mode", "ENABLED")];
    assert!(world.object("HEAD", &plain.key, &asked).await.unwrap().head.contains("x-amz-checksum-sha256"));
    assert!(!world.object("HEAD", &custom.key, &asked).await.unwrap().head.contains("x-amz-checksum-sha256"));
    let etag = dump.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let range = ("range", "bytes=0-9");
    assert_eq!(world.object("GET", &plain.key, &[("if-match", etag), range]).await.unwrap().status, 206);
    let changed = world.object("GET", &plain.key, &[("if-match", "\"other\""), range]).await.unwrap();
    assert_eq!(changed.status, 412, "a changed object is noticed");
    for folder in ["db/local", "db/local/"] {
        assert_eq!(world.object("HEAD", folder, &[]).await.unwrap().status, 404, "{folder}");
        let answer = world.object("GET", folder, &[]).await.unwrap();
        assert!(
            answer.status == 404 && answer.body.to_string().contains("NoSuchKey"),
            "{folder}: {}",
            answer.body
        );
    }
}

/// Runs one of the sample's row-level-security tests as its first line says.
async fn rls(world: &World, name: &str) -> Result<(), SandboxError> {
    let path = world.endpoints.layout().polaris().join("supabase/tests/rls").join(name);
    let sql = std::fs::read_to_string(&path).map_err(SandboxError::disk("read", &path))?;
    let first = sql.lines().next().unwrap_or_default().trim_start_matches("-- run as: ").to_owned();
    let (role, claims) = first.split_once(' ').unwrap_or((&first, "{}"));
    let live = &world.endpoints.live_project;
    let (port, password) = (world.endpoints.postgres_port, world.secret("live_password"));
    let mut client = postgres::connect(port, &world.endpoints.live_user, &password, live).await?;
    let failed = |source| SandboxError::database("test", name)(source);
    let transaction = client.transaction().await.map_err(failed)?;
    let set = format!("set local role {role}; set local request.jwt.claims = '{claims}'; {sql}");
    transaction.batch_execute(&set).await.map_err(failed)
}

#[tokio::test]
async fn the_rules_of_the_sample_hold_until_it_is_damaged() {
    let world = World::start().await.unwrap();
    seed(&world.endpoints, SeedSize::Small).await.unwrap();
    let identity = world.live("select system_identifier::text from pg_control_system()").await.unwrap();
    assert!(identity.parse::<u64>().is_ok(), "whoever logs in can tell which cluster it is");
    for name in ["anon.sql", "member.sql", "member_writes.sql", "service_role.sql"] {
        rls(&world, name).await.unwrap();
    }
    break_with(&world.endpoints, Damage::BadMigration).await.unwrap();
    let broken = rls(&world, "member.sql").await.unwrap_err().to_string();
    assert!(broken.contains("cannot see what they paid for"), "{broken}");
}

#[tokio::test]
async fn the_application_breaks_with_the_database_and_follows_the_deployment() {
    let world = World::start().await.unwrap();
    seed(&world.endpoints, SeedSize::Small).await.unwrap();
    let well = world.app("GET", "/api/health", Value::Null).await.unwrap();
    assert_eq!((well.status, &well.body["keys"]["anon"]), (200, &json!("valid")), "{}", well.body);

    break_with(&world.endpoints, Damage::BadMigration).await.unwrap();
    let ill = world.app("GET", "/api/health", Value::Null).await.unwrap();
    assert_eq!(ill.status, 503, "{}", ill.body);
    assert!(ill.body["error"].as_str().unwrap().contains("display_name"), "{}", ill.body);

    let var = json!({ "key": "DATABASE_URL", "value": "postgres://nobody@127.0.0.1:1/none", "type": "encrypted", "target": ["production"] });
    let refused = world.vercel("POST", "/v10/projects/polaris/env", var.clone()).await.unwrap();
    assert_eq!((refused.status, &refused.body["error"]["code"]), (400, &json!("ENV_CONFLICT")));
    let failed = world.vercel("POST", "/v10/projects/polaris/env", json!([var])).await.unwrap();
    assert_eq!((failed.status, failed.body["failed"].as_array().unwrap().len()), (201, 1));
    let taken = world.vercel("POST", "/v10/projects/polaris/env?upsert=true", var).await.unwrap();
    assert_eq!(taken.status, 201);
    let same = world.app("GET", "/api/health", Value::Null).await.unwrap();
    assert_eq!(
        same.body["database"],
        json!(world.endpoints.live_project),
        "a variable waits for a deployment"
    );

    let project = world.vercel("GET", "/v9/projects/polaris", Value::Null).await.unwrap();
    let again = json!({ "name": "polaris", "deploymentId": project.body["targets"]["production"]["id"],
                        "target": "production", "meta": { "drRun": "r1" } });
    let made = world.vercel("POST", "/v13/deployments?forceNew=1", again).await.unwrap();
    assert_eq!(made.body["readyState"], "BUILDING", "{}", made.body);
    let path = format!("/v13/deployments/{}", made.body["id"].as_str().unwrap());
    until(async || world.vercel("GET", &path, Value::Null).await, |d| d["readyState"] == "READY")
        .await
        .unwrap();
    let found =
        world.vercel("GET", "/v7/deployments?meta-drRun=r1&target=production", Value::Null).await.unwrap();
    assert_eq!(found.body["deployments"].as_array().unwrap().len(), 1);
    let moved = world.app("GET", "/api/health", Value::Null).await.unwrap();
    assert_eq!((moved.status, &moved.body["deployment"]), (503, &made.body["id"]));
}

#[tokio::test]
async fn faults_happen_as_often_as_told_and_a_lost_answer_has_acted() {
    let world = World::start().await.unwrap();
    let slow =
        Fault { status: Some(429), times: Some(1), retry_after: Some(7), ..Fault::on(Service::Supabase) };
    fault(&world.endpoints, &slow).await.unwrap();
    let lost = Fault {
        method: Some("PATCH".into()),
        cut: Some(Cut::After),
        times: Some(1),
        ..Fault::on(Service::Vercel)
    };
    fault(&world.endpoints, &lost).await.unwrap();
    let half =
        Fault { path: Some("/v10/".into()), status: Some(201), times: Some(1), ..Fault::on(Service::Vercel) };
    fault(&world.endpoints, &half).await.unwrap();
    let unheard = Fault { cut: Some(Cut::Before), times: Some(1), ..Fault::on(Service::Hooks) };
    fault(&world.endpoints, &unheard).await.unwrap();

    let first = world.supabase("GET", "/v1/projects", Value::Null).await.unwrap();
    assert_eq!(first.status, 429);
    assert!(
        first.head.contains("retry-after: 7") && first.head.contains("x-ratelimit-remaining: 0"),
        "{}",
        first.head
    );
    assert_eq!(world.supabase("GET", "/v1/projects", Value::Null).await.unwrap().status, 200);

    let half = world.vercel("POST", "/v10/projects/polaris/env?upsert=true", json!({})).await.unwrap();
    assert_eq!((half.status, half.body["failed"].as_array().unwrap().len()), (201, 1));
    let config = inspect(&world.endpoints).await.unwrap();
    assert_eq!(config["vercel"]["flags"], json!({}));
    let id = std::fs::read_to_string(&world.endpoints.environment_file).unwrap();
    let id = id.lines().find_map(|line| line.strip_prefix("  global_config: ")).unwrap().to_owned();
    let path = format!("/v1/global-config/{id}/items");
    let set = json!({ "items": [{ "operation": "upsert", "key": "read_only", "value": true }] });
    assert!(world.vercel("PATCH", &path, set.clone()).await.is_err(), "the answer is lost");
    let state = inspect(&world.endpoints).await.unwrap();
    assert_eq!(state["vercel"]["flags"]["read_only"], true, "the effect is not");
    assert_eq!(state["effects"][format!("vercel PATCH {path}")], 1);
    assert_eq!(world.app("POST", "/api/messages", json!({})).await.unwrap().status, 503, "read-only");

    assert!(world.app("POST", "/hooks/chat", json!({ "text": "unheard" })).await.is_err());
    assert_eq!(world.app("POST", "/hooks/chat", json!({ "text": "heard" })).await.unwrap().body, "ok");
    let posts = world.app("GET", "/hooks/chat", Value::Null).await.unwrap();
    assert_eq!(posts.body.as_array().unwrap().len(), 1);
    assert_eq!(posts.body[0]["body"]["text"], "heard");
}

#[tokio::test]
async fn one_signing_key_is_in_use_and_the_others_follow_the_rules() {
    let world = World::start().await.unwrap();
    let base = format!("/v1/projects/{}", world.endpoints.live_project);
    let keys = format!("{base}/config/auth/signing-keys");
    let fresh =
        world.supabase("POST", &keys, json!({ "algorithm": "ES256", "status": "standby" })).await.unwrap();
    assert_eq!(fresh.status, 201, "{}", fresh.body);
    let fresh_id = fresh.body["id"].as_str().unwrap();
    let listed = world.supabase("GET", &keys, Value::Null).await.unwrap();
    let by_status = |body: &Value, status: &str| -> Vec<String> {
        let all = body["keys"].as_array().into_iter().flatten();
        all.filter(|k| k["status"] == status).filter_map(|k| k["id"].as_str().map(str::to_owned)).collect()
    };
    let old = by_status(&listed.body, "in_use");
    let old_path = format!("{keys}/{}", old[0]);

    let early = world.supabase("PATCH", &old_path, json!({ "status": "revoked" })).await.unwrap();
    assert_eq!(early.status, 400, "a key in use is not revoked");
    let used =
        world.supabase("PATCH", &format!("{keys}/{fresh_id}"), json!({ "status": "in_use" })).await.unwrap();
    assert_eq!(used.status, 200);
    let listed = world.supabase("GET", &keys, Value::Null).await.unwrap();
    assert_eq!(by_status(&listed.body, "in_use"), [fresh_id]);
    assert_eq!(world.supabase("PATCH", &old_path, json!({ "status": "revoked" })).await.unwrap().status, 200);
    let jwks = format!(
        "{}/projects/{}/auth/v1/.well-known/jwks.json",
        world.endpoints.supabase_url, world.endpoints.live_project
    );
    let jwks = request("GET", &jwks, &[], Value::Null).await.unwrap();
    assert_eq!(jwks.body["keys"].as_array().unwrap().len(), 1);
    assert_eq!(jwks.body["keys"][0]["kid"], json!(fresh_id));
    assert_eq!(world.supabase("DELETE", &old_path, Value::Null).await.unwrap().status, 200);

    let masked = world.supabase("GET", &format!("{base}/api-keys"), Value::Null).await.unwrap();
    let shown = world.supabase("GET", &format!("{base}/api-keys?reveal=true"), Value::Null).await.unwrap();
    assert!(
        masked.body[1]["api_key"].as_str().unwrap().len() < shown.body[1]["api_key"].as_str().unwrap().len()
    );
    let stranger =
        request("GET", &format!("{}{base}", world.endpoints.supabase_url), &[], Value::Null).await.unwrap();
    assert_eq!(stranger.status, 401);
}
