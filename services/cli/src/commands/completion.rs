//! `transship completion SHELL`.

use clap::CommandFactory;

use crate::args::{Cli, CompletionArgs};
use crate::screen::Screen;

/// Writes the completions for a shell.
pub(crate) fn completion(args: &CompletionArgs, screen: &Screen) {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "transship", &mut script);
    screen.data(&String::from_utf8_lossy(&script));
}
