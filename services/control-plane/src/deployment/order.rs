//! The order in which resources are put.

use super::fault::{Evaluated, Fault};
use super::plan::Planned;

/// The indexes of `planned` such that each comes behind what it needs; where nothing decides, as in the template.
///
/// # Errors
/// Where resources need each other.
pub(super) fn order(planned: &[Planned<'_>]) -> Evaluated<Vec<usize>> {
    let needs: Vec<&[usize]> = planned.iter().map(|resource| resource.after.as_slice()).collect();
    sort(&needs).map_err(|circle| {
        let names: Vec<&str> = circle.iter().map(|index| planned[*index].id.as_str()).collect();
        Fault::invalid(format!("a circular dependency was detected among {}", names.join(", ")))
    })
}

/// The order, or those that wait for each other.
fn sort(needs: &[&[usize]]) -> Result<Vec<usize>, Vec<usize>> {
    let mut done = vec![false; needs.len()];
    let mut order = Vec::with_capacity(needs.len());
    // At most 800 resources: looking through all of them for each one is cheap.
    while order.len() < needs.len() {
        let ready = |index: &usize| !done[*index] && needs[*index].iter().all(|need| done[*need]);
        let Some(next) = (0..needs.len()).find(ready) else {
            return Err((0..needs.len()).filter(|index| !done[*index]).collect());
        };
        done[next] = true;
        order.push(next);
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comes_behind_what_it_needs_and_else_as_in_the_template() {
        for (needs, expected) in [
            (vec![&[][..], &[], &[]], Ok(vec![0, 1, 2])),
            (vec![&[2], &[], &[1]], Ok(vec![1, 2, 0])),
            (vec![&[1], &[], &[]], Ok(vec![1, 0, 2])),
            (vec![&[0]], Err(vec![0])),
            (vec![&[], &[2], &[1]], Err(vec![1, 2])),
        ] {
            assert_eq!(sort(&needs), expected, "{needs:?}");
        }
    }
}
