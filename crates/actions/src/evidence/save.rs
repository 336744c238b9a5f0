//! `evidence.save`: writes what steps have seen into a file of the run, with its digest in the journal. Writes
//! nowhere else.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use runbook_core::action::{ActionError, Context, Effect, Preview};
use runbook_core::secret::holds_marker;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::typed::{About, Done, Typed};

/// Largest file; what is larger is no evidence that anybody reads.
const BYTES_MAX: usize = 16 << 20;

/// Parameters of `evidence.save`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Name of the file: letters, digits, `.`, `_` and `-`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"))]
    pub name: String,
    /// What to keep: text as it is, anything else as indented JSON.
    pub content: Value,
}

/// Outputs of `evidence.save`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Where the file is.
    pub file: String,
    /// Lower-case hex sha256 of it.
    pub sha256: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// The action `evidence.save`.
pub struct Save;

impl Typed for Save {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        has_plan: true,
        ..About::new(
            "evidence.save",
            "Keeps what was seen as a file of the run, with its digest in the journal.",
            Effect::Idempotent,
            r#"id: keep
uses: evidence.save
with:
  name: before.json
  content: "{{ steps.backup }}"
"#,
        )
    };

    async fn plan(&self, _: &Context, params: Params) -> Result<Preview, ActionError> {
        check_name(&params.name)?;
        let line = format!("keeps {} among the artifacts of the run", params.name);
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        check_name(&params.name)?;
        let attempted = format!("keep `{}` as evidence", params.name);
        let text = match &params.content {
            Value::String(text) => text.clone(),
            other => format!("{other:#}\n"),
        };
        if holds_marker(&text) {
            return Err(ActionError::refused(format!("{attempted}: it holds a secret")).code("secret"));
        }
        if text.len() > BYTES_MAX {
            return Err(ActionError::refused(format!("{attempted}: it is larger than 16 MiB")));
        }
        let sha256 = hex::encode(Sha256::digest(text.as_bytes()));
        let bytes = text.len() as u64;
        let (folder, name) = (ctx.artifacts.clone(), params.name);
        let written = tokio::task::spawn_blocking(move || write(&folder, &name, text.as_bytes())).await;
        let path = written
            .map_err(|error| ActionError::unchanged(attempted.clone()).because(error))?
            .map_err(|error| ActionError::unchanged(attempted).because(error))?;
        let summary = format!("{} ({bytes} bytes)", path.display());
        Ok(Done::new(Outputs { file: path.to_string_lossy().into_owned(), sha256, bytes }, summary))
    }
}

fn check_name(name: &str) -> Result<(), ActionError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts_well && name.len() <= 100 && name.chars().all(is_plain) {
        return Ok(());
    }
    Err(ActionError::refused(format!(
        "keep `{}` as evidence: that is no plain file name",
        name.escape_debug()
    )))
}

/// The file is there whole or not at all, also after a crash.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<PathBuf> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let (path, unfinished) = (folder.join(name), folder.join(format!(".{name}.part")));
    let mut file =
        fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, &path)?;
    fs::File::open(folder)?.sync_all()?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::stand_in::World;
    use serde_json::json;

    fn params(name: &str, content: Value) -> Params {
        serde_json::from_value(json!({ "name": name, "content": content })).unwrap()
    }

    #[tokio::test]
    async fn what_was_seen_is_a_private_file_with_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let mut ctx = World::new().ctx;
        ctx.artifacts = folder.path().join("run/step");
        let done = Save.run(&ctx, params("counts.json", json!({ "rows": 3 }))).await.unwrap().outputs;
        let text = fs::read_to_string(&done.file).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json!({ "rows": 3 }));
        assert_eq!(done.sha256, hex::encode(Sha256::digest(text.as_bytes())));
        let again = Save.run(&ctx, params("counts.json", json!("other"))).await.unwrap().outputs;
        assert_eq!(fs::read_to_string(&again.file).unwrap(), "other");
        assert_eq!(
            fs::read_dir(folder.path().join("run/step")).unwrap().count(),
            1,
            "nothing half-written stays"
        );
    }

    #[tokio::test]
    async fn a_name_that_leads_elsewhere_and_a_secret_are_refused() {
        let ctx = World::new().ctx;
        for name in ["", "../x", "a/b", ".hidden", "a\nb"] {
            let error = Save.run(&ctx, params(name, json!(1))).await.unwrap_err();
            assert!(error.attempted.contains("no plain file name"), "{name}: {}", error.attempted);
        }
        let error = Save.run(&ctx, params("x", json!(["⟦secret:token⟧"]))).await.unwrap_err();
        assert_eq!(error.code, Some("secret"));
    }
}
