//! The floor that `cargo xtask bench engine` compares with: bare SQLite (WAL, `synchronous=FULL`) doing two
//! durable commits a step, each one row of some 200 bytes, and nothing else.
//!
//! Usage: `sqlite_floor FILE STEPS`. Says nothing; the caller takes the time.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(file), Some(steps)) = (arguments.next(), arguments.next()) else {
        return Err("usage: sqlite_floor FILE STEPS".into());
    };
    let steps: u64 = steps.parse()?;
    let database = rusqlite::Connection::open(file)?;
    database.pragma_update(None, "journal_mode", "wal")?;
    database.pragma_update(None, "synchronous", "full")?;
    database
        .execute_batch("create table records (run text, seq integer, body blob, primary key (run, seq))")?;
    let body = vec![b'x'; 200];
    let mut insert = database.prepare("insert into records (run, seq, body) values ('r', ?1, ?2)")?;
    for seq in 0..i64::try_from(steps * 2)? {
        insert.execute(rusqlite::params![seq, body])?;
    }
    Ok(())
}
