//! Reads a whole table of contents and checks that its entries fit each other.

use std::collections::HashMap;
use std::io::Read;

use crate::archive::entry::{DataOffset, Entry, Section};
use crate::archive::fields::Fields;
use crate::archive::header::Version;
use crate::error::{DumpError, Place};
use crate::limits::Limits;

/// The entries in file order, and where each number is among them.
pub(crate) struct Toc {
    pub(crate) entries: Vec<Entry>,
    pub(crate) by_id: HashMap<u32, usize>,
}

impl Toc {
    pub(crate) fn read<R: Read>(
        fields: &mut Fields<'_, R>,
        version: Version,
        limits: &Limits,
    ) -> Result<Self, DumpError> {
        let count = fields.int_in("the number of entries", 0..=i64::from(i32::MAX))?;
        if u64::try_from(count).is_ok_and(|count| count > limits.toc_entries) {
            let limit = limits.toc_entries;
            return Err(DumpError::TooLarge { what: "the number of entries", place: fields.place(), limit });
        }
        let mut toc = Self { entries: Vec::new(), by_id: HashMap::new() };
        let mut encoding = None;
        for index in 0..count {
            let entry = Record { fields, encoding: &encoding, limits }.read(version)?;
            if entry.desc == "ENCODING" {
                encoding = other_than_utf8(&entry.defn);
            }
            if toc.by_id.insert(entry.dump_id, toc.entries.len()).is_some() {
                return Err(fields.malformed(format!("entry {index} repeats the number {}", entry.dump_id)));
            }
            toc.entries.push(entry);
        }
        toc.check_offsets(fields.window.offset())?;
        Ok(toc)
    }

    /// Recorded blocks lie behind the table of contents, no two at one place.
    fn check_offsets(&self, data_start: u64) -> Result<(), DumpError> {
        let mut seen = HashMap::new();
        for entry in &self.entries {
            let DataOffset::At(at) = entry.offset else { continue };
            let id = entry.dump_id;
            if at < data_start {
                let what = format!("entry {id} has its data before the end of the table of contents");
                return Err(DumpError::malformed(Place::Byte(at), what));
            }
            if let Some(other) = seen.insert(at, id) {
                let what = format!("entries {other} and {id} have their data at the same place");
                return Err(DumpError::malformed(Place::Byte(at), what));
            }
        }
        Ok(())
    }
}

/// The encoding that an ENCODING entry sets, unless it is UTF-8.
fn other_than_utf8(defn: &str) -> Option<String> {
    let name = defn.split('\'').nth(1)?;
    (!name.eq_ignore_ascii_case("UTF8")).then(|| name.to_owned())
}

/// One entry on its way in.
struct Record<'a, 'f, R> {
    fields: &'a mut Fields<'f, R>,
    encoding: &'a Option<String>,
    limits: &'a Limits,
}

impl<R: Read> Record<'_, '_, R> {
    /// Fields in the order of the file (facts: `ReadToc` of pg_backup_archiver.c).
    fn read(mut self, version: Version) -> Result<Entry, DumpError> {
        let entry = Entry {
            dump_id: self.number("an entry's number", 1)?,
            had_dumper: self.fields.flag("the data flag")?,
            catalog_oid: self.decimal("the catalog's OID")?,
            object_oid: self.decimal("the object's OID")?,
            tag: self.text()?.unwrap_or_default(),
            desc: self.text()?.unwrap_or_default(),
            section: self.section()?,
            defn: self.text()?.unwrap_or_default(),
            drop: self.text()?.unwrap_or_default(),
            copy_stmt: self.text()?.unwrap_or_default(),
            namespace: self.text()?.filter(|name| !name.is_empty()),
            tablespace: self.text()?,
            tableam: if version.is_from(14) { self.text()? } else { None },
            relkind: if version.is_from(16) { self.relkind()? } else { None },
            owner: self.text()?.unwrap_or_default(),
            with_oids: self.with_oids()?,
            dependencies: self.dependencies()?,
            offset: self.offset()?,
        };
        if entry.had_dumper == (entry.offset == DataOffset::NoData) {
            return Err(self.fields.malformed(format!("entry {} both has data and has none", entry.dump_id)));
        }
        Ok(entry)
    }

    fn number(&mut self, what: &str, min: i64) -> Result<u32, DumpError> {
        self.fields.int_in(what, min..=i64::from(i32::MAX)).map(|n| u32::try_from(n).unwrap_or(0))
    }

    fn text(&mut self) -> Result<Option<String>, DumpError> {
        let place = self.fields.place();
        let encoding = || self.encoding.clone();
        let utf8 =
            |bytes| String::from_utf8(bytes).map_err(|_| DumpError::Encoding { place, encoding: encoding() });
        self.fields.text()?.map(utf8).transpose()
    }

    /// Numbers that the table of contents holds as decimal text.
    fn decimal(&mut self, what: &str) -> Result<u32, DumpError> {
        let text = self.fields.text()?.unwrap_or_default();
        self.parse(what, &text)
    }

    fn parse(&self, what: &str, text: &[u8]) -> Result<u32, DumpError> {
        let digits = std::str::from_utf8(text).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
        let number = digits.and_then(|digits| digits.parse().ok());
        number.ok_or_else(|| self.fields.malformed(format!("{what} is `{}`", text.escape_ascii())))
    }

    fn section(&mut self) -> Result<Section, DumpError> {
        Ok(match self.fields.int_in("the section", 1..=4)? {
            1 => Section::None,
            2 => Section::PreData,
            3 => Section::Data,
            _ => Section::PostData,
        })
    }

    fn relkind(&mut self) -> Result<Option<char>, DumpError> {
        let code = self.fields.int_in("the kind of relation", 0..=127)?;
        Ok(u8::try_from(code).ok().filter(|code| *code != 0).map(char::from))
    }

    fn with_oids(&mut self) -> Result<bool, DumpError> {
        match self.fields.text()?.as_deref() {
            Some(b"true") => Ok(true),
            Some(b"false") => Ok(false),
            _ => Err(self.fields.malformed("the OID flag is neither `true` nor `false`")),
        }
    }

    fn dependencies(&mut self) -> Result<Vec<u32>, DumpError> {
        let mut dependencies = Vec::new();
        while let Some(text) = self.fields.text()? {
            dependencies.push(self.parse("a dependency", &text)?);
            if dependencies.len() > self.limits.dependencies {
                let (place, limit) = (self.fields.place(), self.limits.dependencies as u64);
                return Err(DumpError::TooLarge { what: "the list of dependencies", place, limit });
            }
        }
        Ok(dependencies)
    }

    fn offset(&mut self) -> Result<DataOffset, DumpError> {
        match self.fields.position()? {
            (1, _) => Ok(DataOffset::Unknown),
            (2, at) => Ok(DataOffset::At(at)),
            (3, _) => Ok(DataOffset::NoData),
            (flag, _) => Err(self.fields.malformed(format!("an offset with the flag {flag}"))),
        }
    }
}
