//! "Did you mean": the nearest of the names that would have been right. Knows nothing of any
//! language; spellings from other systems are tables beside the keys they stand for.

/// Names looked at for one suggestion; a file with thousands of mistakes among thousands of names
/// must not take minutes.
const CANDIDATES_MAX: usize = 2_000;

/// The candidate that was probably meant: the same letters in another style (`maxAttempts`,
/// `max-attempts`), or few typing mistakes away. None when nothing is near.
pub fn closest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = letters(given);
    if plain.is_empty() {
        return None;
    }
    let allowed = (plain.len() / 3).clamp(1, 3);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates.into_iter().take(CANDIDATES_MAX) {
        let other = letters(candidate);
        if other == plain {
            return Some(candidate);
        }
        if other.len().abs_diff(plain.len()) > allowed {
            continue;
        }
        let distance = strsim::damerau_levenshtein(&plain, &other);
        if distance <= allowed && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, name)| name)
}

/// `did you mean `x`?` when something is near, else the names there are.
pub fn did_you_mean<'a, I>(given: &str, candidates: I) -> Option<String>
where
    I: IntoIterator<Item = &'a str>,
    I::IntoIter: Clone,
{
    let candidates = candidates.into_iter();
    closest(given, candidates.clone()).map_or_else(
        || {
            let names = list_of(candidates);
            (!names.is_empty()).then(|| format!("there is {names}"))
        },
        |name| Some(format!("did you mean `{name}`?")),
    )
}

/// Names in backticks with commas, cut after a dozen: nobody reads more.
pub fn list_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN_MAX: usize = 12;
    let mut text = String::new();
    for (index, name) in names.into_iter().enumerate() {
        if index == SHOWN_MAX {
            text.push_str(", …");
            break;
        }
        if index > 0 {
            text.push_str(", ");
        }
        text.push('`');
        text.push_str(name);
        text.push('`');
    }
    text
}

/// Lower-case letters and digits only, so that the style of a name does not count as a mistake.
fn letters(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_style_of_the_same_letters_is_the_nearest() {
        let keys = ["max_attempts", "max_interval"];
        assert_eq!(closest("maxAttempts", keys), Some("max_attempts"));
        assert_eq!(closest("max-interval", keys), Some("max_interval"));
    }

    #[test]
    fn a_typing_mistake_is_found_and_a_different_word_is_not() {
        assert_eq!(closest("tilte", ["title", "tags"]), Some("title"));
        assert_eq!(closest("colour", ["title", "tags"]), None);
        assert_eq!(closest("", ["title"]), None);
    }

    #[test]
    fn without_a_near_name_the_names_are_listed() {
        assert_eq!(did_you_mean("zzz", ["red", "blue"]), Some("there is `red`, `blue`".into()));
        assert_eq!(did_you_mean("zzz", []), None);
    }
}
