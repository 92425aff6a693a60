//! Why a request is not granted: an HTTP status and ARM's error.

use transship_api::ErrorDetail;

/// An answer that is an error. Its message says what to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// What is wrong, and where.
    pub error: ErrorDetail,
}

impl Refusal {
    /// A refusal without a target.
    pub fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        let error = ErrorDetail { code: code.to_owned(), message: message.into(), ..ErrorDetail::default() };
        Self { status, error }
    }

    /// Adds the property that is wrong.
    #[must_use]
    pub fn at(mut self, target: impl Into<String>) -> Self {
        self.error.target = Some(target.into());
        self
    }

    /// 404 with ARM's code.
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(
            404,
            "ResourceNotFound",
            format!("{what} was not found. Check its name, or create it first."),
        )
    }
}

/// The faults of one request, gathered so that all of them are told at once.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<ErrorDetail>);

/// The most faults that one answer names.
const MAX_FAULTS: usize = 20;

impl Faults {
    /// Adds a fault of the property `target`.
    pub(crate) fn add(&mut self, code: &str, target: impl Into<String>, message: impl Into<String>) {
        if self.0.len() < MAX_FAULTS {
            let (code, message) = (code.to_owned(), message.into());
            self.0.push(ErrorDetail { code, message, target: Some(target.into()), details: Vec::new() });
        }
    }

    /// 400 with the first fault, the others behind it; `value` where there is none.
    pub(crate) fn or<T>(self, value: T) -> Result<T, Refusal> {
        self.refused().map_or(Ok(value), Err)
    }

    /// 400 with the first fault, the others behind it.
    pub(crate) fn refused(self) -> Option<Refusal> {
        let mut faults = self.0.into_iter();
        let mut error = faults.next()?;
        error.details = faults.collect();
        if !error.details.is_empty() {
            // Clients show the first message only.
            let more = error.details.len();
            error.message = format!("{} ({more} more in details)", error.message);
        }
        Some(Refusal { status: 400, error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_fault_stands_before_the_others() {
        assert!(Faults::default().or(1).is_ok());
        let mut faults = Faults::default();
        faults.add("A", "a", "first.");
        faults.add("B", "b", "second.");
        let refusal = faults.or(()).unwrap_err();
        assert_eq!((refusal.status, refusal.error.message.as_str()), (400, "first. (1 more in details)"));
        assert_eq!(refusal.error.details[0].code, "B");
    }
}
