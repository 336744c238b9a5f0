//! The requests of our actions to Supabase Storage, and the answers of its stand-in, held to the published
//! description of the API. A recording proxy stands between them. Without the description the test says so.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::world::{World, root};

const FILE: &str = "supabase-storage_1.11.2.json";

/// What an action must have used, or the walk did not see it.
const USED: [&str; 8] = [
    "GET /bucket",
    "POST /object/list-v2/{bucketName}",
    "GET /object/authenticated/{bucketName}/{*}",
    "GET /object/info/authenticated/{bucketName}/{*}",
    "POST /object/{bucketName}/{*}",
    "POST /upload/resumable",
    "PATCH /upload/resumable/{*}",
    "POST /bucket",
];

fn description() -> Option<Value> {
    let beside = root().parent().map(|parent| parent.join("shared/facts/specs"));
    let folder = std::env::var_os("RUNBOOK_API_SPECS").map(PathBuf::from).or(beside)?;
    // A worktree may stand one folder deeper.
    let deeper = root().ancestors().nth(2).map(|up| up.join("shared/facts/specs"));
    let found = [Some(folder), deeper].into_iter().flatten().map(|folder| folder.join(FILE));
    let text = found.into_iter().find_map(|path| std::fs::read_to_string(path).ok())?;
    Some(serde_json::from_str(&text).unwrap())
}

/// One request and its answer.
#[derive(Debug, Clone)]
struct Exchange {
    method: String,
    path: String,
    request: Vec<u8>,
    status: u16,
    response: Vec<u8>,
}

/// Head and body of a message. Both sides of the proxy state the length of every body.
fn message(stream: &mut BufReader<TcpStream>, has_body: bool) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    loop {
        let before = head.len();
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
        if head[before..].trim().is_empty() {
            break;
        }
    }
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|(_, value)| value.trim().parse().ok()).filter(|_| has_body).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

fn carry(client: TcpStream, upstream: &str, seen: &Mutex<Vec<Exchange>>) -> Option<()> {
    let mut to_server = TcpStream::connect(upstream).ok()?;
    let mut from_server = BufReader::new(to_server.try_clone().ok()?);
    let mut to_client = client.try_clone().ok()?;
    let mut from_client = BufReader::new(client);
    loop {
        let (head, request) = message(&mut from_client, true)?;
        to_server.write_all(head.as_bytes()).ok()?;
        to_server.write_all(&request).ok()?;
        let mut words = head.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let (answer, response) = message(&mut from_server, method != "HEAD")?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        seen.lock().unwrap().push(Exchange { method, path, request, status, response: response.clone() });
        to_client.write_all(answer.as_bytes()).ok()?;
        to_client.write_all(&response).ok()?;
    }
}

/// Starts the proxy; gives its address. Its threads end with the test's process.
fn proxy(upstream: String) -> (String, Arc<Mutex<Vec<Exchange>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = seen.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (upstream, seen) = (upstream.clone(), kept.clone());
            std::thread::spawn(move || carry(client, &upstream, &seen));
        }
    });
    (address, seen)
}

/// The operation of the description that a request is: the one that names most of its path.
fn operation<'a>(spec: &'a Value, method: &str, path: &str) -> Option<(String, &'a Value)> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let fits = |template: &str| {
        let wanted: Vec<&str> = template.trim_matches('/').split('/').collect();
        let open = wanted.last() == Some(&"{*}");
        (if open { parts.len() >= wanted.len() } else { parts.len() == wanted.len() })
            && wanted.iter().zip(&parts).all(|(w, p)| w.starts_with('{') || w == p)
    };
    let mut found: Vec<(&String, &Value)> = spec["paths"]
        .as_object()?
        .iter()
        .filter(|(template, item)| fits(template) && item.get(method.to_lowercase()).is_some())
        .map(|(template, item)| (template, &item[method.to_lowercase()]))
        .collect();
    let literal = |template: &str| template.split('/').filter(|part| !part.starts_with('{')).count();
    found.sort_by_key(|(template, _)| std::cmp::Reverse(literal(template)));
    let (template, operation) = found.first()?;
    Some((format!("{method} {}", template.trim_end_matches('/')), operation))
}

/// OpenAPI 3.0 says `nullable` where JSON Schema names the type null.
fn plain(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => {
            let mut out: serde_json::Map<String, Value> =
                map.iter().filter(|(key, _)| *key != "example").map(|(k, v)| (k.clone(), plain(v))).collect();
            if out.remove("nullable") == Some(json!(true)) {
                return json!({ "anyOf": [out, { "type": "null" }] });
            }
            Value::Object(out)
        }
        Value::Array(items) => items.iter().map(plain).collect(),
        other => other.clone(),
    }
}

#[track_caller]
fn holds(spec: &Value, schema: &Value, body: &[u8], what: &str) {
    let value: Value = serde_json::from_slice(body).unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut whole = plain(schema);
    whole["components"] = plain(&spec["components"]);
    let validator = jsonschema::validator_for(&whole).unwrap();
    let problems: Vec<String> =
        validator.iter_errors(&value).map(|e| format!("{e} at {}", e.instance_path())).collect();
    assert!(problems.is_empty(), "{what}: {problems:?} in {value}");
}

#[test]
fn what_is_said_to_storage_and_by_its_stand_in_is_what_the_description_says() {
    let Some(spec) = description() else {
        println!("left out: {FILE} is not there; set RUNBOOK_API_SPECS to its folder");
        return;
    };
    let world = World::with_backup();
    world.runbook(&["sandbox", "break", "lost-files"]).ended(0);
    // A bucket that is gone altogether is made again.
    world.sql(
        &world.live(),
        "set storage.allow_delete_query = 'true'; delete from storage.objects where bucket_id = 'avatars'; \
         delete from storage.buckets where id = 'avatars'",
    );
    let upstream =
        world.endpoints()["supabase_url"].as_str().unwrap().trim_start_matches("http://").to_owned();
    let (address, seen) = proxy(upstream);
    let file = world.runbook_file(
        "name: walk\ntitle: Walk\nkind: maintenance\nsteps:\n\
         \x20 - { id: diff, uses: storage.diff }\n\
         \x20 - { id: files, uses: storage.restore, with: { manifests: \"{{ steps.diff.manifests }}\" } }\n\
         \x20 - { id: proof, uses: storage.verify }\n\
         \x20 - { id: fresh, uses: storage.snapshot }\n",
    );
    let environment = format!(
        "name: local\nextends: sandbox\nbackups: {{ storage_prefix: storage/local }}\n\
         supabase: {{ project_url: \"http://{address}/projects/{{ref}}\" }}\n"
    );
    world.write("runbooks/environments/local.yaml", &environment);
    // Something new, so that the snapshot reads what is known of it.
    world.sql(&world.live(), "update storage.objects set updated_at = now() where name = 'take-004.ogg'");
    world.runbook(&["--json", "run", &file, "--env", "local", "--yes"]).ended(0);

    let mut used = BTreeSet::new();
    for exchange in seen.lock().unwrap().iter() {
        let path = exchange.path.split('?').next().unwrap();
        let (_, path) = path.split_once("/storage/v1").unwrap_or_else(|| panic!("{path}"));
        let found = operation(&spec, &exchange.method, path);
        let (name, operation) =
            found.unwrap_or_else(|| panic!("{} {path} is not described", exchange.method));
        let what = format!("{name} {path}");
        if let Some(schema) = operation.pointer("/requestBody/content/application~1json/schema") {
            holds(&spec, schema, &exchange.request, &format!("the request {what}"));
        }
        let class = if exchange.status < 300 {
            "200"
        } else if exchange.status < 500 {
            "4XX"
        } else {
            "5XX"
        };
        let place = format!("/responses/{class}/content/application~1json/schema");
        match operation.pointer(&place) {
            Some(schema) => holds(&spec, schema, &exchange.response, &format!("the answer to {what}")),
            None => {
                assert!(exchange.status < 300, "{what} is answered {} with no description", exchange.status)
            }
        }
        used.insert(name);
    }
    for wanted in USED {
        assert!(used.contains(wanted), "{wanted} was not used: {used:?}");
    }
}
