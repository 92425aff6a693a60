//! How a command ends: its exit code, and the error that a person reads.

use std::error::Error;
use std::fmt;

use transship_model::{Code, Failure};

/// The exit codes, as every `--help` documents them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or nothing was left to do.
    Done,
    /// Failed.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
    /// Done, but some artifacts failed.
    Partial,
    /// A credential is missing, has expired or may not do this.
    Credentials,
    /// Interrupted by a signal.
    Interrupted,
}

impl Exit {
    /// The code for the operating system.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Partial => 3,
            Self::Credentials => 4,
            Self::Interrupted => 130,
        }
    }

    /// What a failure with this code means for the exit code.
    pub(crate) fn of(code: Code) -> Self {
        match code {
            Code::SasExpired | Code::SasPermission | Code::StorageForbidden | Code::RegistryForbidden => {
                Self::Credentials
            }
            Code::ConfigurationInvalid => Self::Usage,
            Code::Interrupted => Self::Interrupted,
            _ => Self::Failed,
        }
    }
}

/// Why a command did not do what was asked, as it is shown: what happened, what caused it, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How the command ends.
    pub exit: Exit,
    /// The stable code, where a stage said one.
    pub code: Option<Code>,
    /// What happened.
    pub message: String,
    /// Its causes, the nearest first.
    pub causes: Vec<String>,
    /// What to do next.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem with this exit code.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, code: None, message: message.into(), causes: Vec::new(), hint: None }
    }

    /// The command line or the configuration is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A signal ended the command.
    pub(crate) fn interrupted(hint: impl Into<String>) -> Self {
        let interrupted =
            Self { code: Some(Code::Interrupted), ..Self::new(Exit::Interrupted, "interrupted") };
        interrupted.hint(hint)
    }

    /// Adds what caused it, with the causes of that.
    pub(crate) fn caused_by(mut self, error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(cause) = next {
            self.causes.push(cause.to_string());
            next = cause.source();
        }
        self
    }

    /// Adds what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self {
            exit: Exit::of(failure.code),
            code: Some(failure.code),
            message: failure.message,
            causes: Vec::new(),
            hint: failure.hint,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.causes.iter().try_for_each(|cause| write!(f, "\n  caused by: {cause}"))
    }
}

impl Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_exit_code_that_help_says() {
        for (code, expected) in [
            (Code::SasExpired, 4),
            (Code::SasPermission, 4),
            (Code::RegistryForbidden, 4),
            (Code::StorageForbidden, 4),
            (Code::ConfigurationInvalid, 2),
            (Code::Interrupted, 130),
            (Code::BlobExists, 1),
            (Code::DigestMismatch, 1),
            (Code::Internal, 1),
        ] {
            assert_eq!(Exit::of(code).code(), expected, "{code}");
        }
    }

    #[test]
    fn the_chain_of_causes_is_shown_once_each() {
        let inner = std::io::Error::other("the disk is full");
        let problem = Problem::usage("cannot read x").caused_by(&inner).hint("make room");
        assert_eq!(problem.to_string(), "cannot read x\n  caused by: the disk is full");
    }
}
