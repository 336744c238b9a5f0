//! `runbook explain`: a guard, a diagnostic's code, or an exit status.

use std::fmt::Write as _;

use crate::arguments::Explain;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ui::Ui;
use crate::words::wrap;

pub(crate) fn explain(ui: &Ui, given: &Explain) -> Result<Exit, Failure> {
    if let Ok(status) = given.code.parse::<u8>() {
        let Some((exit, meaning, changed)) = Exit::TABLE.iter().find(|(exit, ..)| exit.status() == status)
        else {
            return Err(Failure::usage(format!("there is no exit status {status}")).hint("they are 0 to 8"));
        };
        ui.line(&format!("exit status {}: {meaning}\nhas the target changed? {changed}", exit.status()));
        return Ok(Exit::Succeeded);
    }
    let Some(explanation) = runbook_core::guard::explain(&given.code) else {
        return Err(Failure::usage(format!("nothing is known under `{}`", given.code))
            .hint("a guard (G01 to G09), the code of a diagnostic, or an exit status (0 to 8)"));
    };
    let mut text = format!("{}\n\n", explanation.code);
    wrap(&mut text, explanation.rule, 2, ui.width);
    text.push('\n');
    wrap(&mut text, explanation.why, 2, ui.width);
    for (title, yaml) in [("refused", explanation.refused), ("allowed", explanation.allowed)] {
        if !yaml.trim().is_empty() {
            let _ = writeln!(text, "\n{title}");
            yaml.trim_matches('\n').lines().for_each(|line| {
                let _ = writeln!(text, "  {line}");
            });
        }
    }
    ui.block(&text);
    Ok(Exit::Succeeded)
}
