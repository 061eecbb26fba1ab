//! `show flowspec`: FlowSpec rules in force, dry runs included.

use super::Category;

pub(super) const CATEGORY: Category = Category {
    name: "flowspec",
    arguments: "",
    help: "FlowSpec rules in force and which peers they were sent to",
    run: |view, arguments| super::mitigations(view, "flowspec", "flowspec", arguments),
};
