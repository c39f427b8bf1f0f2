//! Whether a Redis lets us in and may be used for everything that is done there; nothing is changed.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, RedisError, ServerErrorKind, cmd};

use super::server::Server;

/// How long somebody who wants to know why waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks for a sign of life, and for every right.
///
/// # Errors
/// The reason that Redis or the system gives, and what to do about it.
pub(crate) async fn check(server: &Server, prefix: &str) -> anyhow::Result<()> {
    let asked = async {
        let asked = ask(server, prefix).await;
        asked.map_err(|error| match error.downcast_ref::<RedisError>() {
            Some(cause) => anyhow!(server.why(cause)),
            None => error,
        })
    };
    let answered = tokio::time::timeout(PATIENCE, asked).await;
    answered.map_err(|_| anyhow!(server.silence()))?
}

async fn ask(server: &Server, prefix: &str) -> anyhow::Result<()> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let client = &server.client;
    let mut redis = client
        .get_multiplexed_async_connection_with_config(&config)
        .await?;
    let _: String = cmd("PING").query_async(&mut redis).await?;
    let refused = refused(redis, prefix).await?;
    if !refused.is_empty() {
        bail!(
            "its user may not use {} on keys and channels that begin with `{prefix}:` (NOPERM); \
             docs/OPERATIONS.md has the rule for ACL SETUSER",
            refused.join(", ")
        );
    }
    let mut subscription = client.get_async_pubsub().await?;
    let subscribed = subscription.subscribe(channel(prefix)).await;
    subscribed.context("hints of other replicas can't be heard")?;
    Ok(())
}

/// The commands that its user may not use. They are queued in a transaction, which is when Redis
/// looks at rights, and the connection ends before it is carried out.
async fn refused(
    mut redis: MultiplexedConnection,
    prefix: &str,
) -> Result<Vec<String>, RedisError> {
    let mut refused = Vec::new();
    let exec = is_refused(&mut redis, &cmd("EXEC")).await?;
    if is_refused(&mut redis, &cmd("MULTI")).await? {
        refused.push("MULTI".to_owned());
        // Without it what follows would be carried out.
        return Ok(refused);
    }
    for (name, command) in commands(prefix) {
        if is_refused(&mut redis, &command).await? {
            refused.push(name.to_owned());
        }
    }
    refused.extend(exec.then(|| "EXEC".to_owned()));
    Ok(refused)
}

/// Every command that the rest of this module uses, on a key of our own.
fn commands(prefix: &str) -> Vec<(&'static str, Cmd)> {
    let key = format!("{prefix}:doctor:check");
    let on_key: [(&str, &[&str]); 9] = [
        ("EXISTS", &[]),
        ("GET", &[]),
        ("SET", &["1"]),
        ("SETEX", &["1", "1"]),
        ("PSETEX", &["1", "1"]),
        ("MGET", &[]),
        ("HMGET", &["tag"]),
        ("HMSET", &["tag", "1"]),
        ("EXPIRE", &["1"]),
    ];
    let mut commands: Vec<_> = on_key
        .into_iter()
        .map(|(name, rest)| (name, cmd(name).arg(&key).arg(rest).clone()))
        .collect();
    let nothing = "return 0";
    commands.extend([
        (
            "PUBLISH",
            cmd("PUBLISH").arg(channel(prefix)).arg(1).clone(),
        ),
        ("TIME", cmd("TIME")),
        ("EVALSHA", cmd("EVALSHA").arg("0").arg(1).arg(&key).clone()),
        (
            "SCRIPT LOAD",
            cmd("SCRIPT").arg("LOAD").arg(nothing).clone(),
        ),
    ]);
    commands
}

async fn is_refused(redis: &mut MultiplexedConnection, command: &Cmd) -> Result<bool, RedisError> {
    match command.query_async::<redis::Value>(redis).await {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) => Ok(true),
        Err(error) if error.code().is_some() => Ok(false),
        Err(error) => Err(error),
    }
}

fn channel(prefix: &str) -> String {
    format!("{prefix}:changed:")
}
