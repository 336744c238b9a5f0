//! What a bucket held at a moment, as JSON lines: a head, then one line for each object. A manifest read from the
//! backup bucket is somebody else's text: its sha256 is checked, and every value before it is used. No network.

use std::collections::HashSet;
use std::fmt::Write as _;

use jiff::Timestamp;
use reqwest::header::HeaderValue;
use runbook_core::action::ActionError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version that this program writes and reads.
const VERSION: u32 = 1;
/// A manifest is held in memory: some 300,000 objects fit.
pub(super) const MANIFEST_BYTES_MAX: usize = 128 << 20;
/// An object larger than this is a mistake; Supabase stops at half of it.
const SIZE_MAX: u64 = 1 << 40;
const NAME_BYTES_MAX: usize = 1024;
const TEXT_BYTES_MAX: usize = 512;
const METADATA_BYTES_MAX: usize = 1 << 20;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) manifest: u32,
    pub(super) bucket: String,
    #[serde(default)]
    pub(super) project: Option<String>,
    pub(super) taken_at: Timestamp,
    pub(super) objects: u64,
    pub(super) bytes: u64,
    #[serde(default)]
    pub(super) public: bool,
    #[serde(default)]
    pub(super) file_size_limit: Option<u64>,
    #[serde(default)]
    pub(super) allowed_mime_types: Option<Vec<String>>,
}

/// One object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) size: u64,
    /// Lower-case hex; also where the copy is.
    pub(super) sha256: String,
    #[serde(default)]
    pub(super) etag: Option<String>,
    #[serde(default)]
    pub(super) content_type: Option<String>,
    #[serde(default)]
    pub(super) cache_control: Option<String>,
    #[serde(default)]
    pub(super) metadata: Option<serde_json::Map<String, Value>>,
    #[serde(default)]
    pub(super) version: Option<String>,
    #[serde(default)]
    pub(super) created_at: Option<Timestamp>,
    #[serde(default)]
    pub(super) updated_at: Option<Timestamp>,
}

impl Entry {
    pub(super) fn content_type(&self) -> &str {
        self.content_type.as_deref().unwrap_or("application/octet-stream")
    }

    /// What the application keeps with the object, as JSON; none when it keeps nothing.
    pub(super) fn metadata_text(&self) -> Option<String> {
        let metadata = self.metadata.as_ref().filter(|map| !map.is_empty())?;
        serde_json::to_string(metadata).ok()
    }

    fn problem(&self) -> Option<String> {
        let text_fits = |text: &Option<String>| {
            text.as_ref().is_none_or(|t| t.len() <= TEXT_BYTES_MAX && HeaderValue::from_str(t).is_ok())
        };
        if let Err(error) = check_name(&self.name) {
            return Some(error.attempted);
        }
        if self.size > SIZE_MAX {
            return Some(format!("it is said to have {} bytes", self.size));
        }
        if !is_sum(&self.sha256) {
            return Some("its sha256 is none".into());
        }
        if !text_fits(&self.content_type) || !text_fits(&self.cache_control) || !text_fits(&self.etag) {
            return Some("its content type, cache control or etag fits into no header".into());
        }
        let metadata = self.metadata_text().map_or(0, |text| text.len());
        (metadata > METADATA_BYTES_MAX).then(|| format!("its metadata has {metadata} bytes"))
    }
}

/// Lower-case hex of a sha256.
pub(super) fn is_sum(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// A name that stays a name when it becomes a path, and text that may be shown.
pub(super) fn check_name(name: &str) -> Result<(), ActionError> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > NAME_BYTES_MAX {
        "it is too long"
    } else if name.chars().any(|c| c.is_control() || c == '⟦' || c == '⟧') {
        "it holds control characters"
    } else if name.split('/').any(|part| part == "." || part == "..") {
        "it leads out of its bucket"
    } else {
        return Ok(());
    };
    let shown: String = name.chars().filter(|c| *c != '⟦' && *c != '⟧').take(80).collect();
    Err(ActionError::refused(format!("use `{}` as an object's name: {why}", shown.escape_debug()))
        .code("untrusted-name"))
}

/// A bucket's name, which becomes part of a key.
pub(super) fn check_bucket(name: &str) -> Result<(), ActionError> {
    check_name(name)?;
    if name.contains('/') || name.len() > 100 {
        return Err(ActionError::refused(format!("use `{}` as a bucket's name", name.escape_debug())));
    }
    Ok(())
}

/// Where a manifest is, and which bytes it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManifestRef {
    /// Name of the Storage bucket that it describes.
    pub bucket: String,
    /// Key in the backup bucket.
    pub key: String,
    /// Its sha256, lower-case hex: what is restored is what was looked at.
    pub sha256: String,
    /// The moment that it describes.
    pub taken_at: Timestamp,
    /// Objects in it.
    pub objects: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

/// A manifest that was read and believed.
#[derive(Debug, Clone)]
pub(super) struct Manifest {
    pub(super) at: ManifestRef,
    pub(super) head: Head,
    /// In the order of their names' bytes.
    pub(super) entries: Vec<Entry>,
}

/// Writes a manifest; the entries must be in order.
pub(super) fn write(head: &Head, entries: &[Entry]) -> Result<String, ActionError> {
    let failed = |error| ActionError::refused("write the manifest").because(error);
    let mut text = serde_json::to_string(head).map_err(failed)?;
    text.push('\n');
    for entry in entries {
        let line = serde_json::to_string(entry).map_err(failed)?;
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{line}");
    }
    if text.len() > MANIFEST_BYTES_MAX {
        return Err(ActionError::refused(format!(
            "write the manifest of bucket `{}`: {} objects are more than fit into one",
            head.bucket,
            entries.len()
        )));
    }
    Ok(text)
}

pub(super) fn new_head(
    bucket: &super::service::Bucket,
    project: &str,
    at: Timestamp,
    entries: &[Entry],
) -> Head {
    Head {
        manifest: VERSION,
        bucket: bucket.name.clone(),
        project: Some(project.to_owned()),
        taken_at: at,
        objects: entries.len() as u64,
        bytes: entries.iter().map(|entry| entry.size).sum(),
        public: bucket.public,
        file_size_limit: bucket.file_size_limit,
        allowed_mime_types: bucket.allowed_mime_types.clone(),
    }
}

/// Reads a manifest whose sha256 was checked.
pub(super) fn read(bucket: &str, key: &str, sha256: &str, text: &str) -> Result<Manifest, ActionError> {
    let refuse = |line: usize, why: String| {
        ActionError::refused(format!("believe the manifest `{key}`, line {line}: {why}"))
            .code("untrusted-manifest")
    };
    // serde's words may quote what came; where it went wrong is enough.
    let misread = |line: usize, error: serde_json::Error| refuse(line, format!("column {}", error.column()));
    let mut lines = text.lines().enumerate();
    let (_, first) = lines.next().ok_or_else(|| refuse(1, "it is empty".into()))?;
    let head: Head = serde_json::from_str(first).map_err(|error| misread(1, error))?;
    if head.manifest != VERSION {
        return Err(refuse(1, format!("version {} is not known to this program", head.manifest)));
    }
    if head.bucket != bucket {
        return Err(refuse(1, format!("it describes another bucket than `{bucket}`")));
    }
    let mut entries: Vec<Entry> = Vec::new();
    for (number, line) in lines {
        let entry: Entry = serde_json::from_str(line).map_err(|error| misread(number + 1, error))?;
        if let Some(problem) = entry.problem() {
            return Err(refuse(number + 1, problem));
        }
        entries.push(entry);
    }
    let mut names = HashSet::new();
    if let Some(twice) = entries.iter().find(|entry| !names.insert(entry.name.as_str())) {
        return Err(refuse(1, format!("it names `{}` twice", twice.name)));
    }
    let bytes = entries.iter().map(|entry| entry.size).sum::<u64>();
    if head.objects != entries.len() as u64 || head.bytes != bytes {
        return Err(refuse(1, "its head counts other objects than it lists".into()));
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let at = ManifestRef {
        bucket: bucket.into(),
        key: key.into(),
        sha256: sha256.into(),
        taken_at: head.taken_at,
        objects: head.objects,
        bytes: head.bytes,
    };
    Ok(Manifest { at, head, entries })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(entries: &[Value]) -> String {
        let bytes: u64 = entries.iter().map(|e| e["size"].as_u64().unwrap_or(0)).sum();
        let head = json!({ "manifest": 1, "bucket": "b", "taken_at": "2026-02-01T00:00:00Z",
            "objects": entries.len(), "bytes": bytes });
        let lines: Vec<String> = std::iter::once(&head).chain(entries).map(Value::to_string).collect();
        lines.join("\n")
    }

    fn entry(name: &str) -> Value {
        json!({ "name": name, "size": 3, "sha256": "a".repeat(64) })
    }

    #[test]
    fn a_manifest_says_the_same_after_writing_and_reading() {
        let given = text(&[entry("a/b c.png"), entry("z")]);
        let read_once = read("b", "k", "s", &given).unwrap();
        let again = write(&read_once.head, &read_once.entries).unwrap();
        let read_again = read("b", "k", "s", &again).unwrap();
        assert_eq!(read_again.entries, read_once.entries);
        assert_eq!((read_again.head, read_again.at), (read_once.head, read_once.at));
    }

    #[test]
    fn a_manifest_that_could_lead_astray_is_refused() {
        let with = |key: &str, value: Value| {
            let mut changed = entry("a");
            changed[key] = value;
            changed
        };
        for (why, bad) in [
            ("out of its bucket", entry("a/../../etc/passwd")),
            ("out of its bucket", entry("..")),
            ("control", entry("a\nb")),
            ("control", entry("⟦secret:token⟧")),
            ("empty", entry("")),
            ("too long", entry(&"x".repeat(1025))),
            ("bytes", with("size", json!(u64::MAX >> 1))),
            ("sha256", with("sha256", json!("A".repeat(64)))),
            ("sha256", with("sha256", json!("../../x"))),
            ("header", with("content_type", json!("audio/ogg\r\nx-upsert: false"))),
            ("column", with("size", json!(-1))),
        ] {
            let error = read("b", "k", "s", &text(std::slice::from_ref(&bad))).unwrap_err();
            assert!(error.attempted.contains(why), "{bad}: {}", error.attempted);
        }
        for bad in [text(&[entry("a"), entry("a")]), String::new(), "{}".into(), "null\nnull".into()] {
            assert!(read("b", "k", "s", &bad).is_err(), "{bad}");
        }
        let other = text(&[entry("a")]);
        assert!(read("c", "k", "s", &other).is_err(), "another bucket");
        assert!(read("b", "k", "s", &other.replace("\"objects\":1", "\"objects\":2")).is_err());
        assert!(read("b", "k", "s", &other.replace("\"manifest\":1", "\"manifest\":2")).is_err());
    }
}
