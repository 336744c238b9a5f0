//! What a member does in the application: signs in, loads a profile, does a drill, gets feedback and a pack to
//! practise. Everything a member may do alone is done under the role that members have, so that a restore that
//! lost a policy shows here. A request with an `Idempotency-Key` that was seen before gives what it gave then.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::{Build, Trouble, build, database, unavailable};
use crate::shared::Ctx;
use crate::supabase::{Denied, bearer, claims, sign_in};

/// Questions of a drill; an answer is the number of a choice.
const QUESTIONS: usize = 4;
/// Drills of a pack.
const PACK: i64 = 3;

pub(super) fn routes() -> Router<Ctx> {
    Router::new()
        .route("/api/auth/sign-in", post(enter))
        .route("/api/me", get(me))
        .route("/api/drills/{slug}/attempts", post(begin))
        .route("/api/attempts/{id}", get(show).delete(remove))
        .route("/api/attempts/{id}/submit", post(submit))
        .route("/api/packs/weekly", get(weekly))
}

impl From<Denied> for Trouble {
    fn from(Denied(status, _, message): Denied) -> Self {
        Self(status, message)
    }
}

fn read<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Trouble> {
    serde_json::from_slice(bytes).map_err(|error| Trouble(StatusCode::BAD_REQUEST, error.to_string()))
}

/// The project that the application was built for.
fn project(build: &Build) -> Result<String, Trouble> {
    let url = build.variables.get("NEXT_PUBLIC_SUPABASE_URL");
    let reference = url.and_then(|url| url.trim_end_matches('/').rsplit('/').next());
    reference.map(str::to_owned).ok_or_else(|| unavailable("NEXT_PUBLIC_SUPABASE_URL is not set"))
}

#[derive(Deserialize)]
struct Credentials {
    email: String,
    password: String,
}

async fn enter(State(ctx): State<Ctx>, bytes: Bytes) -> Result<Response, Trouble> {
    let build = build(&ctx)?;
    let given: Credentials = read(&bytes)?;
    let session = sign_in(&ctx, &project(&build)?, &given.email, &given.password).await?;
    Ok(Json(json!({
        "ok": true, "access_token": session["access_token"], "expires_at": session["expires_at"], "user": session["user"],
    }))
    .into_response())
}

/// A member, and the application's own connection.
struct Member {
    id: String,
    client: Client,
    read_only: bool,
}

impl Member {
    async fn of(ctx: &Ctx, headers: &HeaderMap) -> Result<Self, Trouble> {
        let build = build(ctx)?;
        let said = bearer(headers).and_then(|token| claims(ctx, &project(&build).ok()?, token));
        let id = said.and_then(|claims| claims["sub"].as_str().map(str::to_owned));
        let Some(id) = id else {
            return Err(Trouble(StatusCode::UNAUTHORIZED, "sign in first".to_owned()));
        };
        Ok(Self { id, client: database(&build).await?, read_only: build.read_only })
    }

    /// A transaction in which row-level security treats the application as this member.
    async fn acts(&mut self) -> Result<tokio_postgres::Transaction<'_>, Trouble> {
        let claims = json!({ "sub": self.id, "role": "authenticated" }).to_string();
        let transaction = self.client.transaction().await?;
        transaction.execute("select set_config('request.jwt.claims', $1, true)", &[&claims]).await?;
        transaction.batch_execute("set local role authenticated").await?;
        Ok(transaction)
    }

    fn may_write(&self) -> Result<(), Trouble> {
        if self.read_only {
            return Err(unavailable("read-only: we are repairing something, please come back soon"));
        }
        Ok(())
    }
}

fn nothing(what: &str) -> Trouble {
    Trouble(StatusCode::NOT_FOUND, format!("no such {what}"))
}

async fn me(State(ctx): State<Ctx>, headers: HeaderMap) -> Result<Response, Trouble> {
    let mut member = Member::of(&ctx, &headers).await?;
    let id = member.id.clone();
    let transaction = member.acts().await?;
    let sql = "select handle, display_name, rank::text from public.profiles where id = $1::text::uuid";
    let row = transaction.query_opt(sql, &[&id]).await?.ok_or_else(|| nothing("profile"))?;
    let text = |index: usize| row.get::<_, Option<String>>(index);
    Ok(Json(json!({ "id": id, "handle": text(0), "display_name": text(1), "rank": text(2) })).into_response())
}

async fn begin(
    State(ctx): State<Ctx>,
    Path(slug): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let mut member = Member::of(&ctx, &headers).await?;
    member.may_write()?;
    let key = headers.get("idempotency-key").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let id = member.id.clone();
    let transaction = member.acts().await?;
    let drill = "select id from public.drills where slug = $1 and published";
    let drill: i64 = transaction.query_opt(drill, &[&slug]).await?.ok_or_else(|| nothing("drill"))?.get(0);
    let marks = json!(key.as_ref().map_or_else(Vec::new, |key| vec![json!({ "key": key })])).to_string();
    if key.is_some() {
        // Two requests with one key wait for each other.
        transaction.execute("select pg_advisory_xact_lock(hashtextextended($1, 0))", &[&marks]).await?;
        let known =
            "select id from public.attempts where profile_id = $1::text::uuid and answers @> $2::text::jsonb";
        if let Some(row) = transaction.query_opt(known, &[&id, &marks]).await? {
            return Ok((StatusCode::CREATED, Json(begun(row.get(0), &slug))).into_response());
        }
    }
    let row = transaction
        .query_one(
            "insert into public.attempts (profile_id, drill_id, score, took, answers) \
             values ($1::text::uuid, $2, 0, '0', $3::text::jsonb) returning id",
            &[&id, &drill, &marks],
        )
        .await?;
    transaction.commit().await?;
    Ok((StatusCode::CREATED, Json(begun(row.get(0), &slug))).into_response())
}

fn begun(attempt: i64, slug: &str) -> Value {
    let questions: Vec<Value> =
        (1..=QUESTIONS).map(|n| json!({ "question": format!("Question {n}"), "choices": 4 })).collect();
    json!({ "id": attempt, "drill": slug, "questions": questions })
}

#[derive(Deserialize)]
struct Submitted {
    answers: Vec<u8>,
}

async fn submit(
    State(ctx): State<Ctx>,
    Path(attempt): Path<i64>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Trouble> {
    let member = Member::of(&ctx, &headers).await?;
    member.may_write()?;
    let given: Submitted = read(&bytes)?;
    if given.answers.len() != QUESTIONS {
        return Err(Trouble(StatusCode::BAD_REQUEST, format!("a drill has {QUESTIONS} answers")));
    }
    let right = given.answers.iter().zip(0u8..).filter(|(answer, n)| **answer == n % 4).count();
    let score = right * 100 / QUESTIONS;
    // Members may not change a score, so this is not done under their role.
    let answers = json!(given.answers).to_string();
    let changed = member
        .client
        .query_opt(
            "update public.attempts set score = $3::text::numeric, took = greatest(now() - started_at, '0'), \
             answers = $4::text::jsonb || jsonb_path_query_array(answers, '$[*] ? (exists (@.key))') \
             where id = $1 and profile_id = $2::text::uuid returning drill_id",
            &[&attempt, &member.id, &score.to_string(), &answers],
        )
        .await?
        .ok_or_else(|| nothing("attempt"))?;
    let feedback: Vec<Value> = given
        .answers
        .iter()
        .zip(0u8..)
        .map(|(answer, n)| {
            let is_right = *answer == n % 4;
            let words = if is_right { "Right." } else { "Not yet: look at it again." };
            json!({ "question": format!("Question {}", n + 1), "right": is_right, "feedback": words })
        })
        .collect();
    let pack = pack(&member.client, changed.get(0)).await?;
    Ok(Json(json!({ "id": attempt, "score": score, "feedback": feedback, "pack": pack })).into_response())
}

/// Drills to practise next, beginning after the one given.
async fn pack(client: &Client, after: i64) -> Result<Vec<Value>, Trouble> {
    let rows = client
        .query(
            "select slug, title from public.drills where published order by id <= $1, id limit $2",
            &[&after, &PACK],
        )
        .await?;
    let shown = |row: &tokio_postgres::Row| json!({ "slug": row.get::<_, String>(0), "title": row.get::<_, String>(1) });
    Ok(rows.iter().map(shown).collect())
}

async fn show(
    State(ctx): State<Ctx>,
    Path(attempt): Path<i64>,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let mut member = Member::of(&ctx, &headers).await?;
    let transaction = member.acts().await?;
    let sql = "select score::text, answers::text from public.attempts where id = $1";
    let row = transaction.query_opt(sql, &[&attempt]).await?.ok_or_else(|| nothing("attempt"))?;
    let answers: Value = serde_json::from_str(&row.get::<_, String>(1)).unwrap_or(Value::Null);
    Ok(Json(json!({ "id": attempt, "score": row.get::<_, String>(0), "answers": answers })).into_response())
}

/// Takes one's own attempt away; twice is once.
async fn remove(
    State(ctx): State<Ctx>,
    Path(attempt): Path<i64>,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let member = Member::of(&ctx, &headers).await?;
    member.may_write()?;
    let sql = "delete from public.attempts where id = $1 and profile_id = $2::text::uuid";
    member.client.execute(sql, &[&attempt, &member.id]).await?;
    Ok(Json(json!({ "id": attempt, "there": false })).into_response())
}

/// The same drills for everybody and for a whole week.
async fn weekly(State(ctx): State<Ctx>, headers: HeaderMap) -> Result<Response, Trouble> {
    let member = Member::of(&ctx, &headers).await?;
    let week = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date().iso_week_date();
    let drills = pack(&member.client, i64::from(week.week())).await?;
    let name = format!("{}-W{:02}", week.year(), week.week());
    Ok(Json(json!({ "week": name, "drills": drills })).into_response())
}
