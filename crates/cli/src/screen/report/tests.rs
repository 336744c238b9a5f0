//! The renderers over one model, which holds what is hostile and what is rare: every text must show as it is.

use runbook_executor::report::Report;

use super::{html, markdown};

fn sample() -> Report {
    serde_json::from_str(include_str!("sample.json")).unwrap()
}

#[test]
fn markdown_shows_every_part() {
    insta::assert_snapshot!(markdown(&sample()));
}

#[test]
fn html_shows_every_part() {
    let page = html(&sample());
    // The look has its own file; it would drown the rest.
    let body = page.split_once("</style>").unwrap().1.to_owned();
    insta::assert_snapshot!(body);
}

#[test]
fn nothing_from_outside_becomes_markup() {
    let hostile = "<img src=x onerror=alert(1)>\"'& `|` [a](javascript:b) \u{202e}\u{1b}[0m\n# head";
    let text = include_str!("sample.json")
        .replace("HOSTILE", serde_json::to_string(hostile).unwrap().trim_matches('"'));
    let report: Report = serde_json::from_str(&text).unwrap();
    let (page, text) = (html(&report), markdown(&report));
    // The chart is a block of code, in which nothing is markup and which nothing in it can end.
    let (before, after) = text.split_once("```text\n").unwrap();
    let (chart, after) = after.split_once("```\n").unwrap();
    assert!(chart.lines().all(|line| line.contains('|')) && !after.contains("```"), "{text}");
    let text = format!("{before}{after}");
    for form in [&page, &text] {
        assert!(!form.contains("<img") && !form.contains('\u{1b}') && !form.contains('\u{202e}'), "{form}");
        assert!(!form.contains("\n# head"), "{form}");
    }
    assert!(!page.contains("href=\"javascript") && !page.contains("onerror=alert(1)>"), "{page}");
    assert!(!text.contains("[a](javascript"), "{text}");
}
