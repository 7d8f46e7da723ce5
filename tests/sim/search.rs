//! All that can happen to the rules of promising and holding, in small cases.

use edgevip::engine::search;

#[test]
fn never_two_hold_among_three_voters() {
    search::three_voters().unwrap();
}

#[test]
fn never_two_hold_while_the_voters_change() {
    search::changing_voters().unwrap();
}

/// Those that take hours are searched with `SEARCH=all`, or with a word in their name.
#[test]
fn never_two_hold_in_larger_cases() {
    let which = std::env::var("SEARCH").unwrap_or_default();
    for it in search::larger_cases(&which).unwrap() {
        println!("{it:<46} left out: SEARCH=all searches it");
    }
}

#[test]
fn who_is_assigned_alone_is_entitled_soon() {
    search::one_alone_is_entitled_soon().unwrap();
}

mod teeth {
    use edgevip::engine::search;

    #[test]
    fn every_seeded_defect_of_the_rules_is_found() {
        assert_eq!(search::defects_not_found(), [""; 0]);
    }

    #[test]
    fn every_defect_beside_voter_and_holder_is_found() {
        assert_eq!(search::faults_not_found(), [""; 0]);
    }
}
