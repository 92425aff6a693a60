//! **Owns** the servers that tests, the demo and a local stack need: RabbitMQ, PostgreSQL, Azurite and registries,
//! each a private instance on free loopback ports with all its files in a temporary folder, ended by process id.
//! **May know** how Debian and npm install these servers, and what each needs to start as any user.
//! **Never knows** transship: it depends on none of its packages.

mod azurite;
mod endpoints;
mod guard;
mod ports;
mod postgres;
mod process;
mod rabbitmq;
mod random;
mod registry;
mod sas;
mod servers;

pub use azurite::{Azurite, Container};
pub use endpoints::{AzuriteEndpoint, Endpoints, RabbitMqEndpoint, RegistryEndpoint, Side};
pub use ports::free_port;
pub use postgres::Postgres;
pub use process::Process;
pub use rabbitmq::{RabbitMq, RabbitMqOptions};
pub use registry::{Registry, RegistryOptions};
pub use servers::Servers;
