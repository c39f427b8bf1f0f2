//! The first message of a stream: who is this, and is it what this coordinator speaks?

use std::time::Duration;

use patchfleet_domain::{Agent, Work};
use patchfleet_proto::convert::{self, InvalidMessage};
use patchfleet_proto::v1::agent_message::Body;
use patchfleet_proto::{PROTOCOL, v1};
use tonic::{Status, Streaming};
use uuid::Uuid;

/// How long a stream may stay silent before it says who it is.
const REGISTER_WITHIN: Duration = Duration::from_secs(10);

/// An agent that wants in.
#[derive(Debug)]
pub(super) struct Newcomer {
    /// What it says of itself.
    pub(super) agent: Agent,
    /// Names its process.
    pub(super) instance: Uuid,
    /// What it is working on.
    pub(super) resume: Vec<Work>,
}

/// Waits for the registration and checks it.
pub(super) async fn receive(
    incoming: &mut Streaming<v1::AgentMessage>,
) -> Result<Newcomer, Status> {
    let first = tokio::time::timeout(REGISTER_WITHIN, incoming.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no registration within 10 s"))??;
    match first.and_then(|message| message.body) {
        Some(Body::Register(register)) => parse(register),
        _ => Err(Status::invalid_argument(
            "the first message has to be `register`",
        )),
    }
}

fn parse(register: v1::Register) -> Result<Newcomer, Status> {
    if register.protocol != PROTOCOL {
        return Err(Status::failed_precondition(format!(
            "field `register.protocol`: this coordinator speaks version {PROTOCOL}, the agent \
             speaks {}; run the same release of both",
            register.protocol
        )));
    }
    let agent = Agent::try_from(&register).map_err(|error| invalid(&error))?;
    let instance = register.instance.parse().map_err(|_| {
        let text = &register.instance;
        Status::invalid_argument(format!("field `register.instance`: `{text}` is not a UUID"))
    })?;
    Ok(Newcomer {
        agent,
        instance,
        resume: convert::works(register.resume).map_err(|error| invalid(&error))?,
    })
}

/// Tells the agent which field was wrong.
pub(super) fn invalid(error: &InvalidMessage) -> Status {
    Status::invalid_argument(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register() -> v1::Register {
        v1::Register {
            agent_id: "backend-1".to_owned(),
            agent_type: "backend".to_owned(),
            clearance: "internal".to_owned(),
            slots: 2,
            protocol: PROTOCOL,
            instance: Uuid::now_v7().to_string(),
            ..Default::default()
        }
    }

    #[test]
    fn a_registration_is_accepted_or_told_what_is_wrong() {
        assert_eq!(parse(register()).unwrap().agent.slots, 2);
        let wrong = |change: fn(&mut v1::Register)| {
            let mut register = register();
            change(&mut register);
            parse(register).unwrap_err().message().to_owned()
        };
        assert!(wrong(|it| it.agent_id.clear()).contains("register.agent_id"));
        assert!(wrong(|it| it.slots = 0).contains("register.slots"));
        assert!(wrong(|it| it.clearance = "top".into()).contains("register.clearance"));
        assert!(wrong(|it| it.instance = "1".into()).contains("register.instance"));
        assert!(wrong(|it| it.resume = vec![v1::Work::default()]).contains("work.task_id"));
        assert!(wrong(|it| it.protocol = 2).contains("speaks version 1"));
    }
}
