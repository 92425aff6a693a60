//! Names of resources, checked before they become part of a path.

use transship_api::is_name;

use crate::exit::Problem;

/// A name for something new: 5 to 50 letters and digits.
///
/// # Errors
/// Where it is not.
pub(crate) fn check_new_name(name: &str) -> Result<(), Problem> {
    match is_name(name) {
        true => Ok(()),
        false => Err(Problem::usage(format!("{name:?} cannot be the name of a pipeline, route or run"))
            .hint("a name has 5 to 50 letters and digits, such as nightly1")),
    }
}

/// The name of something that there may be: runs that a trigger started have `_` in theirs.
///
/// # Errors
/// Where nothing can have it.
pub(crate) fn check_old_name(name: &str) -> Result<(), Problem> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '(' | ')');
    match !name.is_empty() && name.len() <= 128 && name.chars().all(fits) && !name.starts_with('.') {
        true => Ok(()),
        false => Err(Problem::usage(format!("nothing can have the name {name:?}"))
            .hint("a name has letters, digits and `_`; give the name alone, not the resource id")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_place_in_a_path() {
        for name in ["", "..", ".", "a/b", "a?b", "a#b", "a%2Fb", "a b", "ä", &"x".repeat(129)] {
            assert!(check_old_name(name).is_err() && check_new_name(name).is_err(), "{name}");
        }
        assert!(check_old_name("arrivals_20261125193624_ab12").is_ok());
        assert!(check_new_name("arrivals_2026").is_err());
        assert!(check_new_name("nightly1").is_ok());
    }
}
