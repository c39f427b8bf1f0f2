//! Budgets: what scopes have spent, and calls of models that are allowed against them.
//!
//! A reservation adds the most that a call can use to each scope of its task, by one conditional update
//! a scope, always in the order task, repository, user, day; one that does not fit undoes all of them.
//! What the call did use replaces it when its usage is reported. A call of an attempt that ended without
//! such a report is counted in full, and shown as an estimate when the task goes on.

mod text;

use std::collections::BTreeMap;

use patchfleet_domain::report::Usage;
use patchfleet_domain::spending::Account;
use patchfleet_domain::{
    BudgetScope, Exceeded, Limit, Money, Reservation, Reserved, TaskId, Timestamp, Work,
};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::rows;
use super::rowset::big;
use super::unit::Unit;
use super::{Database, Sql};
use crate::store::held::Held;
use crate::store::{Cas, Commanded, ScopeSpending, StoreResult};

/// More than any call uses, and little enough that sums never leave the database's numbers.
const MOST: i64 = 1 << 50;
/// People are warned when so much of a limit is used, in hundredths.
const WARN_AT: u64 = 80;
/// Who says what is said here.
const ACTOR: &str = "coordinator";

/// A row of `spending`: a scope, whose it is, and the day.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    scope: BudgetScope,
    name: String,
    day: String,
}

/// Whose budgets a call is asked of.
#[derive(Debug, Clone)]
struct Payer {
    task: TaskId,
    repository: String,
    login: String,
    day: String,
}

impl Payer {
    fn of(held: &Held) -> Self {
        Self {
            task: held.task.id,
            repository: held.task.repository.to_string(),
            login: held.task.request.triggered_by.to_lowercase(),
            day: day_of(held.now),
        }
    }

    fn key(&self, scope: BudgetScope) -> Key {
        let name = match scope {
            BudgetScope::Task => self.task.to_string(),
            BudgetScope::Repository => self.repository.clone(),
            BudgetScope::User => self.login.clone(),
            BudgetScope::Day => String::new(),
        };
        let day = if scope.is_daily() {
            self.day.clone()
        } else {
            String::new()
        };
        Key { scope, name, day }
    }
}

/// Tokens and money as the database has them.
#[derive(Debug, Clone, Copy, Default)]
struct Amount {
    tokens: i64,
    micros: i64,
}

impl Amount {
    fn new(tokens: u64, cost: Option<Money>) -> Self {
        Self {
            tokens: big(tokens).min(MOST),
            micros: big(cost.unwrap_or_default().0).min(MOST),
        }
    }

    const fn minus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_sub(other.tokens),
            micros: self.micros.saturating_sub(other.micros),
        }
    }

    const fn plus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            micros: self.micros.saturating_add(other.micros),
        }
    }
}

/// Allows a call of the live attempt if every budget has room for it. Asked again it is the same call.
pub(super) async fn reserve(
    database: &Database,
    work: Work,
    call: &Reservation,
) -> StoreResult<Cas<Reserved>> {
    let mut unit = Unit::of(database);
    let Some(held) = unit.one(work.task).await? else {
        return Ok(Cas::Stale);
    };
    if !held.is_live(work) {
        return Ok(Cas::Stale);
    }
    let (payer, now) = (Payer::of(held), held.now.timestamp_micros());
    let sql = unit.sql().await?;
    if !insert(sql, (work, call), (&payer, now)).await? {
        return Ok(Cas::Applied(Reserved::Granted));
    }
    let mut warnings = Vec::new();
    for &scope in BudgetScope::ALL {
        let key = payer.key(scope);
        let mut limit = database.budgets.of(scope);
        if scope == BudgetScope::Task {
            limit = limit.and(call.task_limit);
        }
        let account = account(sql, &key, limit).await?;
        if !account.admits(call) {
            let (tokens_left, money_left) = left(account);
            let exceeded = Exceeded {
                scope,
                message: text::refusal((&key, account), call),
                tokens_left,
                money_left,
            };
            return refuse(unit, work, exceeded).await;
        }
        add(sql, &key, Amount::new(call.tokens, call.cost)).await?;
        let after = Account {
            usd: account.usd.plus(call.cost.unwrap_or_default()),
            tokens: account.tokens.saturating_add(call.tokens),
            ..account
        };
        if after.percent() >= WARN_AT && warn_once(sql, &key).await? {
            warnings.push(text::warning(&key, after));
        }
    }
    show_lost(&mut unit, work).await?;
    if let Some(held) = unit.held(work.task) {
        for warning in &warnings {
            held.note("note", (ACTOR, warning));
            held.changes.tells = true;
        }
    }
    unit.commit().await?;
    Ok(Cas::Applied(Reserved::Granted))
}

/// Undoes the reservation, and says on the task why.
async fn refuse(unit: Unit<'_>, work: Work, exceeded: Exceeded) -> StoreResult<Cas<Reserved>> {
    let database = unit.database();
    unit.roll_back().await;
    let mut unit = Unit::of(database);
    if let Some(held) = unit.one(work.task).await?
        && held.is_live(work)
    {
        held.record("note", (ACTOR, &exceeded.message));
        show_lost(&mut unit, work).await?;
    }
    unit.commit().await?;
    Ok(Cas::Applied(Reserved::Refused(exceeded)))
}

/// False when the call is there.
async fn insert(
    sql: &mut Sql,
    (work, call): (Work, &Reservation),
    (payer, now): (&Payer, i64),
) -> StoreResult<bool> {
    let amount = Amount::new(call.tokens, call.cost);
    let inserted = sqlx::query(
        "INSERT INTO model_calls (task, attempt, call, provider, model, repository, login, day, \
            reserved_tokens, reserved_micros, reserved_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING",
    )
    .bind(work.task.to_string())
    .bind(i64::from(work.attempt.0))
    .bind(call.call.as_str())
    .bind(call.provider.as_str())
    .bind(call.model.as_str())
    .bind(payer.repository.as_str())
    .bind(payer.login.as_str())
    .bind(payer.day.as_str())
    .bind(amount.tokens)
    .bind(call.cost.map(|_| amount.micros))
    .bind(now)
    .execute(sql)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// What a scope has spent, with its row made one's own until the transaction ends.
async fn account(sql: &mut Sql, key: &Key, limit: Limit) -> StoreResult<Account> {
    // An update that changes nothing, and not `DO NOTHING`, which would leave the row to others.
    let row = sqlx::query(
        "INSERT INTO spending (scope, name, day) VALUES ($1, $2, $3) \
         ON CONFLICT (scope, name, day) DO UPDATE SET tokens = spending.tokens \
         RETURNING tokens, cost_micros, extra_tokens, extra_micros",
    )
    .bind(key.scope.as_str())
    .bind(key.name.as_str())
    .bind(key.day.as_str())
    .fetch_one(sql)
    .await?;
    let read = |column: &str| -> StoreResult<u64> {
        let number: i64 = row.try_get(column)?;
        Ok(u64::try_from(number).unwrap_or_default())
    };
    let (extra_tokens, extra) = (read("extra_tokens")?, Money(read("extra_micros")?));
    Ok(Account {
        usd: Money(read("cost_micros")?),
        tokens: read("tokens")?,
        limit: Limit {
            usd: limit.usd.map(|most| most.plus(extra)),
            tokens: limit.tokens.map(|most| most.saturating_add(extra_tokens)),
        },
    })
}

async fn add(sql: &mut Sql, key: &Key, amount: Amount) -> StoreResult<()> {
    sqlx::query(
        "INSERT INTO spending (scope, name, day, tokens, cost_micros) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (scope, name, day) DO UPDATE SET tokens = spending.tokens + excluded.tokens, \
         cost_micros = spending.cost_micros + excluded.cost_micros",
    )
    .bind(key.scope.as_str())
    .bind(key.name.as_str())
    .bind(key.day.as_str())
    .bind(amount.tokens)
    .bind(amount.micros)
    .execute(sql)
    .await?;
    Ok(())
}

/// True for the first who asks.
async fn warn_once(sql: &mut Sql, key: &Key) -> StoreResult<bool> {
    let warned = sqlx::query(
        "UPDATE spending SET warned = 1 WHERE scope = $1 AND name = $2 AND day = $3 AND warned = 0",
    )
    .bind(key.scope.as_str())
    .bind(key.name.as_str())
    .bind(key.day.as_str())
    .execute(sql)
    .await?;
    Ok(warned.rows_affected() == 1)
}

/// Counts what calls of the task's earlier attempts may have cost among what the task shows.
async fn show_lost(unit: &mut Unit<'_>, work: Work) -> StoreResult<()> {
    let now = unit.now().await?.timestamp_micros();
    let lost = close_lost(unit.sql().await?, work, now).await?;
    if let Some(held) = unit.held(work.task) {
        for usage in &lost {
            held.task.spent.add(usage);
        }
    }
    Ok(())
}

/// Calls of the task's earlier attempts that nobody reported the end of: they were perhaps billed, and
/// nobody will say more about them.
async fn close_lost(sql: &mut Sql, work: Work, now: i64) -> StoreResult<Vec<Usage>> {
    let rows = sqlx::query(
        "UPDATE model_calls SET settled_at = $3, settlements = 1 \
         WHERE task = $1 AND attempt < $2 AND settled_at IS NULL \
         RETURNING call, provider, model, reserved_tokens, reserved_micros",
    )
    .bind(work.task.to_string())
    .bind(i64::from(work.attempt.0))
    .bind(now)
    .fetch_all(sql)
    .await?;
    rows.iter().map(lost).collect()
}

fn lost(row: &AnyRow) -> StoreResult<Usage> {
    let tokens: i64 = row.try_get("reserved_tokens")?;
    let micros: Option<i64> = row.try_get("reserved_micros")?;
    Ok(Usage {
        call: row.try_get("call")?,
        provider: row.try_get("provider")?,
        model: row.try_get("model")?,
        input_tokens: u64::try_from(tokens).unwrap_or_default(),
        estimated: true,
        cost: micros.map(|micros| Money(u64::try_from(micros).unwrap_or_default())),
        ..Usage::default()
    })
}

/// Replaces reservations by what was used. Scopes of many tasks are written in one order, so that
/// transactions wait for each other and never in a circle.
pub(super) async fn settle(unit: &mut Unit<'_>, used: &[(Work, Usage)]) -> StoreResult<()> {
    // First the tasks: whoever reserves holds the task, and then waits for the scopes.
    unit.flush().await?;
    let mut changes = BTreeMap::<Key, Amount>::new();
    for (work, usage) in used {
        let Some(held) = unit.held(work.task) else {
            continue;
        };
        let (current, now) = (Payer::of(held), held.now.timestamp_micros());
        let actual = Amount::new(usage.tokens(), usage.cost);
        let (payer, change) = match close(unit.sql().await?, (*work, usage), now).await? {
            Closed::Now(reserved, payer) => (payer, actual.minus(reserved)),
            Closed::Before => continue,
            Closed::Unknown => (current, actual),
        };
        for &scope in BudgetScope::ALL {
            let sum = changes.entry(payer.key(scope)).or_default();
            *sum = sum.plus(change);
        }
    }
    for (key, change) in changes {
        add(unit.sql().await?, &key, change).await?;
    }
    Ok(())
}

enum Closed {
    /// It was open, with so much reserved.
    Now(Amount, Payer),
    /// Its usage was counted already.
    Before,
    /// Nobody asked for it before it was made.
    Unknown,
}

async fn close(sql: &mut Sql, (work, usage): (Work, &Usage), now: i64) -> StoreResult<Closed> {
    let row = sqlx::query(
        "UPDATE model_calls SET settled_at = COALESCE(settled_at, $4), \
            settlements = settlements + 1 \
         WHERE task = $1 AND attempt = $2 AND call = $3 \
         RETURNING settlements, reserved_tokens, reserved_micros, repository, login, day",
    )
    .bind(work.task.to_string())
    .bind(i64::from(work.attempt.0))
    .bind(usage.call.as_str())
    .bind(now)
    .fetch_optional(sql)
    .await?;
    let Some(row) = row else {
        return Ok(Closed::Unknown);
    };
    let settlements: i64 = row.try_get("settlements")?;
    if settlements > 1 {
        return Ok(Closed::Before);
    }
    let micros: Option<i64> = row.try_get("reserved_micros")?;
    let reserved = Amount {
        tokens: row.try_get("reserved_tokens")?,
        micros: micros.unwrap_or_default(),
    };
    let payer = Payer {
        task: work.task,
        repository: row.try_get("repository")?,
        login: row.try_get("login")?,
        day: row.try_get("day")?,
    };
    Ok(Closed::Now(reserved, payer))
}

/// Lets the task spend more than its limit, and offers it again if it waits for a budget.
pub(super) async fn allow(
    database: &Database,
    task: TaskId,
    more: Limit,
    actor: &str,
) -> StoreResult<Commanded> {
    let mut unit = Unit::of(database);
    let done = allow_in(&mut unit, task, more, actor).await?;
    unit.commit().await?;
    Ok(done)
}

/// The same within a transaction.
pub(super) async fn allow_in(
    unit: &mut Unit<'_>,
    task: TaskId,
    more: Limit,
    actor: &str,
) -> StoreResult<Commanded> {
    let Some(held) = unit.one(task).await? else {
        return Ok(Commanded::NotFound);
    };
    if !held.task.state.is_active() {
        return Ok(Commanded::NotAllowed(held.task.state));
    }
    held.allow(more, actor)?;
    let (key, state) = (Payer::of(held).key(BudgetScope::Task), held.task.state);
    let amount = Amount::new(more.tokens.unwrap_or_default(), more.usd);
    sqlx::query(
        "INSERT INTO spending (scope, name, day, extra_tokens, extra_micros) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (scope, name, day) DO UPDATE SET \
         extra_tokens = spending.extra_tokens + excluded.extra_tokens, \
         extra_micros = spending.extra_micros + excluded.extra_micros, warned = 0",
    )
    .bind(key.scope.as_str())
    .bind(key.name.as_str())
    .bind(key.day.as_str())
    .bind(amount.tokens)
    .bind(amount.micros)
    .execute(unit.sql().await?)
    .await?;
    Ok(Commanded::Done(state))
}

/// Tasks that wait for a budget and whose time has come.
pub(super) async fn due(database: &Database, limit: u32) -> StoreResult<Vec<TaskId>> {
    let text = format!(
        "SELECT id FROM tasks WHERE state = 'waiting' AND wait_reason = 'budget' \
         AND not_before <= $1 ORDER BY not_before LIMIT {limit}"
    );
    let found = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(database.now().await?)
        .fetch_all(&database.readers)
        .await?;
    found.iter().map(|row| rows::word(row, "id")).collect()
}

/// What was spent today by each scope whose budget is one for each day.
pub(super) async fn today(database: &Database) -> StoreResult<Vec<ScopeSpending>> {
    let day = day_of(rows::moment(database.now().await?)?);
    let found = sqlx::query(
        "SELECT scope, name, day, tokens, cost_micros FROM spending \
         WHERE day = $1 ORDER BY cost_micros DESC, tokens DESC, scope, name LIMIT 1000",
    )
    .bind(day)
    .fetch_all(&database.readers)
    .await?;
    let read = |row: &AnyRow| {
        let scope = rows::word(row, "scope")?;
        Ok(ScopeSpending {
            scope,
            name: row.try_get("name")?,
            day: row.try_get("day")?,
            usd: Money(rows::number(row, "cost_micros")?),
            tokens: rows::number(row, "tokens")?,
            limit: database.budgets.of(scope),
        })
    };
    found.iter().map(read).collect()
}

/// Removes what was spent on days before that one.
pub(super) async fn forget_before(unit: &mut Unit<'_>, moment: Timestamp) -> StoreResult<()> {
    sqlx::query("DELETE FROM spending WHERE day <> '' AND day < $1")
        .bind(day_of(moment))
        .execute(unit.sql().await?)
        .await?;
    Ok(())
}

/// The day of UTC, which sorts as it is older.
fn day_of(moment: Timestamp) -> String {
    moment.format("%Y-%m-%d").to_string()
}

/// What the budget has left, where it limits.
fn left(account: Account) -> (Option<u64>, Option<Money>) {
    let tokens = account.limit.tokens;
    let money = account.limit.usd;
    (
        tokens.map(|most| most.saturating_sub(account.tokens)),
        money.map(|most| Money(most.0.saturating_sub(account.usd.0))),
    )
}
