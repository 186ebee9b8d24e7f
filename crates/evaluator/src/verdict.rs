//! What a front says, in words: the same numbers, the same words.

use std::borrow::Cow;

use panacea_objectives::Estimate;

use crate::effects::{ObjectiveEffect, places};
use crate::front::{Front, MethodFront};
use crate::text::{number, preference};

/// A difference of fewer standard errors than this is taken for chance. Normal noise is above it once in 370 times, so that ten
/// objectives that do not follow λ are rarely one that does.
const MEASURABLE: f64 = 3.0;
/// As many names or pairs are listed; of more their number is said.
const LISTED: usize = 3;

/// What a difference is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Measurably above 0.
    Up,
    /// Measurably below 0.
    Down,
    /// Not to be told from 0.
    Nothing,
    /// Without a standard error: nobody knows.
    Unknown,
}

/// What a difference of these effects is.
fn kind(effect: &ObjectiveEffect, difference: Estimate) -> Kind {
    let are_several = effect.records.is_some_and(|records| records > 1);
    match difference.in_stderrs() {
        None if !are_several => Kind::Unknown,
        None if difference.mean == 0.0 => Kind::Nothing,
        Some(errors) if errors.abs() < MEASURABLE => Kind::Nothing,
        _ if difference.mean > 0.0 => Kind::Up,
        _ => Kind::Down,
    }
}

impl Front {
    /// What λ does to each objective, whether the objectives are at odds, whether each is better than before the training, and
    /// how much of the exact front is reached: a paragraph for each method.
    #[must_use]
    pub fn verdict(&self) -> Vec<String> {
        let several = self.methods.len() > 1;
        let paragraph = |method: &MethodFront| {
            let words = sentences(self, method).join(" ");
            match several {
                true => format!("{}: {words}", method.method),
                false => words,
            }
        };
        self.methods.iter().map(paragraph).collect()
    }
}

/// The effects on an objective with its name, as the sentences take them.
struct Named<'a> {
    name: &'a str,
    /// Between its own place and the others.
    change: Estimate,
    kind: Kind,
}

fn sentences(front: &Front, method: &MethodFront) -> Vec<String> {
    let effects: Cow<'_, [ObjectiveEffect]> = match method.effects.is_empty() {
        true => ObjectiveEffect::unpaired(&front.objectives, &method.points).into(),
        false => (&method.effects[..]).into(),
    };
    let named: Vec<Named<'_>> = effects.iter().filter_map(named).collect();
    let mut sentences = match (front.objectives.len(), named.len()) {
        (1, _) => vec!["There is one objective, so that λ has nothing to weigh.".to_owned()],
        (m, found) if found < m => vec![match &method.points[..] {
            [only] => format!("Measured at λ = {} alone.", preference(&only.lambda)),
            _ => "The λ that were measured have no ends to compare.".to_owned(),
        }],
        (m, _) => {
            let of_kind = |kind| named.iter().filter(move |of| of.kind == kind);
            let moved = match m {
                2 => between_two(method, &named),
                _ => among_many(&named),
            };
            let mut sentences: Vec<String> = moved.into_iter().collect();
            sentences.extend(without_effect(of_kind(Kind::Nothing)));
            sentences.extend(against(of_kind(Kind::Down)));
            sentences.extend(unknown(of_kind(Kind::Unknown)));
            sentences.extend(conflicts(&effects));
            sentences
        }
    };
    let places = match method.points.len() {
        1 => ["At this λ", "at this λ"],
        _ => ["Under its own weight", "under its own weight"],
    };
    sentences.extend(over_untrained(&effects, places));
    sentences.extend(of_the_exact(method));
    sentences
}

fn named(effect: &ObjectiveEffect) -> Option<Named<'_>> {
    let change = effect.over_others?;
    Some(Named {
        name: &effect.objective,
        change,
        kind: kind(effect, change),
    })
}

/// `From λ = (0, 1) to (1, 0) a rises by 0.42 ± 0.05 and b falls by 0.9 ± 0.1: the preference works on both.`
fn between_two(method: &MethodFront, named: &[Named<'_>]) -> Option<String> {
    let lambdas: Vec<&[f64]> = method.points.iter().map(|p| &p.lambda[..]).collect();
    let ends = places(&lambdas, 2)?;
    let [to, from] = [ends[0], ends[1]].map(|place| preference(lambdas[place]));
    // From the second end to the first, what is good for the second objective is turned round.
    let moves = named.iter().enumerate().filter_map(|(i, of)| {
        let rises = match of.kind {
            Kind::Up => i == 0,
            Kind::Down => i == 1,
            Kind::Nothing | Kind::Unknown => return None,
        };
        let verb = if rises { "rises" } else { "falls" };
        Some(format!("{} {verb} by {}", of.name, size(of.change)))
    });
    let moves: Vec<String> = moves.collect();
    let works = named.iter().filter(|of| of.kind == Kind::Up);
    let works: Vec<&str> = works.map(|of| of.name).collect();
    let conclusion = match works[..] {
        [_, _] => ": the preference works on both.".to_owned(),
        [one] => format!(": the preference works on {one}."),
        _ => ".".to_owned(),
    };
    let moves = listed(&moves);
    (!moves.is_empty()).then(|| format!("From λ = {from} to {to} {moves}{conclusion}"))
}

/// The same for three objectives or more: every objective at its own place, less its mean at those of the others.
fn among_many(named: &[Named<'_>]) -> Option<String> {
    let works = named.iter().filter(|of| of.kind == Kind::Up);
    let works: Vec<String> = works
        .map(|of| format!("{} by {}", of.name, size(of.change)))
        .collect();
    if works.is_empty() {
        return None;
    }
    let all = match (works.len(), named.len()) {
        (works, all) if works == all => format!("all {all} objectives"),
        (works, all) => format!("{works} of {all} objectives"),
    };
    let whose = match works.len() {
        1 => "This objective is higher under its own weight than under the others'",
        _ => "These are higher under their own weight than under the others'",
    };
    let works = listed(&works);
    Some(format!("The preference works on {all}. {whose}: {works}."))
}

fn without_effect<'a>(nothing: impl Iterator<Item = &'a Named<'a>>) -> Option<String> {
    let nothing: Vec<String> = nothing
        .map(|of| format!("{} ({})", of.name, signed(of.change)))
        .collect();
    (!nothing.is_empty()).then(|| {
        format!(
            "λ has no measurable effect on {}: train longer or at a higher learning rate, measure more records, or \
             the objectives agree.",
            listed(&nothing)
        )
    })
}

fn against<'a>(down: impl Iterator<Item = &'a Named<'a>>) -> Option<String> {
    let down: Vec<String> = down
        .map(|of| format!("{} ({})", of.name, signed(of.change)))
        .collect();
    let which = match down.len() {
        0 => return None,
        1 => "this objective the wrong way, lower",
        _ => "these objectives the wrong way, each lower",
    };
    Some(format!(
        "λ moves {which} under its own weight than under the others': {}.",
        listed(&down)
    ))
}

fn unknown<'a>(unknown: impl Iterator<Item = &'a Named<'a>>) -> Option<String> {
    let unknown: Vec<String> = unknown
        .map(|of| {
            format!(
                "{} changes by {}",
                of.name,
                plain(of.change.mean, of.change.mean / 10.0)
            )
        })
        .collect();
    (!unknown.is_empty()).then(|| {
        format!(
            "{}, without a standard error: nothing says whether that is chance; measure more records.",
            listed(&unknown)
        )
    })
}

/// Two objectives are at odds where each is lower under the other's weight than under its own.
fn conflicts(effects: &[ObjectiveEffect]) -> Option<String> {
    let m = effects.len();
    let differs = |i: usize, k: usize| kind(&effects[i], effects[i].over_each[k]);
    let pairs = || (0..m).flat_map(|i| (i + 1..m).map(move |k| (i, k)));
    // Without a standard error nobody knows.
    if pairs().any(|(i, k)| differs(i, k) == Kind::Unknown || differs(k, i) == Kind::Unknown) {
        return None;
    }
    let (odds, others): (Vec<_>, Vec<_>) =
        pairs().partition(|&(i, k)| differs(i, k) == Kind::Up && differs(k, i) == Kind::Up);
    let name = |&(i, k): &(usize, usize)| {
        format!("{} with {}", effects[i].objective, effects[k].objective)
    };
    Some(match (m, odds.len(), others.len()) {
        (2, 1, _) => {
            "The objectives conflict: each is lower where the other one counts.".to_owned()
        }
        (2, ..) => "The objectives do not conflict measurably.".to_owned(),
        (_, 0, _) => "No two objectives conflict measurably.".to_owned(),
        (_, all, 0) => format!("All {all} pairs of objectives conflict."),
        (_, _, few) if few <= LISTED => {
            let names: Vec<String> = others.iter().map(name).collect();
            format!("All pairs of objectives conflict but {}.", listed(&names))
        }
        (_, few, rest) if few <= LISTED => {
            let names: Vec<String> = odds.iter().map(name).collect();
            let all = few + rest;
            format!(
                "Of {all} pairs of objectives these conflict: {}.",
                listed(&names)
            )
        }
        (_, some, rest) => {
            let all = some + rest;
            format!("{some} of {all} pairs of objectives conflict.")
        }
    })
}

/// Against the model before its training, each objective where its own weight is greatest: that place in words, at the beginning of
/// a sentence and within one.
fn over_untrained(effects: &[ObjectiveEffect], [begin, place]: [&str; 2]) -> Option<String> {
    let gains = effects.iter().map(|effect| {
        let gain = effect.over_untrained?;
        Some((effect.objective.as_str(), gain, kind(effect, gain)))
    });
    let mut gains: Vec<(&str, Estimate, Kind)> = gains.collect::<Option<_>>()?;
    // Without a standard error nobody knows.
    gains.retain(|(_, _, kind)| *kind != Kind::Unknown);
    let not_better = gains.iter().filter(|(_, _, kind)| *kind != Kind::Up);
    let not_better: Vec<String> = not_better
        .map(|(name, gain, _)| format!("{name} ({})", signed(*gain)))
        .collect();
    if !not_better.is_empty() {
        let where_at = match effects.len() {
            1 => String::new(),
            _ => format!(", even {place}"),
        };
        return Some(format!(
            "Not measurably better than before the training{where_at}: {}.",
            listed(&not_better)
        ));
    }
    let least = gains.iter();
    let (name, gain, _) = least.reduce(|a, b| if b.1.mean < a.1.mean { b } else { a })?;
    Some(match (gains.len(), effects.len()) {
        (_, 1) => format!("Training has raised {name} by {}.", size(*gain)),
        (known, all) if known == all => format!(
            "{begin} every objective is better than before the training, by {} ({name}) or more.",
            size(*gain)
        ),
        (known, all) => format!(
            "Of {all} objectives {known} have a standard error; {place} each of these is better than before the \
             training, by {} ({name}) or more.",
            size(*gain)
        ),
    })
}

/// The share of the exact hypervolume; and what to look at where it says little.
fn of_the_exact(method: &MethodFront) -> Option<String> {
    let share = method.indicators.hypervolume_ratio?;
    let reached = format!("It reaches {share:.3} of the exact hypervolume.");
    if share <= 1.0 {
        return Some(reached);
    }
    let (mean, max) = (
        method.indicators.regret_mean?,
        method.indicators.regret_max?,
    );
    Some(format!(
        "{reached} A share above 1 is not better than exact: this hypervolume is that of the few λ of the grid, and exact points \
         maximise Σ λ_i J_i, not the volume that they span. What measures it is the exact front at the same λ: regret {} on average, \
         {} at most.",
        plain(mean, mean / 10.0),
        plain(max, max / 10.0)
    ))
}

/// `a`, `a and b`, `a, b and c`.
fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// A difference without its sign, with its standard error.
fn size(Estimate { mean, stderr }: Estimate) -> String {
    format!("{} ± {}", plain(mean.abs(), stderr), plain(stderr, stderr))
}

/// A difference with its sign and its standard error.
fn signed(Estimate { mean, stderr }: Estimate) -> String {
    format!("{} ± {}", plain(mean, stderr), plain(stderr, stderr))
}

/// A number with the decimals that an error of this size leaves it: one digit of the error, two where the first is a 1.
fn plain(value: f64, error: f64) -> String {
    let error = error.abs();
    let decimals = match error > 0.0 && error.is_finite() {
        true => {
            let first = -error.log10().floor();
            let is_one = error * 10f64.powf(first) < 1.95;
            (first + f64::from(u8::from(is_one))).clamp(0.0, 9.0) as usize
        }
        false => 3,
    };
    number(value, decimals)
}

#[cfg(test)]
mod tests;
