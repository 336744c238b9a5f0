//! GitHub, Prometheus and Vercel as published: what our actions send and what the stand-ins answer, taken from real
//! traffic through a recording relay, is held to the published descriptions. Where those are not at hand (see
//! `RUNBOOK_API_SPECS`) this says so and is left out.

use std::io::{BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::world::{World, root};

/// One request and its answer.
#[derive(Debug, Clone)]
struct Exchange {
    method: String,
    path: String,
    query: String,
    request: Value,
    status: u16,
    answer: Value,
}

type Heard = Arc<Mutex<Vec<Exchange>>>;

/// Passes requests on and writes them down; gives its address. Ends with the test's process.
fn relay(to: &str) -> (String, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (heard, to) = (Heard::default(), to.trim_start_matches("http://").to_owned());
    let shared = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (shared, to) = (shared.clone(), to.clone());
            std::thread::spawn(move || {
                if let Some(exchange) = pass_on(stream, &to) {
                    shared.lock().unwrap().push(exchange);
                }
            });
        }
    });
    (address, heard)
}

/// One request a connection, so that where it ends is plain.
fn pass_on(client: TcpStream, to: &str) -> Option<Exchange> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let (head, request) = message(&mut reader, false)?;
    let first = head.lines().next()?.to_owned();
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let kept = head.lines().skip(1).filter(|line| {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        !line.is_empty() && !matches!(name.as_str(), "connection" | "host")
    });
    let mut sent = format!("{method} {target} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n");
    kept.for_each(|line| sent.push_str(&format!("{}\r\n", line.trim_end())));
    let mut server = TcpStream::connect(to).ok()?;
    server.write_all(format!("{sent}\r\n").as_bytes()).ok()?;
    server.write_all(&request).ok()?;
    let (answer_head, answer) = message(&mut BufReader::new(server), true)?;
    let status: u16 = answer_head.split(' ').nth(1)?.parse().ok()?;
    let lines = answer_head.lines().skip(1).filter(|line| {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        !line.trim().is_empty()
            && !matches!(name.as_str(), "connection" | "content-length" | "transfer-encoding")
    });
    let mut back =
        format!("HTTP/1.1 {status} -\r\nconnection: close\r\ncontent-length: {}\r\n", answer.len());
    lines.for_each(|line| back.push_str(&format!("{}\r\n", line.trim_end())));
    let mut client = client;
    // Written down before it is passed on: who has the answer may look at once.
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let json = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap_or(Value::Null);
    let exchange = Exchange {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        request: json(&request),
        status,
        answer: json(&answer),
    };
    client.write_all(format!("{back}\r\n").as_bytes()).ok()?;
    client.write_all(&answer).ok()?;
    Some(exchange)
}

/// Head and body; the body of an answer without a length goes to the end.
fn message(reader: &mut impl std::io::BufRead, to_end: bool) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let mut body = Vec::new();
    match length {
        Some(length) => {
            body.resize(length, 0);
            reader.read_exact(&mut body).ok()?;
        }
        None if to_end => drop(reader.read_to_end(&mut body).ok()?),
        None => {}
    }
    Some((head, body))
}

/// Where the published descriptions are.
fn specs() -> Option<PathBuf> {
    let named = std::env::var_os("RUNBOOK_API_SPECS").map(PathBuf::from);
    let beside =
        root().ancestors().map(|folder| folder.join("shared/facts/specs")).find(|path| path.is_dir());
    named.or(beside).filter(|folder| folder.is_dir())
}

/// OpenAPI 3.0 says `nullable` where JSON Schema lists `null`.
fn with_null(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.values_mut().for_each(with_null);
            if map.get("nullable") == Some(&json!(true)) {
                let inner = Value::Object(std::mem::take(map));
                map.insert("anyOf".into(), json!([{ "type": "null" }, inner]));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(with_null),
        _ => {}
    }
}

fn follow<'s>(document: &'s Value, mut schema: &'s Value) -> &'s Value {
    while let Some(reference) = schema["$ref"].as_str() {
        schema = document.pointer(reference.trim_start_matches('#')).unwrap();
    }
    schema
}

/// The description's operation for a path, with `{…}` for any segment; the longest literal match wins.
fn operation<'s>(document: &'s Value, method: &str, path: &str) -> Option<&'s Value> {
    let fits = |template: &str| {
        let (a, b): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
        a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a == b || (a.starts_with('{') && !b.is_empty()))
    };
    let mut found: Vec<_> = document["paths"].as_object()?.iter().filter(|(name, _)| fits(name)).collect();
    found.sort_by_key(|(name, _)| name.matches('{').count());
    found.iter().find_map(|(_, item)| item.get(method.to_ascii_lowercase()))
}

/// Problems of a value under a schema of the document.
fn problems(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut whole = json!({ "allOf": [schema], "components": document["components"] });
    with_null(&mut whole);
    let validator = jsonschema::validator_for(&whole).unwrap();
    validator.iter_errors(value).take(5).map(|e| format!("{}: {e}", e.instance_path())).collect()
}

/// Holds one exchange to the description; gives what is wrong.
fn held(document: &Value, exchange: &Exchange, path: &str) -> Vec<String> {
    let Some(operation) = operation(document, &exchange.method, path) else {
        return vec!["there is no such operation".into()];
    };
    let mut wrong = Vec::new();
    let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    let known: Vec<Value> = parameters.iter().map(|p| follow(document, p).clone()).collect();
    let given: Vec<&str> = exchange
        .query
        .split('&')
        .filter_map(|pair| pair.split('=').next())
        .filter(|n| !n.is_empty())
        .collect();
    for name in &given {
        if !known.iter().any(|p| p["in"] == "query" && p["name"] == *name) {
            wrong.push(format!("the query has an unknown `{name}`"));
        }
    }
    for needed in known.iter().filter(|p| p["in"] == "query" && p["required"] == true) {
        if !given.iter().any(|name| needed["name"] == *name) {
            wrong.push(format!("the query lacks `{}`", needed["name"]));
        }
    }
    let body = &follow(document, &operation["requestBody"])["content"]["application/json"]["schema"];
    if !body.is_null() && !exchange.request.is_null() {
        wrong.extend(problems(document, body, &exchange.request));
    }
    let responses = operation["responses"].as_object().unwrap();
    let answer = responses.get(&exchange.status.to_string()).or_else(|| responses.get("default"));
    match answer.map(|answer| &follow(document, answer)["content"]["application/json"]["schema"]) {
        None => wrong.push(format!("status {} is not described", exchange.status)),
        Some(Value::Null) => {}
        Some(schema) => wrong.extend(problems(document, schema, &exchange.answer)),
    }
    wrong
}

#[track_caller]
fn all_held(name: &str, document: &Value, heard: &Heard, cut: &str, wanted: &[&str]) {
    let heard = heard.lock().unwrap().clone();
    let mut wrong = Vec::new();
    for exchange in &heard {
        let path = exchange.path.strip_prefix(cut).unwrap_or(&exchange.path);
        for problem in held(document, exchange, path) {
            wrong.push(format!("{} {path} ({}): {problem}", exchange.method, exchange.status));
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
    for call in wanted {
        let met = |e: &&Exchange| format!("{} {} {}", e.method, e.path, e.status).contains(call);
        assert!(heard.iter().any(|e| met(&e)), "{name}: no `{call}` among {heard:#?}");
    }
}

const RUNBOOK: &str = r#"
name: own
kind: maintenance
steps:
  - { id: ready, uses: http.check, tags: [validate], with: { checks: [{ url: "{{ vars.app_url }}/api/health" }] } }
  - { id: known, uses: metrics.query, with: { query: up } }
  - { id: number, uses: metrics.query, with: { query: "7" } }
  - { id: nothing, uses: metrics.query, with: { query: nobody_measures_this } }
  - { id: bad, uses: metrics.query, with: { query: "up{" }, continue_on_error: true, needs: [nothing] }
  - { id: odd, uses: metrics.query, with: { query: "sum(up)" }, continue_on_error: true, needs: [bad] }
  - id: watch
    uses: slo.watch
    needs: [odd]
    with: { objectives: [{ name: up, query: up, min: 1 }], duration: 200ms, every: 100ms }
  - { id: ticket, uses: ticket.create, with: { title: T, body: B, labels: [incident], assignees: [ana] } }
  - id: gone
    uses: ticket.create
    with: { title: T, body: B, repository: polaris/no-issues }
    continue_on_error: true
  - { id: deploy, uses: vercel.deploy, tags: [expose], with: {}, needs: [gone, ready] }
  - { id: back, uses: vercel.rollback, tags: [expose], with: {} }
  - { id: forth, uses: vercel.promote, tags: [expose], with: { deployment: "{{ steps.deploy.id }}" } }
"#;

#[test]
fn requests_and_answers_are_as_published() {
    let Some(folder) = specs() else {
        println!("left out: the published descriptions are not here; name their folder in RUNBOOK_API_SPECS");
        return;
    };
    let read = |name: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(folder.join(name)).unwrap()).unwrap()
    };
    let world = World::with_data();
    world.hurry();
    let endpoints = world.endpoints();
    let (providers, to_providers) = relay(endpoints["providers_url"].as_str().unwrap());
    let (vercel, to_vercel) = relay(endpoints["vercel_url"].as_str().unwrap());
    let runbook = world.runbook_file(RUNBOOK);
    let local = format!(
        "name: local\nextends: sandbox\nprometheus: {{ url: \"{providers}/prometheus\" }}\n\
         github: {{ api_url: \"{providers}/github\" }}\nvercel: {{ api_url: \"{vercel}\" }}\n"
    );
    world.write("runbooks/environments/local.yaml", &local);

    let said = world.runbook(&["--json", "run", &runbook, "--env", "local", "--yes"]);
    assert!(matches!(said.status, Some(0 | 5)), "{said:?}");

    let heard = to_providers.lock().unwrap().clone();
    let of = |prefix: &str| -> Heard {
        Arc::new(Mutex::new(heard.iter().filter(|e| e.path.starts_with(prefix)).cloned().collect()))
    };
    let github = read("github_subset_api.github.com.json");
    let wanted =
        ["POST /github/repos/polaris/polaris/issues 201", "GET /github/search/issues 200", "issues 410"];
    all_held("GitHub", &github, &of("/github"), "/github", &wanted);

    let text = std::fs::read_to_string(folder.join("prometheus_openapi_3.1.yaml")).unwrap();
    let prometheus: Value = serde_yaml::from_str(&text).unwrap();
    let wanted = ["/query 200", "/query 400", "/query 422"];
    all_held("Prometheus", &prometheus, &of("/prometheus"), "/prometheus/api/v1", &wanted);

    let rows = read("vercel_endpoints_from_sdk_1.28.35.json");
    let rows: Vec<&Value> = ["endpoints", "extra_endpoints_not_in_sdk"]
        .iter()
        .flat_map(|name| rows[*name].as_array().unwrap())
        .collect();
    for exchange in to_vercel.lock().unwrap().iter() {
        let row = rows.iter().find(|row| {
            let paths = json!({ "paths": { (row["path"].as_str().unwrap_or_default()): { exchange.method.to_ascii_lowercase(): {} } } });
            row["method"] == exchange.method.as_str() && operation(&paths, &exchange.method, &exchange.path).is_some()
        });
        let row =
            row.unwrap_or_else(|| panic!("{} {} is no endpoint of Vercel", exchange.method, exchange.path));
        let success = row["success"].to_string();
        assert!(success.contains(&exchange.status.to_string()), "{exchange:?}: {success}");
        let known: Vec<&str> =
            row["query"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for name in exchange.query.split('&').filter_map(|pair| pair.split('=').next()) {
            assert!(
                name.is_empty() || known.contains(&name),
                "{} {}: unknown `{name}`",
                exchange.method,
                exchange.path
            );
        }
    }
    let full = read("vercel_subset_2025-10.json");
    let described: Vec<Exchange> = to_vercel
        .lock()
        .unwrap()
        .iter()
        .filter(|e| operation(&full, &e.method, &e.path).is_some() && e.path.contains("/promote/"))
        .cloned()
        .collect();
    all_held("Vercel", &full, &Arc::new(Mutex::new(described)), "", &["/promote/"]);
}
