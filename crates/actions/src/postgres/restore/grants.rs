//! Who may do something with what, as a dump said it: for the comparison of the result with the dump. Looks at
//! whether a role has any privilege on an object, not at which.

use std::collections::BTreeSet;

use runbook_core::action::ActionError;
use serde::{Deserialize, Serialize};

use crate::postgres::session::{Session, timed};
use crate::postgres::sql::{What, plain, qualified, quoted};
use crate::postgres::words::{Token, Words};

/// Grants that were carried out and not taken back.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Grants(BTreeSet<Grant>);

/// A kind of object, the object, and the role; names are quoted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Grant {
    kind: Kind,
    object: String,
    role: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Kind {
    Schema,
    /// Tables, views and sequences.
    Relation,
    /// Functions of one name, whatever their arguments.
    Function,
}

impl Grants {
    /// Remembers a `GRANT`, forgets what a `REVOKE` takes back.
    pub(super) fn note(&mut self, what: &What, sql: &str) {
        let What::On { verb, kind, name } = what else { return };
        let kind = match kind.as_str() {
            "schema" => Kind::Schema,
            "table" | "sequence" => Kind::Relation,
            "function" | "procedure" => Kind::Function,
            _ => return,
        };
        let before_role = match *verb {
            "grant" => "to",
            "revoke" => "from",
            _ => return,
        };
        // Grants on columns hold for less than the table.
        let on = Words::new(sql).position(|token| token == Token::Word("on".into())).unwrap_or(0);
        if Words::new(sql).take(on).any(|token| token == Token::Mark('(')) {
            return;
        }
        let Some(role) = role_after(sql, before_role) else { return };
        let grant = Grant { kind, object: name.clone(), role };
        if before_role == "to" {
            self.0.insert(grant);
        } else {
            self.0.remove(&grant);
        }
    }

    /// Those that are not in force.
    pub(super) async fn missing(&self, session: &Session) -> Result<Vec<String>, ActionError> {
        if self.0.is_empty() {
            return Ok(Vec::new());
        }
        let sql = "select 'n', n.nspname, '', g.rolname from pg_catalog.pg_namespace n, \
                     pg_catalog.aclexplode(n.nspacl) a join pg_catalog.pg_roles g on g.oid = a.grantee \
                   union select 'c', n.nspname, c.relname, g.rolname from pg_catalog.pg_class c \
                     join pg_catalog.pg_namespace n on n.oid = c.relnamespace, \
                     pg_catalog.aclexplode(c.relacl) a join pg_catalog.pg_roles g on g.oid = a.grantee \
                   union select 'p', n.nspname, p.proname, g.rolname from pg_catalog.pg_proc p \
                     join pg_catalog.pg_namespace n on n.oid = p.pronamespace, \
                     pg_catalog.aclexplode(p.proacl) a join pg_catalog.pg_roles g on g.oid = a.grantee";
        let rows =
            timed(session.client.query(sql, &[]), || format!("read the grants of `{}`", session.label));
        let there: BTreeSet<Grant> = rows
            .await?
            .iter()
            .map(|row| {
                let (schema, name): (&str, &str) = (row.get(1), row.get(2));
                let (kind, object) = match row.get::<_, &str>(0) {
                    "n" => (Kind::Schema, quoted(schema)),
                    "c" => (Kind::Relation, qualified(schema, name)),
                    _ => (Kind::Function, qualified(schema, name)),
                };
                Grant { kind, object, role: quoted(row.get(3)) }
            })
            .collect();
        let missing = self.0.difference(&there);
        Ok(missing
            .map(|grant| format!("{} has no privilege on {}", plain(&grant.role), plain(&grant.object)))
            .collect())
    }
}

/// The one role of a grant, quoted; none for everybody.
fn role_after(sql: &str, word: &str) -> Option<String> {
    let tokens: Vec<Token> = Words::new(sql).collect();
    let at = tokens.iter().rposition(|token| *token == Token::Word(word.into()))?;
    match tokens.get(at + 1)? {
        Token::Word(role) if role == "public" => None,
        Token::Word(role) | Token::Quoted(role) => Some(quoted(role)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::sql::what;

    #[test]
    fn a_grant_is_remembered_until_it_is_taken_back() {
        let mut grants = Grants::default();
        let mut say = |sql: &str| grants.note(&what(sql), sql);
        say("GRANT ALL ON TABLE public.a TO anon");
        say("GRANT USAGE ON SCHEMA app TO \"Some One\"");
        say("GRANT SELECT ON SEQUENCE public.s TO authenticated WITH GRANT OPTION");
        say("GRANT ALL ON FUNCTION public.f(x integer) TO anon");
        say("GRANT SELECT(a, b) ON TABLE public.c TO anon");
        say("GRANT ALL ON TABLE public.d TO PUBLIC");
        say("GRANT ALL ON TABLE public.e TO anon");
        say("REVOKE ALL ON TABLE public.e FROM anon");
        say("COMMENT ON TABLE public.a IS 'to anon'");
        let found: Vec<_> = grants.0.iter().map(|grant| format!("{} {}", grant.object, grant.role)).collect();
        assert_eq!(
            found,
            [
                "\"app\" \"Some One\"",
                "\"public\".\"a\" \"anon\"",
                "\"public\".\"s\" \"authenticated\"",
                "\"public\".\"f\" \"anon\""
            ]
        );
    }
}
