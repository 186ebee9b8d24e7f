//! Log-probabilities under a language-model head, whose logits never exist whole.

use std::ops::Range;

use burn_tensor::{FloatDType, Int, Tensor, TensorData};

#[cfg(feature = "flex")]
use crate::host::Host;
use crate::shape;
use crate::weights::Weight;

/// Logits that are stored at once: 16 MiB, and more only for over 4096 rows.
const PIECE: usize = 1 << 22;

/// The same on a GPU, which is told of a few operations for each piece: 128 MiB, the least that every driver binds.
#[cfg(feature = "gpu")]
const PIECE_ON_GPU: usize = 1 << 25;

/// The fewest columns of a piece: products of many rows and few columns are slow.
const FEWEST_COLUMNS: usize = 1024;

/// log p of one `token` a row under softmax(h Wᵀ), h `[rows, hidden]` and W `[vocabulary, hidden]`; and if `keep`
/// its slope ∂log p/∂h = W_token − Σ_v p_v W_v, `[rows, hidden]`.
///
/// With a `cap` c, logits l become c · tanh(l / c), and every W_v in the slope is multiplied by 1 − tanh²(l_v / c).
///
/// The vocabulary is processed in pieces, each piece for all rows. After each piece every row has its largest logit so
/// far, Σ_v exp(logit_v − largest) and Σ_v exp(logit_v − largest) W_v; a new largest logit scales both sums down
/// (Milakov and Gimelshein, 2018).
///
/// # Panics
/// If there is not one token a row, a token is not in the vocabulary, or W has another width than h.
pub fn head_log_probs(
    h: &Tensor<2>,
    weight: Weight<'_>,
    tokens: &[u32],
    cap: Option<f64>,
    keep: bool,
) -> (Vec<f32>, Option<Tensor<2>>) {
    let (operation, [rows, hidden], [vocabulary, width]) =
        ("head_log_probs", h.dims(), weight.shape());
    shape::axis(operation, "weight", 1, width, hidden, "as in `h`");
    shape::axis(operation, "tokens", 0, tokens.len(), rows, "as in `h`");
    for (i, &token) in tokens.iter().enumerate() {
        let why = "axis 0 of `weight`";
        shape::below(
            operation,
            format_args!("tokens[{i}]"),
            token as usize,
            vocabulary,
            why,
        );
    }
    if rows == 0 {
        return (Vec::new(), keep.then(|| h.zeros_like()));
    }
    #[cfg(feature = "flex")]
    if Host::can_open(h) && is_on_host(weight) {
        return stream(on_host::Rows::new(tokens), h, weight, tokens, cap, keep);
    }
    #[cfg(feature = "gpu")]
    if let Weight::Dense(dense) = weight
        && crate::gpu::open(dense.clone()).is_some()
        && let Some(known) = on_gpu::Rows::new(h, tokens)
    {
        return stream(known, h, weight, tokens, cap, keep);
    }
    stream(portable::Rows::new(h), h, weight, tokens, cap, keep)
}

#[cfg(feature = "flex")]
fn is_on_host(weight: Weight<'_>) -> bool {
    match weight {
        Weight::Dense(dense) => Host::can_open(dense),
        Weight::Packed(_) | Weight::Integers(_) => true,
    }
}

/// What is known of every row after some pieces of the vocabulary.
trait Rows {
    /// Logits of a piece.
    const PIECE: usize = PIECE;

    /// Takes in a `piece`'s logits `[rows, piece]`. Gives exp(logits − largest so far), in their place, and `mean`
    /// `[rows, hidden]` relative to that same largest.
    fn absorb(
        &mut self,
        logits: Tensor<2>,
        piece: Range<usize>,
        tokens: &[u32],
        mean: Option<Tensor<2>>,
    ) -> (Tensor<2>, Option<Tensor<2>>);

    /// log p of every row's token, Σ exp(logit − largest) `[rows, 1]`, and the token's logit `[rows, 1]`.
    fn finish(self) -> (Vec<f32>, Tensor<2>, Tensor<2>);
}

fn stream<R: Rows>(
    mut known: R,
    h: &Tensor<2>,
    weight: Weight<'_>,
    tokens: &[u32],
    cap: Option<f64>,
    keep: bool,
) -> (Vec<f32>, Option<Tensor<2>>) {
    // The slope of c tanh(l / c), from its value.
    let slope = |capped: Tensor<2>, cap: f64| (capped / cap).powi_scalar(2).neg() + 1.0;
    let ([rows, _], [vocabulary, _]) = (h.dims(), weight.shape());
    let columns = (R::PIECE / rows).max(FEWEST_COLUMNS).min(vocabulary);
    let mut mean = keep.then(|| h.zeros_like());
    for start in (0..vocabulary).step_by(columns) {
        let piece = start..(start + columns).min(vocabulary);
        let part = weight.part(piece.clone());
        let logits = part.product(h);
        let (logits, slopes) = match cap {
            None => (logits, None),
            Some(cap) => {
                let capped = (logits / cap).tanh() * cap;
                let slopes = keep.then(|| slope(capped.clone(), cap));
                (capped, slopes)
            }
        };
        let (mut weights, scaled) = known.absorb(logits, piece, tokens, mean);
        if let Some(slopes) = slopes {
            weights = weights * slopes;
        }
        mean = scaled.map(|mean| part.add_transposed_product(mean, &weights));
    }
    let (log_probs, sums, targets) = known.finish();
    let slopes = mean.map(|mean| {
        let of_tokens = weight.select(tokens, &h.device());
        let of_tokens = of_tokens.cast(FloatDType::from(mean.dtype()));
        match cap {
            None => of_tokens - mean / sums,
            Some(cap) => of_tokens * slope(targets, cap) - mean / sums,
        }
    });
    (log_probs, slopes)
}

mod portable {
    use super::*;

    /// `[rows, 1]` each.
    pub struct Rows {
        largest: Tensor<2>,
        sum: Tensor<2>,
        target: Tensor<2>,
    }

    impl Rows {
        pub fn new(h: &Tensor<2>) -> Self {
            let [rows, _] = h.dims();
            let zeros = Tensor::zeros([rows, 1], (&h.device(), h.dtype()));
            Self {
                largest: zeros.clone() + f32::NEG_INFINITY,
                sum: zeros.clone(),
                target: zeros,
            }
        }
    }

    impl super::Rows for Rows {
        fn absorb(
            &mut self,
            logits: Tensor<2>,
            piece: Range<usize>,
            tokens: &[u32],
            mean: Option<Tensor<2>>,
        ) -> (Tensor<2>, Option<Tensor<2>>) {
            let device = logits.device();
            let shape = [tokens.len(), 1];
            let column = |&token: &u32| piece.contains(&(token as usize)).then_some(token as usize);
            let ids = tokens.iter().map(column);
            let ids = ids.map(|id| id.map_or(0, |id| (id - piece.start) as i32));
            let ids = TensorData::new(ids.collect::<Vec<_>>(), shape);
            let here = tokens.iter().map(|token| column(token).is_some());
            let here = TensorData::new(here.collect::<Vec<_>>(), shape);
            let here = Tensor::<2, burn_tensor::Bool>::from_data(here, &device);
            let found = logits
                .clone()
                .gather(1, Tensor::<2, Int>::from_data(ids, &device));
            self.target = self.target.clone().mask_where(here, found);

            let largest = self.largest.clone().max_pair(logits.clone().max_dim(1));
            let shrink = (self.largest.clone() - largest.clone()).exp();
            let weights = (logits - largest.clone()).exp();
            self.sum = self.sum.clone() * shrink.clone() + weights.clone().sum_dim(1);
            self.largest = largest;
            (weights, mean.map(|mean| mean * shrink))
        }

        fn finish(self) -> (Vec<f32>, Tensor<2>, Tensor<2>) {
            let log_probs = self.target.clone() - self.largest - self.sum.clone().log();
            let log_probs = log_probs.into_data().convert::<f32>().try_to_vec::<f32>();
            let log_probs = log_probs.expect("the data was just converted to f32");
            (log_probs, self.sum, self.target)
        }
    }
}

#[cfg(feature = "gpu")]
mod on_gpu {
    use burn_cubecl::cubecl;
    use burn_cubecl::cubecl::prelude::*;
    use burn_cubecl::cubecl::std::tensor::layout::linear::{LinearView, LinearViewMut};
    use burn_cubecl::tensor::CubeTensor;
    use burn_tensor::{DType, Int, Tensor as BurnTensor, TensorData};

    use super::Range;
    use crate::launch::{a_cube_each, max_of_cube, open_ints, operands, sum_of_cube};

    /// A cube a row.
    #[cube(launch)]
    fn absorb_kernel(
        mut logits: LinearViewMut<'_, f32>,
        tokens: LinearView<'_, i32>,
        mut largest: LinearViewMut<'_, f32>,
        mut sums: LinearViewMut<'_, f32>,
        mut targets: LinearViewMut<'_, f32>,
        mut mean: LinearViewMut<'_, f32>,
        rows: usize,
        columns: usize,
        hidden: usize,
        start: usize,
        #[comptime] has_mean: bool,
        #[comptime] threads: usize,
    ) {
        if CUBE_POS >= rows {
            terminate!();
        }
        let first = CUBE_POS * columns;
        let before = largest.read(CUBE_POS);
        let token = tokens.read(CUBE_POS) as usize;
        if UNIT_POS == 0 && token >= start && token < start + columns {
            targets.write(CUBE_POS, logits.read(first + token - start));
        }
        let mut max = before;
        let mut i = UNIT_POS as usize;
        while i < columns {
            let logit = logits.read(first + i);
            if logit > max {
                max = logit;
            }
            i += threads;
        }
        // Nobody writes what was read above before all have been here.
        let max = max_of_cube(max, threads);
        let mut sum = 0.0_f32;
        let mut i = UNIT_POS as usize;
        while i < columns {
            let weight = (logits.read(first + i) - max).exp();
            logits.write(first + i, weight);
            sum += weight;
            i += threads;
        }
        let sum = sum_of_cube(sum, threads);
        let shrink = (before - max).exp();
        if UNIT_POS == 0 {
            sums.write(CUBE_POS, sums.read(CUBE_POS) * shrink + sum);
            largest.write(CUBE_POS, max);
        }
        if has_mean {
            let mut i = UNIT_POS as usize;
            while i < hidden {
                let at = CUBE_POS * hidden + i;
                mean.write(at, mean.read(at) * shrink);
                i += threads;
            }
        }
    }

    /// `[rows, 1]` each, but for the tokens, `[rows]`.
    pub struct Rows {
        tokens: CubeTensor,
        largest: BurnTensor<2>,
        sum: BurnTensor<2>,
        target: BurnTensor<2>,
    }

    impl Rows {
        /// `None` where h does not lie on a GPU.
        pub fn new(h: &BurnTensor<2>, tokens: &[u32]) -> Option<Self> {
            let _on_gpu = operands([h])?;
            let (device, shape) = (h.device(), [tokens.len(), 1]);
            let ids: Vec<i32> = tokens.iter().map(|&token| token as i32).collect();
            let ids = TensorData::new(ids, [tokens.len()]);
            let full = |x: f32| BurnTensor::full(shape, x, (&device, DType::F32));
            Some(Self {
                tokens: open_ints(BurnTensor::<1, Int>::from_data(ids, (&device, DType::I32)))?,
                largest: full(-1e30),
                sum: full(0.0),
                // Its piece of the vocabulary is yet to come.
                target: full(0.0),
            })
        }
    }

    impl super::Rows for Rows {
        const PIECE: usize = super::PIECE_ON_GPU;

        /// In one launch, which updates all in place: nobody else holds any of it.
        fn absorb(
            &mut self,
            logits: BurnTensor<2>,
            piece: Range<usize>,
            _: &[u32],
            mean: Option<BurnTensor<2>>,
        ) -> (BurnTensor<2>, Option<BurnTensor<2>>) {
            let [rows, columns] = logits.dims();
            let hidden = mean.as_ref().map_or(0, |mean| mean.dims()[1]);
            // What is not read may be anything.
            let of_mean = mean.as_ref().unwrap_or(&self.sum);
            let updated = [&logits, &self.largest, &self.sum, &self.target, of_mean];
            let updated = operands(updated).expect("they lie where h does, as it does");
            let [opened, largest, sum, target, opened_mean] = updated;
            let (cubes, threads) = a_cube_each(&opened, rows, columns);
            absorb_kernel::launch(
                &largest.client,
                cubes,
                threads,
                opened.into_linear_view(),
                self.tokens.clone().into_linear_view(),
                largest.clone().into_linear_view(),
                sum.into_linear_view(),
                target.into_linear_view(),
                opened_mean.into_linear_view(),
                rows,
                columns,
                hidden,
                piece.start,
                mean.is_some(),
                threads.num_elems() as usize,
            );
            (logits, mean)
        }

        fn finish(self) -> (Vec<f32>, BurnTensor<2>, BurnTensor<2>) {
            let log_probs = self.target.clone() - self.largest - self.sum.clone().log();
            let log_probs = log_probs.into_data().try_to_vec::<f32>();
            let log_probs = log_probs.expect("they were made as f32");
            (log_probs, self.sum, self.target)
        }
    }
}

#[cfg(feature = "flex")]
mod on_host {
    use rayon::prelude::*;

    use super::*;
    use crate::host;

    pub struct Rows(Vec<Row>);

    /// Weights that are added up in 32 bits: where one of them is near 1, what many small ones have together would be lost in
    /// longer sums, which is 1e-5 of a log-probability for a vocabulary of 49,152.
    const RUN: usize = 1024;

    struct Row {
        largest: f32,
        sum: f64,
        target: f32,
        /// exp(largest before − largest now).
        shrink: f32,
    }

    impl Rows {
        pub fn new(tokens: &[u32]) -> Self {
            let row = |_| Row {
                largest: f32::NEG_INFINITY,
                sum: 0.0,
                // Its piece of the vocabulary is yet to come.
                target: f32::NAN,
                shrink: 1.0,
            };
            Self(tokens.iter().map(row).collect())
        }
    }

    impl super::Rows for Rows {
        fn absorb(
            &mut self,
            logits: Tensor<2>,
            piece: Range<usize>,
            tokens: &[u32],
            mean: Option<Tensor<2>>,
        ) -> (Tensor<2>, Option<Tensor<2>>) {
            let weights = host::update(logits, |logits| {
                let rows = self.0.par_iter_mut().zip(tokens);
                let rows = rows.zip(logits.par_chunks_exact_mut(piece.len()));
                rows.for_each(|((row, &token), logits)| {
                    if piece.contains(&(token as usize)) {
                        row.target = logits[token as usize - piece.start];
                    }
                    pulp::Arch::new().dispatch(
                        #[inline(always)]
                        || row.absorb(logits),
                    );
                });
            });
            let mean = mean.map(|mean| {
                let [_, hidden] = mean.dims();
                host::update(mean, |mean| {
                    for (row, mean) in self.0.iter().zip(mean.chunks_exact_mut(hidden)) {
                        // Often the piece has no larger logit, and nothing has to be scaled.
                        if row.shrink != 1.0 {
                            mean.iter_mut().for_each(|x| *x *= row.shrink);
                        }
                    }
                })
            });
            (weights, mean)
        }

        fn finish(self) -> (Vec<f32>, Tensor<2>, Tensor<2>) {
            let log_prob =
                |row: &Row| (f64::from(row.target) - f64::from(row.largest) - row.sum.ln()) as f32;
            let log_probs = self.0.iter().map(log_prob).collect();
            let column = |of: fn(&Row) -> f32| {
                let values: Vec<f32> = self.0.iter().map(of).collect();
                let shape = [values.len(), 1];
                host::tensor(values, shape)
            };
            (
                log_probs,
                column(|row| row.sum as f32),
                column(|row| row.target),
            )
        }
    }

    impl Row {
        /// Overwrites `logits` by exp(logits − largest).
        #[inline(always)]
        fn absorb(&mut self, logits: &mut [f32]) {
            let largest = host::largest(logits);
            // NaN is larger than anything, and stays.
            let is_larger = largest > self.largest || largest.is_nan();
            let largest = if is_larger { largest } else { self.largest };
            self.shrink = host::exp(self.largest - largest);
            for x in logits.iter_mut() {
                *x = host::exp(*x - largest);
            }
            self.sum *= f64::from(self.shrink);
            for run in logits.chunks(RUN) {
                self.sum += f64::from(host::sum(run.len(), |i| run[i]));
            }
            self.largest = largest;
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn_tensor::activation::log_softmax;

    use super::*;
    use crate::test_support::{assert_close, random};

    /// Rows enough for several pieces, the last of them shorter.
    const ROWS: usize = PIECE / 1100;
    const VOCABULARY: usize = 2500;
    const HIDDEN: usize = 24;

    /// What the likeliest token leaves to all others together is not lost, though each of them alone would be beside 1.
    #[test]
    fn many_small_probabilities_count() {
        let (vocabulary, small) = (50_000, -17.0_f32);
        let mut logits = vec![small; vocabulary];
        logits[700] = 0.0;
        let weight = TensorData::new(logits, [vocabulary, 1]);
        let weight = Tensor::<2>::from_data(weight, &burn_tensor::Device::flex());
        let h = Tensor::<2>::ones([1, 1], &weight.device());
        let (found, _) = head_log_probs(&h, Weight::Dense(&weight), &[700], None, false);
        let expected = -(f64::from(small).exp() * (vocabulary - 1) as f64).ln_1p();
        let error = f64::from(found[0]) - expected;
        assert!(
            error.abs() < 1e-6,
            "{} is {error} from {expected}",
            found[0]
        );
    }

    fn tokens(rows: usize) -> Vec<u32> {
        (0..rows as u32).map(|row| row * 611 % 2500).collect()
    }

    #[test]
    fn both_forms_agree_with_a_softmax_of_all_logits() {
        for (rows, cap) in [
            (1, None),
            (30, None),
            (ROWS, None),
            (30, Some(5.0)),
            (ROWS, Some(5.0)),
        ] {
            let (h, weight) = (random([rows, HIDDEN]) * 4.0, random([VOCABULARY, HIDDEN]));
            let tokens = tokens(rows);
            let mut logits = h.clone().matmul(weight.clone().transpose());
            let mut slopes = logits.ones_like();
            if let Some(cap) = cap {
                let tanh = (logits / cap).tanh();
                slopes = slopes - tanh.clone() * tanh.clone();
                logits = tanh * cap;
            }
            let log_softmax = log_softmax(logits, 1);
            let mean = (log_softmax.clone().exp() * slopes.clone()).matmul(weight.clone());
            let ids: Vec<i32> = tokens.iter().map(|&token| token as i32).collect();
            let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [rows]), &h.device());
            let expected = log_softmax.gather(1, ids.clone().reshape([rows, 1]));
            let own = slopes.gather(1, ids.clone().reshape([rows, 1]));
            let expected_slopes = weight.clone().select(0, ids) * own - mean;

            let host = head_log_probs(&h, Weight::Dense(&weight), &tokens, cap, true);
            let portable = stream(
                portable::Rows::new(&h),
                &h,
                Weight::Dense(&weight),
                &tokens,
                cap,
                true,
            );
            for (log_probs, slopes) in [host, portable] {
                let found = Tensor::from_data(TensorData::new(log_probs, [rows, 1]), &h.device());
                assert_close("log p", &found, &expected);
                assert_close("slopes", &slopes.unwrap(), &expected_slopes);
            }
            assert!(
                head_log_probs(&h, Weight::Dense(&weight), &tokens, cap, false)
                    .1
                    .is_none()
            );
        }
    }

    #[test]
    fn nothing_is_asked_of_no_row() {
        let (h, weight) = (random([1, HIDDEN]), random([VOCABULARY, HIDDEN]));
        let h = h.slice([0..0, 0..HIDDEN]);
        let (log_probs, slopes) = head_log_probs(&h, Weight::Dense(&weight), &[], None, true);
        assert!(log_probs.is_empty());
        assert_eq!(slopes.unwrap().dims(), [0, HIDDEN]);
    }

    #[test]
    fn a_broken_row_is_seen_in_whichever_piece_it_is() {
        let (h, weight) = (random([ROWS, HIDDEN]), random([VOCABULARY, HIDDEN]));
        for broken in [3, VOCABULARY - 3] {
            let weight = weight
                .clone()
                .slice_fill([broken..broken + 1, 0..1], f32::NAN);
            let (log_probs, _) =
                head_log_probs(&h, Weight::Dense(&weight), &tokens(ROWS), None, false);
            assert!(log_probs.iter().all(|x| x.is_nan()));
        }
    }
}
