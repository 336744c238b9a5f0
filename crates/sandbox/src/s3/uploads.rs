//! Uploads in parts that were begun and not ended, read from the files that s3s-fs keeps of them.

use std::path::Path;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::BUCKET;

/// The pairs of a query.
fn pairs(query: &str) -> impl Iterator<Item = (&str, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name, decoded(value))
    })
}

/// Percent-encoded text in clear.
pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let hex = more.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match (first, hex.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            _ => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether a query is `ListMultipartUploads`.
pub(super) fn is_list(query: &str) -> bool {
    pairs(query).any(|(name, _)| name == "uploads")
}

/// Whether a query names an upload that is not there.
pub(super) fn is_unknown(root: &Path, query: &str) -> bool {
    pairs(query).any(|(name, id)| {
        let is_id = id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        name == "uploadId" && !(is_id && root.join(format!(".upload-{id}.json")).exists())
    })
}

/// The uploads whose key begins with the prefix that was asked for.
pub(super) fn list(root: &Path, query: &str) -> Response {
    let prefix = pairs(query).find(|(name, _)| *name == "prefix").map(|(_, value)| value).unwrap_or_default();
    let mut found: Vec<(String, String)> = Vec::new();
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some((key, id)) = upload(&name)
            && key.starts_with(&prefix)
            && root.join(format!(".upload-{id}.json")).exists()
        {
            found.push((key, id));
        }
    }
    found.sort();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <ListMultipartUploadsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>{BUCKET}</Bucket>\
         <Prefix>{}</Prefix><MaxUploads>1000</MaxUploads><IsTruncated>false</IsTruncated>",
        escaped(&prefix)
    );
    for (key, id) in found {
        text.push_str(&format!("<Upload><Key>{}</Key><UploadId>{id}</UploadId></Upload>", escaped(&key)));
    }
    text.push_str("</ListMultipartUploadsResult>");
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/xml")], text).into_response()
}

/// `.bucket-B64.object-B64.upload-ID.metadata.json`
fn upload(name: &str) -> Option<(String, String)> {
    let (bucket, rest) = name.strip_prefix(".bucket-")?.split_once(".object-")?;
    let (key, id) = rest.strip_suffix(".metadata.json")?.split_once(".upload-")?;
    let text = |packed: &str| String::from_utf8(URL_SAFE_NO_PAD.decode(packed).ok()?).ok();
    (text(bucket)? == BUCKET).then_some(())?;
    Some((text(key)?, id.to_owned()))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_upload_is_found_by_its_file() {
        let name = format!(
            ".bucket-{}.object-{}.upload-0a.metadata.json",
            URL_SAFE_NO_PAD.encode(BUCKET),
            URL_SAFE_NO_PAD.encode("db/local/a.dump")
        );
        assert_eq!(upload(&name), Some(("db/local/a.dump".into(), "0a".into())));
        assert_eq!(upload(".bucket-x.object-y.metadata.json"), None);
        assert!(is_list("uploads&prefix=a%2Fb") && !is_list("list-type=2"));
        assert_eq!(decoded("a%2Fb%"), "a/b%");
    }
}
