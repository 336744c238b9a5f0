//! Which webhook is meant, and what is refused before anything is asked.

use std::sync::Arc;

use runbook_core::action::Aftermath;
use runbook_core::environment::Paymongo;
use runbook_core::secret::SecretText;
use serde_json::json;

use super::TestEvent;
use super::api::{Resource, Webhook, pick};
use crate::http::stand_in::World;
use crate::typed::Typed as _;

fn webhooks(all: &[(&str, &str, i64)]) -> Vec<Resource<Webhook>> {
    let one = |(id, url, at): &(&str, &str, i64)| {
        let attributes = json!({ "url": url, "status": "enabled", "created_at": at, "secret_key": "whsk_x" });
        serde_json::from_value(json!({ "id": id, "attributes": attributes })).unwrap()
    };
    all.iter().map(one).collect()
}

#[test]
fn of_webhooks_with_one_url_the_newest_is_meant_because_none_is_ever_deleted() {
    let replaced = webhooks(&[("hook_1", "https://a.example/", 1), ("hook_2", "https://a.example/", 2)]);
    let picked = |all: &[Resource<Webhook>], named| pick(all, named).map(|webhook| webhook.id.clone());
    assert_eq!(picked(&replaced, None).unwrap(), "hook_2");
    assert_eq!(picked(&replaced, Some("https://a.example/")).unwrap(), "hook_2");
    assert_eq!(picked(&replaced, Some("hook_1")).unwrap(), "hook_1");
    let apart = webhooks(&[("hook_1", "https://a.example/", 1), ("hook_2", "https://b.example/", 2)]);
    for (all, named) in [(&apart[..], None), (&apart[..], Some("https://c.example/")), (&[][..], None)] {
        assert_eq!(picked(all, named).unwrap_err().aftermath, Aftermath::Refused);
    }
}

#[tokio::test]
async fn no_test_payment_is_made_with_a_key_that_is_not_of_test_mode() {
    let mut world = World::new();
    let key = SecretText::from_marked("sk_live_⟦secret:pw⟧");
    Arc::make_mut(&mut world.ctx.environment).paymongo = Some(Paymongo { api_url: None, secret_key: key });
    let error = TestEvent.run(&world.ctx, serde_json::from_str("{}").unwrap()).await.unwrap_err();
    assert!(error.aftermath == Aftermath::Refused && error.attempted.contains("real money"), "{error}");
}
