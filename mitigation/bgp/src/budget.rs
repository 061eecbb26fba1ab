//! [`Budget`]: how the room of a table of rules is shared out among those who want rules (decision 40). The same for all rules
//! together (`max_rules`) and for each router's table (`flowspec_max_rules`).
//!
//! Each account has a share that no other account can use up, and may use what is nobody else's share:
//!
//! | account | own share | at most, with the default reserve of 10 % |
//! |---|---|---|
//! | operators | `rule_reserve_percent` | 75 % |
//! | remote bans | none | 65 % |
//! | mitigation | a quarter, of a table of one rule nothing | 90 % |

use crate::announcement::Origin;
use crate::gate::Class;

/// On whose account a rule is held. Ordered by whose word counts where two want the same NLRI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// What operators ordered for or against their own networks.
    Operators,
    /// Bans of foreign hosts, whoever ordered them.
    RemoteBans,
    /// What was mined.
    Mitigation,
}

impl Account {
    /// The account of a rule.
    #[must_use]
    pub const fn of(origin: Origin, class: Class) -> Self {
        match (origin, class) {
            (Origin::Automatic, _) => Self::Mitigation,
            (Origin::Manual, Class::RemoteBan) => Self::RemoteBans,
            (Origin::Manual, Class::Incoming | Class::Outgoing) => Self::Operators,
        }
    }
}

/// Rules by account, in the order of [`Account`].
pub type Used = [usize; 3];

/// The room of a table of rules, shared out among [`Account`]s.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    total: usize,
    reserve: f64,
}

impl Budget {
    /// Of a table with room for `total` rules; `reserve` is the operators' share, 0 to 1.
    #[must_use]
    pub const fn new(total: usize, reserve: f64) -> Self {
        Self { total, reserve }
    }

    /// Rules in all at most.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.total
    }

    /// The table turned out to have less room.
    pub fn limit(&mut self, total: usize) {
        self.total = self.total.min(total);
    }

    /// What each account has for itself.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a share")]
    fn shares(&self) -> Used {
        let others = (self.total as f64 * (1.0 - self.reserve.clamp(0.0, 1.0))).ceil() as usize;
        let mitigation = self.total.div_ceil(4).min(self.total / 2).min(others);
        [self.total.saturating_sub(others), 0, mitigation]
    }

    /// Whether `more` rules on an account fit beside those that are there.
    #[must_use]
    pub fn fits(&self, used: &Used, account: Account, more: usize) -> bool {
        let mut after = *used;
        after[account as usize] += more;
        let shares = self.shares();
        after[account as usize] <= shares[account as usize] || claimed(&after, &shares) <= self.total
    }

    /// The account that has to give a rule back so that everybody's share is free again; `None` if nobody has. It happens when a
    /// table becomes smaller.
    #[must_use]
    pub fn debtor(&self, used: &Used) -> Option<Account> {
        let shares = self.shares();
        let owes = |account: &Account| used[*account as usize] > shares[*account as usize];
        let order = [Account::RemoteBans, Account::Operators, Account::Mitigation];
        if claimed(used, &shares) <= self.total { None } else { order.into_iter().find(owes) }
    }
}

/// What is used, and what is kept free for those who do not use their share.
fn claimed(used: &Used, shares: &Used) -> usize {
    used.iter().zip(shares).map(|(used, share)| *used.max(share)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many rules on an account as fit.
    fn fill(budget: Budget, used: &mut Used, account: Account) -> usize {
        while budget.fits(used, account, 1) {
            used[account as usize] += 1;
        }
        used[account as usize]
    }

    #[test]
    fn nobody_uses_up_the_share_of_another_in_whatever_order_they_come() {
        use Account::{Mitigation, Operators, RemoteBans};
        let budget = Budget::new(200, 0.1);
        for order in [[Operators, RemoteBans, Mitigation], [RemoteBans, Operators, Mitigation]] {
            let mut used = [0; 3];
            for account in order {
                fill(budget, &mut used, account);
            }
            assert!(used[Mitigation as usize] >= 50, "{order:?}: {used:?}");
            assert_eq!(used.iter().sum::<usize>(), 200, "{order:?}: {used:?}");
        }
        for (account, most) in [(Operators, 150), (RemoteBans, 130), (Mitigation, 180)] {
            assert_eq!(fill(budget, &mut [0; 3], account), most, "{account:?} alone");
        }
    }

    #[test]
    fn a_table_of_one_rule_is_the_operators_and_without_a_share_left_mitigation_has_none() {
        assert_eq!(fill(Budget::new(1, 0.1), &mut [0; 3], Account::Operators), 1);
        assert_eq!(fill(Budget::new(100, 1.0), &mut [0; 3], Account::Mitigation), 0);
        assert_eq!(fill(Budget::new(0, 0.1), &mut [0; 3], Account::Operators), 0);
        assert_eq!(fill(Budget::new(2, 0.0), &mut [0; 3], Account::RemoteBans), 1, "one is mitigation's");
    }

    #[test]
    fn in_a_table_that_shrank_bans_give_way_first_and_everybodys_share_is_free_then() {
        let mut budget = Budget::new(200, 0.1);
        let mut used = [20, 100, 80];
        assert_eq!(budget.debtor(&used), None);
        budget.limit(100);
        while let Some(account) = budget.debtor(&used) {
            used[account as usize] -= 1;
        }
        assert_eq!(used, [20, 0, 80]);
        assert!(budget.fits(&[10, 65, 0], Account::Mitigation, 25));
        assert!(budget.fits(&[0, 100, 0], Account::Mitigation, 25), "its share, however full it is");
        assert!(!budget.fits(&[0, 100, 0], Account::Mitigation, 26));
    }
}
