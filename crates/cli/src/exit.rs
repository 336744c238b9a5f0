//! The exit statuses, in one table: a script must be able to choose. DESIGN section 9 and the README name
//! the same.

use std::process::ExitCode;

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: done as planned.
    Succeeded,
    /// 1: internal or I/O error of the tool.
    Internal,
    /// 2: wrong command line.
    Usage,
    /// 3: the runbook has mistakes.
    Invalid,
    /// 4: a precondition, a guard, an approval or an integrity check refused.
    Refused,
    /// 5: a step failed; the run can be resumed.
    Failed,
    /// 6: an outcome is unknown; a person must look.
    InDoubt,
    /// 7: stopped, paused, or waiting for a person; the run can be resumed.
    Stopped,
    /// 8: somebody else holds the run.
    Held,
}

impl Exit {
    /// All of them, with what each means and whether the target changed.
    pub(crate) const TABLE: [(Exit, &'static str, &'static str); 9] = [
        (Exit::Succeeded, "succeeded", "as planned"),
        (Exit::Internal, "internal or I/O error of the tool", "see `runbook status`"),
        (Exit::Usage, "wrong command line", "no"),
        (Exit::Invalid, "the runbook or the environment file has mistakes", "no"),
        (
            Exit::Refused,
            "a precondition, a guard, an approval or an integrity check refused",
            "not by the refused step",
        ),
        (Exit::Failed, "a step failed; the run can be resumed", "partly, see `runbook status`"),
        (Exit::InDoubt, "an outcome is unknown; a person must look", "perhaps"),
        (Exit::Stopped, "stopped, paused, or waiting for a person; the run can be resumed", "partly"),
        (Exit::Held, "somebody else holds the run or the environment", "not by this call"),
    ];

    /// The number.
    pub(crate) fn status(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.status())
    }
}
