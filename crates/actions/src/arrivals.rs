//! Which events of a payment provider the application has: by a list that an earlier step made, or by
//! asking the application for each. Reads only.

use std::collections::BTreeSet;

use runbook_core::action::ActionError;

use crate::http::Api;

/// What to hold the provider's events against.
pub(crate) struct Arrivals {
    known: BTreeSet<String>,
    ask: Option<String>,
}

impl Arrivals {
    /// From the parameters `known` and `ask`. With neither, everything would count as missed.
    pub(crate) fn of(known: Vec<String>, ask: Option<String>) -> Result<Self, ActionError> {
        if let Some(url) = &ask
            && !url.contains("{id}")
        {
            return Err(ActionError::refused("use `ask`: it holds no `{id}`"));
        }
        if ask.is_none() && known.is_empty() {
            return Err(ActionError::refused(
                "compare events with nothing: neither `known` nor `ask` is given",
            )
            .hint("Give `ask: https://…/{id}`, or `known`, the ids that a query of the database found."));
        }
        Ok(Self { known: known.into_iter().collect(), ask })
    }

    /// Whether the application has one of these ids, which all mean the same payment. Only 404 is a no: an
    /// application that is down has not answered.
    pub(crate) async fn has(&self, ids: &[&str]) -> Result<bool, ActionError> {
        if ids.iter().any(|id| self.known.contains(*id)) {
            return Ok(true);
        }
        let Some(ask) = &self.ask else { return Ok(false) };
        for id in ids {
            // An id from outside becomes part of a URL.
            if !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) {
                return Err(ActionError::refused(format!(
                    "ask for event `{}`: it is no id",
                    id.escape_debug()
                )));
            }
            let api = Api::new("the application", &ask.replace("{id}", id), None)?;
            let reply = api.get(format!("ask for event `{id}`"), &[]).accept(&[404]).text().send().await?;
            if reply.status != 404 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::stand_in::serve;

    #[tokio::test]
    async fn a_list_or_an_answer_says_what_arrived_and_an_error_says_nothing() {
        let router = axum::Router::new().route(
            "/has/{id}",
            axum::routing::get(|axum::extract::Path(id): axum::extract::Path<String>| async move {
                let status = match id.as_str() {
                    "there" => 200,
                    "down" => 403,
                    _ => 404,
                };
                axum::http::StatusCode::from_u16(status).unwrap()
            }),
        );
        let url = format!("{}/has/{{id}}", serve(router).await);
        let arrivals = Arrivals::of(vec!["listed".into()], Some(url.clone())).unwrap();
        assert!(arrivals.has(&["listed"]).await.unwrap() && arrivals.has(&["there"]).await.unwrap());
        assert!(!arrivals.has(&["gone"]).await.unwrap());
        assert!(arrivals.has(&["down"]).await.is_err() && arrivals.has(&["../x"]).await.is_err());
        assert!(Arrivals::of(vec![], None).is_err());
        assert!(Arrivals::of(vec![], Some("http://x/".into())).is_err());
    }
}
