//! **Owns** the broker: one table of the topology, publishing with confirms, consuming, settling, delayed
//! retry and dead letters; RabbitMQ through lapin, and an in-process twin.
//! **May know** AMQP 0-9-1 and the traps of RabbitMQ 3.10 to 4.x.
//! **Never knows** what a message carries.

mod envelope;
mod in_process;
mod port;
mod rabbitmq;
mod topology;

pub use envelope::DELIVERED_BEFORE;
pub use in_process::InProcess;
pub use port::{
    Bus, BusError, BusState, Death, Deliveries, Delivery, Destination, GivenUpBy, Incoming, Outgoing,
    QueueLook, Settle, Settled, Subscription,
};
pub use rabbitmq::{BusSettings, BusSettingsError, RabbitMq};
pub use topology::{FACTS_EXCHANGE, FACTS_QUEUE, HoldDelay, Inbox, MAX_BODY_BYTES, WorkQueue};
