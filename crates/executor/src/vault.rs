//! Values that steps make (a new key, a password), encrypted beside the journal until the run closes.
//!
//! A made value must survive a crash, or a resume would make another one; and it must not be in the journal,
//! which is exported and kept for years. So each is a file of its own, sealed under a key that belongs to the
//! run. Whoever copies the journal has none of them; destroying the key ends all of them at once.
//!
//! ```text
//! STATE/vault/RUN/key            32 random bytes, mode 0600
//! STATE/vault/RUN/HEX.sealed     "RBV1", 12-byte nonce, ciphertext, 16-byte tag; HEX = SHA-256 of the name
//! ```
//!
//! ChaCha20-Poly1305 (RFC 8439) from ring, a random nonce per write, and run id and name as additional data, so
//! that a file put in another's place does not open. The design named age; it would bring 137 crates for
//! recipients, armour and plugins that a key file beside the data has no use for, and ring is here for TLS.
//!
//! This protects copies of the journal and lost backups of single files, not against somebody who can read the
//! whole state directory as this user: the key lies in it, because a resume at 3 a.m. must not need more.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use runbook_core::secret::Revealed;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

const MAGIC: &[u8; 4] = b"RBV1";
const KEY_BYTES: usize = 32;
const SUFFIX: &str = "sealed";

/// The longest secret, made or resolved. Keys, tokens and certificates are far below, and a redactor looks for
/// each value in some thirty spellings.
pub const VALUE_BYTES_MAX: usize = 64 << 10;

/// Why a made value could not be kept or had.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// A run id that is no file name.
    #[error("open the vault of run `{run}`: that is no run id")]
    NotARun {
        /// The id.
        run: String,
    },
    /// A file or directory could not be read or written.
    #[error("{doing} `{}`", path.display())]
    File {
        /// What was attempted.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There are sealed values, and no key.
    #[error("open the made secrets of run `{run}`: the key `{}` is gone, so they cannot be read any more", path.display())]
    KeyGone {
        /// The run.
        run: String,
        /// Where the key should be.
        path: PathBuf,
    },
    /// The key file is not one.
    #[error("open the made secrets of run `{run}`: `{}` is not a key of 32 bytes", path.display())]
    KeyDamaged {
        /// The run.
        run: String,
        /// The key file.
        path: PathBuf,
    },
    /// Wrong key, changed bytes, or a file put in another's place.
    #[error("open made secret `{name}` of run `{run}`: it was changed, or sealed under another key")]
    Sealed {
        /// The run.
        run: String,
        /// The value's name.
        name: String,
    },
    /// Too long to be a secret.
    #[error("keep made secret `{name}`: it has {bytes} bytes, the limit is {VALUE_BYTES_MAX}")]
    TooLong {
        /// The value's name.
        name: String,
        /// Its size.
        bytes: usize,
    },
    /// The system gives no random numbers.
    #[error("draw random numbers from the system")]
    NoRandom,
}

/// What becomes of a file that is already there.
#[derive(Clone, Copy)]
enum Existing {
    Replace,
    /// Two steps that keep their first values at once must end up with one key.
    Keep,
}

/// The made values of one run. Only the holder of the run's lease may write to it.
#[derive(Debug)]
pub struct Vault {
    run: String,
    directory: PathBuf,
}

impl Vault {
    /// The vault of a run under a state directory. Touches nothing yet.
    pub fn of(state_directory: &Path, run: &str) -> Result<Self, VaultError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if run.is_empty() || run.len() > 100 || !run.bytes().all(plain) {
            return Err(VaultError::NotARun { run: run.to_owned() });
        }
        Ok(Self { run: run.to_owned(), directory: state_directory.join("vault").join(run) })
    }

    /// Seals `value` under `name`, durably, in place of an earlier one.
    pub fn keep(&self, name: &str, value: &str) -> Result<(), VaultError> {
        if value.len() > VALUE_BYTES_MAX {
            return Err(VaultError::TooLong { name: name.to_owned(), bytes: value.len() });
        }
        let key = self.key_or_new()?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| VaultError::NoRandom)?;
        let mut sealed = Zeroizing::new(value.as_bytes().to_vec());
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(self.additional(name)),
            &mut *sealed,
        )
        .map_err(|_| VaultError::TooLong { name: name.to_owned(), bytes: value.len() })?;
        self.write(&self.path(name), &[MAGIC, &nonce, &sealed], Existing::Replace)
    }

    /// The value under `name`, if one was kept.
    pub fn get(&self, name: &str) -> Result<Option<Revealed>, VaultError> {
        let path = self.path(name);
        let sealed = match read_capped(&path, VALUE_BYTES_MAX + 64) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(VaultError::File { doing: "read", path, source }),
        };
        let wrong = || VaultError::Sealed { run: self.run.clone(), name: name.to_owned() };
        let rest = sealed.strip_prefix(MAGIC).ok_or_else(wrong)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(wrong)?;
        let key = self.key()?.ok_or_else(|| self.key_gone())?;
        let mut body = Zeroizing::new(body.to_vec());
        let value = key
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(self.additional(name)),
                body.as_mut_slice(),
            )
            .map_err(|_| wrong())?;
        Ok(Some(Revealed::new(std::str::from_utf8(value).map_err(|_| wrong())?)))
    }

    /// How many values are kept.
    pub fn count(&self) -> Result<usize, VaultError> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(source) => return Err(self.failed("list", source)),
        };
        let mut count = 0;
        for entry in entries {
            let path = entry.map_err(|source| self.failed("list", source))?.path();
            count += usize::from(path.extension().is_some_and(|suffix| suffix == SUFFIX));
        }
        Ok(count)
    }

    /// Ends all values: the key first, so that a crash half-way leaves nothing that can be read. Again is fine.
    pub fn destroy(&self) -> Result<(), VaultError> {
        let key = self.key_path();
        match fs::remove_file(&key) {
            Ok(()) => self.sync()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(VaultError::File { doing: "remove", path: key, source }),
        }
        match fs::remove_dir_all(&self.directory) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(self.failed("remove", source)),
            _ => Ok(()),
        }
    }

    fn key_path(&self) -> PathBuf {
        self.directory.join("key")
    }

    /// Names hold slashes and brackets; a hash is a file name everywhere.
    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{}.{SUFFIX}", hex::encode(Sha256::digest(name.as_bytes()))))
    }

    /// A run id holds no zero byte, so the two cannot be mistaken for another pair.
    fn additional(&self, name: &str) -> Vec<u8> {
        [self.run.as_bytes(), b"\0", name.as_bytes()].concat()
    }

    fn key(&self) -> Result<Option<LessSafeKey>, VaultError> {
        let path = self.key_path();
        let bytes = match read_capped(&path, KEY_BYTES + 1) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(VaultError::File { doing: "read", path, source }),
        };
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes)
            .map_err(|_| VaultError::KeyDamaged { run: self.run.clone(), path })?;
        Ok(Some(LessSafeKey::new(key)))
    }

    /// A new key only for an empty vault: under a second one, what is there could never be read again.
    fn key_or_new(&self) -> Result<LessSafeKey, VaultError> {
        if let Some(key) = self.key()? {
            return Ok(key);
        }
        if self.count()? > 0 {
            // Or somebody made the first key and the first value between the two looks.
            return self.key()?.ok_or_else(|| self.key_gone());
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(|source| self.failed("make", source))?;
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| VaultError::NoRandom)?;
        self.write(&self.key_path(), &[bytes.as_slice()], Existing::Keep)?;
        self.key()?.ok_or_else(|| self.key_gone())
    }

    fn key_gone(&self) -> VaultError {
        VaultError::KeyGone { run: self.run.clone(), path: self.key_path() }
    }

    /// Writes a file so that a crash leaves the old one or the new one, never half of one.
    fn write(&self, path: &Path, parts: &[&[u8]], existing: Existing) -> Result<(), VaultError> {
        let mut suffix = [0; 8];
        SystemRandom::new().fill(&mut suffix).map_err(|_| VaultError::NoRandom)?;
        let temporary = path.with_extension(format!("{}.new", hex::encode(suffix)));
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            parts.iter().try_for_each(|part| file.write_all(part))?;
            file.sync_all()?;
            match existing {
                Existing::Replace => fs::rename(&temporary, path),
                Existing::Keep => {
                    match fs::hard_link(&temporary, path) {
                        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                        _ => {}
                    }
                    fs::remove_file(&temporary)
                }
            }
        };
        write().map_err(|source| VaultError::File { doing: "write", path: path.to_owned(), source })?;
        self.sync()
    }

    /// Makes names in the vault durable, and on the way up the vault's own.
    fn sync(&self) -> Result<(), VaultError> {
        self.directory
            .ancestors()
            .take(3)
            .try_for_each(|directory| File::open(directory)?.sync_all())
            .map_err(|source| self.failed("write", source))
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> VaultError {
        VaultError::File { doing, path: self.directory.clone(), source }
    }
}

/// A file that grew beyond all sense is cut: it fails to open instead of filling the memory.
fn read_capped(path: &Path, max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)?.take(max as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "rotate[eu]/jwt_secret";

    fn file_of(vault: &Vault, name: &str) -> PathBuf {
        vault.path(name)
    }

    #[test]
    fn a_kept_value_is_there_after_reopening_and_nowhere_in_clear() {
        let state = tempfile::tempdir().unwrap();
        Vault::of(state.path(), "run-1").unwrap().keep(NAME, "made-value-xyz").unwrap();

        let vault = Vault::of(state.path(), "run-1").unwrap();
        assert_eq!(vault.get(NAME).unwrap().unwrap().expose(), "made-value-xyz");
        assert!(vault.get("other/field").unwrap().is_none());
        let sealed = fs::read(file_of(&vault, NAME)).unwrap();
        assert!(!sealed.windows(8).any(|window| b"made-value-xyz".windows(8).any(|clear| clear == window)));
    }

    #[test]
    fn files_are_private_to_the_user() {
        use std::os::unix::fs::PermissionsExt;
        let state = tempfile::tempdir().unwrap();
        let vault = Vault::of(state.path(), "run-1").unwrap();
        vault.keep(NAME, "made").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&vault.directory), 0o700);
        assert_eq!(mode(&vault.key_path()), 0o600);
        assert_eq!(mode(&file_of(&vault, NAME)), 0o600);
    }

    #[test]
    fn keeping_again_replaces() {
        let state = tempfile::tempdir().unwrap();
        let vault = Vault::of(state.path(), "run-1").unwrap();
        vault.keep(NAME, "first").unwrap();
        let first = fs::read(file_of(&vault, NAME)).unwrap();
        vault.keep(NAME, "first").unwrap();
        assert_ne!(fs::read(file_of(&vault, NAME)).unwrap(), first, "a new nonce each time");
        vault.keep(NAME, "second").unwrap();
        assert_eq!(vault.get(NAME).unwrap().unwrap().expose(), "second");
        assert_eq!(vault.count().unwrap(), 1);
    }

    #[test]
    fn every_flipped_byte_is_an_error_by_name() {
        let state = tempfile::tempdir().unwrap();
        let vault = Vault::of(state.path(), "run-1").unwrap();
        vault.keep(NAME, "made").unwrap();
        let path = file_of(&vault, NAME);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&path, &changed).unwrap();
            assert!(matches!(vault.get(NAME), Err(VaultError::Sealed { .. })), "byte {at} flipped");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(matches!(vault.get(NAME), Err(VaultError::Sealed { .. })), "cut to {at} bytes");
        }
    }

    #[test]
    fn a_file_in_anothers_place_does_not_open() {
        let state = tempfile::tempdir().unwrap();
        let vault = Vault::of(state.path(), "run-1").unwrap();
        vault.keep("a/field", "of a").unwrap();
        vault.keep("b/field", "of b").unwrap();
        fs::copy(file_of(&vault, "a/field"), file_of(&vault, "b/field")).unwrap();
        assert!(matches!(vault.get("b/field"), Err(VaultError::Sealed { name, .. }) if name == "b/field"));

        let other = Vault::of(state.path(), "run-2").unwrap();
        other.keep("a/field", "of another run").unwrap();
        fs::copy(vault.key_path(), other.key_path()).unwrap();
        fs::copy(file_of(&vault, "a/field"), file_of(&other, "a/field")).unwrap();
        assert!(matches!(other.get("a/field"), Err(VaultError::Sealed { .. })), "the run is bound, too");
    }

    #[test]
    fn a_key_that_is_gone_is_said_and_never_made_anew() {
        let state = tempfile::tempdir().unwrap();
        let vault = Vault::of(state.path(), "run-1").unwrap();
        vault.keep(NAME, "made").unwrap();
        fs::remove_file(vault.key_path()).unwrap();
        assert!(matches!(vault.get(NAME), Err(VaultError::KeyGone { .. })));
        let refused = vault.keep("b/field", "more").unwrap_err();
        assert!(refused.to_string().contains("is gone, so they cannot be read any more"), "{refused}");

        fs::write(vault.key_path(), b"short").unwrap();
        assert!(matches!(vault.get(NAME), Err(VaultError::KeyDamaged { .. })));
        fs::write(vault.key_path(), [7; KEY_BYTES]).unwrap();
        assert!(matches!(vault.get(NAME), Err(VaultError::Sealed { .. })), "another key");
    }

    #[test]
    fn a_destroyed_vault_is_empty_and_may_be_destroyed_again() {
        let state = tempfile::tempdir().unwrap();
        let vault = Vault::of(state.path(), "run-1").unwrap();
        vault.destroy().unwrap();
        vault.keep(NAME, "made").unwrap();
        vault.destroy().unwrap();
        vault.destroy().unwrap();
        assert!(vault.get(NAME).unwrap().is_none());
        assert!(!vault.directory.exists());
    }

    #[test]
    fn a_write_that_a_crash_cut_short_leaves_the_old_value() {
        let state = tempfile::tempdir().unwrap();
        let vault = Vault::of(state.path(), "run-1").unwrap();
        vault.keep(NAME, "old").unwrap();
        fs::write(file_of(&vault, NAME).with_extension("0123456789abcdef.new"), b"RBV1 half").unwrap();
        assert_eq!(vault.get(NAME).unwrap().unwrap().expose(), "old");
        vault.keep(NAME, "new").unwrap();
        assert_eq!(vault.get(NAME).unwrap().unwrap().expose(), "new");
    }

    #[test]
    fn values_that_are_kept_at_once_share_one_key() {
        let state = tempfile::tempdir().unwrap();
        let start = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for step in 0..8 {
                let (start, vault) = (&start, Vault::of(state.path(), "run-1").unwrap());
                scope.spawn(move || {
                    start.wait();
                    vault.keep(&format!("step-{step}/field"), &format!("value {step}")).unwrap();
                });
            }
        });
        let vault = Vault::of(state.path(), "run-1").unwrap();
        for step in 0..8 {
            let value = vault.get(&format!("step-{step}/field")).unwrap().unwrap();
            assert_eq!(value.expose(), format!("value {step}"));
        }
    }

    #[test]
    fn an_id_that_leads_elsewhere_is_refused() {
        let state = tempfile::tempdir().unwrap();
        for run in ["", "..", "a/b", "/etc", "a\0b", "⟦"] {
            assert!(matches!(Vault::of(state.path(), run), Err(VaultError::NotARun { .. })), "`{run}`");
        }
    }
}
