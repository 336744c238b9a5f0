//! What people do and decide inside a run. Nothing here reaches outside: questions are asked by the
//! executor, which hands the answers in.

mod answers;
mod approval;
mod decide;
mod incident;
mod manual;

pub use answers::Answer;
pub use approval::Approval;
pub use decide::Decide;
pub use incident::Declare;
pub use manual::Manual;
