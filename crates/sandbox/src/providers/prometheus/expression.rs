//! The part of PromQL that the stand-in knows. Pure.

use std::collections::BTreeMap;
use std::str::FromStr;

/// What is asked.
#[derive(Debug, PartialEq)]
pub(super) enum Expression {
    /// A number.
    Number(f64),
    /// Series, and of these those whose value compares as wanted.
    Series {
        /// Which.
        selector: Selector,
        /// `> 0.5`.
        keeps: Option<Comparison>,
    },
}

/// A comparison with a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Comparison(&'static str, f64);

impl Comparison {
    #[expect(clippy::float_cmp, reason = "PromQL compares exactly")]
    pub(super) fn holds(self, value: f64) -> bool {
        match self.0 {
            "==" => value == self.1,
            "!=" => value != self.1,
            ">=" => value >= self.1,
            "<=" => value <= self.1,
            ">" => value > self.1,
            _ => value < self.1,
        }
    }
}

/// Why there is no answer.
#[derive(Debug, PartialEq)]
pub(super) enum Problem {
    /// No PromQL.
    Syntax(String),
    /// Perhaps PromQL, and more than is known here.
    Unknown(String),
}

/// A metric's name and what its labels must be.
#[derive(Debug, PartialEq)]
pub(super) struct Selector {
    pub(super) name: String,
    /// Label, whether equal or not equal, value.
    matchers: Vec<(String, bool, String)>,
}

impl Selector {
    pub(super) fn fits(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = |name: &str| labels.get(name).map_or("", String::as_str);
        value("__name__") == self.name
            && self.matchers.iter().all(|(label, equal, wanted)| (value(label) == wanted) == *equal)
    }

    /// A series' name in one spelling; only equality names one.
    pub(super) fn series(text: &str) -> Result<String, String> {
        let (selector, rest) = selector(text.trim()).map_err(|problem| format!("{problem:?}"))?;
        if !rest.is_empty() || selector.matchers.iter().any(|(_, equal, _)| !equal) {
            return Err(format!("`{text}` does not name one series"));
        }
        let labels: BTreeMap<_, _> = selector.matchers.into_iter().map(|(l, _, v)| (l, v)).collect();
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}={}", serde_json::json!(value))).collect();
        Ok(format!("{}{{{}}}", selector.name, labels.join(",")))
    }

    /// The labels of a name that [`Selector::series`] made.
    pub(super) fn labels(series: &str) -> Option<BTreeMap<String, String>> {
        let (selector, _) = selector(series).ok()?;
        let mut labels: BTreeMap<_, _> = selector.matchers.into_iter().map(|(l, _, v)| (l, v)).collect();
        labels.insert("__name__".to_owned(), selector.name);
        Some(labels)
    }
}

impl FromStr for Expression {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Problem::Syntax("no expression found in input".to_owned()));
        }
        if let Ok(number) = text.parse::<f64>() {
            return Ok(Self::Number(number));
        }
        balanced(text)?;
        let (selector, rest) = selector(text)?;
        let rest = rest.trim();
        if rest.is_empty() {
            return Ok(Self::Series { selector, keeps: None });
        }
        let operator = ["==", "!=", ">=", "<=", ">", "<"].into_iter().find(|op| rest.starts_with(op));
        let Some(operator) = operator else {
            let is_more = rest.starts_with(['(', '[', '+', '-', '*', '/', '%', '^'])
                || ["and", "or", "unless", "offset", "by", "without"].iter().any(|w| rest.starts_with(w));
            return Err(if is_more {
                Problem::Unknown(format!("the sandbox does not know what to do with `{rest}`"))
            } else {
                Problem::Syntax(format!("parse error: unexpected `{rest}`"))
            });
        };
        match rest[operator.len()..].trim().parse() {
            Ok(number) => Ok(Self::Series { selector, keeps: Some(Comparison(operator, number)) }),
            Err(_) => Err(Problem::Unknown("the sandbox compares with numbers only".to_owned())),
        }
    }
}

/// Brackets and quotes close in order.
fn balanced(text: &str) -> Result<(), Problem> {
    let (mut open, mut quote) = (Vec::new(), None);
    for c in text.chars() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '(' | '[' | '{') => open.push(c),
            (None, ')' | ']' | '}') => {
                let wanted = match c {
                    ')' => '(',
                    ']' => '[',
                    _ => '{',
                };
                if open.pop() != Some(wanted) {
                    return Err(Problem::Syntax(format!("parse error: unexpected `{c}`")));
                }
            }
            (None, _) => {}
        }
    }
    if open.is_empty() && quote.is_none() {
        return Ok(());
    }
    Err(Problem::Syntax("parse error: unexpected end of input".to_owned()))
}

fn name(text: &str, colon: bool) -> Option<(&str, &str)> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colon && c == ':');
    let end = text.find(|c| !fits(c)).unwrap_or(text.len());
    (end > 0 && !text.starts_with(|c: char| c.is_ascii_digit())).then(|| text.split_at(end))
}

fn selector(text: &str) -> Result<(Selector, &str), Problem> {
    let syntax = |at: &str| Problem::Syntax(format!("parse error: unexpected `{at}`"));
    let (metric, mut rest) = name(text, true).ok_or_else(|| syntax(text))?;
    let mut matchers = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        let mut inner = inner.trim_start();
        loop {
            if let Some(after) = inner.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, after) = name(inner, false).ok_or_else(|| syntax(inner))?;
            let after = after.trim_start();
            if after.starts_with("=~") || after.starts_with("!~") {
                return Err(Problem::Unknown("the sandbox does not match by patterns".to_owned()));
            }
            let (equal, after) = match (after.strip_prefix("!="), after.strip_prefix('=')) {
                (Some(after), _) => (false, after),
                (None, Some(after)) => (true, after),
                (None, None) => return Err(syntax(after)),
            };
            let after = after.trim_start();
            let value = after.strip_prefix('"').ok_or_else(|| syntax(after))?;
            let end = value.find('"').ok_or_else(|| syntax(value))?;
            matchers.push((label.to_owned(), equal, value[..end].to_owned()));
            inner = value[end + 1..].trim_start();
            inner = inner.strip_prefix(',').unwrap_or(inner).trim_start();
        }
    }
    Ok((Selector { name: metric.to_owned(), matchers }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_read_and_what_is_not_is_told_from_nonsense() {
        let parse = |text: &str| text.parse::<Expression>();
        assert_eq!(parse("1.5"), Ok(Expression::Number(1.5)));
        for text in ["up", "a:b{x=\"1\", y!=\"2\"}", "up == 0", "errors{} > 0.5"] {
            assert!(matches!(parse(text), Ok(Expression::Series { .. })), "{text}");
        }
        for text in ["", "up{", "up)", "up{x=1}", "up up", "{", "sum(up"] {
            assert!(matches!(parse(text), Err(Problem::Syntax(_))), "{text}: {:?}", parse(text));
        }
        for text in ["sum(up)", "rate(x[5m])", "a / b", "up{x=~\"a.*\"}", "up > down"] {
            assert!(matches!(parse(text), Err(Problem::Unknown(_))), "{text}: {:?}", parse(text));
        }
    }

    #[test]
    fn a_series_has_one_spelling() {
        let one = Selector::series("x{b=\"2\", a=\"1\"}");
        assert_eq!(one, Ok("x{a=\"1\",b=\"2\"}".to_owned()));
        let labels = Selector::labels(&one.unwrap_or_default()).unwrap_or_default();
        let Ok(Expression::Series { selector, .. }) = "x{a=\"1\"}".parse() else { panic!("a selector") };
        assert!(selector.fits(&labels));
        assert!(Selector::series("x{a!=\"1\"}").is_err());
    }
}
