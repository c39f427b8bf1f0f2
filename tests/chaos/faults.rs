//! What breaks, and how often.

use rand::Rng as _;
use rand::rngs::StdRng;

/// Something that breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A coordinator is killed and comes back soon.
    KillCoordinator,
    /// A coordinator is told to end and comes back soon.
    EndCoordinator,
    /// A coordinator stands still for longer than a lease.
    FreezeCoordinator,
    /// Every connection of agents and webhooks breaks.
    CutConnections,
    /// Everything that agents and webhooks send arrives late.
    SlowConnections,
    /// Nothing passes for longer than a lease, while connections stand.
    HoldConnections,
    /// What is sent to agents and GitHub does not pass for longer than a lease; what they send does.
    HoldOneWay,
    /// Redis is killed, and comes back empty.
    KillRedis,
    /// PostgreSQL ends at once and comes back.
    RestartDatabase,
    /// An agent's stream breaks.
    CutAgent,
    /// An agent's process dies and comes back.
    RestartAgent,
    /// An agent hangs, then goes on.
    SilenceAgent,
    /// An agent says goodbye, then comes back.
    DismissAgent,
    /// An agent's process is killed at its work, and comes back on an empty disk.
    KillDaemon,
    /// An agent's process is told to end, and comes back.
    EndDaemon,
    /// An agent's process stands still for longer than a lease, then goes on where it was.
    FreezeDaemon,
    /// There is no room left where an agent works.
    FillDisk,
    /// GitHub answers with 500.
    GitHubFails,
    /// GitHub limits.
    GitHubLimits,
    /// Answers of GitHub break off after their effect.
    GitHubCuts,
    /// Webhooks do not arrive.
    LoseWebhooks,
    /// Webhooks come twice.
    DoubleWebhooks,
    /// Webhooks come in another order.
    ReorderWebhooks,
    /// Nothing for a moment.
    Peace,
}

/// How often, in relation to each other.
const WEIGHTS: [(Fault, u32); 24] = [
    (Fault::KillCoordinator, 3),
    (Fault::EndCoordinator, 1),
    (Fault::FreezeCoordinator, 1),
    (Fault::CutConnections, 2),
    (Fault::SlowConnections, 2),
    (Fault::HoldConnections, 1),
    (Fault::HoldOneWay, 1),
    (Fault::KillRedis, 2),
    (Fault::RestartDatabase, 1),
    (Fault::CutAgent, 4),
    (Fault::RestartAgent, 4),
    (Fault::SilenceAgent, 2),
    (Fault::DismissAgent, 1),
    (Fault::KillDaemon, 3),
    (Fault::EndDaemon, 1),
    (Fault::FreezeDaemon, 2),
    (Fault::FillDisk, 2),
    (Fault::GitHubFails, 2),
    (Fault::GitHubLimits, 1),
    (Fault::GitHubCuts, 2),
    (Fault::LoseWebhooks, 2),
    (Fault::DoubleWebhooks, 2),
    (Fault::ReorderWebhooks, 2),
    (Fault::Peace, 6),
];

impl Fault {
    pub(crate) fn any(random: &mut StdRng) -> Self {
        let sum: u32 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        let mut place = random.random_range(0..sum);
        for (fault, weight) in WEIGHTS {
            if place < weight {
                return fault;
            }
            place -= weight;
        }
        Self::Peace
    }

    pub(crate) fn word(self) -> String {
        format!("{self:?}")
    }
}
