//! Makes alike what differs from world to world without meaning anything: ids, times, ports, digests of random
//! values. What a digest is of is kept where it can be known, so a variable that holds another project's key shows.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

pub(super) struct Names {
    /// Texts that stand for something, the longest first.
    known: Vec<(String, String)>,
}

impl Names {
    pub(super) fn of(run: &str, state: &Value, live: &str, sha256: impl Fn(&str) -> String) -> Self {
        let mut known = vec![
            (run.to_owned(), "RUN".to_owned()),
            (run[..8].to_owned(), "RUN8".to_owned()),
            (live.to_owned(), "LIVE".to_owned()),
        ];
        for project in state["projects"].as_array().unwrap() {
            let name = project["name"].as_str().unwrap().replace(&run[..8], "RUN8");
            for key in project["api_keys"].as_array().into_iter().flatten() {
                let digest = key["sha256"].as_str().unwrap().to_owned();
                known.push((digest, format!("({} key {} of {name})", key["type"], key["name"])));
            }
            // What the API of the sandbox gives as the project's address.
            if let Some(url) = project["url"].as_str() {
                known.push((sha256(url), format!("(address of {name})")));
            }
        }
        for (text, what) in [("", "(nothing)"), ("true", "(true)"), ("false", "(false)")] {
            known.push((sha256(text), what.to_owned()));
        }
        known.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        Self { known }
    }

    /// A value without what differs; lists in the order of what is left.
    pub(super) fn alike(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => {
                let mut items: Vec<Value> = items.iter().map(|item| self.alike(item)).collect();
                items.sort_by_key(Value::to_string);
                Value::Array(items)
            }
            Value::Object(fields) => {
                let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
                for (name, field) in fields {
                    found.entry(self.text(name)).or_default().push(self.alike(field));
                }
                let one = |mut values: Vec<Value>| match values.len() {
                    1 => values.remove(0),
                    _ => {
                        values.sort_by_key(Value::to_string);
                        Value::Array(values)
                    }
                };
                Value::Object(
                    found.into_iter().map(|(name, values)| (name, one(values))).collect::<Map<_, _>>(),
                )
            }
            other => other.clone(),
        }
    }

    pub(super) fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (found, name) in &self.known {
            text = text.replace(found.as_str(), name);
        }
        let chars: Vec<char> = text.chars().collect();
        let mut shown = String::new();
        let mut at = 0;
        while at < chars.len() {
            let begins = at == 0 || !chars[at - 1].is_ascii_alphanumeric();
            match begins.then(|| random(&chars[at..])).flatten() {
                // `polaris@043403af`, and the run that prepared the world
                None if (chars[..at].ends_with(&['@']) || chars[..at].ends_with(&['R', 'u', 'n', ' ']))
                    && matches(&chars[at..], "hhhhhhhh") =>
                {
                    shown.push_str("HEX8");
                    at += 8;
                }
                Some((length, name)) => {
                    shown.push_str(name);
                    at += length;
                }
                None => {
                    shown.push(chars[at]);
                    at += 1;
                }
            }
        }
        shown
    }
}

/// Whether something begins here that is another in each world: its length and what stands for it.
fn random(chars: &[char]) -> Option<(usize, &'static str)> {
    let date = ["0000-00-00", "0000/00/00", "00000000T"].iter().find(|pattern| matches(chars, pattern));
    if let Some(pattern) = date {
        let rest = &chars[pattern.len()..];
        let clock = rest.iter().take_while(|c| c.is_ascii_digit() || matches!(c, 'T' | ':')).count();
        // In names of files.
        let clock = if matches(rest, "T00-00-00") { "T00-00-00".len() } else { clock };
        let fraction = matches(&rest[clock..], ".0");
        let digits = rest[clock..].iter().skip(1).take_while(|c| c.is_ascii_digit()).count();
        let clock = if fraction { clock + 1 + digits } else { clock };
        let zone = usize::from(rest.get(clock) == Some(&'Z'));
        return Some((pattern.len() + clock + zone, "TIME"));
    }
    if matches(chars, "hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh") {
        return Some((36, "UUID"));
    }
    if matches(chars, "127.0.0.1:") {
        let digits = chars[10..].iter().take_while(|c| c.is_ascii_digit()).count();
        return Some((10 + digits, "HOST"));
    }
    let length = chars.iter().take_while(|c| c.is_ascii_alphanumeric()).count();
    if chars.get(length) == Some(&'_') {
        // `dpl_…`, `prj_…`
        let id = chars[length + 1..].iter().take_while(|c| c.is_ascii_alphanumeric()).count();
        let short = &chars[length + 1..=length + id];
        // `rotated_57393b19`
        if id == 8 && short.iter().all(char::is_ascii_hexdigit) && short.iter().any(char::is_ascii_digit) {
            return Some((length + 1 + id, "NAME8"));
        }
        let is_plain = chars[length + 1..=length + id].iter().all(|c| c.is_ascii_lowercase());
        if id >= 12 && !is_plain {
            return Some((length + 1 + id, "ID"));
        }
    }
    let word = &chars[..length];
    let all = |is: fn(&char) -> bool| word.iter().all(is);
    let any = |is: fn(&char) -> bool| word.iter().any(is);
    let name = if length >= 32 && all(char::is_ascii_hexdigit) {
        "HEX"
    } else if length == 20 && all(char::is_ascii_lowercase) {
        "REF"
    } else if (length >= 10 && all(char::is_ascii_digit))
        || (length >= 16 && all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()))
        || (length >= 12 && any(char::is_ascii_digit) && any(char::is_ascii_alphabetic))
        || (length >= 20 && any(char::is_ascii_uppercase) && any(char::is_ascii_lowercase))
    {
        "ID"
    } else {
        return None;
    };
    Some((length, name))
}

/// `0` stands for a digit, `h` for a hexadecimal digit, all others for themselves.
fn matches(chars: &[char], pattern: &str) -> bool {
    chars.len() >= pattern.len()
        && pattern.chars().zip(chars).all(|(wanted, c)| match wanted {
            '0' => c.is_ascii_digit(),
            'h' => c.is_ascii_hexdigit(),
            other => *c == other,
        })
}

#[test]
fn what_is_random_is_made_alike_and_nothing_else() {
    let names = Names { known: vec![("6ddd8959".into(), "RUN8".into())] };
    for (text, shown) in [
        ("polaris-local-6ddd8959 of 2026-11-22T21:25:21.5Z", "polaris-local-RUN8 of TIME"),
        ("db/local/2026/11/22/polaris-20261122T212521Z.sql.gz", "db/local/TIME/polaris-TIME.sql.gz"),
        ("supabase PATCH /v1/projects/dqasnneqzicjxjkngxjd/config", "supabase PATCH /v1/projects/REF/config"),
        ("01a20526-38ce-757a-99d8-1178cf7b4744", "UUID"),
        (
            "vercel PATCH /v1/global-config/ecfg_rxY5rGC79iyZP9DkgC28HOBl/items",
            "vercel PATCH /v1/global-config/ID/items",
        ),
        ("key rotated_57393b19 of polaris@043403af", "key NAME8 of polaris@HEX8"),
        ("http://127.0.0.1:43017/hooks", "http://HOST/hooks"),
        (
            "NEXT_PUBLIC_SUPABASE_ANON_KEY read_only service_role",
            "NEXT_PUBLIC_SUPABASE_ANON_KEY read_only service_role",
        ),
        ("Run feb81b8d, started", "Run HEX8, started"),
        ("fsIRwDiOwVcExCFjaGxmjc", "ID"),
        ("600 rows in public.messages", "600 rows in public.messages"),
    ] {
        assert_eq!(names.text(text), shown);
    }
}
