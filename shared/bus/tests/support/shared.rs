//! The broker that tests share, and a virtual host of it for each.

use tokio::sync::OnceCell;
use transship_rig::RabbitMq;

static BROKER: OnceCell<RabbitMq> = OnceCell::const_new();

pub(crate) async fn broker() -> &'static RabbitMq {
    BROKER.get_or_init(|| async { RabbitMq::shared().await.unwrap() }).await
}

/// The address of a new virtual host.
pub(crate) async fn vhost() -> String {
    broker().await.vhost().await.unwrap()
}
