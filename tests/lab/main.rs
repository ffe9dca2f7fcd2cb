//! The lab: the `tandem` binary as a process of its own between SIPp, Kamailio and sockets of the test, on loopback
//! addresses that no other test uses. One test at a time; every process is stopped by its id when its guard drops.
//!
//! `TANDEM_BIN` names the binary under test (`tests/run` sets it to the release build); without it the one that cargo
//! built for this target is used.

mod rig;

mod generators;
mod calls;
mod cancel;
mod outage;
mod kamailio;
mod capacity;
mod corpus;
mod identity;
mod lifecycle;
mod reload;
mod network;
mod flood;
mod slow_tcp;
#[cfg(feature = "tls")]
mod tls;
mod sinks;
mod balancer;
mod exhaustion;
mod metrics;
mod snmp;
mod vip;
mod demo;
mod deploy;
mod ha_rig;
mod ha_start;
mod ha_ops;
mod ha_vip;
mod ha_handover;
mod ha_kill;
mod ha_mode;
mod ha_streams;
mod ha_respawn;
mod ha_takeovers;
mod ha_standby;
mod ha_deploy;
mod ha_link;
mod ha_partition;
mod ha_witness;
mod ha_six;
mod ha_times;
mod ha_upgrade;
mod ha_self;
mod ha_both;
mod ha_crossed;
mod ha_drill;
