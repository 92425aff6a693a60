//! The values of labels. Each label is a closed set, so the number of series is known before anything runs.

use transship_model::Code;

/// A value out of a closed set.
pub trait LabelValue: Copy + Send + Sync + 'static {
    /// Every value, in the order of [`LabelValue::index`].
    fn all() -> &'static [Self];

    /// The place in [`LabelValue::all`].
    fn index(self) -> usize;

    /// The value as it stands in the label.
    fn text(self) -> &'static str;
}

macro_rules! label {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $what:literal])+ $value:ident = $text:literal),+ $(,)? }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[doc = $what])+ $value),+ }

        impl LabelValue for $name {
            fn all() -> &'static [Self] {
                &[$(Self::$value),+]
            }

            fn index(self) -> usize {
                self as usize
            }

            fn text(self) -> &'static str {
                match self { $(Self::$value => $text),+ }
            }
        }
    };
}

label! {
    /// What became of an artifact.
    Outcome {
        /// It was moved.
        Moved = "moved",
        /// It was there already.
        Skipped = "skipped",
        /// It failed.
        Failed = "failed",
    }
}

label! {
    /// Which way bytes went, seen from the stage.
    Direction {
        /// From the source.
        Read = "read",
        /// To the target.
        Written = "written",
    }
}

label! {
    /// What became of a blob or manifest.
    BlobResult {
        /// Its bytes were moved.
        Moved = "moved",
        /// It was mounted from another repository of the target.
        Mounted = "mounted",
        /// It was there already.
        Skipped = "skipped",
        /// It failed.
        Failed = "failed",
    }
}

label! {
    /// How a part ended in a stage.
    PartOutcome {
        /// Everything is done.
        Succeeded = "succeeded",
        /// It failed for good.
        Failed = "failed",
        /// A newer execution owns the blob.
        Superseded = "superseded",
        /// The slice ended; a continuation goes on.
        Continued = "continued",
    }
}

label! {
    /// How a delivery was settled.
    MessageOutcome {
        /// Acknowledged.
        Acked = "acked",
        /// Given back without burning an attempt.
        Released = "released",
        /// Put into a hold queue for the next attempt.
        Retried = "retried",
        /// Put into the dead-letter queue.
        DeadLettered = "dead_lettered",
        /// The channel was gone, so the broker delivers it again.
        Lost = "lost",
    }
}

label! {
    /// The state of worker slots.
    SlotState {
        /// At work.
        Used = "used",
        /// Waiting for work.
        Free = "free",
    }
}

label! {
    /// The parts of the byte budget that are shown.
    Share {
        /// Bytes in buffers.
        Used = "used",
        /// The bound.
        Limit = "limit",
    }
}

label! {
    /// The state of the connection to the broker.
    BusCondition {
        /// Not connected.
        Connecting = "connecting",
        /// Publishing and consuming.
        Ready = "ready",
        /// Connected, but the broker blocks publishers.
        Blocked = "blocked",
    }
}

label! {
    /// How a bundle was copied.
    CopyMode {
        /// The target account read the source itself.
        ServerSide = "server_side",
        /// The bytes went through the copier.
        Streamed = "streamed",
    }
}

impl LabelValue for Code {
    fn all() -> &'static [Self] {
        Self::ALL
    }

    fn index(self) -> usize {
        self as usize
    }

    fn text(self) -> &'static str {
        self.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_in_order<L: LabelValue>() {
        for (place, value) in L::all().iter().enumerate() {
            assert_eq!(value.index(), place, "{}", value.text());
        }
    }

    #[test]
    fn every_value_stands_at_its_index() {
        is_in_order::<Outcome>();
        is_in_order::<Direction>();
        is_in_order::<BlobResult>();
        is_in_order::<PartOutcome>();
        is_in_order::<MessageOutcome>();
        is_in_order::<SlotState>();
        is_in_order::<Share>();
        is_in_order::<BusCondition>();
        is_in_order::<CopyMode>();
        is_in_order::<Code>();
    }
}
