//! Bundles and OCI archives as the command line sees them: finding all parts of a name, reading what they hold,
//! and verifying every byte.

mod contents;
mod kind;
mod locate;
mod parts;
mod structure;
mod verify;
mod window;

pub(crate) use contents::{Artifact, Contents, read_contents};
pub(crate) use locate::{Located, locate, locate_file, locate_in};
pub(crate) use parts::BundlePart;
pub(crate) use verify::{Verification, verify};
pub(crate) use window::Window;
