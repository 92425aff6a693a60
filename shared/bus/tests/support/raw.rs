//! A connection beside the bus.

use lapin::{Channel, Connection, ConnectionProperties};

/// A connection beside the bus.
pub(crate) async fn raw(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}
