//! The control plane as a client sees it: which one, with what token, and what it answers.

mod address;
mod client;
mod contexts;
mod local;
mod names;
mod place;
mod refusal;
mod retry;

pub(crate) use address::parse as check_address;
pub(crate) use client::{Asked, ControlPlane};
pub(crate) use contexts::{Context, Contexts};
pub(crate) use names::{check_new_name, check_old_name};
pub(crate) use place::{Token, choose};
