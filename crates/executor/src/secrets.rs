//! Where the values behind secret references come from while a run is worked on: the environment's sources, and
//! the vault of the run. Every value that is resolved is made known to the redactor before anybody gets it.
//!
//! Values live in memory only, wiped when dropped, and are resolved anew by each process. No error holds a value.

mod source;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use runbook_core::environment::SecretSource;
use runbook_core::secret::{Piece, Revealed, SecretError, SecretText, Secrets};
use zeroize::Zeroizing;

use crate::redact::Redactor;
use crate::vault::{Vault, VaultError};
use source::Sources;

/// All secrets of one run in this process. Clones share what was resolved.
#[derive(Clone)]
pub struct RunSecrets {
    inner: Arc<Inner>,
}

struct Inner {
    sources: Sources,
    /// One slot per environment secret: two steps that want the same one ask its source once, and one whose
    /// source is slow holds up nobody else.
    slots: HashMap<String, Slot>,
    vault: Vault,
    redactor: Redactor,
}

struct Slot {
    source: SecretSource,
    value: Mutex<Option<Arc<Zeroizing<String>>>>,
}

impl RunSecrets {
    /// Secrets from an environment's sources and a run's vault. Resolves nothing yet.
    pub fn new(sources: &BTreeMap<String, SecretSource>, vault: Vault, redactor: Redactor) -> Self {
        Self::with_sources(sources, vault, redactor, Sources::of_process())
    }

    fn with_sources(
        secrets: &BTreeMap<String, SecretSource>,
        vault: Vault,
        redactor: Redactor,
        sources: Sources,
    ) -> Self {
        let slot = |source: &SecretSource| Slot { source: source.clone(), value: Mutex::new(None) };
        let slots = secrets.iter().map(|(name, source)| (name.clone(), slot(source))).collect();
        secrets.keys().for_each(|name| redactor.keep_reference(name));
        Self { inner: Arc::new(Inner { sources, slots, vault, redactor }) }
    }

    /// The secrets as one step sees them: it reads all, and what it keeps bears its path.
    pub fn for_step(&self, path: &str) -> StepSecrets {
        StepSecrets { run: self.clone(), path: path.to_owned() }
    }

    /// The text with every marker replaced by its value.
    pub fn reveal(&self, text: &SecretText) -> Result<Revealed, SecretError> {
        let mut parts = Vec::new();
        for piece in text.pieces() {
            parts.push(match piece {
                Piece::Text(text) => Part::Text(text),
                Piece::Secret(name) => self.inner.resolve(name)?,
            });
        }
        // At its full size from the start: a text that grows leaves copies of itself behind.
        let mut clear = String::with_capacity(parts.iter().map(|part| part.as_str().len()).sum());
        parts.iter().for_each(|part| clear.push_str(part.as_str()));
        Ok(Revealed::new(clear))
    }

    /// Resolves every secret of the environment, so that a missing one is found before the first step, and the
    /// redactor knows all values before the first line is written. May wait for commands: not on an async thread.
    pub fn resolve_all(&self) -> Vec<SecretError> {
        let mut names: Vec<_> = self.inner.slots.keys().collect();
        names.sort();
        names.into_iter().filter_map(|name| self.inner.resolve(name).err()).collect()
    }

    /// Destroys what steps made. The run is over: nothing can resume it.
    pub fn destroy_made(&self) -> Result<(), VaultError> {
        self.inner.vault.destroy()
    }
}

impl fmt::Debug for RunSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<_> = self.inner.slots.keys().collect();
        names.sort();
        f.debug_struct("RunSecrets").field("names", &names).finish_non_exhaustive()
    }
}

/// A piece of a text that is being revealed.
enum Part<'a> {
    Text(&'a str),
    Source(Arc<Zeroizing<String>>),
    Made(Revealed),
}

impl Part<'_> {
    fn as_str(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Source(value) => value.as_str(),
            Self::Made(value) => value.expose(),
        }
    }
}

impl Inner {
    fn resolve(&self, name: &str) -> Result<Part<'_>, SecretError> {
        let Some(slot) = self.slots.get(name) else {
            let made = self.made(name)?;
            return made.map(Part::Made).ok_or_else(|| SecretError::Unknown(name.to_owned()));
        };
        let mut value = slot.value.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = &*value {
            return Ok(Part::Source(Arc::clone(value)));
        }
        // A failure is not remembered: whoever resumes, or retries, may have mended it.
        let read = self.sources.read(&slot.source).map_err(|why| unreadable(name, why))?;
        self.redactor.register(&read);
        let read = Arc::new(read);
        *value = Some(Arc::clone(&read));
        Ok(Part::Source(read))
    }

    fn made(&self, name: &str) -> Result<Option<Revealed>, SecretError> {
        let made = self.vault.get(name).map_err(|error| unreadable(name, chain(&error)))?;
        if let Some(value) = &made {
            self.redactor.keep_reference(name);
            self.redactor.register(value.expose());
        }
        Ok(made)
    }
}

/// The secrets of a run as one step sees them.
#[derive(Debug, Clone)]
pub struct StepSecrets {
    run: RunSecrets,
    path: String,
}

impl StepSecrets {
    fn name(&self, field: &str) -> String {
        format!("{}/{field}", self.path)
    }
}

impl Secrets for StepSecrets {
    fn reveal(&self, text: &SecretText) -> Result<Revealed, SecretError> {
        self.run.reveal(text)
    }

    fn keep(&self, field: &str, value: &str) -> Result<SecretText, SecretError> {
        let name = self.name(field);
        let inner = &self.run.inner;
        if inner.slots.contains_key(&name) {
            return Err(unreadable(&name, "the environment defines a secret of that name".to_owned()));
        }
        inner.redactor.keep_reference(&name);
        inner.redactor.register(value);
        inner.vault.keep(&name, value).map_err(|error| unreadable(&name, chain(&error)))?;
        Ok(SecretText::reference(&name))
    }

    fn kept(&self, field: &str) -> Result<Option<Revealed>, SecretError> {
        self.run.inner.made(&self.name(field))
    }
}

fn unreadable(name: &str, why: String) -> SecretError {
    SecretError::Unreadable { name: name.to_owned(), why }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
