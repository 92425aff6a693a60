//! How a process ends.

use std::process::{ExitCode, Termination};

/// The exit codes of every service and of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, or asked to stop and drained in time.
    Success,
    /// 1: the work failed, or did not drain before the deadline.
    Failure,
    /// 2: the command line or the settings are wrong. Starting again changes nothing.
    Usage,
    /// 130: interrupted at once, by a second signal.
    Interrupted,
}

impl Exit {
    /// The code that the parent process sees.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        self.into()
    }
}
