//! **Owns** what the tests of the whole path share: a stack of real servers and services, a zoo of artifacts, a
//! client to push and compare them.
//! **May know** everything that a user may know: configuration files, URLs, the command line.
//! **Never knows** the insides of a service: it sees them as processes.

pub mod bench;
pub mod client;
pub mod compare;
pub mod control;
pub mod counting;
pub mod options;
pub mod stack;
pub mod zoo;
