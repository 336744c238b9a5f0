//! Writes archives byte by byte: versions and compressions that the pg_dump on this machine cannot make.

use std::io::Write;

/// The contents of an archive to be.
pub(crate) struct Archive {
    pub(crate) minor: u8,
    /// As the header says it: 0 none, 1 gzip, 2 LZ4, 3 zstd.
    pub(crate) compression: u8,
    /// Tables `t1`, `t2` …, each with these rows.
    pub(crate) tables: Vec<&'static [u8]>,
    /// Large objects.
    pub(crate) objects: Vec<(i64, &'static [u8])>,
}

fn int(out: &mut Vec<u8>, value: i64) {
    out.push(u8::from(value < 0));
    out.extend_from_slice(&u32::try_from(value.abs()).expect("small").to_le_bytes());
}

fn text(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        None => int(out, -1),
        Some(text) => {
            int(out, i64::try_from(text.len()).expect("small"));
            out.extend_from_slice(text.as_bytes());
        }
    }
}

impl Archive {
    /// The archive's bytes, without offsets, as if written to a pipe.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = b"PGDMP\x01".to_vec();
        out.extend_from_slice(&[self.minor, 0, 4, 8, 1]);
        match self.minor {
            15.. => out.push(self.compression),
            _ => int(&mut out, -i64::from(self.compression)),
        }
        for number in [1, 2, 3, 4, 5, 126, 0] {
            int(&mut out, number);
        }
        for name in ["db", "15.1", "15.1"] {
            text(&mut out, Some(name));
        }
        int(&mut out, i64::try_from(self.tables.len() * 2 + 3).expect("small"));
        self.entry(&mut out, 1, ["ENCODING", "ENCODING", "SET client_encoding = 'UTF8';\n", ""], false);
        self.entry(&mut out, 2, ["odd\nname", "SCHEMA", "CREATE SCHEMA \"odd\nname\";\n", ""], false);
        for number in 1..=self.tables.len() {
            let (id, tag) = (i64::try_from(number).expect("small") * 2 + 1, format!("t{number}"));
            let create = format!("CREATE TABLE s.{tag} (a text);\n");
            self.entry(&mut out, id, [&tag, "TABLE", &create, ""], false);
            self.entry(
                &mut out,
                id + 1,
                [&tag, "TABLE DATA", "", &format!("COPY s.{tag} (a) FROM stdin;\n")],
                true,
            );
        }
        self.entry(&mut out, 1000, ["BLOBS", "BLOBS", "", ""], true);
        for (number, rows) in (1_i64..).zip(&self.tables) {
            out.push(1);
            int(&mut out, number * 2 + 2);
            self.stream(&mut out, &[rows, &b"\\.\n\n\n"[..]].concat());
        }
        out.push(3);
        int(&mut out, 1000);
        for (oid, bytes) in &self.objects {
            int(&mut out, *oid);
            self.stream(&mut out, bytes);
        }
        int(&mut out, 0);
        out
    }

    fn entry(&self, out: &mut Vec<u8>, id: i64, [tag, desc, defn, copy]: [&str; 4], data: bool) {
        int(out, id);
        int(out, i64::from(data));
        text(out, Some("1259"));
        text(out, Some("16384"));
        text(out, Some(tag));
        text(out, Some(desc));
        int(out, if data { 3 } else { 2 });
        for sql in [defn, "", copy] {
            text(out, Some(sql));
        }
        text(out, Some("s"));
        text(out, None);
        if self.minor >= 14 {
            text(out, Some("heap"));
        }
        if self.minor >= 16 {
            int(out, i64::from(b'r'));
        }
        text(out, Some("owner"));
        text(out, Some("false"));
        text(out, Some("2"));
        text(out, None);
        out.push(if data { 1 } else { 3 });
        out.extend_from_slice(&[0; 8]);
    }

    fn stream(&self, out: &mut Vec<u8>, bytes: &[u8]) {
        let packed = match self.compression {
            0 => bytes.to_vec(),
            1 => {
                let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
                zlib.write_all(bytes).expect("memory takes it");
                zlib.finish().expect("memory takes it")
            }
            2 => {
                let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
                lz4.write_all(bytes).expect("memory takes it");
                lz4.finish().expect("memory takes it")
            }
            _ => zstd::encode_all(bytes, 3).expect("memory takes it"),
        };
        for chunk in packed.chunks(7) {
            int(out, i64::try_from(chunk.len()).expect("small"));
            out.extend_from_slice(chunk);
        }
        int(out, 0);
    }
}
