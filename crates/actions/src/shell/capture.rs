//! What a program writes: kept bounded, cleaned of secrets, written down as evidence.

use std::path::Path;

use base64::Engine as _;
use runbook_core::action::ActionError;
use runbook_core::secret::Revealed;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Kept of the beginning and of the end of each stream.
const HEAD_BYTES: usize = 512 << 10;
const TAIL_BYTES: usize = 512 << 10;
/// Secrets shorter than this are not looked for: they would be found everywhere.
const SECRET_BYTES_MIN: usize = 4;

/// The beginning and the end of a stream, and how much was left out between them.
#[derive(Debug, Default)]
pub(super) struct Captured {
    head: Vec<u8>,
    tail: std::collections::VecDeque<u8>,
    dropped: u64,
}

impl Captured {
    fn push(&mut self, mut bytes: &[u8]) {
        if self.head.len() < HEAD_BYTES {
            let taken = bytes.len().min(HEAD_BYTES - self.head.len());
            self.head.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
        }
        self.tail.extend(bytes);
        let surplus = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..surplus);
        self.dropped += surplus as u64;
    }

    /// The text without secrets. Where something was left out, as much is taken away on both sides as could be
    /// a part of one.
    pub(super) fn clean(&self, secrets: &Needles) -> String {
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        if self.dropped == 0 {
            let whole = [self.head.as_slice(), &tail].concat();
            return secrets.redact(&String::from_utf8_lossy(&whole));
        }
        let margin = secrets.longest();
        let head = &self.head[..self.head.len().saturating_sub(margin)];
        let tail = &tail[margin.min(tail.len())..];
        let left_out = self.dropped + 2 * margin as u64;
        format!(
            "{}\n… {left_out} bytes left out …\n{}",
            secrets.redact(&String::from_utf8_lossy(head)),
            secrets.redact(&String::from_utf8_lossy(tail))
        )
    }
}

/// Reads a stream to its end.
pub(super) async fn capture(mut stream: impl AsyncRead + Unpin, into: &std::sync::Mutex<Captured>) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) => return,
            Ok(count) => {
                into.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(&buffer[..count])
            }
            Err(error) => {
                tracing::debug!(%error, "the rest of a program's output is not readable");
                return;
            }
        }
    }
}

/// The secrets that a program was given, in the spellings in which it may print them.
pub(super) struct Needles(Vec<Revealed>);

impl Needles {
    pub(super) fn new(secrets: &[Revealed]) -> Self {
        let mut all = Vec::new();
        for secret in secrets.iter().map(Revealed::expose).filter(|s| s.len() >= SECRET_BYTES_MIN) {
            all.push(Revealed::new(secret));
            all.push(Revealed::new(base64::engine::general_purpose::STANDARD.encode(secret)));
            all.push(Revealed::new(hex::encode(secret)));
            all.push(Revealed::new(serde_json::Value::from(secret).to_string().trim_matches('"')));
            // Many programs print one line of a secret of several.
            for line in secret.lines().filter(|line| line.len() >= 16) {
                all.push(Revealed::new(line));
            }
        }
        all.sort_by_key(|needle| std::cmp::Reverse(needle.expose().len()));
        Self(all)
    }

    fn longest(&self) -> usize {
        self.0.first().map_or(0, |needle| needle.expose().len())
    }

    pub(super) fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for needle in self.0.iter().map(Revealed::expose) {
            if text.contains(needle) {
                text = text.replace(needle, "•••");
            }
        }
        text
    }
}

/// Writes a text as evidence, for its owner only.
pub(super) async fn keep(folder: &Path, name: &str, text: &str) -> Result<(), ActionError> {
    let path = folder.join(name);
    let failed = |error| ActionError::unknown(format!("write `{}`", path.display())).because(error);
    tokio::fs::create_dir_all(folder).await.map_err(failed)?;
    let mut options = tokio::fs::OpenOptions::new();
    options.create(true).write(true).truncate(true).mode(0o600);
    let mut file = options.open(&path).await.map_err(failed)?;
    tokio::io::AsyncWriteExt::write_all(&mut file, text.as_bytes()).await.map_err(failed)?;
    file.sync_all().await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_stream_keeps_its_ends_and_no_part_of_a_secret() {
        let secret = "canary-secret-value";
        let needles = Needles::new(&[Revealed::new(secret)]);
        let mut captured = Captured::default();
        // The cut falls into the middle of a secret.
        captured.push(&vec![b'a'; HEAD_BYTES - 5]);
        captured.push(secret.as_bytes());
        captured.push(&vec![b'b'; TAIL_BYTES + 100]);
        captured.push(b"the end");
        let text = captured.clean(&needles);
        assert!(!text.contains("canary") && text.ends_with("the end"), "{}", &text[text.len() - 50..]);
        assert!(text.len() < HEAD_BYTES + TAIL_BYTES + 100 && text.contains("bytes left out"));
    }

    #[test]
    fn a_secret_is_found_in_other_spellings() {
        let needles = Needles::new(&[Revealed::new("pass\"word")]);
        let encoded = base64::engine::general_purpose::STANDARD.encode("pass\"word");
        let text = format!("pass\"word {encoded} pass\\\"word");
        assert_eq!(needles.redact(&text), "••• ••• •••");
    }
}
