//! Brings rows of a file into a temporary table with the target's own types. The server reads the values as it would
//! read a dump; what it says of a value that it does not take is told without the value.

use bytes::Bytes;
use futures_util::SinkExt as _;
use runbook_core::action::{ActionError, Aftermath};
use runbook_dump::push_copy_field;

use crate::postgres::rows::RowsFile;
use crate::postgres::rows::file::CsvReader;
use crate::postgres::session::{Session, failed, timed};

use super::target::{Target, listed};

/// Bytes of rows that are sent at once.
const PIECE_BYTES: usize = 256 << 10;

/// The server's word on data, without any value: which code, and where.
#[derive(Debug, thiserror::Error)]
#[error("SQLSTATE {code}{place}")]
struct Masked {
    code: String,
    place: String,
}

/// As [`failed`], but for what the server says of data: its message quotes values.
pub(in crate::postgres) fn quiet(attempted: impl Into<String>, error: tokio_postgres::Error) -> ActionError {
    let Some(said) =
        error.as_db_error().filter(|said| matches!(&said.code().code()[..2], "22" | "23" | "P0"))
    else {
        return failed(attempted, error);
    };
    let mut place = String::new();
    for (word, name) in
        [("table", said.table()), ("column", said.column()), ("constraint", said.constraint())]
    {
        if let Some(name) = name {
            place.push_str(&format!(", {word} {name}"));
        }
    }
    // `COPY t, line 3, column x: "value"`
    if let Some(at) =
        said.where_().and_then(|text| text.split(": ").next()).filter(|t| t.starts_with("COPY "))
    {
        place.push_str(&format!(", {}", at.lines().next().unwrap_or_default()));
    }
    ActionError::new(attempted, Aftermath::Refused)
        .because(Masked { code: said.code().code().into(), place })
        .code("data-refused")
}

/// Sends a statement that touches data.
pub(super) async fn send(
    session: &Session,
    sql: &str,
    attempted: impl Fn() -> String,
) -> Result<u64, ActionError> {
    session.client.execute(sql, &[]).await.map_err(|error| quiet(attempted(), error))
}

/// Makes `pg_temp.NAME` with some columns of the target and fills it with the rows of a file.
pub(super) async fn fill(
    session: &Session,
    target: &Target,
    name: &str,
    rows: &RowsFile,
    columns: &[String],
) -> Result<u64, ActionError> {
    let attempted = || format!("bring the rows for `{}` into `{}`", target.shown(), session.label);
    let make = format!(
        "create temporary table {name} on commit drop as select {} from {} with no data",
        listed(columns, ""),
        target.name
    );
    timed(session.client.batch_execute(&make), attempted).await?;
    let places: Vec<usize> =
        columns.iter().filter_map(|name| rows.columns.iter().position(|column| column == name)).collect();
    let copy = format!("copy pg_temp.{name} ({}) from stdin", listed(columns, ""));
    let sink = session.client.copy_in(&copy).await.map_err(|error| quiet(attempted(), error))?;
    futures_util::pin_mut!(sink);
    let mut reader = CsvReader::open(rows)?;
    let mut piece = Vec::new();
    while let Some(row) = reader.next_row()? {
        for (n, at) in places.iter().enumerate() {
            if n > 0 {
                piece.push(b'\t');
            }
            push_copy_field(row[*at].as_deref(), &mut piece);
        }
        piece.push(b'\n');
        if piece.len() >= PIECE_BYTES {
            let full = Bytes::from(std::mem::take(&mut piece));
            sink.send(full).await.map_err(|error| quiet(attempted(), error))?;
        }
    }
    if !piece.is_empty() {
        sink.send(Bytes::from(piece)).await.map_err(|error| quiet(attempted(), error))?;
    }
    sink.finish().await.map_err(|error| quiet(attempted(), error))
}
