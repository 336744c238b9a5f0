//! What our actions send and what the stand-ins answer, held to the descriptions that PayPal, Resend and
//! SendGrid publish. A proxy between the two writes down every exchange. The descriptions are not in the
//! repository: where they are not found the test says so.

#![expect(clippy::print_stdout, reason = "a test that is left out says so")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::world::{World, root};

/// A request and its answer.
#[derive(Debug, Clone)]
struct Exchange {
    method: String,
    path: String,
    query: Vec<String>,
    sent: Value,
    status: u16,
    got: Value,
}

/// Passes everything on to a server and remembers it.
struct Proxy {
    url: String,
    seen: Arc<Mutex<Vec<Exchange>>>,
}

impl Proxy {
    fn to(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (upstream, kept) = (upstream.trim_start_matches("http://").to_owned(), seen.clone());
        // It ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let exchange = pass_on(client, &upstream);
                kept.lock().unwrap().push(exchange);
            }
        });
        Self { url, seen }
    }
}

/// One message: its head, and its body of the length that the head names.
fn message(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let count = stream.read(&mut buffer).unwrap();
        bytes.extend_from_slice(&buffer[..count]);
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..at].to_vec()).unwrap();
            let named = head.lines().find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length:")
                    .map(|length| length.trim().to_owned())
            });
            let length: usize = named.map_or(0, |length| length.parse().unwrap());
            if bytes.len() >= at + 4 + length {
                return (head, bytes[at + 4..].to_vec());
            }
        }
        assert!(count > 0, "a message was cut off");
    }
}

/// One exchange to a connection: both sides are told that it closes.
fn pass_on(mut client: TcpStream, upstream: &str) -> Exchange {
    let (head, body) = message(&mut client);
    let mut server = TcpStream::connect(upstream).unwrap();
    server.write_all(format!("{head}\r\nconnection: close\r\n\r\n").as_bytes()).unwrap();
    server.write_all(&body).unwrap();
    let (answer, answered) = message(&mut server);
    client.write_all(format!("{answer}\r\nconnection: close\r\n\r\n").as_bytes()).unwrap();
    client.write_all(&answered).unwrap();
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let names = query.split('&').filter(|pair| !pair.is_empty());
    Exchange {
        method,
        path: path.to_owned(),
        query: names.map(|pair| pair.split('=').next().unwrap().to_owned()).collect(),
        sent: serde_json::from_slice(&body).unwrap_or(Value::Null),
        status: answer.split(' ').nth(1).unwrap().parse().unwrap(),
        got: serde_json::from_slice(&answered).unwrap_or(Value::Null),
    }
}

/// `nullable` of older descriptions, as JSON Schema says it.
fn nullable(value: &mut Value) {
    if value["nullable"] == true
        && let Some(kind) = value["type"].as_str().map(str::to_owned)
    {
        value["type"] = json!([kind, "null"]);
    }
    match value {
        Value::Object(fields) => fields.values_mut().for_each(nullable),
        Value::Array(items) => items.iter_mut().for_each(nullable),
        _ => {}
    }
}

/// A published description, when it is there.
fn description(name: &str) -> Option<Value> {
    let folder = std::env::var_os("RUNBOOK_API_SPECS").map(std::path::PathBuf::from);
    let folder = folder.unwrap_or_else(|| root().join("../shared/facts/specs"));
    let file = folder.join(name);
    let Ok(text) = std::fs::read_to_string(&file) else {
        println!("left out: the description `{}` is not there", file.display());
        return None;
    };
    let mut spec = serde_json::from_str(&text).unwrap();
    nullable(&mut spec);
    Some(spec)
}

/// A value at a place, through references.
fn at<'s>(spec: &'s Value, value: &'s Value) -> &'s Value {
    match value["$ref"].as_str() {
        Some(place) => at(spec, spec.pointer(place.trim_start_matches('#')).unwrap()),
        None => value,
    }
}

fn fits(template: &str, path: &str) -> bool {
    let (wanted, given) = (template.split('/').collect::<Vec<_>>(), path.split('/').collect::<Vec<_>>());
    wanted.len() == given.len() && wanted.iter().zip(given).all(|(w, g)| w.starts_with('{') || *w == g)
}

#[track_caller]
fn holds(spec: &Value, schema: &Value, value: &Value, what: &str) {
    let whole = json!({ "allOf": [schema], "components": spec["components"] });
    let validator = jsonschema::validator_for(&whole).unwrap();
    let mistakes: Vec<String> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(mistakes.is_empty(), "{what}: {mistakes:#?}\n{value}");
}

/// Holds one exchange to the description: its operation, query, body, status and answer.
#[track_caller]
fn check(spec: &Value, prefix: &str, exchange: &Exchange) -> String {
    let path = exchange.path.strip_prefix(prefix).unwrap();
    let method = exchange.method.to_ascii_lowercase();
    let (template, operations) = spec["paths"]
        .as_object()
        .unwrap()
        .iter()
        // A path without places goes before one with.
        .filter(|(template, operations)| fits(template, path) && operations[&method].is_object())
        .min_by_key(|(template, _)| template.matches('{').count())
        .unwrap_or_else(|| panic!("{method} {path} is not described"));
    let operation = &operations[&method];
    let what = format!("{method} {template}");
    let both = [&operation["parameters"], &operations["parameters"]];
    let known: Vec<&str> = both
        .into_iter()
        .filter_map(Value::as_array)
        .flatten()
        .map(|parameter| at(spec, parameter))
        .filter(|parameter| parameter["in"] == "query")
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect();
    for name in &exchange.query {
        assert!(known.contains(&name.as_str()) || name == "page_token", "{what}: query `{name}`");
    }
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    if body.is_null() {
        assert!(exchange.sent.is_null(), "{what} takes no body");
    } else {
        holds(spec, body, &exchange.sent, &format!("the request {what}"));
    }
    let responses = &operation["responses"];
    let status = exchange.status.to_string();
    let response = if responses[&status].is_null() { &responses["default"] } else { &responses[&status] };
    assert!(!response.is_null(), "{what} never answers {status}");
    let answer = &at(spec, response)["content"]["application/json"]["schema"];
    if !answer.is_null() {
        holds(spec, answer, &exchange.got, &format!("the answer {status} to {what}"));
    }
    what
}

/// Runs steps with the providers behind a proxy; what was said, and how the run ended.
fn exchanges(world: &World, email: &str, steps: &str, status: i32) -> Vec<Exchange> {
    let upstream = world.endpoints()["providers_url"].as_str().unwrap().to_owned();
    let proxy = Proxy::to(&upstream);
    let file = world.runbook_file(&format!("name: spec\nkind: maintenance\nsteps:\n{steps}"));
    let url = &proxy.url;
    let environment = format!(
        "name: local\nextends: sandbox\n\
         paypal:\n  api_url: {url}/paypal\n  client_id: \"{{{{ secrets.paypal_client_id }}}}\"\n  \
         client_secret: \"{{{{ secrets.paypal_client_secret }}}}\"\n\
         email:\n  provider: {email}\n  api_url: {url}/{email}\n  token: \"{{{{ secrets.{email}_token }}}}\"\n"
    );
    world.write("runbooks/environments/local.yaml", &environment);
    world.runbook(&["--json", "run", &file, "--env", "local", "--yes"]).ended(status);
    proxy.seen.lock().unwrap().clone()
}

const PAYPAL: &str = r#"
  - { id: pause, uses: paypal.pause, with: { to: "{{ vars.app_url }}/api/webhooks/paused" } }
  - { id: missing, uses: paypal.test_event }
  - { id: resume, uses: paypal.resume, with: { to: "{{ vars.app_url }}/api/webhooks/paypal" } }
  - { id: missed, uses: paypal.missed_events, with: { since: "{{ run.started_at }}", ask: "{{ vars.app_url }}/api/billing/{id}", resend: true } }
  - { id: mock, uses: paypal.test_event, with: { kind: simulated } }
  - { id: event, uses: paypal.test_event }
  - id: verify
    uses: paypal.verify_signature
    with:
      webhook: "{{ steps.event.webhook }}"
      from: "{{ vars.app_url }}/api/billing/deliveries/{{ steps.event.event }}"
      token: "{{ secrets.cron_secret }}"
  - { id: secrets, uses: paypal.secrets }
  - id: old
    uses: paypal.verify_signature
    continue_on_error: true
    with:
      webhook: "{{ steps.event.webhook }}"
      from: "{{ vars.app_url }}/api/billing/deliveries/{{ steps.event.event }}"
      token: "{{ secrets.cron_secret }}"
  - { id: repoint, uses: paypal.repoint, with: { to: "http://elsewhere.example/" } }
"#;

#[test]
fn what_paypal_is_asked_and_answers_is_as_it_publishes_it() {
    let Some(spec) = description("paypal_notifications_webhooks_v1.json") else { return };
    let world = World::with_data();
    // The last step is refused: an error has a shape as well.
    let seen = exchanges(&world, "resend", PAYPAL, 5);
    let described = |exchange: &&Exchange| {
        exchange.path.starts_with("/paypal/v1/notifications") && !exchange.path.contains("/certs/")
    };
    let mut operations: Vec<String> =
        seen.iter().filter(described).map(|exchange| check(&spec, "/paypal", exchange)).collect();
    operations.sort();
    operations.dedup();
    assert_eq!(operations.len(), 8, "{operations:#?}");
    assert!(seen.iter().any(|exchange| exchange.status == 400 && exchange.got["name"] == "INVALID_REQUEST"));
    let verdicts = seen.iter().filter_map(|exchange| exchange.got["verification_status"].as_str());
    assert_eq!(
        verdicts.collect::<Vec<_>>(),
        ["SUCCESS", "FAILURE"],
        "a webhook that is gone verifies nothing"
    );
}

const EMAIL: &str = r#"
  - { id: rotate, uses: email.rotate_key, with: { name: polaris } }
  - { id: revoke, uses: email.revoke_key, with: { keys: "{{ steps.rotate.old }}" } }
  - { id: again, uses: email.revoke_key, with: { keys: "{{ steps.rotate.old }}" } }
"#;

#[test]
fn what_the_email_providers_are_asked_and_answer_is_as_they_publish_it() {
    for (provider, file) in [("resend", "resend_openapi.json"), ("sendgrid", "sendgrid_api_keys_v3.json")] {
        let Some(spec) = description(file) else { continue };
        let world = World::with_data();
        let seen = exchanges(&world, provider, EMAIL, 0);
        // Resend describes no errors.
        let described = |exchange: &&Exchange| provider == "sendgrid" || exchange.status < 300;
        let mut operations: Vec<String> = seen
            .iter()
            .filter(described)
            .map(|exchange| check(&spec, &format!("/{provider}"), exchange))
            .collect();
        operations.sort();
        operations.dedup();
        assert_eq!(operations.len(), 3, "{provider}: {operations:#?}");
        assert!(seen.iter().any(|exchange| exchange.status == 404), "{provider}: a key that is gone");
        let keys = world.inspect()["providers"][provider]["keys"].clone();
        assert_eq!(keys.as_array().unwrap().len(), 1, "{provider}: {keys}");
    }
}
