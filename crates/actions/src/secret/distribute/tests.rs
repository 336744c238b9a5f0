//! Places that a person looks after, and names that mean nothing.

use std::sync::Arc;

use runbook_core::action::{ActionError, Aftermath};
use runbook_core::environment::Place;
use runbook_core::secret::SecretText;

use super::{Distribute, Outputs, Params};
use crate::http::stand_in::World;
use crate::typed::{Done, Typed as _};

async fn distribute(secret: &str, manual_done: &[&str]) -> Result<Done<Outputs>, ActionError> {
    let mut world = World::new();
    let place = |name: &str| Place::Manual(name.to_owned());
    let places = &mut Arc::make_mut(&mut world.ctx.environment).places;
    places.insert("pump_key".into(), vec![place("the pump"), place("the safe")]);
    let params = Params {
        secret: secret.into(),
        value: SecretText::reference("new"),
        project: None,
        manual_done: manual_done.iter().map(|name| (*name).to_owned()).collect(),
    };
    Distribute.run(&world.ctx, params).await
}

#[tokio::test]
async fn a_manual_place_counts_only_when_a_person_confirmed_it() {
    let left = distribute("pump_key", &["the safe"]).await.unwrap_err();
    assert_eq!((&left.aftermath, left.code), (&Aftermath::Refused, Some("G09")));
    assert!(left.attempted.contains("1 of 2 places are left: the pump (by hand)"), "{left}");
    assert!(!left.attempted.contains("the safe") && left.hint.unwrap().contains("manual_done"));
    let done = distribute("pump_key", &["the pump", "the safe"]).await.unwrap();
    assert!(done.outputs.places.len() == 2 && done.outputs.places.iter().all(|place| place.ok));
}

#[tokio::test]
async fn a_name_that_the_environment_does_not_list_is_refused() {
    let unlisted = distribute("other", &[]).await.unwrap_err();
    assert_eq!((&unlisted.aftermath, unlisted.code), (&Aftermath::Refused, Some("G09")));
    let misspelt = distribute("pump_key", &["the pmup"]).await.unwrap_err();
    assert!(misspelt.attempted.contains("the pmup"), "{misspelt}");
}

#[tokio::test]
async fn a_place_that_does_not_answer_is_named_and_tried_again() {
    let mut world = World::new();
    let places = vec![Place::VercelEnv("KEY".into()), Place::SupabaseSecret("KEY".into())];
    Arc::make_mut(&mut world.ctx.environment).places.insert("key".into(), places);
    let params = Params {
        secret: "key".into(),
        value: SecretText::reference("new"),
        project: None,
        manual_done: vec![],
    };
    let error = Distribute.run(&world.ctx, params).await.unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Unchanged { retry_after: None });
    assert!(error.attempted.contains("2 of 2 places are left"), "{error}");
    assert!(!format!("{error:?}").contains("canary-new-value"), "{error:?}");
}
