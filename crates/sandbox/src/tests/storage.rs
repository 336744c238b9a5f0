//! Storage as an application meets it: what the real one is known for, and what a recovery must not be fooled by.

use super::*;
use crate::client::{Fetched, fetch};

impl World {
    fn storage(&self) -> String {
        format!("{}/projects/{}/storage/v1", self.endpoints.supabase_url, self.endpoints.live_project)
    }

    /// The key of a kind, as the Management API reveals it.
    async fn key(&self, kind: &str, name: &str) -> String {
        let path = format!("/v1/projects/{}/api-keys?reveal=true", self.endpoints.live_project);
        let keys = self.supabase("GET", &path, Value::Null).await.map(|answer| answer.body);
        let keys = keys.ok().and_then(|keys| keys.as_array().cloned()).unwrap_or_default();
        let found = keys.iter().find(|key| key["type"] == kind && key["name"] == name);
        found.and_then(|key| key["api_key"].as_str()).unwrap_or_default().to_owned()
    }

    async fn files(
        &self,
        method: &str,
        path: &str,
        extra: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Fetched> {
        let key = self.key("secret", "default").await;
        let bearer = format!("Bearer {key}");
        let mut headers = vec![("apikey", key.as_str()), ("authorization", bearer.as_str())];
        headers.extend_from_slice(extra);
        fetch(method, &format!("{}{path}", self.storage()), &headers, body).await
    }

    /// Status of the answer, and what its body says.
    async fn said(&self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        match self.files(method, path, &[("content-type", "text/plain")], body).await {
            Ok(answer) => (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default()),
            Err(error) => (0, json!(error.to_string())),
        }
    }
}

#[tokio::test]
async fn an_upload_over_a_row_keeps_its_id_and_the_real_status_is_in_the_body() {
    let world = World::start().await.unwrap();
    let (status, _) = world.said("POST", "/bucket", br#"{"name":"docs","public":true}"#).await;
    assert_eq!(status, 200);
    let (status, again) = world.said("POST", "/bucket", br#"{"name":"docs"}"#).await;
    assert_eq!(
        (status, &again["statusCode"], &again["code"]),
        (400, &json!("409"), &json!("BucketAlreadyExists"))
    );

    let (status, first) = world.said("POST", "/object/docs/a/b.txt", b"one").await;
    assert_eq!((status, &first["Key"]), (200, &json!("docs/a/b.txt")));
    let (_, before) = world.said("GET", "/object/info/authenticated/docs/a/b.txt", b"").await;
    let (status, twice) = world.said("POST", "/object/docs/a/b.txt", b"two").await;
    assert_eq!((status, &twice["statusCode"], &twice["error"]), (400, &json!("409"), &json!("Duplicate")));
    let upsert = [("x-upsert", "true"), ("content-type", "text/plain"), ("cache-control", "max-age=7")];
    assert_eq!(world.files("POST", "/object/docs/a/b.txt", &upsert, b"three").await.unwrap().status, 200);
    let (_, after) = world.said("GET", "/object/info/authenticated/docs/a/b.txt", b"").await;
    assert_eq!((&after["id"], &after["created_at"]), (&before["id"], &before["created_at"]));
    assert_ne!(after["version"], before["version"]);
    assert_eq!((&after["size"], &after["cache_control"]), (&json!(5), &json!("max-age=7")));

    let range = [("range", "bytes=1-2")];
    let part = world.files("GET", "/object/docs/a/b.txt", &range, b"").await.unwrap();
    assert_eq!((part.status, part.body.as_slice()), (206, &b"hr"[..]));
    let (_, listed) = world.said("POST", "/object/list-v2/docs", br#"{"limit":1,"prefix":"a/"}"#).await;
    assert_eq!((&listed["objects"][0]["name"], &listed["hasNext"]), (&json!("a/b.txt"), &json!(false)));
    for bad in ["/object/docs/..%2f..%2fstate.json", "/object/docs/a%2F..%2Fb", "/object/docs/%E2%82%AC"] {
        let (status, said) = world.said("POST", bad, b"x").await;
        assert_eq!((status, &said["code"]), (400, &json!("InvalidKey")), "{bad}");
    }
}

#[tokio::test]
async fn a_row_without_its_file_looks_healthy_until_it_is_read() {
    let world = World::start().await.unwrap();
    seed(&world.endpoints, SeedSize::Small).await.unwrap();
    break_with(&world.endpoints, Damage::LostFiles).await.unwrap();

    let head = world.files("HEAD", "/object/recordings/take-001.ogg", &[], b"").await;
    let info = world.said("GET", "/object/info/authenticated/recordings/take-001.ogg", b"").await;
    let read = world.said("GET", "/object/recordings/take-001.ogg", b"").await;
    let gone = world.said("GET", "/object/recordings/take-007.ogg", b"").await;

    // HEAD names a length and sends no body, which this client takes for an answer that was cut.
    assert!(head.is_err() || head.is_ok_and(|answer| answer.status == 200));
    assert_eq!((info.0, &info.1["size"]), (200, &json!(2977)));
    assert_eq!((read.0, &read.1["statusCode"], &read.1["code"]), (400, &json!("404"), &json!("NoSuchKey")));
    assert_eq!(read.1["message"], "The resource was not found", "the row is there, the file is not");
    assert_eq!(gone.1["message"], "Object not found", "neither row nor file");
    let sign = world.said("POST", "/object/sign/recordings/take-001.ogg", br#"{"expiresIn":60}"#).await;
    let url = format!("{}{}", world.storage(), sign.1["signedURL"].as_str().unwrap());
    assert_eq!(fetch("GET", &url, &[], b"").await.unwrap().status, 400, "a signed URL proves nothing either");
}

#[tokio::test]
async fn only_the_service_keys_come_in_and_disabled_ones_do_not() {
    let world = World::start().await.unwrap();
    let ask = async |key: String| -> (u16, Value) {
        let bearer = format!("Bearer {key}");
        let (url, headers) = (format!("{}/bucket", world.storage()), [("authorization", bearer.as_str())]);
        let answer = fetch("GET", &url, &headers, b"").await.unwrap();
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
    };
    let legacy = world.key("legacy", "service_role").await;
    assert_eq!(ask(legacy.clone()).await.0, 200);
    assert_eq!(ask(world.key("secret", "default").await).await.0, 200);
    assert_eq!(ask("nonsense".into()).await.0, 401);
    let (status, anon) = ask(world.key("legacy", "anon").await).await;
    assert_eq!((status, &anon["statusCode"]), (400, &json!("403")));
    let path = format!("/v1/projects/{}/api-keys/legacy?enabled=false", world.endpoints.live_project);
    world.supabase("PUT", &path, Value::Null).await.unwrap();
    let (status, said) = ask(legacy).await;
    assert_eq!((status, &said["message"]), (401, &json!("Legacy API keys are disabled")));
    let mut busy = Fault::on(Service::Storage);
    (busy.status, busy.retry_after, busy.times) = (Some(429), Some(3), Some(1));
    fault(&world.endpoints, &busy).await.unwrap();
    let (status, said) = ask(world.key("secret", "default").await).await;
    assert_eq!((status, &said["statusCode"], &said["code"]), (429, &json!("429"), &json!("SlowDown")));
}

#[tokio::test]
async fn a_resumable_upload_takes_chunks_of_six_mebibytes_and_goes_on_where_it_was() {
    const CHUNK: usize = 6 * 1024 * 1024;
    let mut world = World::start().await.unwrap();
    world.said("POST", "/bucket", br#"{"name":"docs"}"#).await;
    let whole = vec![7_u8; CHUNK + 10];
    let length = whole.len().to_string();
    let encode = |text: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(text)
    };
    let metadata = format!(
        "bucketName {},objectName {},contentType {},cacheControl {}",
        encode("docs"),
        encode("big.bin"),
        encode("audio/ogg"),
        encode("3600")
    );
    let begin = [
        ("tus-resumable", "1.0.0"),
        ("upload-length", length.as_str()),
        ("upload-metadata", metadata.as_str()),
        ("x-upsert", "true"),
    ];
    let key = world.key("secret", "default").await;
    let bearer = format!("Bearer {key}");
    let authorized = [&begin[..], &[("authorization", bearer.as_str())]].concat();
    let url = format!("{}/upload/resumable", world.storage());
    let made = request("POST", &url, &authorized, Value::Null).await.unwrap();
    assert_eq!(made.status, 201, "{}", made.head);
    let location = made.head.lines().find_map(|line| line.strip_prefix("location: ")).unwrap().to_owned();
    let path = location.split_once("/storage/v1").unwrap().1.to_owned();

    let send = async |world: &World, offset: &str, bytes: &[u8]| -> u16 {
        let headers = [
            ("tus-resumable", "1.0.0"),
            ("upload-offset", offset),
            ("content-type", "application/offset+octet-stream"),
        ];
        world.files("PATCH", &path, &headers, bytes).await.unwrap().status
    };
    assert_eq!(send(&world, "0", &whole[..100]).await, 400, "a small chunk that is not the last");
    assert_eq!(send(&world, "5", &whole[..CHUNK]).await, 409, "a wrong offset");
    assert_eq!(send(&world, "0", &whole[..CHUNK]).await, 204);
    world.endpoints = {
        stop(world.folder.path()).await.unwrap();
        World::up(world.folder.path()).await.unwrap()
    };
    let headers = [("tus-resumable", "1.0.0"), ("authorization", bearer.as_str())];
    let url = format!("{}{path}", world.storage());
    let offset = request("HEAD", &url, &headers, Value::Null).await.unwrap();
    assert!(offset.head.contains(&format!("upload-offset: {CHUNK}")), "{}", offset.head);
    assert_eq!(
        world.said("GET", "/object/docs/big.bin", b"").await.1["statusCode"],
        "404",
        "not before its end"
    );
    assert_eq!(send(&world, &CHUNK.to_string(), &whole[CHUNK..]).await, 204);
    let read = world.files("GET", "/object/docs/big.bin", &[], b"").await.unwrap();
    assert_eq!((read.status, read.body == whole, read.content_type.as_str()), (200, true, "audio/ogg"));
}

#[tokio::test]
async fn the_application_uploads_a_recording_and_plays_it_by_a_signed_url() {
    let world = World::start().await.unwrap();
    seed(&world.endpoints, SeedSize::Small).await.unwrap();
    let audio = json!({ "name": "mine.ogg", "audio": "T2dnUw==" });
    let put = world.app("POST", "/api/recordings", audio).await.unwrap();
    assert_eq!((put.status, &put.body["bytes"]), (201, &json!(4)), "{}", put.body);
    let played = world.app("GET", "/api/recordings/mine.ogg/play", Value::Null).await.unwrap();
    assert_eq!((played.status, &played.body["sha256"]), (200, &put.body["sha256"]));
    let missing = world.app("GET", "/api/recordings/none.ogg/play", Value::Null).await.unwrap();
    assert_eq!(missing.status, 404);
    break_with(&world.endpoints, Damage::LostFiles).await.unwrap();
    let lost = world.app("GET", "/api/recordings/take-001.ogg/play", Value::Null).await.unwrap();
    assert_eq!((lost.status, lost.body["ok"].as_bool()), (404, Some(false)), "{}", lost.body);
}
