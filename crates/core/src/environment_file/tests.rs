//! Whole files in, environment or mistakes out.

use super::{Loaded, decode, extends};
use crate::diagnostic::{Sources, Span};
use crate::environment::{DataKind, EnvironmentKind, SecretSource};
use crate::types::Tls;

const GOOD: &str = r#"
name: staging
kind: staging
data: masked
region: ap-southeast-1
connections:
  main:
    host: db.{{ vars.domain }}
    port: "{{ vars.port }}"
    user: postgres
    database: app
    password: "{{ secrets.db_password }}"
    tls: require
    live: true
backups:
  bucket: polaris
  endpoint: http://127.0.0.1:9000
  path_style: true
  access_key_id: "{{ secrets.key_id }}"
  secret_access_key: "{{ secrets.key }}"
supabase:
  organization: acme
  token: "{{ secrets.supabase }}"
  project_url: https://{ref}.supabase.test
vercel: { project: web, token: "{{ secrets.vercel }}" }
notify:
  ops: { url: "https://hooks.test/{{ secrets.hook }}" }
secrets:
  db_password: { env: DB_PASSWORD }
  key_id: { file: "{{ vars.folder }}/id" }
  key: { command: [pass, show, key] }
  supabase: { env: SUPABASE }
  vercel: { env: VERCEL }
  hook: { env: HOOK }
approvers: { names: [ana, ben], four_eyes: true }
vars: { domain: acme.test, port: 6543, folder: /run/secrets, list: [1, { a: b }] }
"#;

/// Decodes one text over a base; each mistake as `code line:column`.
fn load(text: &str, base: Option<&str>) -> (Loaded, Vec<String>) {
    let mut sources = Sources::default();
    let id = sources.add("environment.yaml", text);
    let base = base.map(|base| sources.add("base.yaml", base));
    let loaded = decode(&sources, id, base);
    let place = |span: Span| {
        let (line, column) = sources.line_column(span);
        format!("{line}:{column}")
    };
    let found = loaded.diagnostics.iter().map(|one| {
        let place = one.span.map(place).unwrap_or_default();
        format!("{} {place}", one.code)
    });
    let found = found.collect();
    (loaded, found)
}

fn check(text: &str, expected: &[&str]) {
    let (_, found) = load(text, None);
    assert_eq!(found, expected, "{text}");
}

#[test]
fn a_whole_environment_is_read_with_its_references() {
    let (loaded, found) = load(GOOD, None);
    assert_eq!(found, [""; 0]);
    let environment = loaded.ok().unwrap();
    assert_eq!((environment.kind, environment.data), (EnvironmentKind::Staging, DataKind::Masked));
    let main = &environment.connections["main"];
    assert_eq!(
        (main.host.as_str(), main.port, main.tls, main.live),
        ("db.acme.test", 6543, Tls::Require, true)
    );
    assert_eq!(main.name.as_deref(), Some("main"));
    assert_eq!(main.password.marked(), "⟦secret:db_password⟧");
    assert_eq!(environment.notify["ops"].url.marked(), "https://hooks.test/⟦secret:hook⟧");
    assert_eq!(environment.secrets["key_id"], SecretSource::File("/run/secrets/id".into()));
    assert_eq!(
        environment.secrets["key"],
        SecretSource::Command(vec!["pass".into(), "show".into(), "key".into()])
    );
    assert!(environment.approvers.four_eyes);
    assert_eq!(environment.vars["list"], serde_json::json!([1, { "a": "b" }]));
}

#[test]
fn what_was_decoded_survives_its_serialised_form() {
    let environment = load(GOOD, None).0.ok().unwrap();
    let text = serde_json::to_string(&environment).unwrap();
    assert_eq!(serde_json::from_str::<crate::environment::Environment>(&text).unwrap(), environment);
}

#[test]
fn a_literal_secret_is_refused_and_not_repeated() {
    let text = "name: a\nkind: local\ndata: synthetic\nconnections:\n  main: { host: h, user: u, database: d, \
                password: hunter2 }\n  other: { host: h, user: u, database: d, password: 123456789 }\n\
                secrets: { token: hunter2 }\n";
    let (loaded, found) = load(text, None);
    assert_eq!(found, ["literal-secret 5:52", "literal-secret 6:53", "literal-secret 7:19"]);
    let shown = format!("{loaded:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("123456789"), "{shown}");
}

#[test]
fn all_mistakes_of_a_file_are_found_at_once() {
    check(
        "nmae: x\nkind: prod\ndata: real\nsecrets:\n  a: { env: A, file: b }\n  b: {}\n  c: { vault: x }\n\
         supabase: { org: o, token: \"{{ secrets.tokn }}\" }\nvercel: { project: p }\nnotify: { x: y }\n",
        &[
            "unknown-key 1:1",
            "bad-value 2:7",
            "bad-value 3:7",
            "bad-secret 5:6",
            "bad-secret 6:6",
            "bad-secret 7:6",
            "unknown-key 7:8",
            "unknown-key 8:13",
            "unknown-secret 8:28",
            "missing-key 9:11",
            "wrong-type 10:14",
        ],
    );
}

#[test]
fn connections_are_checked_key_by_key() {
    check(
        "name: a\nkind: local\ndata: masked\nconnections:\n  url: postgres://u@h/d\n  one: { host: h, port: 70000, \
         username: u, tls: true, live: yes }\n",
        &[
            "wrong-type 5:8",
            "missing-key 6:10",
            "missing-key 6:10",
            "bad-value 6:25",
            "unknown-key 6:32",
            "wrong-type 6:50",
            "wrong-type 6:62",
        ],
    );
}

#[test]
fn only_secrets_and_variables_stand_in_braces() {
    check(
        "name: a\nkind: local\ndata: masked\nregion: \"{{ env.region }}\"\nsecrets:\n  a: { file: \"{{ secrets.a \
         }}\" }\nvars:\n  x: \"{{ vars.y }}\"\n  y: \"{{ open\"\n  z: [1]\nbackups: { bucket: \"b-{{ vars.z }}\", \
         prefix: \"{{ vars.nope }}\" }\n",
        &[
            "bad-template 4:9",
            "bad-template 6:14",
            "bad-template 8:6",
            "bad-template 9:6",
            "bad-template 11:20",
            "unknown-var 11:46",
        ],
    );
}

#[test]
fn an_extending_file_lies_over_its_base() {
    let base = GOOD.replace("name: staging", "name: sandbox");
    let over = "name: local\nextends: sandbox\nconnections: { main: { live: false } }\n\
                secrets: { key_id: { env: KEY_ID } }\nvars: { domain: other.test }\n";
    let (loaded, found) = load(over, Some(&base));
    assert_eq!(found, [""; 0]);
    let environment = loaded.ok().unwrap();
    assert_eq!(environment.name, "local");
    assert!(!environment.connections["main"].live);
    assert_eq!(environment.connections["main"].host, "db.other.test");
    assert_eq!(environment.secrets["key_id"], SecretSource::Env("KEY_ID".into()));
}

#[test]
fn without_its_base_an_extending_file_says_how_to_get_one() {
    let mut sources = Sources::default();
    let text = "name: local\nextends: sandbox\nvars: { a: \"{{ secrets.of_the_base }}\" }\ncolour: blue\n";
    let id = sources.add("local.yaml", text);
    assert_eq!(extends(&sources, id).as_deref(), Some("sandbox"));
    let loaded = decode(&sources, id, None);
    assert_eq!(loaded.environment, None);
    let codes: Vec<_> = loaded.diagnostics.iter().map(|one| one.code).collect();
    assert_eq!(codes, ["missing-base", "unknown-key"]);
    assert_eq!(loaded.diagnostics[0].help.as_deref(), Some("start it: runbook sandbox start"));
}

#[test]
fn the_name_is_never_that_of_the_base() {
    let (_, found) = load("extends: sandbox\n", Some(GOOD));
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("missing-key"), "{found:?}");
}

#[test]
fn credentials_of_backups_come_in_pairs() {
    let (_, found) = load(&GOOD.replace("  access_key_id: \"{{ secrets.key_id }}\"\n", ""), None);
    assert_eq!(found, ["missing-key 19:3"]);
}
