//! `show blackhole`: blackholed hosts, dry runs included.

use operator::status::Effect;

use super::Category;

pub(super) const CATEGORY: Category = Category {
    name: "blackhole",
    arguments: "[history ROUTE]",
    help: "blackholed hosts and which peers they were sent to",
    run: |view, arguments| super::mitigations(view, "blackhole", &[Effect::Blackhole, Effect::Diversion], arguments),
};
