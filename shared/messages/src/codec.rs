//! The envelope: `{v, kind, body}` in MessagePack with named fields, the body as bytes of its own, so that a
//! reader can tell version and kind before it decodes anything else.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use transship_model::{ContainerUrl, Digest, Execution, Part};

use crate::{CopyRequested, ExportPart, Fact, ImportRequested};

/// The version that is written. Readers know all versions up to it.
pub const VERSION: u16 = 2;

/// The largest message that is decoded, in bytes.
pub const MAX_BYTES: usize = 256 * 1024;

/// How deep a message may nest: the deepest of ours has nine levels.
const MAX_DEPTH: usize = 32;

/// Why bytes are not a message.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer transship: another reader may understand it.
    #[error("the message has version {found}, and this process knows versions up to {VERSION}: update it")]
    Newer {
        /// The version of the message.
        found: u16,
    },
    /// Another kind of message than the queue carries.
    #[error("expected a message of kind {expected}, found {found:?}")]
    Kind {
        /// What the queue carries.
        expected: &'static str,
        /// What the message says.
        found: String,
    },
    /// More than [`MAX_BYTES`].
    #[error("the message has {0} bytes, more than {MAX_BYTES}")]
    TooLarge(usize),
    /// Bytes after the end.
    #[error("the message has {0} bytes after its end")]
    Trailing(usize),
    /// Not MessagePack, a field that is missing, or a value that is not valid.
    #[error("the message is not valid: {0}")]
    Invalid(#[from] rmp_serde::decode::Error),
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    v: u16,
    kind: String,
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
}

fn seal(kind: &str, body: &impl Serialize) -> Vec<u8> {
    const INVARIANT: &str = "our own types, of text, numbers and lists, always serialise into memory";
    let body = rmp_serde::to_vec_named(body).expect(INVARIANT);
    rmp_serde::to_vec_named(&Envelope { v: VERSION, kind: kind.to_owned(), body }).expect(INVARIANT)
}

/// Decodes one value with the depth capped, and nothing after it.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut deserializer = rmp_serde::Deserializer::new(std::io::Cursor::new(bytes));
    deserializer.set_max_depth(MAX_DEPTH);
    let value = T::deserialize(&mut deserializer)?;
    let end = usize::try_from(deserializer.position()).unwrap_or(bytes.len());
    if end == bytes.len() { Ok(value) } else { Err(DecodeError::Trailing(bytes.len() - end)) }
}

fn unseal<T: DeserializeOwned>(bytes: &[u8], kind: &'static str) -> Result<T, DecodeError> {
    if bytes.len() > MAX_BYTES {
        return Err(DecodeError::TooLarge(bytes.len()));
    }
    let envelope: Envelope = read(bytes)?;
    if envelope.v > VERSION {
        return Err(DecodeError::Newer { found: envelope.v });
    }
    if envelope.kind != kind {
        return Err(DecodeError::Kind { expected: kind, found: envelope.kind.chars().take(64).collect() });
    }
    read(&envelope.body)
}

/// A work item: it knows its kind, and who it is.
pub trait WorkItem: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// The kind, as it stands in the envelope and in the AMQP `type`.
    const KIND: &'static str;

    /// The execution that it belongs to.
    fn execution(&self) -> &Execution;

    /// The part of the execution.
    fn part(&self) -> Part;

    /// The container at the end of the way, where the work is about one of several.
    fn target(&self) -> Option<&ContainerUrl>;

    /// An identity that is the same whenever the same work is published: execution, generation, part, kind,
    /// slice, and for a copy its target.
    fn message_id(&self) -> String;

    /// The message.
    fn encode(&self) -> Vec<u8> {
        seal(Self::KIND, self)
    }

    /// Reads a message of this kind, of any version up to [`VERSION`].
    ///
    /// # Errors
    /// See [`DecodeError`].
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        unseal(bytes, Self::KIND)
    }
}

fn identity(execution: &Execution, part: Part, kind: &str, slice: u32) -> String {
    format!("{}.{}.{}.{kind}.{slice}", execution.id, execution.generation, part.number)
}

macro_rules! work_item {
    ($type:ty, $kind:literal, |$item:ident| $target:expr) => {
        impl WorkItem for $type {
            const KIND: &'static str = $kind;

            fn execution(&self) -> &Execution {
                &self.execution
            }

            fn part(&self) -> Part {
                self.part
            }

            fn target(&self) -> Option<&ContainerUrl> {
                let $item = self;
                $target
            }

            fn message_id(&self) -> String {
                let id = identity(&self.execution, self.part, $kind, self.slice);
                self.target().map_or_else(|| id.clone(), |target| format!("{id}.{}", place(target)))
            }
        }
    };
}

/// A short name of a container, for identities.
fn place(container: &ContainerUrl) -> String {
    Digest::sha256(container.as_url().as_str().as_bytes()).hex()[..16].to_owned()
}

work_item!(ExportPart, "export.part", |_item| None);
work_item!(CopyRequested, "copy.requested", |item| Some(&item.route.target));
work_item!(ImportRequested, "import.requested", |item| Some(&item.container));

/// The message of a fact.
pub fn encode_fact(fact: &Fact) -> Vec<u8> {
    seal(fact.body.kind(), fact)
}

/// Reads the message of a fact, of any kind and any version up to [`VERSION`].
///
/// # Errors
/// See [`DecodeError`]; a kind that this version does not know is [`DecodeError::Invalid`].
pub fn decode_fact(bytes: &[u8]) -> Result<Fact, DecodeError> {
    if bytes.len() > MAX_BYTES {
        return Err(DecodeError::TooLarge(bytes.len()));
    }
    let envelope: Envelope = read(bytes)?;
    if envelope.v > VERSION {
        return Err(DecodeError::Newer { found: envelope.v });
    }
    let fact: Fact = read(&envelope.body)?;
    if fact.body.kind() == envelope.kind {
        Ok(fact)
    } else {
        Err(DecodeError::Kind { expected: fact.body.kind(), found: envelope.kind.chars().take(64).collect() })
    }
}
