//! Facts in every order, and what runs make of them.

mod facts;
mod order;
mod runs;
mod stages;
