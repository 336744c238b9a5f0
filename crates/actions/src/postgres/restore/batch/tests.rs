//! What a dump's text is cut into, and in which order.

use super::rows::PIECE_BYTES;
use super::*;

struct Read {
    runtime: tokio::runtime::Runtime,
    from: mpsc::Receiver<Result<Item, DumpError>>,
}

fn batcher(chunk_bytes: usize) -> (Batcher, Read) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (to, from) = mpsc::channel(1000);
    let memory = Arc::new(Semaphore::new(64 << 20));
    (Batcher::new(to, memory, runtime.handle().clone(), chunk_bytes), Read { runtime, from })
}

impl Read {
    fn items(mut self) -> Vec<Item> {
        self.runtime.block_on(async {
            let mut items = Vec::new();
            while let Some(Ok(item)) = self.from.recv().await {
                items.push(item);
            }
            items
        })
    }

    fn lines(self) -> Vec<Vec<String>> {
        let chunks = self.items().into_iter().filter_map(|item| match item {
            Item::Chunk(_, Chunk::Lines(lines), _) => Some(lines.into_iter().map(|line| line.sql).collect()),
            _ => None,
        });
        chunks.collect()
    }
}

fn text_of(rows: &mut Rows) -> (Vec<u8>, u64) {
    let mut text = Vec::new();
    loop {
        match rows.pieces.try_recv().expect("the chunk has an end") {
            Piece::Text(bytes, _) => text.extend_from_slice(&bytes),
            Piece::End { count, .. } => return (text, count),
        }
    }
}

fn cuts(pieces: usize) -> Vec<(u64, Vec<u8>, u64)> {
    let text: Vec<u8> =
        (0..400u32).flat_map(|n| format!("{n}\t{}\n", "x".repeat(n as usize % 37)).into_bytes()).collect();
    let (mut batcher, read) = batcher(512);
    batcher.copy_start("COPY public.t (a, b) FROM stdin;", "\"public\".\"t\"", 1).unwrap();
    for piece in text.chunks(pieces) {
        batcher.copy_rows(piece).unwrap();
    }
    batcher.copy_end().unwrap();
    drop(batcher);
    let mut found = Vec::new();
    for item in read.items() {
        if let Item::Chunk(seq, Chunk::Rows(mut rows), _) = item {
            let (text, count) = text_of(&mut rows);
            assert_eq!(rows.first, found.is_empty());
            assert_eq!(count, text.iter().filter(|byte| **byte == b'\n').count() as u64);
            found.push((seq, text, rows.line));
        }
    }
    assert_eq!(found.iter().flat_map(|(_, data, _)| data.clone()).collect::<Vec<_>>(), text);
    found
}

#[test]
fn chunks_are_the_same_however_the_bytes_arrive() {
    let whole = cuts(usize::MAX / 2);
    assert!(whole.len() > 5);
    for pieces in [1, 7, 100, 511, 513, 5000] {
        assert_eq!(cuts(pieces), whole, "pieces of {pieces}");
    }
}

#[test]
fn a_row_wider_than_a_chunk_is_one_chunk_in_many_pieces() {
    let (mut batcher, read) = batcher(1000);
    batcher.copy_start("COPY public.t (a) FROM stdin;", "\"public\".\"t\"", 1).unwrap();
    let wide = [vec![b'x'; 3 * PIECE_BYTES], b"\nshort\n".to_vec()].concat();
    for part in wide.chunks(100_000) {
        batcher.copy_rows(part).unwrap();
    }
    batcher.copy_end().unwrap();
    drop(batcher);
    let mut lengths = Vec::new();
    for item in read.items() {
        if let Item::Chunk(_, Chunk::Rows(mut rows), _) = item {
            let (text, count) = text_of(&mut rows);
            lengths.push((text.len(), count));
        }
    }
    assert_eq!(lengths, [(3 * PIECE_BYTES + 1, 1), (6, 1)]);
}

#[test]
fn a_large_object_is_cut_between_writes_and_opened_again() {
    let (mut batcher, read) = batcher(1000);
    batcher.statement("BEGIN;", 1, None).unwrap();
    batcher.statement("SELECT pg_catalog.lo_open('7', 131072);", 2, None).unwrap();
    let write = format!("SELECT pg_catalog.lowrite(0, '\\x{}');", "00".repeat(300_000));
    for line in 3..8 {
        batcher.statement(&write, line, None).unwrap();
    }
    batcher.statement("SELECT pg_catalog.lo_close(0);", 8, None).unwrap();
    batcher.statement("COMMIT;", 9, None).unwrap();
    drop(batcher);
    let mut heads = Vec::new();
    for lines in read.lines() {
        assert!(lines[0].contains("lo_open('7'"), "{}", &lines[0][..30]);
        assert!(lines.last().unwrap().contains("lo_close"));
        heads.push(lines.len());
    }
    assert_eq!(heads, [4, 5, 4]);
}

#[test]
fn what_is_long_goes_alone_and_behind_what_is_small() {
    let (mut batcher, read) = batcher(1000);
    let mut say = |sql: &str| batcher.statement(sql, 1, None).unwrap();
    say("CREATE TABLE public.big (id int);");
    say("CREATE TABLE public.small (id int);");
    say("CREATE TABLE public.parts (id int) PARTITION BY LIST (id);");
    batcher.copy_start("COPY public.big (id) FROM stdin;", "\"public\".\"big\"", 1).unwrap();
    batcher.copy_rows(&b"1\n".repeat(1000)).unwrap();
    batcher.copy_end().unwrap();
    let mut say = |sql: &str| batcher.statement(sql, 1, None).unwrap();
    say("ALTER TABLE ONLY public.big ADD CONSTRAINT big_pkey PRIMARY KEY (id);");
    say("ALTER TABLE ONLY public.small ADD CONSTRAINT small_pkey PRIMARY KEY (id);");
    say("ALTER TABLE ONLY public.parts ADD CONSTRAINT parts_pkey PRIMARY KEY (id);");
    say("CREATE INDEX big_i ON public.big USING btree (id);");
    say("ALTER TABLE ONLY public.big ADD CONSTRAINT f FOREIGN KEY (id) REFERENCES public.small(id);");
    say("ALTER TABLE ONLY public.big ADD CONSTRAINT p FOREIGN KEY (id) REFERENCES public.parts(id);");
    say("CREATE POLICY own ON public.big;");
    say("REFRESH MATERIALIZED VIEW public.m;");
    batcher.release().unwrap();
    drop(batcher);
    let chunks: Vec<_> = read.lines().into_iter().map(|lines| lines.join("; ")).collect();
    let wanted = [
        "CREATE TABLE public.big (id int); CREATE TABLE public.small (id int); CREATE TABLE public.parts (id int) \
         PARTITION BY LIST (id)",
        "CREATE UNIQUE INDEX big_pkey ON public.big USING btree (id)",
        "ALTER TABLE ONLY public.small ADD CONSTRAINT small_pkey PRIMARY KEY (id)",
        "ALTER TABLE ONLY public.parts ADD CONSTRAINT parts_pkey PRIMARY KEY (id)",
        "ALTER TABLE ONLY public.big ADD CONSTRAINT big_pkey PRIMARY KEY USING INDEX big_pkey; \
         ALTER TABLE ONLY public.big ADD CONSTRAINT f FOREIGN KEY (id) REFERENCES public.small(id) NOT VALID",
        "ALTER TABLE ONLY public.big ADD CONSTRAINT p FOREIGN KEY (id) REFERENCES public.parts(id); \
         CREATE POLICY own ON public.big",
        "CREATE INDEX big_i ON public.big USING btree (id)",
        "VACUUM (ANALYZE, INDEX_CLEANUP off, TRUNCATE off) \"public\".\"big\"",
        "ALTER TABLE public.big VALIDATE CONSTRAINT f",
        "REFRESH MATERIALIZED VIEW public.m",
    ];
    assert_eq!(chunks, wanted);
}

#[test]
fn a_slow_build_begins_at_once_and_only_what_locks_its_table_waits_for_it() {
    let (mut batcher, read) = batcher(1000);
    for table in ["big", "other", "small"] {
        batcher.statement(&format!("CREATE TABLE public.{table} (id int);"), 1, None).unwrap();
    }
    for table in ["big", "other"] {
        batcher
            .copy_start(
                &format!("COPY public.{table} (id) FROM stdin;"),
                &format!("\"public\".\"{table}\""),
                1,
            )
            .unwrap();
        batcher.copy_rows(&b"1\n".repeat(1000)).unwrap();
        batcher.copy_end().unwrap();
    }
    let mut say = |sql: &str| batcher.statement(sql, 1, None).unwrap();
    say("ALTER TABLE ONLY public.big ADD CONSTRAINT big_pkey PRIMARY KEY (id);");
    say("ALTER TABLE ONLY public.other ADD CONSTRAINT other_pkey PRIMARY KEY (id);");
    say("CREATE INDEX big_i ON public.big USING btree (id);");
    say("CREATE INDEX big_text ON public.big USING gin (id);");
    say("CREATE TRIGGER t BEFORE UPDATE ON public.small FOR EACH ROW EXECUTE FUNCTION public.f();");
    say("ALTER TABLE ONLY public.small ADD CONSTRAINT f FOREIGN KEY (id) REFERENCES public.other(id);");
    say("ALTER TABLE ONLY public.small ADD CONSTRAINT g FOREIGN KEY (id) REFERENCES public.big(id);");
    say("COMMENT ON INDEX public.big_text IS 'words';");
    batcher.release().unwrap();
    drop(batcher);
    let chunks: Vec<_> = read.lines().into_iter().skip(1).map(|lines| lines.join("; ")).collect();
    let wanted = [
        "CREATE UNIQUE INDEX big_pkey ON public.big USING btree (id)",
        "CREATE UNIQUE INDEX other_pkey ON public.other USING btree (id)",
        "CREATE INDEX big_text ON public.big USING gin (id)",
        "CREATE INDEX big_i ON public.big USING btree (id)",
        "VACUUM (ANALYZE, INDEX_CLEANUP off, TRUNCATE off) \"public\".\"other\"",
        "ALTER TABLE ONLY public.other ADD CONSTRAINT other_pkey PRIMARY KEY USING INDEX other_pkey; \
         ALTER TABLE ONLY public.small ADD CONSTRAINT f FOREIGN KEY (id) REFERENCES public.other(id) NOT VALID",
        "VACUUM (ANALYZE, INDEX_CLEANUP off, TRUNCATE off) \"public\".\"big\"",
        "ALTER TABLE public.small VALIDATE CONSTRAINT f",
        "ALTER TABLE ONLY public.big ADD CONSTRAINT big_pkey PRIMARY KEY USING INDEX big_pkey",
        "CREATE TRIGGER t BEFORE UPDATE ON public.small FOR EACH ROW EXECUTE FUNCTION public.f()",
        "ALTER TABLE ONLY public.small ADD CONSTRAINT g FOREIGN KEY (id) REFERENCES public.big(id) NOT VALID",
        "ALTER TABLE public.small VALIDATE CONSTRAINT g",
        "COMMENT ON INDEX public.big_text IS 'words'",
    ];
    assert_eq!(chunks, wanted);
}

#[test]
fn the_more_rows_tables_have_the_fewer_share_a_transaction() {
    let (mut batcher, read) = batcher(1000);
    for (table, rows) in [("half", 250), ("most", 400), ("one", 1), ("two", 1)] {
        batcher.statement(&format!("CREATE TABLE public.{table} (id int);"), 1, None).unwrap();
        let copy = format!("COPY public.{table} (id) FROM stdin;");
        batcher.copy_start(&copy, &format!("\"public\".\"{table}\""), 1).unwrap();
        batcher.copy_rows(&b"1\n".repeat(rows)).unwrap();
        batcher.copy_end().unwrap();
    }
    batcher.release().unwrap();
    drop(batcher);
    let chunks: Vec<_> = read.lines().into_iter().map(|lines| lines.join("; ")).collect();
    let analyzed: Vec<_> = chunks.iter().filter(|chunk| chunk.starts_with("ANALYZE")).collect();
    let wanted = [
        "ANALYZE \"public\".\"half\"; ANALYZE \"public\".\"most\"",
        "ANALYZE \"public\".\"one\"; ANALYZE \"public\".\"two\"",
    ];
    assert_eq!(analyzed, wanted.each_ref());
}
