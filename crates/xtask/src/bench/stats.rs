//! Numbers of several rounds as a person reads them: minimum, median, maximum, and ratios within a round. Pure.

/// The middle one; of an even number the mean of the two in the middle.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.len(), sorted.get(middle)) {
        (_, None) => f64::NAN,
        (n, Some(high)) if n % 2 == 0 => (high + sorted[middle - 1]) / 2.0,
        (_, Some(value)) => *value,
    }
}

/// `1.20 [1.10 .. 1.50]`: the median between the least and the most.
pub(super) fn spread(values: &[f64], decimals: usize) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let middle = median(values);
    format!("{middle:.decimals$} [{least:.decimals$} .. {most:.decimals$}]")
}

/// One value of each round over that of another thing in the same round.
pub(super) fn paired(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect()
}

/// The smaller value of each round.
pub(super) fn faster(one: &[f64], other: &[f64]) -> Vec<f64> {
    one.iter().zip(other).map(|(one, other)| one.min(*other)).collect()
}

/// Lines of columns as wide as they must be; the first column to the left, the others to the right.
pub(super) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |n: usize| {
        rows.iter().filter_map(|row| row.get(n)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(n, (cell, width))| match n {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_become_a_median_between_two_ends() {
        assert_eq!(spread(&[3.0, 1.0, 2.0], 1), "2.0 [1.0 .. 3.0]");
        assert_eq!((median(&[4.0, 2.0]), median(&[]).is_nan()), (3.0, true));
        assert_eq!(paired(&[1.0, 3.0], &[2.0, 4.0]), [0.5, 0.75]);
        assert_eq!(faster(&[1.0, 3.0], &[2.0, 2.0]), [1.0, 2.0]);
    }

    #[test]
    fn a_table_is_as_wide_as_it_must_be() {
        let rows = [vec!["arm".to_owned(), "wall".into()], vec!["a long one".into(), "1".into()]];
        assert_eq!(table(&rows), ["arm         wall", "a long one     1"]);
    }
}
