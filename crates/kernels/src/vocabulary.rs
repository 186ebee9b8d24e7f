//! What is to be known of logits before some of them are read: a block of the vocabulary at a time.

use burn_tensor::{Int, Tensor, TensorData};

use crate::shape;

/// Tokens of a block; the vocabulary's last block may have fewer.
pub const LOGIT_BLOCK: usize = 256;

/// Of every block of every row of logits `[rows, vocabulary]`: its largest logit m, Σ exp(l − m) and
/// Σ exp((l − m) / temperature of the row), `[rows, 3 × blocks]`. The sums add up in a fixed order.
///
/// # Panics
/// If there is not one temperature a row, one of them is not above 0, or the vocabulary is empty.
pub fn logit_blocks(logits: &Tensor<2>, temperatures: &[f64]) -> Tensor<2> {
    let (operation, [rows, vocabulary]) = ("logit_blocks", logits.dims());
    let found = temperatures.len();
    shape::axis(operation, "temperatures", 0, found, rows, "as in `logits`");
    shape::some(operation, "axis 1 of `logits`", vocabulary);
    for (i, temperature) in temperatures.iter().enumerate() {
        assert!(
            *temperature > 0.0,
            "{operation}: `temperatures[{i}]` is {temperature}, expected more than 0"
        );
    }
    if rows == 0 {
        return Tensor::empty([0, 3 * vocabulary.div_ceil(LOGIT_BLOCK)], &logits.device());
    }
    // So cold that nothing but the largest counts, or so hot that all do, and still a number of 32 bits.
    let inverse = temperatures
        .iter()
        .map(|t| t.recip().clamp(1e-20, 1e30) as f32);
    let inverse = TensorData::new(inverse.collect(), [rows]);
    let inverse = Tensor::from_data(inverse, &logits.device());
    #[cfg(feature = "gpu")]
    if let Some(blocks) = on_gpu::blocks(logits, &inverse) {
        return blocks;
    }
    portable(logits, inverse)
}

/// The logits of blocks of `logits` `[rows, vocabulary]`, each named by its row and its place among the row's blocks:
/// `[n, LOGIT_BLOCK]`. What the vocabulary's last block lacks is filled with its last logit.
///
/// # Panics
/// If no block or one that is not there is named, or 31 bits do not count the logits.
pub fn select_logit_blocks(logits: &Tensor<2>, blocks: &[[usize; 2]]) -> Tensor<2> {
    let (operation, [rows, vocabulary]) = ("select_logit_blocks", logits.dims());
    assert!(
        i32::try_from(rows * vocabulary).is_ok(),
        "{operation}: `logits` has {rows} × {vocabulary} numbers, expected less than 2³¹"
    );
    shape::some(operation, "the number of `blocks`", blocks.len());
    let in_row = vocabulary.div_ceil(LOGIT_BLOCK);
    for (i, &[row, block]) in blocks.iter().enumerate() {
        shape::below(operation, format_args!("blocks[{i}][0]"), row, rows, "rows");
        let why = "blocks of a row";
        shape::below(
            operation,
            format_args!("blocks[{i}][1]"),
            block,
            in_row,
            why,
        );
    }
    let indices = |indices: Vec<i32>| {
        let count = indices.len();
        Tensor::<1, Int>::from_data(TensorData::new(indices, [count]), &logits.device())
    };
    #[cfg(feature = "gpu")]
    if crate::gpu::open(logits.clone()).is_some() {
        let places = blocks.iter().map(|[row, block]| row * in_row + block);
        let places = indices(places.map(|place| place as i32).collect());
        if let Some(selected) = on_gpu::select(logits, places, blocks.len()) {
            return selected;
        }
    }
    let of_block = |&[row, block]: &[usize; 2]| {
        let tokens = block * LOGIT_BLOCK..(block + 1) * LOGIT_BLOCK;
        tokens.map(move |token| (row * vocabulary + token.min(vocabulary - 1)) as i32)
    };
    let wanted = indices(blocks.iter().flat_map(of_block).collect());
    let selected = logits
        .clone()
        .reshape([rows * vocabulary])
        .select(0, wanted);
    selected.reshape([blocks.len(), LOGIT_BLOCK])
}

fn portable(logits: &Tensor<2>, inverse: Tensor<1>) -> Tensor<2> {
    let [rows, vocabulary] = logits.dims();
    let blocks = vocabulary.div_ceil(LOGIT_BLOCK);
    let lacking = blocks * LOGIT_BLOCK - vocabulary;
    let mut logits = logits.clone();
    if lacking > 0 {
        let nothing = Tensor::full([rows, lacking], -1e30, &logits.device());
        logits = Tensor::cat(vec![logits, nothing], 1);
    }
    let logits = logits.reshape([rows, blocks, LOGIT_BLOCK]);
    let largest = logits.clone().max_dim(2);
    let below = logits - largest.clone();
    let colder = below.clone() * inverse.reshape([rows, 1, 1]);
    let all = [largest, below.exp().sum_dim(2), colder.exp().sum_dim(2)];
    Tensor::cat(all.to_vec(), 2).reshape([rows, 3 * blocks])
}

#[cfg(feature = "gpu")]
mod on_gpu {
    use burn_cubecl::cubecl;
    use burn_cubecl::cubecl::prelude::*;
    use burn_cubecl::cubecl::std::tensor::layout::linear::{LinearView, LinearViewMut};
    use burn_tensor::{Int, Tensor as BurnTensor};

    use super::LOGIT_BLOCK;
    use crate::gpu::tensor;
    use crate::launch::{
        MOST_THREADS, a_cube_each, a_thread_each, max_of_cube, open_ints, operands, room,
        sum_of_cube,
    };

    // A cube for each block has a thread for each of its tokens.
    const _: () = assert!(LOGIT_BLOCK <= MOST_THREADS && LOGIT_BLOCK.is_power_of_two());

    /// A cube for each block, a thread for each of its tokens.
    #[cube(launch)]
    fn blocks_kernel(
        logits: LinearView<'_, f32>,
        inverse: LinearView<'_, f32>,
        mut out: LinearViewMut<'_, f32>,
        rows: usize,
        vocabulary: usize,
        blocks: usize,
        #[comptime] threads: usize,
    ) {
        if CUBE_POS >= rows * blocks {
            terminate!();
        }
        let row = CUBE_POS / blocks;
        let token = CUBE_POS % blocks * threads + UNIT_POS as usize;
        let is_there = token < vocabulary;
        let mut logit = f32::new(-1e30);
        if is_there {
            logit = logits.read(row * vocabulary + token);
        }
        let largest = max_of_cube(logit, threads);
        let mut weight = 0.0_f32;
        let mut colder = 0.0_f32;
        if is_there {
            weight = (logit - largest).exp();
            colder = ((logit - largest) * inverse.read(row)).exp();
        }
        let sum = sum_of_cube(weight, threads);
        let sum_of_colder = sum_of_cube(colder, threads);
        if UNIT_POS == 0 {
            out.write(3 * CUBE_POS, largest);
            out.write(3 * CUBE_POS + 1, sum);
            out.write(3 * CUBE_POS + 2, sum_of_colder);
        }
    }

    /// One launch. `None` where the logits do not lie on a GPU.
    pub fn blocks(logits: &BurnTensor<2>, inverse: &BurnTensor<1>) -> Option<BurnTensor<2>> {
        let [rows, vocabulary] = logits.dims();
        let blocks = vocabulary.div_ceil(LOGIT_BLOCK);
        let ([logits], [inverse]) = (operands([logits])?, operands([inverse])?);
        let out = room(&logits, [rows, 3 * blocks]);
        let (cubes, threads) = a_cube_each(&logits, rows * blocks, LOGIT_BLOCK);
        blocks_kernel::launch(
            &out.client,
            cubes,
            threads,
            logits.into_linear_view(),
            inverse.into_linear_view(),
            out.clone().into_linear_view(),
            rows,
            vocabulary,
            blocks,
            threads.num_elems() as usize,
        );
        Some(tensor(out))
    }

    /// A thread for each logit; blocks are counted over all rows.
    #[cube(launch)]
    fn select_kernel(
        logits: LinearView<'_, f32>,
        places: LinearView<'_, i32>,
        mut out: LinearViewMut<'_, f32>,
        vocabulary: usize,
        in_row: usize,
        #[comptime] block: usize,
    ) {
        if ABSOLUTE_POS < out.shape() {
            let place = places.read(ABSOLUTE_POS / block) as usize;
            let mut token = place % in_row * block + ABSOLUTE_POS % block;
            if token >= vocabulary {
                token = vocabulary - 1;
            }
            out.write(
                ABSOLUTE_POS,
                logits.read(place / in_row * vocabulary + token),
            );
        }
    }

    /// One launch. `None` where they do not lie on one GPU.
    pub fn select(
        logits: &BurnTensor<2>,
        places: BurnTensor<1, Int>,
        count: usize,
    ) -> Option<BurnTensor<2>> {
        let [_, vocabulary] = logits.dims();
        let ([logits], places) = (operands([logits])?, open_ints(places)?);
        if places.device != logits.device {
            return None;
        }
        let out = room(&logits, [count, LOGIT_BLOCK]);
        let (cubes, threads) = a_thread_each(&out, count * LOGIT_BLOCK);
        select_kernel::launch(
            &out.client,
            cubes,
            threads,
            logits.into_linear_view(),
            places.into_linear_view(),
            out.clone().into_linear_view(),
            vocabulary,
            vocabulary.div_ceil(LOGIT_BLOCK),
            LOGIT_BLOCK,
        );
        Some(tensor(out))
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::test_support::{random, values};

    #[test]
    fn blocks_say_what_their_logits_do() {
        for vocabulary in [1, 255, 256, 700] {
            let logits = random([3, vocabulary]) * 9.0;
            let temperatures = [1.0, 0.3, 2.5];
            let found = values(&logit_blocks(&logits, &temperatures));
            let rows = values(&logits);
            let mut expected = Vec::new();
            for (row, temperature) in rows.chunks(vocabulary).zip(temperatures) {
                for block in row.chunks(LOGIT_BLOCK) {
                    let largest = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let sum = |temperature: f64| -> f64 {
                        let below = block.iter().map(|l| f64::from(l - largest));
                        below.map(|below| (below / temperature).exp()).sum()
                    };
                    expected.extend([f64::from(largest), sum(1.0), sum(temperature)]);
                }
            }
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                let apart = (f64::from(*found) - expected).abs();
                assert!(
                    apart < 1e-5 * expected.abs().max(1.0),
                    "{found}, {expected}"
                );
            }
            let last = vocabulary.div_ceil(LOGIT_BLOCK) - 1;
            let blocks = values(&select_logit_blocks(&logits, &[[2, last], [0, 0]]));
            let [second, first] = [&blocks[..LOGIT_BLOCK], &blocks[LOGIT_BLOCK..]];
            let in_last = vocabulary - last * LOGIT_BLOCK;
            assert_eq!(second[..in_last], rows[rows.len() - in_last..]);
            let in_first = vocabulary.min(LOGIT_BLOCK);
            assert_eq!(first[..in_first], rows[..in_first]);
        }
    }

    #[test]
    #[should_panic(expected = "`temperatures[1]` is 0, expected more than 0")]
    fn a_temperature_is_above_0() {
        let _ = logit_blocks(&random([2, 3]), &[1.0, 0.0]);
    }
}
