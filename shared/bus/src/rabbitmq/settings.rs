//! The settings of the RabbitMQ adapter, and the broker's address without its secrets.

use std::time::Duration;

use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use transship_model::Secret;
use url::{Host, Url};

use crate::envelope::clean_reason;

/// How much of an error of the broker is shown, in characters.
const SHOWN_ERROR_CHARS: usize = 300;

/// What to do where the broker has a queue or exchange with other arguments than are declared.
const OTHER_ARGUMENTS: &str = "hint: it was made by an older transship or by somebody else; let it run empty and \
                               delete it, and it is declared anew, or set `declare = false` and own the queues";

/// How to reach a broker, and what the adapter may do there.
#[derive(Debug, Clone)]
pub struct BusSettings {
    /// `amqp://USER:PASSWORD@HOST:PORT/VHOST` or `amqps://…`. The virtual host is percent-encoded; without a
    /// path it is `/`. Query parameters are ignored.
    pub url: Secret,
    /// How the connections are named at the broker; `publishing` and `consuming` are appended.
    pub connection_name: String,
    /// Whether queues and the exchange of facts are declared on every connection. False where an operator
    /// owns the topology (`deploy/rabbitmq/definitions.json`) and the user may not configure.
    pub declare: bool,
    /// Certificates in PEM that are trusted beside the platform's, for `amqps`.
    pub ca_bundle: Option<String>,
    /// How long one message may take from its turn to its confirm. Default 30 s.
    pub publish_timeout: Duration,
    /// How long one step of building up may take: the connection, a channel, a declaration. Default 20 s.
    pub connect_timeout: Duration,
    /// The longest wait before building up again what was lost; the first is half a second. Default 30 s.
    pub longest_backoff: Duration,
    /// The heartbeat of both connections, in whole seconds, at least one: a peer that is gone without a word is
    /// noticed after two of them. Default 30 s; below 5 s a busy machine makes false alarms.
    pub heartbeat: Duration,
    /// How many channels publish side by side, each with one outstanding message. Default 8, at least 1.
    pub publish_channels: usize,
}

impl BusSettings {
    /// The settings for the broker at `url`, with the defaults of every other field.
    pub fn new(url: Secret, connection_name: impl Into<String>) -> Self {
        Self {
            url,
            connection_name: connection_name.into(),
            declare: true,
            ca_bundle: None,
            publish_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(20),
            longest_backoff: Duration::from_secs(30),
            heartbeat: Duration::from_secs(30),
            publish_channels: 8,
        }
    }

    /// Whether the URL can be one of a broker. [`RabbitMq::connect`](crate::RabbitMq::connect) does not fail on
    /// a bad one, since it cannot tell it from a broker that is away: check first.
    ///
    /// # Errors
    /// [`BusSettingsError`], which does not repeat the URL.
    pub fn check(&self) -> Result<(), BusSettingsError> {
        Address::of(self).map(drop)
    }
}

/// Why the settings cannot be used. Never repeats the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusSettingsError {
    /// Not a URL of a broker.
    #[error("the URL of the broker is not amqp://USER:PASSWORD@HOST:PORT/VHOST or amqps://…")]
    NotABroker,
    /// The virtual host is longer than 255 bytes or not UTF-8.
    #[error(
        "the virtual host in the URL of the broker is not valid: at most 255 bytes of UTF-8, percent-encoded"
    )]
    VirtualHost,
}

/// A broker's address.
#[derive(Clone)]
pub(super) struct Address {
    /// For lapin, with the credentials.
    pub(super) uri: AMQPUri,
    /// `amqp://HOST:PORT/VHOST`, for people.
    pub(super) shown: String,
}

impl Address {
    pub(super) fn of(settings: &BusSettings) -> Result<Self, BusSettingsError> {
        let url: Url = settings.url.expose().parse().map_err(|_| BusSettingsError::NotABroker)?;
        let scheme: AMQPScheme = url.scheme().parse().map_err(|_| BusSettingsError::NotABroker)?;
        // lapin's own parser takes "localhost" for an IPv6 address, and the default user for a missing one.
        let host = match url.host().ok_or(BusSettingsError::NotABroker)? {
            Host::Domain("") => return Err(BusSettingsError::NotABroker),
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let port = url.port().unwrap_or_else(|| scheme.default_port());
        let username = decode(url.username()).ok_or(BusSettingsError::NotABroker)?;
        let password = decode(url.password().unwrap_or_default()).ok_or(BusSettingsError::NotABroker)?;
        let vhost = match url.path().strip_prefix('/') {
            None => "/".to_owned(),
            Some(path) => {
                decode(path).filter(|name| name.len() <= 255).ok_or(BusSettingsError::VirtualHost)?
            }
        };
        let heartbeat = u16::try_from(settings.heartbeat.as_secs().max(1)).unwrap_or(u16::MAX);
        // The frame size is left to the broker: a smaller one would save buffers, but a broker sends the headers
        // of a message in one frame whatever was agreed, and a frame that is too large ends the connection.
        let query = AMQPQueryString { heartbeat: Some(heartbeat), ..AMQPQueryString::default() };
        let shown_host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let shown =
            clean_reason(&format!("{scheme}://{shown_host}:{port}/{}", url.path().trim_start_matches('/')));
        let authority = AMQPAuthority { userinfo: AMQPUserInfo { username, password }, host, port };
        Ok(Self { uri: AMQPUri { scheme, authority, vhost, query }, shown })
    }

    /// An error of lapin or of the network, fit to be shown: one line, bounded, without the password.
    pub(super) fn describe(&self, error: &(dyn std::error::Error + 'static)) -> String {
        let text = match error.downcast_ref::<lapin::Error>().map(lapin::Error::kind) {
            Some(lapin::ErrorKind::ProtocolError(error)) => error.get_message().to_string(),
            Some(lapin::ErrorKind::IOError(error)) => error.to_string(),
            _ => error.to_string(),
        };
        let password = &self.uri.authority.userinfo.password;
        let text = if password.is_empty() { text } else { text.replace(password.as_str(), "[hidden]") };
        let shown: String = clean_reason(&text).chars().take(SHOWN_ERROR_CHARS).collect();
        if declares_otherwise(error) { format!("{shown}; {OTHER_ARGUMENTS}") } else { shown }
    }
}

/// Whether the broker refused a declaration because what is declared exists with other arguments.
fn declares_otherwise(error: &(dyn std::error::Error + 'static)) -> bool {
    let Some(lapin::ErrorKind::ProtocolError(error)) =
        error.downcast_ref::<lapin::Error>().map(lapin::Error::kind)
    else {
        return false;
    };
    matches!(error.kind(), AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED))
        && error.get_message().as_str().contains("inequivalent arg")
}

fn decode(text: &str) -> Option<String> {
    percent_encoding::percent_decode_str(text).decode_utf8().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, BusSettingsError> {
        Address::of(&BusSettings::new(Secret::new(url), "test"))
    }

    #[test]
    fn an_address_is_read_with_its_escapes_and_shown_without_its_user() {
        for (url, host, port, vhost, shown) in [
            ("amqp://u:CANARY@h", "h", 5672, "/", "amqp://h:5672/"),
            ("amqps://u:CANARY@h:1/%2f", "h", 1, "/", "amqps://h:1/%2f"),
            ("amqp://u:CANARY@127.0.0.1/v?heartbeat=1", "127.0.0.1", 5672, "v", "amqp://127.0.0.1:5672/v"),
            ("amqps://u:CANARY@[fd00::1]/a%20b", "fd00::1", 5671, "a b", "amqps://[fd00::1]:5671/a%20b"),
        ] {
            let address = parse(url).unwrap();
            let authority = &address.uri.authority;
            assert_eq!(
                (authority.host.as_str(), authority.port, address.uri.vhost.as_str()),
                (host, port, vhost)
            );
            assert_eq!((authority.userinfo.password.as_str(), address.shown.as_str()), ("CANARY", shown));
            assert_eq!(address.uri.query.heartbeat, Some(30));
        }
        assert_eq!(parse("amqp://u:p%40%2F%25@h").unwrap().uri.authority.userinfo.password, "p@/%");
    }

    #[test]
    fn a_url_that_is_no_brokers_is_refused_and_not_repeated() {
        let long = format!("amqp://u:CANARY@h/{}", "v".repeat(256));
        for url in [
            "",
            "CANARY",
            "http://u:CANARY@h/",
            "amqp:CANARY",
            "amqp:///CANARY",
            "amqp://u:%ffCANARY@h",
            &long,
        ] {
            let error = BusSettings::new(Secret::new(url), "test").check().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("CANARY"), "{error}");
        }
    }

    #[test]
    fn a_password_in_an_error_is_hidden() {
        let address = parse("amqp://u:CANARY@h").unwrap();
        let error = std::io::Error::other("no route to u:CANARY@h\r\nset-cookie");
        assert_eq!(address.describe(&error), "no route to u:[hidden]@hset-cookie");
    }
}
