//! A folder of files on every member of a group: assets, WASM plug-ins, rules, models, certificates (Tomcat: `FarmWarDeployer`).
//!
//! [`Farm`] is the way in. What is where:
//!
//! | folder | holds |
//! |---|---|
//! | `farm` | the handle, its builder, publishing, reports; performs what the cores decide |
//! | `replica` | what a member knows and does of each artefact, and when it goes live; no I/O |
//! | `transfer` | what to fetch from whom; no I/O |
//! | `watch` | which files of a watched folder are still; no I/O but for the folder itself |
//! | `disk` | objects, partial files, live files, records |
//! | `manifest`, `name`, `digest`, `trust`, `limits` | what is said of artefacts, and what of it is believed |

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests use real time and tasks where they say so"))]

mod digest;
mod disk;
mod farm;
mod limits;
mod manifest;
mod name;
mod replica;
mod transfer;
mod trust;
mod watch;

pub use digest::{Algorithm, Digest};
pub use farm::{
    Activated, Artefact, ArtefactStats, ArtefactStatus, Farm, FarmBuilder, FarmError, FarmStats, Goal, NodeReport,
    NodeState, Publication, PublishError, Report, Staged, Verdict, WaitError,
};
pub use limits::Limits;
pub use manifest::{ParseVersionError, Refused, Version};
pub use name::{ArtefactName, NameError};
pub use replica::{Activation, Stage, StopReason};
pub use trust::{KeyError, Keys, PublicKey, SigningKey, Trust};
pub use watch::Watch;
