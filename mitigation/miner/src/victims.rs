//! Rules of several victims that are the same but for the destination become one, where the rails allow the wider prefix: within the
//! prefix that is alarmed (decision 1), and only if no goodput is lost by it.
//!
//! Victims that were alarmed one by one keep rules of their own: no rule may be wider than its alarm. When there are many, the alarm
//! stands at their prefix, and this is where their rules meet.

use traffic::Prefix;

use super::Request;
use super::baseline::{Judge, Rule};
use super::test::{Field, Test, Tests};

impl Judge<'_> {
    /// Merges rules of a set that differ in their destination alone into a rule for the narrowest prefix that covers both, as long as
    /// the set is worth no less with it.
    pub(super) fn merge_victims(&self, request: &Request<'_>, set: &mut Vec<Rule>) {
        let mut value = self.value(set);
        let mut at = 0;
        while at < set.len() {
            let better = (at + 1..set.len()).find_map(|other| {
                let tests = merged(&set[at].tests, &set[other].tests, request.target.prefix)?;
                let mut fewer = set.clone();
                fewer[at] = Rule {
                    tests,
                    rows: self.columns.matching(&self.columns.all, &tests),
                    loss: set[at].loss + set[other].loss,
                    unseen: set[at].unseen.max(set[other].unseen),
                };
                fewer.remove(other);
                let its = self.value(&fewer);
                (its >= value).then_some((fewer, its))
            });
            match better {
                // The wider rule may meet further ones.
                Some((fewer, its)) => (*set, value) = (fewer, its),
                None => at += 1,
            }
        }
    }
}

/// Both rules as one within the alarmed prefix, if they are the same but for the destination.
fn merged(a: &Tests, b: &Tests, alarmed: Prefix) -> Option<Tests> {
    let (Some(Test::Destination(of_a)), Some(Test::Destination(of_b))) =
        (a.get(Field::Destination), b.get(Field::Destination))
    else {
        return None;
    };
    let rest = a.without(Field::Destination);
    if rest != b.without(Field::Destination) || rest.len() == 0 {
        return None;
    }
    let common = (of_a.bits() ^ of_b.bits()).leading_zeros().min(of_a.length().into()).min(of_b.length().into());
    let covering = Prefix::new(of_a.version(), of_a.bits(), u8::try_from(common).ok()?)?;
    // Rules for the whole of what is alarmed say so without a condition.
    Some(if covering.contains(&alarmed) { rest } else { rest.with(Test::Destination(covering)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(protocol: u32, destination: &str) -> Tests {
        let destination = Test::Destination(destination.parse().expect("literal"));
        Tests::default().with(Test::value(Field::Protocol, protocol)).with(destination)
    }

    #[test]
    fn rules_that_differ_in_the_victim_alone_meet_in_the_narrowest_prefix_within_the_alarm() {
        let alarmed: Prefix = "203.0.113.0/24".parse().expect("literal");
        let both = merged(&rule(17, "203.0.113.4/32"), &rule(17, "203.0.113.7/32"), alarmed);
        assert_eq!(both, Some(rule(17, "203.0.113.4/30")));
        let all = merged(&rule(17, "203.0.113.0/26"), &rule(17, "203.0.113.192/26"), alarmed);
        assert_eq!(all, Some(Tests::default().with(Test::value(Field::Protocol, 17))));
    }

    #[test]
    fn rules_that_differ_elsewhere_stay_apart() {
        let alarmed: Prefix = "203.0.113.0/24".parse().expect("literal");
        assert_eq!(merged(&rule(17, "203.0.113.4/32"), &rule(6, "203.0.113.7/32"), alarmed), None);
        assert_eq!(
            merged(&rule(17, "203.0.113.4/32"), &rule(17, "203.0.113.7/32").without(Field::Destination), alarmed),
            None
        );
    }
}
