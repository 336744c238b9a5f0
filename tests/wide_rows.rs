//! Rows of a hundred megabytes: they come over whole, and this process needs no more memory for them than for others.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::path_b::outputs;
use crate::path_b_killed::restore::RUNBOOK;
use crate::world::World;

/// What the project promises of its own process, in KiB, at any width of a row.
const PEAK_KIB: u64 = 256 << 10;

#[test]
fn rows_of_a_hundred_megabytes_come_over_whole_in_little_memory() {
    let world = World::with_data();
    world.hurry();
    let file = world.runbook_file(RUNBOOK);
    let wide = "create table public.wide (id int primary key, body text); \
                insert into public.wide select n, repeat(md5(n::text), 3276800) from generate_series(1, 4) n";
    world.sql(&world.live(), wide);
    for format in ["plain", "custom"] {
        world.runbook(&["sandbox", "backup", "--format", format]).ended(0);
        let mut command = world.command(&["--json", "run", &file, "--env", "local"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut run, mut peak) = (String::new(), 0);
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if let Some(id) = line["run"].as_str() {
                id.clone_into(&mut run);
            }
            peak = peak.max(peak_of(child.id()).unwrap_or(0));
        }
        let end = child.wait_with_output().unwrap();
        assert!(end.status.success(), "{format}: {}", String::from_utf8_lossy(&end.stderr));
        let project = outputs(&world.records(&run), "database")["ref"].as_str().unwrap().to_owned();
        let same = "select string_agg(length(body) || md5(body), ',' order by id) from public.wide";
        assert_eq!(world.sql(&project, same), world.sql(&world.live(), same), "{format}");
        assert!(peak > 0 && peak < PEAK_KIB, "{format}: {peak} KiB");
    }
}

/// The most memory that a process had so far, in KiB.
fn peak_of(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}
