//! What counts as good. Pure.

use super::api::{Sample, number};

/// What one look at a query says.
#[derive(Debug, PartialEq)]
pub(super) enum Judged {
    /// All values are within bounds; the one nearest to being bad.
    Good(f64),
    /// Some value is out of bounds: the worst, as it was written.
    Bad { value: f64, why: String },
    /// There is no value to judge.
    Unknown(String),
}

/// Lowest and highest value that is good.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Bounds {
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
}

impl Bounds {
    pub(super) fn words(self) -> String {
        match (self.min, self.max) {
            (Some(min), Some(max)) => format!("from {min} to {max}"),
            (Some(min), None) => format!("at least {min}"),
            (None, Some(max)) => format!("at most {max}"),
            (None, None) => "anything".to_owned(),
        }
    }

    /// Whether one value is nearer to being bad, or further beyond, than another.
    pub(super) fn is_worse(self, value: f64, than: f64) -> bool {
        self.excess(value) > self.excess(than)
    }

    /// How far a value is from being good; below zero is within bounds.
    fn excess(self, value: f64) -> f64 {
        let above = self.max.map_or(f64::NEG_INFINITY, |max| value - max);
        let below = self.min.map_or(f64::NEG_INFINITY, |min| min - value);
        above.max(below)
    }
}

/// Every series must be within bounds. Infinity is a value, and `NaN` (nothing divided by nothing) is none.
pub(super) fn judge(samples: &[Sample], bounds: Bounds) -> Judged {
    if samples.is_empty() {
        return Judged::Unknown("nothing answers the query".to_owned());
    }
    let mut worst: Option<(f64, &Sample)> = None;
    for sample in samples {
        let Some(value) = number(&sample.text).filter(|value| !value.is_nan()) else {
            return Judged::Unknown(format!("a value is {}", sample.text));
        };
        if worst.is_none_or(|(before, _)| bounds.excess(value) > bounds.excess(before)) {
            worst = Some((value, sample));
        }
    }
    let Some((value, sample)) = worst else { return Judged::Unknown("nothing answers the query".to_owned()) };
    if bounds.excess(value) <= 0.0 {
        return Judged::Good(value);
    }
    let labels: Vec<String> = sample
        .labels
        .iter()
        .filter(|(name, _)| *name != "__name__")
        .take(4)
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let of = if labels.is_empty() { String::new() } else { format!(" ({})", labels.join(", ")) };
    Judged::Bad { value, why: format!("{}{of} instead of {}", sample.text, bounds.words()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[&str]) -> Vec<Sample> {
        let sample = |text: &&str| Sample {
            labels: [("job".to_owned(), (*text).to_owned())].into(),
            value: None,
            text: (*text).to_owned(),
        };
        values.iter().map(sample).collect()
    }

    #[test]
    fn nothing_and_not_a_number_are_unknown_and_never_zero() {
        let below_one = Bounds { min: None, max: Some(1.0) };
        for values in [&[][..], &["NaN"], &["0", "NaN"], &["words"]] {
            assert!(matches!(judge(&samples(values), below_one), Judged::Unknown(_)), "{values:?}");
        }
    }

    #[test]
    fn the_worst_series_decides() {
        let bounds = Bounds { min: Some(0.0), max: Some(1.0) };
        assert_eq!(judge(&samples(&["0.2", "0.9"]), bounds), Judged::Good(0.9));
        assert_eq!(judge(&samples(&["1"]), bounds), Judged::Good(1.0));
        let Judged::Bad { value, why } = judge(&samples(&["0.5", "3", "2"]), bounds) else { panic!("bad") };
        assert_eq!((value, why.as_str()), (3.0, "3 (job=3) instead of from 0 to 1"));
        assert!(matches!(judge(&samples(&["+Inf"]), bounds), Judged::Bad { .. }));
        assert!(matches!(judge(&samples(&["-0.1"]), bounds), Judged::Bad { .. }));
        assert_eq!(judge(&samples(&["7"]), Bounds::default()), Judged::Good(7.0));
    }
}
