//! Every kind of verdict, on fronts whose numbers are chosen.

use super::*;
use crate::{MethodPoints, PointRecords};

const NAMES: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];

/// A method at the vertices of as many objectives as `own`: J_i is `own[i]` at its own vertex and 0 at the others, ± 0.1.
fn method(name: &str, own: &[f64], untrained: Option<f64>) -> MethodPoints {
    let m = own.len();
    // Of four numbers with this spread the mean has a standard error of 0.1, paired with a constant.
    let noise = [-1.0, -1.0, 1.0, 1.0].map(|sign| sign * 0.1 * 3f64.sqrt());
    let point = |vertex: usize| PointRecords {
        lambda: (0..m).map(|i| f64::from(u8::from(i == vertex))).collect(),
        records: (0..m)
            .map(|i| match i == vertex {
                true => noise.map(|noise| own[i] + noise).to_vec(),
                false => vec![0.0; 4],
            })
            .collect(),
        ..PointRecords::default()
    };
    let untrained = untrained.map(|value| vec![vec![value; 4]; m]);
    let points = (0..m).map(point).collect();
    let names: Vec<String> = NAMES[..m].iter().map(|name| (*name).to_owned()).collect();
    MethodPoints::from_records(name, &names, points, untrained.as_deref(), None).expect("valid")
}

fn verdict(methods: Vec<MethodPoints>) -> Vec<String> {
    let m = methods[0].points[0].values.len();
    let names = NAMES[..m].iter().map(|name| (*name).to_owned()).collect();
    Front::new(names, methods, None, None)
        .expect("valid")
        .verdict()
}

fn one(own: &[f64], untrained: Option<f64>) -> String {
    verdict(vec![method("m", own, untrained)]).remove(0)
}

const ADVICE: &str =
    ": train longer or at a higher learning rate, measure more records, or the objectives agree.";

#[test]
fn two_objectives_that_follow_are_at_odds() {
    assert_eq!(
        one(&[0.5, 0.9], None),
        "From λ = (0, 1) to (1, 0) a rises by 0.50 ± 0.10 and b falls by 0.90 ± 0.10: the preference works on both. \
         The objectives conflict: each is lower where the other one counts."
    );
}

#[test]
fn what_does_not_follow_is_said() {
    assert_eq!(
        one(&[0.5, -0.02], None),
        format!(
            "From λ = (0, 1) to (1, 0) a rises by 0.50 ± 0.10: the preference works on a. \
             λ has no measurable effect on b (−0.02 ± 0.10){ADVICE} The objectives do not conflict measurably."
        )
    );
    assert_eq!(
        one(&[0.29, 0.1], None),
        format!(
            "λ has no measurable effect on a (0.29 ± 0.10) and b (0.10 ± 0.10){ADVICE} \
             The objectives do not conflict measurably."
        )
    );
    assert_eq!(
        one(&[0.5, -0.6], None),
        "From λ = (0, 1) to (1, 0) a rises by 0.50 ± 0.10 and b rises by 0.60 ± 0.10: the preference works on a. \
         λ moves this objective the wrong way, lower under its own weight than under the others': b (−0.60 ± 0.10). \
         The objectives do not conflict measurably."
    );
}

#[test]
fn the_untrained_model_is_compared_where_it_was_measured() {
    let better = one(&[0.5, 0.9], Some(0.1));
    let expected = " Under its own weight every objective is better than before the training, by 0.40 ± 0.10 (a) or more.";
    assert!(better.ends_with(expected), "{better}");
    let not_better = one(&[0.5, 0.9], Some(0.7));
    let expected = " Not measurably better than before the training, even under its own weight: \
                    a (−0.20 ± 0.10) and b (0.20 ± 0.10).";
    assert!(not_better.ends_with(expected), "{not_better}");
}

#[test]
fn of_one_preference_nothing_is_said_but_what_it_gained() {
    let at = |values: [f64; 2]| {
        let records = values.map(|value| [-0.1, 0.1].map(|noise| value + noise).to_vec());
        let point = PointRecords {
            lambda: vec![0.25, 0.75],
            records: records.to_vec(),
            ..PointRecords::default()
        };
        let names = NAMES[..2].iter().map(|name| (*name).to_owned());
        let untrained = vec![vec![0.0; 2]; 2];
        let names: Vec<String> = names.collect();
        let points = vec![point];
        let method = MethodPoints::from_records("m", &names, points, Some(&untrained), None);
        verdict(vec![method.expect("valid")]).remove(0)
    };
    assert_eq!(
        at([0.5, 0.9]),
        "Measured at λ = (0.25, 0.75) alone. At this λ every objective is better than before the training, by 0.50 ± 0.10 (a) or more."
    );
    assert_eq!(
        at([0.5, -0.4]),
        "Measured at λ = (0.25, 0.75) alone. Not measurably better than before the training, even at this λ: b (−0.40 ± 0.10)."
    );
}

#[test]
fn one_objective_has_nothing_to_weigh() {
    assert_eq!(
        one(&[0.5], None),
        "There is one objective, so that λ has nothing to weigh."
    );
    assert_eq!(
        one(&[0.5], Some(0.1)),
        "There is one objective, so that λ has nothing to weigh. Training has raised a by 0.40 ± 0.10."
    );
    assert_eq!(
        one(&[0.5], Some(0.4)),
        "There is one objective, so that λ has nothing to weigh. Not measurably better than before the training: a (0.10 ± 0.10)."
    );
}

#[test]
fn three_objectives_name_their_pairs() {
    assert_eq!(
        one(&[0.5, 0.6, 0.7], None),
        "The preference works on all 3 objectives. These are higher under their own weight than under the others': \
         a by 0.50 ± 0.10, b by 0.60 ± 0.10 and c by 0.70 ± 0.10. All 3 pairs of objectives conflict."
    );
    assert_eq!(
        one(&[0.5, 0.6, 0.0], None),
        format!(
            "The preference works on 2 of 3 objectives. These are higher under their own weight than under the others': \
             a by 0.50 ± 0.10 and b by 0.60 ± 0.10. λ has no measurable effect on c (0.00 ± 0.10){ADVICE} \
             All pairs of objectives conflict but a with c and b with c."
        )
    );
    let none = one(&[0.0; 3], None);
    assert!(
        none.starts_with("λ has no measurable effect on a (0.00 ± 0.10), b (0.00 ± 0.10) and c"),
        "{none}"
    );
    assert!(none.ends_with("No two objectives conflict measurably."));
}

#[test]
fn ten_objectives_count_their_pairs() {
    let mut own = [0.8; 10];
    let all = one(&own, None);
    assert!(all.starts_with("The preference works on all 10 objectives."));
    assert!(
        all.ends_with("All 45 pairs of objectives conflict."),
        "{all}"
    );
    own[6..].fill(0.0);
    let some = one(&own, None);
    assert!(some.starts_with("The preference works on 6 of 10 objectives."));
    assert!(
        some.ends_with("15 of 45 pairs of objectives conflict."),
        "{some}"
    );
    own[2..].fill(0.0);
    let few = one(&own, None);
    assert!(
        few.ends_with("Of 45 pairs of objectives these conflict: a with b."),
        "{few}"
    );
}

#[test]
fn every_method_has_a_verdict_of_its_own() {
    let both = verdict(vec![
        method("linear", &[0.5, 0.9], None),
        method("soups", &[0.0, 0.0], None),
    ]);
    assert_eq!(both.len(), 2);
    assert!(both[0].starts_with("linear: From λ = (0, 1) to (1, 0) a rises"));
    assert!(both[1].starts_with("soups: λ has no measurable effect on a"));
}

#[test]
fn without_an_error_nothing_is_claimed() {
    let point = |weight: f64| PointRecords {
        lambda: vec![weight, 1.0 - weight],
        records: vec![vec![weight], vec![1.0 - weight]],
        ..PointRecords::default()
    };
    let names = ["a", "b"].map(str::to_owned);
    let points = vec![point(1.0), point(0.0)];
    let method = MethodPoints::from_records("m", &names, points, None, None).expect("valid");
    assert_eq!(
        verdict(vec![method])[0],
        "a changes by 1.00 and b changes by 1.00, without a standard error: nothing says whether that is chance; \
         measure more records."
    );
}

#[test]
fn one_single_point_has_no_ends() {
    let mut end = method("m", &[0.5, 0.9], None);
    end.points.truncate(1);
    end.effects.clear();
    assert_eq!(verdict(vec![end])[0], "Measured at λ = (1, 0) alone.");
}

#[test]
fn means_alone_have_the_larger_errors() {
    let mut means = method("m", &[0.5, 0.9], Some(0.0));
    means.effects.clear();
    for point in &mut means.points {
        point.stderr = vec![0.1, 0.1];
    }
    let words = verdict(vec![means]).remove(0);
    assert!(
        words.starts_with(
            "From λ = (0, 1) to (1, 0) a rises by 0.50 ± 0.14 and b falls by 0.90 ± 0.14: the preference works on both."
        ),
        "{words}"
    );
    assert!(!words.contains("training"), "{words}");
}

#[test]
fn the_share_of_the_exact_hypervolume_is_said() {
    let names = ["a", "b"].map(str::to_owned).to_vec();
    let mut front =
        Front::new(names, vec![method("m", &[0.5, 0.9], None)], None, None).expect("valid");
    front.methods[0].indicators.hypervolume_ratio = Some(0.9981);
    front.methods[0].indicators.regret_mean = Some(0.00989);
    front.methods[0].indicators.regret_max = Some(0.0456);
    let words = front.verdict().remove(0);
    assert!(
        words.ends_with("It reaches 0.998 of the exact hypervolume."),
        "{words}"
    );
    front.methods[0].indicators.hypervolume_ratio = Some(1.135);
    let words = front.verdict().remove(0);
    assert!(
        words.contains("It reaches 1.135 of the exact hypervolume. A share above 1 is not better")
    );
    assert!(
        words.ends_with("regret 0.0099 on average, 0.046 at most."),
        "{words}"
    );
}

#[test]
fn numbers_have_the_digits_of_their_error() {
    let signed = |mean, stderr| signed(Estimate { mean, stderr });
    assert_eq!(signed(0.42, 0.05), "0.42 ± 0.05");
    assert_eq!(signed(-0.0123, 0.002), "−0.012 ± 0.002");
    assert_eq!(signed(12.3, 1.2), "12.3 ± 1.2");
    assert_eq!(signed(123.4, 25.0), "123 ± 25");
    assert_eq!(signed(-0.0001, 0.3), "0.0 ± 0.3");
}

/// What is the same on every one of several records is certain, and on a single record nobody knows.
#[test]
fn an_error_of_0_is_certainty_where_there_are_several_records() {
    let said = |records: usize, own: [f64; 2], untrained: f64| {
        let names: Vec<String> = NAMES[..2].iter().map(|name| (*name).to_owned()).collect();
        let point = |vertex: usize| PointRecords {
            lambda: [0, 1].map(|i| f64::from(u8::from(i == vertex))).to_vec(),
            records: (0..2)
                .map(|i| vec![if i == vertex { own[i] } else { 0.0 }; records])
                .collect(),
            ..PointRecords::default()
        };
        let untrained = vec![vec![untrained; records]; 2];
        let points = vec![point(0), point(1)];
        let method = MethodPoints::from_records("m", &names, points, Some(&untrained), None);
        verdict(vec![method.expect("valid")]).remove(0)
    };
    let certain = said(64, [1.0, 0.1], 0.0);
    assert!(
        certain.contains("the preference works on both. The objectives conflict"),
        "{certain}"
    );
    assert!(
        certain.contains("every objective is better than before the training"),
        "{certain}"
    );
    let unmoved = said(64, [1.0, 0.0], 0.0);
    assert!(
        unmoved.contains("λ has no measurable effect on b (0.000 ± 0.000)"),
        "{unmoved}"
    );
    assert!(
        unmoved.contains("Not measurably better than before the training"),
        "{unmoved}"
    );
    let single = said(1, [1.0, 0.1], 0.0);
    assert!(single.contains("without a standard error"), "{single}");
    assert!(!single.contains("before the training"), "{single}");
}
