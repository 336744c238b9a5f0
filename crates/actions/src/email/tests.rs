//! What is refused before anything is asked.

use std::sync::Arc;

use runbook_core::action::Aftermath;
use runbook_core::environment::{Email, EmailProvider};
use serde_json::json;

use super::RotateKey;
use crate::http::stand_in::World;
use crate::typed::Typed as _;

#[tokio::test]
async fn a_provider_without_an_api_is_a_persons_work() {
    let mut world = World::new();
    let email = Email { provider: EmailProvider::Manual, api_url: None, token: None };
    Arc::make_mut(&mut world.ctx.environment).email = Some(email);
    let params = serde_json::from_value(json!({ "name": "polaris" })).unwrap();
    let error = RotateKey.run(&world.ctx, params).await.unwrap_err();
    assert_eq!((&error.aftermath, error.code), (&Aftermath::Refused, Some("by-hand")));
    assert!(error.hint.unwrap().contains("manual"));
}

#[tokio::test]
async fn a_name_that_the_provider_could_not_keep_is_refused() {
    for bad in ["", "polaris@1", "a/b", &"x".repeat(41)] {
        let params = serde_json::from_value(json!({ "name": bad })).unwrap();
        let error = RotateKey.run(&World::new().ctx, params).await.unwrap_err();
        assert!(error.attempted.starts_with("name a key"), "{bad}: {error}");
    }
}
