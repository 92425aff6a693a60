//! Identities that nobody else has.

use transship_model::ExecutionId;

/// 2·N hexadecimal digits out of the system's random numbers.
///
/// # Panics
/// Where the system has none: no identity made without them would be safe.
pub(crate) fn hex<const N: usize>() -> String {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system gives random numbers");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 32 hexadecimal digits in the form of a GUID.
pub(crate) fn guid(hex: &str) -> String {
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32])
}

/// The identity of a run's execution that was never made before.
pub(crate) fn execution() -> ExecutionId {
    let id = format!("run-{}", hex::<12>());
    id.parse().expect("'run-' and hexadecimal digits are an execution's identity")
}

/// The name of a run's long-running operation.
pub(crate) fn operation() -> String {
    format!("pipelineruns-{}", guid(&hex::<16>()))
}

/// A W3C trace context of its own.
pub(crate) fn traceparent() -> String {
    format!("00-{}-{}-01", hex::<16>(), hex::<8>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_differ_and_have_their_length() {
        let (one, other) = (hex::<16>(), hex::<16>());
        assert!(one != other && one.len() == 32);
        let guid = guid(&one);
        assert_eq!((guid.len(), guid.replace('-', "")), (36, one));
        assert!(execution() != execution() && operation() != operation());
    }
}
