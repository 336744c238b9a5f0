//! Sources, the vault behind a step, and errors that hold nothing.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::*;

fn sources(variables: &[(&str, &[u8])]) -> Sources {
    let variables: BTreeMap<String, Vec<u8>> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
    Sources {
        variable: Box::new(move |name| variables.get(name).cloned().map(OsString::from_vec)),
        command_timeout: Duration::from_secs(20),
    }
}

fn command(words: &[&str]) -> SecretSource {
    SecretSource::Command(words.iter().map(|word| (*word).to_owned()).collect())
}

fn secrets(state: &Path, named: &[(&str, SecretSource)], sources: Sources) -> (RunSecrets, Redactor) {
    let named = named.iter().map(|(name, source)| ((*name).to_owned(), source.clone())).collect();
    let redactor = Redactor::new();
    let vault = Vault::of(state, "run-1").unwrap();
    (RunSecrets::with_sources(&named, vault, redactor.clone(), sources), redactor)
}

fn value(secrets: &RunSecrets, name: &str) -> Result<String, String> {
    let revealed = secrets.reveal(&SecretText::reference(name));
    revealed.map(|value| value.expose().to_owned()).map_err(|error| error.to_string())
}

#[test]
fn values_come_from_variables_files_and_commands() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("password");
    fs::write(&file, "from the file\n").unwrap();
    let named = [
        ("a", SecretSource::Env("A".to_owned())),
        ("b", SecretSource::File(file.display().to_string())),
        ("c", command(&["printf", "%s\\n\\n", "from $HOME `x`"])),
    ];
    let (secrets, redactor) = secrets(state.path(), &named, sources(&[("A", b"from the variable\n")]));
    let text = SecretText::from_marked("a=⟦secret:a⟧ b=⟦secret:b⟧ c=⟦secret:c⟧ ⟦secret:open");
    let shown = secrets.reveal(&text).unwrap();
    // A variable is taken as it is; of a file and a command one newline is cut; no shell touches anything.
    assert_eq!(shown.expose(), "a=from the variable\n b=from the file c=from $HOME `x`\n ⟦secret:open");
    assert_eq!(redactor.redact("<from the variable> <from the file> <from $HOME `x`>"), "<•••> <•••> <•••>");
    assert_eq!(format!("{secrets:?}"), "RunSecrets { names: [\"a\", \"b\", \"c\"], .. }");
}

#[test]
fn a_value_is_read_once_in_a_process_and_a_failure_is_not_remembered() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("password");
    let named = [("a", SecretSource::File(file.display().to_string()))];
    let (secrets, _) = secrets(state.path(), &named, sources(&[]));
    assert!(value(&secrets, "a").unwrap_err().contains("cannot be read"));
    fs::write(&file, "first").unwrap();
    assert_eq!(value(&secrets, "a").unwrap(), "first");
    fs::write(&file, "second").unwrap();
    assert_eq!(value(&secrets.clone(), "a").unwrap(), "first");
}

#[test]
fn what_cannot_be_read_is_said_without_the_value() {
    let state = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = state.path().join(name);
        fs::write(&path, bytes).unwrap();
        SecretSource::File(path.display().to_string())
    };
    let long = vec![b'x'; crate::vault::VALUE_BYTES_MAX + 1];
    let shell = |script: &str| command(&["sh", "-c", script]);
    let cases = [
        (SecretSource::Env("GONE".to_owned()), "environment variable `GONE` is not set"),
        (SecretSource::Env("EMPTY".to_owned()), "environment variable `EMPTY` gives an empty value"),
        (SecretSource::Env("BYTES".to_owned()), "gives bytes that are no UTF-8 text"),
        (SecretSource::File("/nowhere/at/all".to_owned()), "file `/nowhere/at/all` cannot be read"),
        (SecretSource::File("/dev/zero".to_owned()), "`/dev/zero` is not a plain file"),
        (write("empty", b"\n"), "gives an empty value"),
        (write("bytes", b"canary\xff"), "gives bytes that are no UTF-8 text"),
        (write("long", &long), "gives more than 65536 bytes"),
        (command(&[]), "its command is empty"),
        (command(&["/no/such/program"]), "command `/no/such/program` cannot be started"),
        (shell("echo canary; echo canary >&2; exit 3"), "command `sh` failed (exit status: 3)"),
        (shell("while :; do echo canary; done"), "command `sh` gives more than 65536 bytes"),
    ];
    for (source, expected) in cases {
        let variables: [(&str, &[u8]); 2] = [("EMPTY", b""), ("BYTES", b"canary\xff")];
        let (secrets, _) = secrets(state.path(), &[("token", source.clone())], sources(&variables));
        let text = value(&secrets, "token").unwrap_err();
        assert!(text.starts_with("read secret `token`: ") && text.contains(expected), "{source:?}: {text}");
        assert!(!text.contains("canary") && !text.contains("xxx"), "{source:?}: {text}");
        assert_eq!(secrets.resolve_all().len(), 1);
    }
    let (secrets, _) = secrets(state.path(), &[], sources(&[]));
    let unknown = secrets.reveal(&SecretText::reference("typo")).unwrap_err();
    assert_eq!(unknown, SecretError::Unknown("typo".to_owned()));
}

#[test]
fn a_command_that_hangs_is_ended_with_all_that_it_started() {
    let state = tempfile::tempdir().unwrap();
    let pid_file = state.path().join("pid");
    let script = format!("sleep 600 & echo $! > '{}'; wait", pid_file.display());
    // Long enough for the shell to start under load, and to have written the number.
    let patient = Sources { command_timeout: Duration::from_secs(2), ..sources(&[]) };
    let (secrets, _) = secrets(state.path(), &[("token", command(&["sh", "-c", &script]))], patient);
    let start = Instant::now();
    let text = value(&secrets, "token").unwrap_err();
    assert!(text.contains("command `sh` was ended after 2 s without an answer"), "{text}");
    assert!(start.elapsed() < Duration::from_secs(60), "it was not waited for");

    let grandchild: u32 = fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
    while fs::read_to_string(format!("/proc/{grandchild}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(start.elapsed() < Duration::from_secs(60), "the grandchild still lives");
        std::thread::yield_now();
    }
}

#[test]
fn a_command_may_be_asked_from_inside_of_a_runtime() {
    let state = tempfile::tempdir().unwrap();
    let (secrets, _) = secrets(state.path(), &[("token", command(&["echo", "value"]))], sources(&[]));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(async { value(&secrets, "token") }).unwrap(), "value");
}

#[test]
fn what_a_step_keeps_is_there_for_a_later_process_and_for_other_steps() {
    let state = tempfile::tempdir().unwrap();
    {
        let (secrets, redactor) = secrets(state.path(), &[], sources(&[]));
        let step = secrets.for_step("rotate[eu]");
        assert!(step.kept("jwt").unwrap().is_none());
        let reference = step.keep("jwt", "made-by-the-step").unwrap();
        assert_eq!(reference.marked(), "⟦secret:rotate[eu]/jwt⟧");
        assert_eq!(
            redactor.redact("made-by-the-step ⟦secret:rotate[eu]/jwt⟧"),
            "••• ⟦secret:rotate[eu]/jwt⟧"
        );
    }
    let (secrets, redactor) = secrets(state.path(), &[], sources(&[]));
    assert_eq!(secrets.for_step("rotate[eu]").kept("jwt").unwrap().unwrap().expose(), "made-by-the-step");
    assert_eq!(redactor.redact("made-by-the-step"), "•••", "known again as soon as it is read");
    assert!(secrets.for_step("rotate").kept("jwt").unwrap().is_none());
    let reference = SecretText::from_marked("x ⟦secret:rotate[eu]/jwt⟧");
    assert_eq!(secrets.for_step("deploy").reveal(&reference).unwrap().expose(), "x made-by-the-step");
    secrets.destroy_made().unwrap();
    assert!(
        matches!(secrets.reveal(&reference), Err(SecretError::Unknown(name)) if name == "rotate[eu]/jwt")
    );
}

#[test]
fn a_vault_without_its_key_is_said_without_the_value() {
    let state = tempfile::tempdir().unwrap();
    let (secrets, _) = secrets(state.path(), &[], sources(&[]));
    secrets.for_step("rotate").keep("jwt", "made-by-the-step").unwrap();
    fs::remove_file(state.path().join("vault/run-1/key")).unwrap();
    let text = value(&secrets, "rotate/jwt").unwrap_err();
    assert!(text.contains("read secret `rotate/jwt`") && text.contains("is gone"), "{text}");
    assert!(!text.contains("made-by"), "{text}");
}

#[test]
fn two_steps_that_want_the_same_value_at_once_ask_its_source_once() {
    let state = tempfile::tempdir().unwrap();
    let log = state.path().join("asked");
    let script = format!("echo asked >> '{}'; echo value", log.display());
    let (secrets, _) = secrets(state.path(), &[("token", command(&["sh", "-c", &script]))], sources(&[]));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(value(&secrets, "token").unwrap(), "value"));
        }
    });
    assert_eq!(fs::read_to_string(log).unwrap(), "asked\n");
}
