//! Dumps that are changed at random, again and again, from a seed: an error or a reading, never a panic, and the same
//! however the bytes arrive. `RUNBOOK_MUTATIONS=2000000 RUNBOOK_SEED=7 cargo test --release --test mutations` looks
//! longer and elsewhere; a failure names the seed that shows it alone.

mod support;

use runbook_dump::{ArchiveReader, Limits, SqlReader};
use support::build::Archive;
use support::read::{Trickle, archive, plain, read};

/// How many when nothing else is asked for: some seconds without optimisation.
const MUTATIONS: u64 = 4_000;
const SEED: u64 = 1;
/// Numbers that lengths and places like to go wrong at.
const EDGES: [u32; 8] = [0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF];

const TEXT: &str = r#"--
-- PostgreSQL database dump
--

\restrict aKey1

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
CREATE FUNCTION public.f(a integer) RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN a > 0 THEN 'x;' END; END;
CREATE FUNCTION public.g() RETURNS text LANGUAGE plpgsql AS $_$ BEGIN RETURN $$a;b$$; END $_$;
CREATE TABLE public."odd ""name" (a text DEFAULT E'it\'s;' , b integer /* a /* nested */ one */);
COPY public."odd ""name" (a, b) FROM stdin;
one\ttab	1
\\.	2
\N	\N
\.

INSERT INTO public.t VALUES ('a;
\connect evil
', U&"\0041", $x$;$x$);
SELECT pg_catalog.setval('public.s', 5, true);
--
-- PostgreSQL database dump complete
--

\unrestrict aKey1
"#;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).expect("it is below")
    }
}

/// Whole dumps of every make.
fn dumps() -> Vec<Vec<u8>> {
    let shapes = [(12, 0), (14, 0), (14, 1), (15, 2), (15, 3), (16, 0), (16, 1), (16, 2), (16, 3)];
    let mut dumps: Vec<Vec<u8>> = shapes
        .into_iter()
        .map(|(minor, compression)| Archive {
            minor,
            compression,
            tables: vec![b"one\ntwo\\nlines\n", b"", b"\\\\.\n"],
            objects: vec![(7, b"seven"), (8, b"")],
        })
        .map(|archive| archive.bytes())
        .collect();
    dumps.push(TEXT.as_bytes().to_vec());
    dumps.push(zstd::encode_all(TEXT.as_bytes(), 3).expect("memory takes it"));
    dumps
}

/// One to four changes.
fn mutate(random: &mut Random, all: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = all[random.below(all.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(8) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = random.next().to_le_bytes()[0],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..(at + random.below(40)).min(bytes.len()))),
            4 => {
                let end = (at + random.below(60)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            5 => {
                let edge = EDGES[random.below(EDGES.len())].to_le_bytes();
                let end = (at + 4).min(bytes.len());
                bytes.splice(at..end, edge);
            }
            6 => {
                let other = &all[random.below(all.len())];
                let from = random.below(other.len());
                let end = (from + random.below(200)).min(other.len());
                bytes.splice(at..at, other[from..end].iter().copied());
            }
            _ => {
                let tokens: [&[u8]; 8] =
                    [b"'", b"$$", b"\"", b"\n\\.\n", b"\\! x\n", b"/*", b"COPY t FROM stdin;\n", b"\0"];
                bytes.splice(at..at, tokens[random.below(tokens.len())].iter().copied());
            }
        }
    }
    bytes
}

fn setting(name: &str, or: u64) -> u64 {
    std::env::var(name).ok().map_or(or, |text| text.parse().expect("a number"))
}

#[test]
fn whatever_is_changed_a_dump_is_read_or_refused_and_alike_in_pieces() {
    let (seed, count) = (setting("RUNBOOK_SEED", SEED), setting("RUNBOOK_MUTATIONS", MUTATIONS));
    let limits = Limits {
        statement_bytes: 1 << 16,
        row_bytes: 1 << 16,
        rows_bytes: 64,
        toc_bytes: 1 << 20,
        chunk_bytes: 1 << 20,
        ..Limits::default()
    };
    let all = dumps();
    for dump in &all {
        read(dump, limits).expect("unchanged it is whole");
    }
    let mut whole = 0_u64;
    for n in seed..seed + count {
        // A seed of its own for each, so that one can be looked at alone; spread, since neighbours begin alike.
        let mut random = Random(n.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let bytes = mutate(&mut random, &all);
        let step = 1 + random.below(9);
        let outcome = std::panic::catch_unwind(|| {
            let whole = read(&bytes, limits).is_ok();
            let trickle = || Trickle { bytes: &bytes, step };
            let (mut at_once, mut in_pieces) = (Vec::new(), Vec::new());
            let both = if bytes.starts_with(b"PGDMP") {
                let seen = |source, seen: &mut Vec<String>| {
                    ArchiveReader::new(source, limits).and_then(|mut reader| archive(&mut reader, seen))
                };
                let first = seen(Trickle { bytes: &bytes, step: usize::MAX }, &mut at_once);
                (first.is_ok(), seen(trickle(), &mut in_pieces).is_ok())
            } else {
                let seen = |source, seen: &mut Vec<String>| plain(&mut SqlReader::new(source, limits), seen);
                let first = seen(Trickle { bytes: &bytes, step: usize::MAX }, &mut at_once);
                (first.is_ok(), seen(trickle(), &mut in_pieces).is_ok())
            };
            assert_eq!(both.0, both.1, "other verdicts in pieces of {step}");
            whole
        });
        match outcome {
            Ok(read) => whole += u64::from(read),
            Err(panic) => {
                println!("RUNBOOK_SEED={n} RUNBOOK_MUTATIONS=1 shows it; {} bytes", bytes.len());
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(whole < count, "some change must have done harm");
}
