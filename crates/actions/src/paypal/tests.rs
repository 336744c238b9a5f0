//! Which webhook is meant, and what is refused before anything is asked.

use std::sync::Arc;

use runbook_core::action::{ActionError, Aftermath};
use runbook_core::environment::Paypal;
use runbook_core::secret::SecretText;

use super::TestEvent;
use super::api::{Webhook, pick};
use crate::http::stand_in::World;
use crate::typed::Typed as _;

fn webhook(id: &str, url: &str) -> Webhook {
    Webhook { id: id.into(), url: url.into(), event_types: Vec::new() }
}

#[test]
fn a_webhook_is_named_by_id_or_url_and_never_guessed() {
    let two = [webhook("A1", "https://a.example/"), webhook("B2", "https://b.example/")];
    assert_eq!(pick(&two, Some("B2")).unwrap().id, "B2");
    assert_eq!(pick(&two, Some("https://a.example/")).unwrap().id, "A1");
    assert_eq!(pick(&two[..1], None).unwrap().id, "A1");
    for (all, named) in [(&two[..], None), (&two[..], Some("C3")), (&two[..0], None)] {
        assert_eq!(pick(all, named).unwrap_err().aftermath, Aftermath::Refused);
    }
    let hint = pick(&two, None).unwrap_err().hint.unwrap();
    assert!(hint.contains("A1 (https://a.example/)") && hint.contains("B2"), "{hint}");
}

async fn test_at(api_url: Option<&str>) -> ActionError {
    let mut world = World::new();
    let environment = Arc::make_mut(&mut world.ctx.environment);
    environment.paypal = Some(Paypal {
        api_url: api_url.map(str::to_owned),
        client_id: SecretText::reference("pw"),
        client_secret: SecretText::reference("token"),
    });
    let params = serde_json::from_str("{}").unwrap();
    TestEvent.run(&world.ctx, params).await.unwrap_err()
}

#[tokio::test]
async fn no_test_payment_is_made_where_money_is_real() {
    for live in [None, Some("https://api-m.paypal.com"), Some("https://API-M.paypal.com/")] {
        let error = test_at(live).await;
        assert!(
            error.aftermath == Aftermath::Refused && error.attempted.contains("real money"),
            "{live:?}: {error}"
        );
    }
    let elsewhere = test_at(Some("http://127.0.0.1:9")).await;
    assert_eq!(elsewhere.aftermath, Aftermath::Unchanged { retry_after: None }, "{elsewhere}");
    let shown = format!("{elsewhere:?}");
    assert!(!shown.contains("canary"), "{shown}");
}
