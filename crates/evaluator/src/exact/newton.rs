//! Newton's method for the small convex problems of this module.

use nalgebra::{DMatrix, DVector};

/// A smooth convex function of a few variables.
pub(super) trait Convex {
    /// The value, its gradient and its Hessian at `x`.
    fn at(&self, x: &DVector<f64>) -> (f64, DVector<f64>, DMatrix<f64>);
}

/// Solves A x = b for a symmetric, positive semidefinite A. Directions in which A is flat are held by a
/// ridge far below its scale: the solution does not move along them.
pub(super) fn solve(a: &DMatrix<f64>, b: &DVector<f64>) -> DVector<f64> {
    let n = a.nrows();
    let scale = (a.trace() / n as f64).max(f64::MIN_POSITIVE);
    let mut ridge = 1e-13 * scale;
    loop {
        let damped = a + DMatrix::identity(n, n) * ridge;
        if let Some(factors) = damped.cholesky() {
            return factors.solve(b);
        }
        ridge *= 10.0;
    }
}

/// The minimiser of `function` from `x` on, by Newton's steps that are halved until they descend enough
/// (Armijo's rule). Close to the optimum, where rounding hides what a step gains, whole steps are taken
/// until Newton's decrement, twice the gain that the quadratic model expects, stops shrinking.
pub(super) fn minimise(function: &impl Convex, mut x: DVector<f64>) -> DVector<f64> {
    let mut last_decrement = f64::INFINITY;
    for _ in 0..200 {
        let (value, gradient, hessian) = function.at(&x);
        let step = solve(&hessian, &gradient);
        let decrement = gradient.dot(&step);
        let is_close = decrement <= 1e-8 * value.abs();
        if decrement <= 0.0 || (is_close && decrement >= last_decrement) {
            break;
        }
        last_decrement = decrement;
        let mut length = 1.0;
        while !is_close && length > 1e-10 {
            let reached = function.at(&(&x - &step * length)).0;
            if reached <= value - 0.1 * length * decrement {
                break;
            }
            length *= 0.5;
        }
        x -= step * length;
    }
    x
}
