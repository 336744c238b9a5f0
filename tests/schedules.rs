//! The schedules under `examples/schedules`: they parse, and every command in them is one that this binary has.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::world::{binary, root};

fn files(folder: &str, ending: &str) -> Vec<(PathBuf, String)> {
    let folder = root().join("examples/schedules").join(folder);
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(ending))
        .map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()))
        .collect();
    found.sort();
    found
}

/// What comes after `runbook` in a command line: it must be one, with each option known to the command's help.
#[track_caller]
fn assert_command(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "runbook" || word.ends_with("/runbook")).unwrap();
    let rest: Vec<&str> = words[at + 1..].iter().copied().filter(|word| *word != "--quiet").collect();
    let output = binary().args([rest[0], "--help"]).output().unwrap();
    assert!(output.status.success(), "`{line}`: there is no `runbook {}`", rest[0]);
    let help = String::from_utf8(output.stdout).unwrap();
    for option in rest.iter().filter(|word| word.starts_with("--")) {
        assert!(help.contains(option), "`{line}`: `runbook {}` has no {option}", rest[0]);
    }
    // `drill` comes with the runbook of that name.
    for file in rest.iter().filter(|word| word.ends_with(".yaml") && !word.ends_with("drill.yaml")) {
        assert!(root().join(file).is_file(), "`{line}`: there is no {file}");
    }
    rest.join(" ")
}

fn wanted() -> BTreeSet<String> {
    ["run runbooks/backup.yaml", "run runbooks/prune.yaml", "run runbooks/drill.yaml"]
        .map(|what| format!("{what} --env production --no-wait"))
        .into_iter()
        .chain(["doctor --env production".to_owned()])
        .collect()
}

#[test]
fn every_systemd_timer_has_its_service_and_every_service_a_command() {
    let services = files("systemd", ".service");
    let found: BTreeSet<String> = services
        .iter()
        .map(|(path, text)| {
            let section = |name: &str| text.lines().any(|line| line == format!("[{name}]"));
            assert!(section("Unit") && section("Service"), "{}", path.display());
            let odd = text.lines().find(|l| !l.is_empty() && !l.starts_with(['[', '#']) && !l.contains('='));
            assert_eq!(odd, None, "{}", path.display());
            let timer = std::fs::read_to_string(path.with_extension("timer")).unwrap();
            assert!(timer.contains("[Timer]\nOnCalendar=") && timer.contains("WantedBy=timers.target"));
            assert_command(text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap())
        })
        .collect();
    assert_eq!((services.len(), found), (files("systemd", ".timer").len(), wanted()));
}

#[test]
fn every_line_of_the_crontab_has_five_times_a_user_and_a_command() {
    let (_, text) = files("cron", "runbook").pop().unwrap();
    let jobs = text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit() || c == '*'));
    let found: BTreeSet<String> = jobs
        .map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let is_time = |field: &&str| field.chars().all(|c| c.is_ascii_digit() || "*/,-".contains(c));
            assert!(fields[..5].iter().all(is_time) && fields[5] == "runbook", "{line}");
            assert_command(line.rsplit("&& ").next().unwrap())
        })
        .collect();
    assert_eq!(found, wanted());
}

#[test]
fn every_workflow_is_yaml_with_a_schedule_and_a_command() {
    let workflows = files("github", ".yml");
    let found: BTreeSet<String> = workflows
        .iter()
        .map(|(path, text)| {
            assert!(
                text.contains("on:\n  schedule:\n    - cron: \"") && !text.contains('\t'),
                "{}",
                path.display()
            );
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(text.contains(&format!("\njobs:\n  {name}:\n")), "{}", path.display());
            text.lines()
                .filter_map(|line| line.trim().strip_prefix("run: "))
                .filter(|line| line.starts_with("runbook "))
                .map(assert_command)
                .next()
                .unwrap()
        })
        .collect();
    assert_eq!(found, wanted());
}
