//! `runbook new`: a runbook to start from, which checks clean and runs on the sandbox. Overwrites nothing.

use std::io::Write as _;
use std::path::Path;

use crate::arguments::New;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ui::Ui;

const ENVIRONMENT: &str = "\
# The sandbox: nothing here is real. Copy this file for a real environment; `runbook schema environment` has
# every key.
name: local
extends: sandbox
";

pub(crate) fn new(ui: &Ui, given: &New) -> Result<Exit, Failure> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if given.name.is_empty() || !given.name.chars().all(good) {
        return Err(Failure::usage(format!("`{}` is not a name for a runbook", given.name))
            .hint("use lower-case letters, digits and `-`"));
    }
    let runbook = given.dir.join(format!("{}.yaml", given.name));
    let environment = given.dir.join("environments").join("local.yaml");
    write(&runbook, &text(&given.name))?;
    ui.line(&format!("wrote {}", runbook.display()));
    if !environment.exists() {
        write(&environment, ENVIRONMENT)?;
        ui.line(&format!("wrote {}", environment.display()));
    }
    let shown = runbook.display();
    ui.remark(&format!(
        "\nnext: runbook check {shown}\n      runbook run {shown} --env local\n      \
         runbook actions   what a step can do"
    ));
    Ok(Exit::Succeeded)
}

fn text(name: &str) -> String {
    format!(
        "\
name: {name}
title: What this runbook is for, in one line
kind: maintenance            # incident | drill | maintenance

inputs:
  at_least: {{ type: integer, default: 1, help: Fewer profiles than this is a failure. }}

steps:
  - id: count
    title: Count the profiles
    uses: postgres.query
    with:
      connection: \"{{{{ connections.live }}}}\"
      sql: select count(*) as profiles from public.profiles
    why: A number that everybody knows shows at once whether this is the right database.
    if_it_fails: Nothing was changed. Look at the connection in environments/NAME.yaml.

  - id: enough
    title: Say so
    uses: flow.noop
    preconditions:
      - check: steps.count.rows[0].profiles >= inputs.at_least
        message: \"only {{{{ steps.count.rows[0].profiles }}}} profiles are there\"

outputs:
  profiles: \"{{{{ steps.count.rows[0].profiles }}}}\"
"
    )
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let attempted = || format!("write `{}`", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| Failure::io(attempted(), error))?;
    }
    let mut file = std::fs::File::create_new(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::usage(format!("`{}` is there already", path.display())).hint("choose another name")
        }
        _ => Failure::io(attempted(), error),
    })?;
    file.write_all(text.as_bytes()).map_err(|error| Failure::io(attempted(), error))
}
