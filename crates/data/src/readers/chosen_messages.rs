//! Message pairs: `chosen_messages` and `rejected_messages`, two whole conversations.
//!
//! LLaMA-Factory's messages form of preference data: each turn has a `role`, a list of content
//! parts and a `loss_weight`. The weights mark the last answer as the one to learn, which is
//! what pair training does anyhow.

use super::fields::{Row, required};
use super::turns::{messages, split_pair};
use super::{Reading, has_both};
use crate::error::FieldProblem;

const CHOSEN: &str = "chosen_messages";
const REJECTED: &str = "rejected_messages";

pub(super) fn detect(row: &Row) -> bool {
    has_both(row, CHOSEN, REJECTED)
}

pub(super) fn read(row: &Row) -> Result<Reading, FieldProblem> {
    let chosen = messages(required(row, CHOSEN)?, CHOSEN)?;
    let rejected = messages(required(row, REJECTED)?, REJECTED)?;
    Reading::of_conversations(row, split_pair(chosen, rejected, [CHOSEN, REJECTED])?)
}
