//! What runs besides the interface, against a real broker and a real storage service.

mod claims;
mod facts;
mod letters;
mod on_its_way;
#[allow(dead_code, reason = "the scene is shared with the tests of failpoints")]
mod scene;
mod starting;
mod watching;
