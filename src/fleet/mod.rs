//! A view of a fleet.

use crate::ship::link::Access;

/// Where the logs of a fleet come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetPolicy {
    /// Servers of NATS.
    pub access: Access,
    /// The name of the fleet.
    pub fleet: String,
}
