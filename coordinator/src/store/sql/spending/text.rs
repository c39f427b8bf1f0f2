//! What people read of budgets.

use patchfleet_domain::spending::Account;
use patchfleet_domain::{BudgetScope, Reservation};

use super::Key;

/// Whose budget it is.
fn whose(key: &Key) -> String {
    match key.scope {
        BudgetScope::Task => "this task".to_owned(),
        BudgetScope::Repository => format!("{} on {}", key.name, key.day),
        BudgetScope::User => format!("@\u{200b}{} on {}", key.name, key.day),
        BudgetScope::Day => format!("all tasks on {}", key.day),
    }
}

/// How much of the limits is used.
fn used(account: Account) -> String {
    let money = account
        .limit
        .usd
        .map(|most| format!("{} of {most}", account.usd));
    let tokens = account
        .limit
        .tokens
        .map(|most| format!("{} of {most} tokens", account.tokens));
    let parts: Vec<_> = money.into_iter().chain(tokens).collect();
    parts.join(", ")
}

/// What people read when little of a budget is left.
pub(super) fn warning(key: &Key, account: Account) -> String {
    format!(
        "{} % of the budget of {} are used or reserved: {}",
        account.percent(),
        whose(key),
        used(account)
    )
}

/// What people read when a call is not allowed.
pub(super) fn refusal((key, account): (&Key, Account), call: &Reservation) -> String {
    if account.limit.usd.is_some() && call.cost.is_none() {
        return format!(
            "the price of model `{}` ({}) is not known, and the budget of {} is in money: give the \
             model a price (`free` is one), or limit tokens",
            call.model,
            call.provider,
            whose(key)
        );
    }
    let wanted = call
        .cost
        .filter(|_| account.limit.usd.is_some())
        .map_or_else(
            || format!("{} tokens", call.tokens),
            |cost| format!("{cost} ({} tokens)", call.tokens),
        );
    format!(
        "the budget of {} is spent: {} are used or reserved, and the next call of `{}` may take {wanted}",
        whose(key),
        used(account),
        call.model
    )
}
