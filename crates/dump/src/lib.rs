//! Reads what pg_dump writes, as a stream.
