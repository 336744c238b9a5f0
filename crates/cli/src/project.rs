//! Where things are on disk: the state directory, runbooks, environments, inputs from the command line.
//! Reads files; decides nothing about what they say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use runbook_core::compile::Loader;
use runbook_core::diagnostic::{Diagnostic, SourceId, Sources};
use runbook_core::environment::Environment;
use runbook_core::environment_file;
use serde_json::Value;

use crate::arguments::Global;
use crate::failure::Failure;

/// The state directory, private to the user; made when it is not there.
pub(crate) fn state_dir(global: &Global) -> Result<PathBuf, Failure> {
    let chosen = match &global.state_dir {
        Some(dir) => dir.clone(),
        None => default_state_dir()?,
    };
    let dir = std::path::absolute(&chosen)
        .map_err(|error| Failure::io(format!("find the state directory `{}`", chosen.display()), error))?;
    make_private(&dir)?;
    Ok(dir)
}

fn default_state_dir() -> Result<PathBuf, Failure> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|base| base.join("runbook"))
        .ok_or_else(|| {
            Failure::usage("no state directory: neither XDG_STATE_HOME nor HOME is set")
                .hint("name one: --state-dir DIR, or RUNBOOK_STATE_DIR")
        })
}

fn make_private(dir: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| Failure::io(format!("make the state directory `{}`", dir.display()), error))
}

/// The name in the journal: what was given, else the user's.
pub(crate) fn actor(global: &Global) -> String {
    global
        .actor
        .clone()
        .or_else(|| std::env::var("USER").ok())
        .or_else(|| std::env::var("LOGNAME").ok())
        .filter(|name| !name.trim().is_empty())
        .unwrap_or_else(login_name)
}

/// The login name of the user id; the id itself where there is none.
fn login_name() -> String {
    let id = rustix::process::getuid().as_raw().to_string();
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut names = accounts.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id).then(|| name.to_owned())
    });
    names.next().unwrap_or_else(|| format!("user {id}"))
}

/// Reads the files of a runbook below the folder of its root.
pub(crate) struct Folder {
    base: PathBuf,
}

/// A runbook file: its folder, and its name in it.
pub(crate) fn runbook(path: &Path) -> Result<(PathBuf, String, Folder), Failure> {
    let absolute = std::fs::canonicalize(path)
        .map_err(|error| Failure::invalid(format!("read the runbook `{}`", path.display())).because(error))?;
    let name = absolute.file_name().map(|name| name.to_string_lossy().into_owned());
    match (absolute.parent(), name) {
        (Some(base), Some(name)) if absolute.is_file() => {
            Ok((base.to_owned(), name, Folder { base: base.to_owned() }))
        }
        _ => Err(Failure::invalid(format!("read the runbook `{}`: it is not a file", path.display()))),
    }
}

/// The largest file that is read; no runbook that people wrote comes near.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

impl Loader for Folder {
    fn read(&self, path: &str) -> Result<String, String> {
        read(&self.base.join(path))
    }
}

fn read(path: &Path) -> Result<String, String> {
    let length = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > FILE_BYTES_MAX {
        return Err(format!("it is {length} bytes long; {FILE_BYTES_MAX} is the most that is read"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// An environment file, with the sandbox's under it where it says so.
pub(crate) struct LoadedEnvironment {
    /// What it says, unless it has mistakes.
    pub(crate) environment: Option<Environment>,
    /// Its mistakes.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// The texts; pinned by a run.
    pub(crate) sources: Sources,
    /// The file itself.
    pub(crate) file: SourceId,
    /// The sandbox's file, when it was wanted and is there.
    pub(crate) base: Option<SourceId>,
}

/// Reads `environments/NAME.yaml` in a folder of runbooks.
pub(crate) fn environment(folder: &Path, name: &str, state_dir: &Path) -> Result<LoadedEnvironment, Failure> {
    let path = folder.join("environments").join(format!("{name}.yaml"));
    let text = read(&path).map_err(|why| {
        Failure::invalid(format!("read the environment `{name}` in `{}`: {why}", path.display()))
            .hint(known_environments(folder))
    })?;
    let mut sources = Sources::default();
    let file = sources.add(shown(&path), text);
    let wanted = environment_file::extends(&sources, file);
    let base = match wanted.as_deref() {
        Some("sandbox") => {
            let path = sandbox_environment(state_dir);
            read(&path).ok().map(|text| sources.add(shown(&path), text))
        }
        _ => None,
    };
    let loaded = environment_file::decode(&sources, file, base);
    Ok(LoadedEnvironment {
        environment: loaded.environment,
        diagnostics: loaded.diagnostics,
        sources,
        file,
        base,
    })
}

/// Whether an environment is built on the sandbox.
pub(crate) fn wants_sandbox(folder: &Path, name: &str) -> bool {
    let path = folder.join("environments").join(format!("{name}.yaml"));
    let Ok(text) = read(&path) else { return false };
    let mut sources = Sources::default();
    let file = sources.add(shown(&path), text);
    environment_file::extends(&sources, file).as_deref() == Some("sandbox")
}

/// The environment file that the sandbox writes of itself.
pub(crate) fn sandbox_environment(state_dir: &Path) -> PathBuf {
    state_dir.join("sandbox").join("environment.yaml")
}

/// Names of the environments beside a folder's runbooks, sorted.
pub(crate) fn environments(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder.join("environments"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok()?.strip_suffix(".yaml").map(str::to_owned))
        .collect();
    names.sort();
    names
}

/// The runbooks of a folder, sorted.
pub(crate) fn runbooks(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    paths.sort();
    paths
}

fn known_environments(folder: &Path) -> String {
    let names = environments(folder);
    if names.is_empty() {
        format!("there are no environments in `{}`", folder.join("environments").display())
    } else {
        format!("there is {}", crate::words::list(&names))
    }
}

/// A path as a person would name it: relative to where they are.
pub(crate) fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let short = here.as_deref().and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path);
    short.to_string_lossy().into_owned()
}

/// `NAME=VALUE` pairs; the compiler gives them their types.
pub(crate) fn inputs(given: &[String]) -> Result<BTreeMap<String, Value>, Failure> {
    let mut inputs = BTreeMap::new();
    for pair in given {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(Failure::usage(format!("read the input `{pair}`: it has no `=`"))
                .hint("write --input NAME=VALUE"));
        };
        if inputs.insert(name.to_owned(), Value::String(value.to_owned())).is_some() {
            return Err(Failure::usage(format!("the input `{name}` is given twice")));
        }
    }
    Ok(inputs)
}
