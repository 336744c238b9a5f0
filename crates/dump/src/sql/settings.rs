//! The two settings that change how the text after them is read.

use crate::sql::statements::Splitter;

/// Encodings whose characters may hold a backslash byte: text in them cannot be split byte by byte.
const UNSAFE: [&str; 8] = ["big5", "gb18030", "gbk", "johab", "shiftjis", "shiftjis2004", "sjis", "uhc"];

/// Follows a `SET` or `RESET`. An error is the name of an encoding that cannot be read.
pub(crate) fn follow(splitter: &mut Splitter, sql: &[u8]) -> Result<(), String> {
    let Ok(sql) = std::str::from_utf8(sql) else { return Ok(()) };
    let sql = sql.trim_ascii_end().trim_end_matches(';').to_ascii_lowercase().replace('=', " ");
    let mut words = sql.split_ascii_whitespace().peekable();
    let verb = words.next();
    while words.next_if(|w| matches!(*w, "session" | "local")).is_some() {}
    let name = words.next().unwrap_or_default().trim_matches('"');
    words.next_if(|w| *w == "to");
    let value: String = words.collect();
    let value = value.trim_matches(|c| c == '\'' || c == '"');
    let reset = verb == Some("reset") || value == "default";
    if (verb == Some("reset") && name == "all") || name == "standard_conforming_strings" {
        splitter.standard_strings = reset || matches!(value, "on" | "true" | "yes" | "1" | "t" | "y");
    }
    if name == "client_encoding" {
        let plain: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
        if UNSAFE.contains(&plain.as_str()) {
            return Err(value.to_ascii_uppercase());
        }
        let is_utf8 = reset || matches!(plain.as_str(), "utf8" | "unicode");
        splitter.encoding = (!is_utf8).then(|| value.to_ascii_uppercase());
    }
    Ok(())
}
