//! The clipped losses of proximal policy optimisation, a token at a time.

/// The policy loss of one token, and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PolicyTerm {
    /// The loss.
    pub loss: f64,
    /// ∂loss/∂(log-probability of the token under the policy).
    pub d_policy: f64,
    /// Whether the policy has gone so far in the direction of the advantage that the slope is cut to 0.
    pub clipped: bool,
}

/// The loss of one token (Schulman et al. 2017, eq. 7, negated): with the ratio ρ = π/π_old, A = `advantage`
/// and ε = `clip`,
///
/// ```text
/// loss = −min( ρ A, clip(ρ, 1−ε, 1+ε) A )
/// ∂loss/∂log π = −ρ A, or 0 where the second is less
/// ```
///
/// `policy` and `old` are the log-probabilities of the token now and when it was written. As long as they
/// are equal the derivative is −A: the policy gradient. An infinite ε clips nothing.
#[must_use]
pub fn clipped_policy_term(policy: f64, old: f64, advantage: f64, clip: f64) -> PolicyTerm {
    debug_assert!(clip >= 0.0, "a clip is a distance, found {clip}");
    let ratio = (policy - old).exp();
    let (clipped, bound) = if advantage > 0.0 {
        (ratio > 1.0 + clip, 1.0 + clip)
    } else {
        (advantage < 0.0 && ratio < 1.0 - clip, 1.0 - clip)
    };
    if clipped {
        return PolicyTerm {
            loss: -advantage * bound,
            d_policy: 0.0,
            clipped,
        };
    }
    PolicyTerm {
        loss: -advantage * ratio,
        d_policy: -advantage * ratio,
        clipped,
    }
}

/// The loss of the critic at one token, and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValueTerm {
    /// The loss.
    pub loss: f64,
    /// ∂loss/∂(value of the token).
    pub d_value: f64,
    /// Whether the value has gone so far towards the return, or past it, that the slope is cut to 0.
    pub clipped: bool,
}

/// The loss of the critic at one token (not in the paper; as in its authors' code, with the factor ½):
/// with c = `clip`,
///
/// ```text
/// loss = ½ max( (V − R)², (V_old + clip(V − V_old, −c, c) − R)² )
/// ∂loss/∂V = V − R, or 0 where the second is greater
/// ```
///
/// `value` and `old` are what the critic says of the token now and when it was written, and `target` is R,
/// its return ([`Advantages::returns`](crate::Advantages::returns)). An infinite c clips nothing.
#[must_use]
pub fn clipped_value_term(value: f64, old: f64, target: f64, clip: f64) -> ValueTerm {
    debug_assert!(clip >= 0.0, "a clip is a distance, found {clip}");
    let error = value - target;
    let held = old + (value - old).clamp(-clip, clip) - target;
    let is_far = (value - old).abs() > clip;
    if is_far && held * held > error * error {
        return ValueTerm {
            loss: 0.5 * held * held,
            d_value: 0.0,
            clipped: true,
        };
    }
    ValueTerm {
        loss: 0.5 * error * error,
        d_value: error,
        clipped: false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_slope_is_cut_only_where_the_policy_went_with_the_advantage() {
        let term = |ratio: f64, advantage| clipped_policy_term(ratio.ln(), 0.0, advantage, 0.2);
        // Up with a good token: no further than 1.2. Down with a bad one: no further than 0.8.
        assert_eq!(
            term(1.5, 2.0),
            PolicyTerm {
                loss: -2.4,
                d_policy: 0.0,
                clipped: true
            }
        );
        assert_eq!(
            term(0.5, -2.0),
            PolicyTerm {
                loss: 1.6,
                d_policy: 0.0,
                clipped: true
            }
        );
        // Against the advantage it is always pulled back.
        for (ratio, advantage) in [(0.5, 2.0), (1.5, -2.0), (1.1, 2.0), (0.9, -2.0)] {
            let term = term(ratio, advantage);
            assert!(!term.clipped);
            assert!((term.loss + ratio * advantage).abs() < 1e-15);
            assert!((term.d_policy + ratio * advantage).abs() < 1e-15);
        }
        assert!(!term(9.0, 0.0).clipped);
    }

    #[test]
    fn in_the_first_epoch_it_is_the_policy_gradient() {
        for advantage in [-1.5, 0.0, 0.75] {
            let term = clipped_policy_term(-2.5, -2.5, advantage, 0.2);
            assert_eq!((term.d_policy, term.clipped), (-advantage, false));
        }
    }

    #[test]
    fn the_slope_is_cut_only_where_the_value_went_with_the_return() {
        let term = |value| clipped_value_term(value, 0.0, 10.0, 5.0);
        // Held at 5, the value is 5 away from its target of 10.
        assert_eq!(
            term(7.0),
            ValueTerm {
                loss: 12.5,
                d_value: 0.0,
                clipped: true
            }
        );
        // Within reach, away from the target, and further past it than 5: the slope is whole.
        for value in [4.0, -7.0, 16.0] {
            let term = term(value);
            assert!(!term.clipped);
            assert_eq!(term.loss, 0.5 * (value - 10.0).powi(2));
            assert_eq!(term.d_value, value - 10.0);
        }
    }

    /// ```python
    /// p = torch.tensor([-1.0, -0.4, -2.0, -0.9, -3.0], requires_grad=True)
    /// old = torch.tensor([-1.1, -1.0, -1.6, -0.4, -3.0]); a = torch.tensor([0.7, 1.3, 0.9, -0.6, -1.1])
    /// ratio = (p - old).exp(); loss = torch.max(-a * ratio, -a * ratio.clamp(0.8, 1.2))
    /// loss, torch.autograd.grad(loss.sum(), p)
    /// ```
    #[test]
    fn policy_terms_are_those_of_pytorch() {
        let policy = [-1.0, -0.4, -2.0, -0.9, -3.0];
        let old = [-1.1, -1.0, -1.6, -0.4, -3.0];
        let advantages = [0.7, 1.3, 0.9, -0.6, -1.1];
        let losses = [-0.7736196426529534, -1.56, -0.6032880414320754, 0.48, 1.1];
        let slopes = [-0.7736196426529534, 0.0, -0.6032880414320754, 0.0, 1.1];
        let mut clipped = Vec::new();
        for t in 0..5 {
            let term = clipped_policy_term(policy[t], old[t], advantages[t], 0.2);
            assert!((term.loss - losses[t]).abs() < 1e-12, "{t}: {term:?}");
            assert!((term.d_policy - slopes[t]).abs() < 1e-12, "{t}: {term:?}");
            clipped.push(term.clipped);
        }
        assert_eq!(clipped, [false, true, false, true, false]);
    }

    /// ```python
    /// v = torch.tensor([0.3, 1.2, -0.8, 2.0], requires_grad=True)
    /// old = torch.tensor([0.25, 0.7, -0.1, 1.0]); r = torch.tensor([1.0, 1.4, 0.5, 1.6])
    /// loss = 0.5 * torch.max((v - r) ** 2, (old + (v - old).clamp(-0.3, 0.3) - r) ** 2)
    /// loss, torch.autograd.grad(loss.sum(), v)
    /// ```
    #[test]
    fn value_terms_are_those_of_pytorch() {
        let values = [0.3, 1.2, -0.8, 2.0];
        let old = [0.25, 0.7, -0.1, 1.0];
        let returns = [1.0, 1.4, 0.5, 1.6];
        let losses = [
            0.24499999999999997,
            0.07999999999999996,
            0.8450000000000001,
            0.07999999999999996,
        ];
        let slopes = [-0.7, 0.0, -1.3, 0.3999999999999999];
        for t in 0..4 {
            let term = clipped_value_term(values[t], old[t], returns[t], 0.3);
            assert!((term.loss - losses[t]).abs() < 1e-12, "{t}: {term:?}");
            assert!((term.d_value - slopes[t]).abs() < 1e-12, "{t}: {term:?}");
        }
    }

    proptest! {
        #![proptest_config(crate::cases::fixed())]

        #[test]
        fn prop_the_slope_of_the_policy_is_that_of_finite_differences(
            policy in -5.0..0.0f64,
            shift in -1.0..1.0f64,
            advantage in -3.0..3.0f64,
            clip in prop_oneof![0.05..0.5f64, Just(f64::INFINITY)],
        ) {
            let old = policy + shift;
            let ratio = (policy - old).exp();
            // Where the clip sets in there is a kink.
            prop_assume!((ratio - 1.0 - clip).abs() > 1e-3 && (ratio - 1.0 + clip).abs() > 1e-3);
            let step = 1e-5;
            let loss = |policy: f64| clipped_policy_term(policy, old, advantage, clip).loss;
            let numeric = (loss(policy + step) - loss(policy - step)) / (2.0 * step);
            let term = clipped_policy_term(policy, old, advantage, clip);
            prop_assert!((numeric - term.d_policy).abs() <= 1e-6 * (1.0 + numeric.abs()), "{numeric}, {term:?}");
            // As the paper writes it.
            let bounded = if clip.is_finite() { ratio.clamp(1.0 - clip, 1.0 + clip) } else { ratio };
            prop_assert!((term.loss + (ratio * advantage).min(bounded * advantage)).abs() < 1e-12);
        }

        #[test]
        fn prop_the_slope_of_the_value_is_that_of_finite_differences(
            value in -5.0..5.0f64,
            old in -5.0..5.0f64,
            target in -5.0..5.0f64,
            clip in prop_oneof![0.1..3.0f64, Just(f64::INFINITY)],
        ) {
            // Kinks: where the clip sets in, and where the two squares are equal beyond it.
            let held = old + (value - old).clamp(-clip, clip) - target;
            let error = value - target;
            prop_assume!(((value - old).abs() - clip).abs() > 1e-3);
            prop_assume!((value - old).abs() < clip || (held.abs() - error.abs()).abs() > 1e-3);
            let step = 1e-5;
            let loss = |value: f64| clipped_value_term(value, old, target, clip).loss;
            let numeric = (loss(value + step) - loss(value - step)) / (2.0 * step);
            let term = clipped_value_term(value, old, target, clip);
            prop_assert!((numeric - term.d_value).abs() <= 1e-6 * (1.0 + numeric.abs()), "{numeric}, {term:?}");
            prop_assert!(term.loss >= 0.5 * error * error);
        }
    }
}
