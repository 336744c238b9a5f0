//! Rows in a file of their own: CSV as RFC 4180 has it, in a private folder, durable before anything speaks of it.
//! NULL is an empty field, the empty text is `""`; so does PostgreSQL's own CSV. Knows no database.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use runbook_core::action::ActionError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// PostgreSQL cannot hold a longer field.
const ROW_BYTES_MAX: usize = 1 << 30;

/// Rows of a table in a CSV file, as `postgres.extract_rows` gives them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RowsFile {
    /// The table: `schema.table`.
    pub table: String,
    /// The CSV file. Its first line names the columns; NULL is an empty field, the empty text is `""`.
    pub path: String,
    /// sha256 of the file, lower-case hex.
    pub sha256: String,
    /// The columns in the order of the fields.
    pub columns: Vec<String>,
    /// How many rows there are.
    pub rows: u64,
}

/// One field: bytes, or NULL.
pub(crate) type Field = Option<Vec<u8>>;

/// Makes a folder that only its owner can look into, with what is above it.
pub(crate) fn private_folder(folder: &Path) -> Result<(), ActionError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
        ActionError::unchanged(format!("make the folder `{}`", folder.display())).because(error)
    })
}

/// A file that comes into being whole or not at all.
pub(crate) struct Durable {
    to: Hashed<BufWriter<File>>,
    partial: PathBuf,
    path: PathBuf,
    done: bool,
}

impl Durable {
    pub(crate) fn create(folder: &Path, name: &str) -> Result<Self, ActionError> {
        private_folder(folder)?;
        let (path, partial) = (folder.join(name), folder.join(format!("{name}.partial")));
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial);
        let file = file.map_err(|error| unwritten(&path, error))?;
        let to = Hashed { inner: BufWriter::with_capacity(256 << 10, file), sum: Sha256::new() };
        Ok(Self { to, partial, path, done: false })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), ActionError> {
        self.to.write_all(bytes).map_err(|error| unwritten(&self.path, error))
    }

    /// Makes it durable under its name; its path and sha256.
    pub(crate) fn finish(mut self) -> Result<(String, String), ActionError> {
        let path = self.path.clone();
        let failed = |error| unwritten(&path, error);
        self.to.flush().map_err(failed)?;
        self.to.inner.get_ref().sync_all().map_err(failed)?;
        std::fs::rename(&self.partial, &self.path).map_err(failed)?;
        self.done = true;
        if let Some(folder) = self.path.parent() {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        }
        let sum = hex::encode(self.to.sum.clone().finalize());
        Ok((self.path.to_string_lossy().into_owned(), sum))
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        if !self.done
            && let Err(error) = std::fs::remove_file(&self.partial)
        {
            tracing::warn!(%error, "a partial file stays behind");
        }
    }
}

fn unwritten(path: &Path, error: std::io::Error) -> ActionError {
    ActionError::unchanged(format!("write `{}`", path.display())).because(error)
}

struct Hashed<W> {
    inner: W,
    sum: Sha256,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.sum.update(&bytes[..n]);
        Ok(n)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Writes rows. Nothing is there under the file's name before [`CsvWriter::finish`].
pub(crate) struct CsvWriter {
    file: Durable,
    table: String,
    columns: Vec<String>,
    rows: u64,
    line: Vec<u8>,
}

impl CsvWriter {
    pub(crate) fn create(
        folder: &Path,
        name: &str,
        table: &str,
        columns: &[String],
    ) -> Result<Self, ActionError> {
        let file = Durable::create(folder, name)?;
        let mut writer =
            Self { file, table: table.into(), columns: columns.into(), rows: 0, line: Vec::new() };
        let names: Vec<_> = columns.iter().map(|name| Some(name.as_bytes())).collect();
        writer.put(&names)?;
        Ok(writer)
    }

    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    pub(crate) fn row(&mut self, fields: &[Option<&[u8]>]) -> Result<(), ActionError> {
        self.rows += 1;
        self.put(fields)
    }

    fn put(&mut self, fields: &[Option<&[u8]>]) -> Result<(), ActionError> {
        self.line.clear();
        for (n, field) in fields.iter().enumerate() {
            if n > 0 {
                self.line.push(b',');
            }
            if let Some(value) = field {
                push_csv(value, &mut self.line);
            }
        }
        self.line.extend_from_slice(b"\r\n");
        self.file.write(&self.line)
    }

    pub(crate) fn finish(self) -> Result<RowsFile, ActionError> {
        let (path, sha256) = self.file.finish()?;
        Ok(RowsFile { table: self.table, path, sha256, columns: self.columns, rows: self.rows })
    }
}

fn push_csv(value: &[u8], to: &mut Vec<u8>) {
    let plain = |byte: &u8| !matches!(byte, b'"' | b',' | b'\r' | b'\n' | b' ' | b'\t' | b'\\');
    if !value.is_empty() && value.iter().all(plain) {
        return to.extend_from_slice(value);
    }
    to.push(b'"');
    for byte in value {
        if *byte == b'"' {
            to.push(b'"');
        }
        to.push(*byte);
    }
    to.push(b'"');
}

/// Reads rows back, one at a time, and says at the end whether they are what was written.
pub(crate) struct CsvReader {
    file: BufReader<File>,
    what: RowsFile,
    sum: Sha256,
    rows: u64,
}

impl CsvReader {
    /// Opens a file and reads its heading.
    pub(crate) fn open(what: &RowsFile) -> Result<Self, ActionError> {
        let file = File::open(&what.path).map_err(|error| {
            ActionError::refused(format!("open the rows in `{}`", what.path))
                .because(error)
                .hint("The file was made by an earlier step of the run and must still be there.")
        })?;
        let file = BufReader::with_capacity(256 << 10, file);
        let mut reader = Self { file, what: what.clone(), sum: Sha256::new(), rows: 0 };
        let names = reader.record()?.unwrap_or_default();
        let same = names.len() == what.columns.len()
            && names.iter().zip(&what.columns).all(|(a, b)| a.as_deref() == Some(b.as_bytes()));
        if same { Ok(reader) } else { Err(reader.altered("its columns are others")) }
    }

    fn altered(&self, why: &str) -> ActionError {
        ActionError::refused(format!("trust the rows in `{}`: {why}", self.what.path)).code("rows-altered")
    }

    /// The next row; none after the last, when the whole file was proven to be the one that was written.
    pub(crate) fn next_row(&mut self) -> Result<Option<Vec<Field>>, ActionError> {
        if let Some(row) = self.record()? {
            self.rows += 1;
            if row.len() != self.what.columns.len() {
                return Err(self.altered("a row has another number of fields"));
            }
            return Ok(Some(row));
        }
        if hex::encode(self.sum.clone().finalize()) != self.what.sha256 {
            return Err(self.altered("its sha256 is another"));
        }
        if self.rows != self.what.rows {
            return Err(self.altered("it has another number of rows"));
        }
        Ok(None)
    }

    fn record(&mut self) -> Result<Option<Vec<Field>>, ActionError> {
        let (mut line, mut quotes) = (Vec::new(), 0);
        loop {
            let before = line.len();
            let n = self
                .file
                .read_until(b'\n', &mut line)
                .map_err(|error| self.altered("it cannot be read").because(error))?;
            self.sum.update(&line[before..]);
            if n == 0 {
                return if line.is_empty() { Ok(None) } else { Err(self.altered("it is cut off")) };
            }
            if line.len() > ROW_BYTES_MAX {
                return Err(self.altered("a row is too long"));
            }
            // An odd number of quotes so far: the line end belongs to a value.
            quotes += memchr::memchr_iter(b'"', &line[before..]).count();
            if quotes % 2 == 0 {
                let end = line.strip_suffix(b"\n").map(|rest| rest.strip_suffix(b"\r").unwrap_or(rest));
                let Some(end) = end else { return Err(self.altered("it is cut off")) };
                return fields(end).map(Some).ok_or_else(|| self.altered("a row is malformed"));
            }
        }
    }
}

fn fields(mut rest: &[u8]) -> Option<Vec<Field>> {
    let mut found = Vec::new();
    loop {
        let after = if rest.first() == Some(&b'"') {
            let mut value = Vec::new();
            rest = &rest[1..];
            loop {
                let end = memchr::memchr(b'"', rest)?;
                value.extend_from_slice(&rest[..end]);
                rest = &rest[end + 1..];
                if rest.first() != Some(&b'"') {
                    break;
                }
                value.push(b'"');
                rest = &rest[1..];
            }
            found.push(Some(value));
            rest
        } else {
            let end = memchr::memchr(b',', rest).unwrap_or(rest.len());
            let value = &rest[..end];
            if value.contains(&b'"') {
                return None;
            }
            found.push((!value.is_empty()).then(|| value.to_vec()));
            &rest[end..]
        };
        match after.split_first() {
            None => return Some(found),
            Some((b',', more)) => rest = more,
            Some(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were_written_and_an_altered_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let columns = ["id".to_owned(), "a \"b\", c".to_owned()];
        let values: Vec<Vec<Field>> = vec![
            vec![Some(b"1".to_vec()), None],
            vec![Some(b"".to_vec()), Some(b"\\N".to_vec())],
            vec![None, None],
            vec![Some("line\r\nother \"x\",\t🚀".into()), Some(b"\\.".to_vec())],
            vec![Some(vec![b'x'; 1 << 20]), Some(b"\"".to_vec())],
        ];
        let mut writer = CsvWriter::create(folder.path(), "rows.csv", "public.t", &columns).unwrap();
        for row in &values {
            writer.row(&row.iter().map(Option::as_deref).collect::<Vec<_>>()).unwrap();
        }
        assert!(!folder.path().join("rows.csv").exists(), "nothing is there before its end");
        let file = writer.finish().unwrap();
        let read = |file: &RowsFile| -> Result<Vec<Vec<Field>>, ActionError> {
            let mut reader = CsvReader::open(file)?;
            let mut rows = Vec::new();
            while let Some(row) = reader.next_row()? {
                rows.push(row);
            }
            Ok(rows)
        };
        assert_eq!(read(&file).unwrap(), values);
        let bytes = std::fs::read(&file.path).unwrap();
        let small = bytes.len() - (1 << 20);
        for cut in (0..small).chain([bytes.len() - 1]) {
            std::fs::write(&file.path, &bytes[..cut]).unwrap();
            assert!(read(&file).is_err(), "cut at {cut}");
        }
        let mut turned = bytes.clone();
        turned[small - 4] ^= 1;
        std::fs::write(&file.path, &turned).unwrap();
        assert_eq!(read(&file).unwrap_err().code, Some("rows-altered"));
    }
}
