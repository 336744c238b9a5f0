//! `cargo xtask bench extract`: rows by key straight out of a dump, against restoring the dump into a temporary database
//! by the faster of the two ways that people have by hand. The largest table, a middling one, and a small one at the end.

use std::fs::File;

use clap::Args;
use serde_json::{Value, json};

use super::process::{Measured, Watched};
use super::restore::{Arm, Setting, TARGET};
use super::stats::{faster, paired, spread, table};
use super::{Common, order};
use crate::shell::{Failure, say};

/// The ways that people have.
const PEERS: [Arm; 2] = [Arm::Psql, Arm::PgRestore(4)];

/// How to measure extraction.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Do not restore by hand beside it: only measure ours.
    #[arg(long)]
    no_peers: bool,
}

/// One thing to extract.
struct Case {
    /// `largest`, `middle`, `small`.
    what: &'static str,
    format: &'static str,
    keys: usize,
    wall: Vec<f64>,
    last: Measured,
    outputs: Value,
}

impl Case {
    fn name(&self) -> String {
        format!("{}-{}", self.what, self.format)
    }
}

pub(super) fn extract(options: &Options) -> Result<(), Failure> {
    let setting = Setting::new(&options.common, None)?;
    let (mut cases, mut peers) = (Vec::new(), [Vec::new(), Vec::new()]);
    for round in 0..options.common.rounds {
        if !options.no_peers || round == 0 {
            for n in order(&[0, 1], round) {
                let (took, _) = setting.restore(PEERS[n], &format!("peer-{round}"))?;
                say(&format!("round {}: {:<15} {:7.2} s", round + 1, PEERS[n].to_string(), took.seconds));
                peers[n].push(took.seconds);
            }
        }
        if round == 0 {
            let indexed = indexed(&setting)?;
            cases = prepare(&setting, &indexed)?;
        }
        let places: Vec<usize> = (0..cases.len()).collect();
        for n in order(&places, round) {
            once(&setting, &mut cases[n], round)?;
        }
        agree(&cases)?;
    }
    tell(&setting, options, &cases, &peers);
    Ok(())
}

/// Dumps the target with `postgres.dump`, which writes an index beside the archive.
fn indexed(setting: &Setting) -> Result<Value, Failure> {
    let steps = "  - id: dump\n    uses: postgres.dump\n    with: { connection: \"{{ connections.target }}\", name: indexed }\n\
                 outputs:\n  backup: \"{{ steps.dump }}\"\n";
    setting.world.write_runbook("dump", steps)?;
    let (_, outputs) = run(setting, "dump", "dump", "filled")?;
    let backup = outputs.pointer("/backup").ok_or("the dump has no outputs")?;
    let given = |name: &str| backup.get(name).cloned().unwrap_or_default();
    Ok(json!({ "url": given("url"), "sha256": given("sha256") }))
}

fn prepare(setting: &Setting, indexed: &Value) -> Result<Vec<Case>, Failure> {
    let rows = |name: &str| setting.set.rows().iter().find(|(of, _)| of == name).map_or(0, |(_, rows)| *rows);
    // At a tenth, the middle and nine tenths of each table.
    let at = |rows: u64| [rows / 10, rows / 2, rows * 9 / 10];
    let (messages, users) = (at(rows("public.messages")), at(rows("auth.users")));
    let [a, b, c] = users;
    let uuids = setting.server.sql(
        TARGET,
        &format!("SELECT md5('user' || n)::uuid FROM unnest(ARRAY[{a}, {b}, {c}]::bigint[]) n"),
    )?;
    let uuids: Vec<&str> = uuids.lines().collect();
    let tables = [
        ("largest", "public.messages", json!(messages)),
        ("middle", "auth.users", json!(uuids)),
        ("small", "public.zones", json!([50, 250, 450])),
    ];
    let mut cases = Vec::new();
    for (format, backup) in [("plain", &setting.plain), ("archive", &setting.archive), ("indexed", indexed)] {
        for (what, table, keys) in &tables {
            let count = keys.as_array().map_or(0, Vec::len);
            let (wall, last) = (Vec::new(), Measured::default());
            let case = Case { what, format, keys: count, wall, last, outputs: Value::Null };
            let steps = format!(
                "  - id: rows\n    uses: postgres.extract_rows\n    with:\n      backup: {backup}\n      table: {table}\n      \
                 key: id\n      keys: {keys}\n      unique: true\noutputs:\n  rows: \"{{{{ steps.rows.rows }}}}\"\n  \
                 sha256: \"{{{{ steps.rows.sha256 }}}}\"\n  bytes_read: \"{{{{ steps.rows.bytes_read }}}}\"\n  \
                 verified_by: \"{{{{ steps.rows.verified_by }}}}\"\n"
            );
            setting.world.write_runbook(&case.name(), &steps)?;
            cases.push(case);
        }
    }
    Ok(cases)
}

fn once(setting: &Setting, case: &mut Case, round: u32) -> Result<(), Failure> {
    let name = case.name();
    let (took, outputs) = run(setting, &name, &format!("{name}-{round}"), "bench")?;
    say(&format!(
        "round {}: {name:<15} {:7.3} s; CPU {:.2} s, peak {:.0} MiB, {}",
        round + 1,
        took.seconds,
        took.cpu,
        took.peak_mib,
        said(&outputs)
    ));
    if outputs.get("rows").and_then(Value::as_u64) != u64::try_from(case.keys).ok() {
        return Err(format!("{name} found other rows than were asked for: {outputs}"));
    }
    case.wall.push(took.seconds);
    (case.last, case.outputs) = (took, outputs);
    Ok(())
}

/// How much was read, and what proved it.
fn said(outputs: &Value) -> String {
    let bytes = outputs.get("bytes_read").and_then(Value::as_f64).unwrap_or(0.0);
    let proof = outputs.get("verified_by").and_then(Value::as_str).unwrap_or("?");
    format!("read {:.1} MiB, proven by {proof}", bytes / f64::from(1 << 20))
}

/// One run of the product; what it took, and the outputs of the runbook.
fn run(setting: &Setting, name: &str, state: &str, environment: &str) -> Result<(Measured, Value), Failure> {
    let events = setting.world.folder.join("events");
    let failed = |error: std::io::Error| format!("keep the events of a run: {error}");
    let mut command = setting.world.product(state)?;
    command.arg("--json").arg("run").arg(setting.world.folder.join(format!("{name}.yaml")));
    command.args(["--env", environment]).stdout(File::create(&events).map_err(failed)?);
    let watched = Watched::start(&mut command)?;
    let (status, took) = watched.ended(None)?;
    let text = std::fs::read_to_string(&events).map_err(failed)?;
    if !status.success() {
        return Err(setting.world.with_log(format!("`{name}` ended with {status}")));
    }
    let outputs = text.lines().rev().find_map(|line| {
        let event: Value = serde_json::from_str(line).ok()?;
        event.get("outputs").filter(|outputs| outputs.is_object()).cloned()
    });
    Ok((took, outputs.unwrap_or_default()))
}

/// The same rows out of every dump.
fn agree(cases: &[Case]) -> Result<(), Failure> {
    for case in cases {
        let other = cases.iter().find(|other| other.what == case.what);
        if other.is_some_and(|other| other.outputs.get("sha256") != case.outputs.get("sha256")) {
            return Err(format!("{} gave other rows than the plain dump", case.name()));
        }
    }
    Ok(())
}

fn tell(setting: &Setting, options: &Options, cases: &[Case], peers: &[Vec<f64>; 2]) {
    say("");
    say(&format!(
        "{} MiB of SQL text, store {}, {} rounds; median [least .. most]; 3 keys each, at 10, 50 and 90 % of the table",
        setting.set.text_bytes >> 20,
        options.common.rate.shown(),
        options.common.rounds
    ));
    let better = faster(&peers[0], &peers[1]);
    for (peer, times) in PEERS.iter().zip(peers) {
        say(&format!("download, {peer}: {} s", spread(times, 2)));
    }
    let heading = ["", "wall s", "to the faster restore", "CPU s", "peak MiB", "reads"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for case in cases {
        let ratio = if options.no_peers { Vec::new() } else { paired(&case.wall, &better) };
        rows.push(vec![
            case.name(),
            spread(&case.wall, 3),
            spread(&ratio, 4),
            format!("{:.2}", case.last.cpu),
            format!("{:.0}", case.last.peak_mib),
            said(&case.outputs).trim_start_matches("read ").replace("proven by ", ""),
        ]);
    }
    table(&rows).iter().for_each(|line| say(line));
}
