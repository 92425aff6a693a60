//! One connection, supervised: connect, declare, watch, and on any loss drop everything and build it anew,
//! with back-off, for ever. lapin's own recovery is off: it gives up after sixteen attempts, and after a
//! channel-level error it leaves consumers waiting without end.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{FutureExt, Stream, StreamExt};
use lapin::{Channel, Connection, Event};
use tokio::sync::watch;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::declare;
use super::health::Part;
use super::settings::{Address, BusSettings};
use super::socket::{self, Socket};
use crate::port::closed;
use crate::{BusError, BusState};

/// How long a connection may take to say goodbye.
const CLOSING: Duration = Duration::from_secs(5);

/// How often a connection or channel is looked at beside its events, which do not tell of every end.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// A connection that is up.
pub(super) struct Live {
    connection: Connection,
    address: Address,
    blocked: watch::Receiver<bool>,
    doubted: CancellationToken,
    limit: Duration,
}

impl Live {
    /// Opens a channel. A connection that cannot is built anew.
    pub(super) async fn channel(&self) -> Result<Channel, String> {
        match timeout(self.limit, self.connection.create_channel()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => {
                self.doubt();
                Err(self.describe(&error))
            }
            Err(_) => {
                self.doubt();
                Err(format!("no channel within {:?}", self.limit))
            }
        }
    }

    /// Waits until the broker takes messages: what is published to a blocked connection piles up in lapin.
    pub(super) async fn unblocked(&self) {
        // The sender is gone where the connection is: what follows will notice.
        let _ = self.blocked.clone().wait_for(|blocked| !blocked).await;
    }

    /// Asks for a new connection, unless this one is only blocked, which explains any silence.
    pub(super) fn doubt(&self) {
        if !*self.blocked.borrow() {
            self.doubted.cancel();
        }
    }

    /// An error, fit to be shown.
    pub(super) fn describe(&self, error: &lapin::Error) -> String {
        self.address.describe(error)
    }
}

#[derive(Clone)]
enum State {
    Down(String),
    Up(Arc<Live>),
}

/// The connection of a role, whichever it is at the moment.
#[derive(Clone)]
pub(super) struct Link(watch::Receiver<State>);

impl Link {
    /// The connection, once there is one.
    pub(super) async fn live(&self) -> Result<Arc<Live>, BusError> {
        let mut states = self.0.clone();
        match states.wait_for(|state| matches!(state, State::Up(_))).await.as_deref() {
            Ok(State::Up(live)) => Ok(Arc::clone(live)),
            _ => Err(closed()),
        }
    }

    /// Why there is no connection, where there is none.
    pub(super) fn down(&self) -> Option<String> {
        match &*self.0.borrow() {
            State::Down(reason) => Some(reason.clone()),
            State::Up(_) => None,
        }
    }
}

/// What keeps a link up.
pub(super) struct Supervisor {
    pub(super) settings: Arc<BusSettings>,
    /// `publishing` or `consuming`; part of the connection's name.
    pub(super) role: &'static str,
    /// Whether this link declares the topology.
    pub(super) declares: bool,
    pub(super) part: Part,
    pub(super) stop: CancellationToken,
}

/// How a connection's life ended.
struct End {
    reason: String,
    built: Option<Instant>,
}

impl Supervisor {
    /// The link, and the task that keeps it up until `stop`.
    pub(super) fn start(self) -> (Link, impl Future<Output = ()> + Send + 'static) {
        let (state, states) = watch::channel(State::Down(String::new()));
        (Link(states), self.run(state))
    }

    async fn run(self, state: watch::Sender<State>) {
        let mut backoff = Backoff::up_to(self.settings.longest_backoff);
        while let Some(end) = self.life(&state).await {
            let wait = backoff.next(end.built);
            tracing::warn!(role = self.role, reason = end.reason, ?wait, "no connection to the broker");
            self.part.down(&end.reason);
            state.send_replace(State::Down(end.reason));
            if timeout(wait, self.stop.cancelled()).await.is_ok() {
                return;
            }
        }
    }

    /// One connection from its beginning to its end. `None` where it was stopped.
    async fn life(&self, state: &watch::Sender<State>) -> Option<End> {
        let never = |reason| Some(End { reason, built: None });
        let address = match Address::of(&self.settings) {
            Ok(address) => address,
            Err(error) => return never(error.to_string()),
        };
        let opening = socket::open(&address, &self.settings, self.role);
        let (connection, socket) = match self.stop.run_until_cancelled(opening).await? {
            Ok(opened) => opened,
            Err(reason) => return never(reason),
        };
        let (blocked, receiver) = watch::channel(false);
        // The one listener: a second would take events away from the first.
        let events = connection.events_listener();
        let limit = self.settings.connect_timeout;
        let doubted = CancellationToken::new();
        let live = Arc::new(Live { connection, address, blocked: receiver, doubted, limit });
        let end = self.serve(&live, events, &blocked, state).await;
        close(&live.connection, &socket).await;
        end
    }

    async fn serve(
        &self,
        live: &Arc<Live>,
        events: impl Stream<Item = Event>,
        blocked: &watch::Sender<bool>,
        state: &watch::Sender<State>,
    ) -> Option<End> {
        if self.declares {
            let declared = self.stop.run_until_cancelled(declare_everything(live)).await?;
            if let Err(reason) = declared {
                return Some(End { reason: format!("{}: {reason}", live.address.shown), built: None });
            }
        }
        let built = Instant::now();
        tracing::info!(role = self.role, broker = live.address.shown, "connected to the broker");
        self.part.set(BusState::Ready);
        state.send_replace(State::Up(Arc::clone(live)));
        let lost = tokio::select! {
            () = self.stop.cancelled() => None,
            () = live.doubted.cancelled() => Some("the connection stopped answering".to_owned()),
            reason = self.watch(live, events, blocked) => Some(reason),
        };
        let reason = lost.map(|reason| format!("{}: {reason}", live.address.shown));
        state.send_replace(State::Down(reason.clone().unwrap_or_default()));
        reason.map(|reason| End { reason, built: Some(built) })
    }

    /// Follows the events of a connection until it is lost, and says why.
    async fn watch(
        &self,
        live: &Live,
        events: impl Stream<Item = Event>,
        blocked: &watch::Sender<bool>,
    ) -> String {
        let mut events = pin!(events);
        let mut look = interval(LOOK);
        let mut reason = "the connection was lost".to_owned();
        loop {
            let event = tokio::select! {
                event = events.next() => match event {
                    Some(event) => Some(event),
                    None => return reason,
                },
                _ = look.tick() => events.next().now_or_never().flatten(),
            };
            match event {
                Some(Event::ConnectionBlocked(reason)) => {
                    tracing::warn!(role = self.role, reason, "the broker blocks publishing");
                    blocked.send_replace(true);
                    self.part.set(BusState::Blocked { reason });
                }
                Some(Event::ConnectionUnblocked) => {
                    tracing::info!(role = self.role, "the broker takes messages again");
                    blocked.send_replace(false);
                    self.part.set(BusState::Ready);
                }
                // Errors of channels come this way too: the status tells whether the connection is meant.
                Some(Event::Error(error)) => reason = live.describe(&error),
                _ => {}
            }
            if !live.connection.status().connected() {
                return reason;
            }
        }
    }
}

async fn declare_everything(live: &Live) -> Result<(), String> {
    let channel = live.channel().await?;
    match timeout(live.limit, declare::everything(&channel)).await {
        Ok(declared) => declared.map_err(|error| live.describe(&error)),
        Err(_) => Err(format!("the topology was not declared within {:?}", live.limit)),
    }
}

/// Says goodbye where there is somebody to say it to, and ends the stream in any case.
async fn close(connection: &Connection, socket: &Socket) {
    if connection.status().connected() {
        // Either it is closed, or the stream is cut: nothing depends on which.
        let _ = timeout(CLOSING, connection.close(200, "goodbye".into())).await;
    }
    socket.cut();
}
