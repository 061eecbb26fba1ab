//! `show flowspec`: FlowSpec rules in force, dry runs included.

use operator::status::Effect;

use super::Category;

pub(super) const CATEGORY: Category = Category {
    name: "flowspec",
    arguments: "[history ROUTE]",
    help: "FlowSpec rules in force and which peers they were sent to",
    run: |view, arguments| super::mitigations(view, "flowspec", &[Effect::FlowSpec], arguments),
};
