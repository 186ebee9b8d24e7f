//! From the logits behind some rows to their next tokens. On a GPU the logits stay where they are: of each row, what is known of
//! the blocks of its vocabulary comes to the host, and then the blocks that decide, of all rows together.

use burn_tensor::{Device, Tensor};
use panacea_kernels::{LOGIT_BLOCK, logit_blocks, select_logit_blocks};
use rand::RngExt;

use super::request::{NewToken, Request};
use super::running::Running;
use crate::Likelihood;
use crate::head::{indices, numbers};
use crate::sampling::{Drawn, LogitsRow, Unread, likelihood};

/// What is drawn for a row.
type Chosen = (Drawn, Option<Likelihood>);

/// Draws the next token of each of `running` from its row of `logits` `[rows, vocabulary]`.
pub fn next_tokens(logits: Tensor<2>, running: &mut [&mut Running]) -> Vec<NewToken> {
    let random = |running: &mut &mut Running| {
        let draws = running.row.request.sampling.draws();
        if draws { running.row.rng.random() } else { 0.0 }
    };
    let shares: Vec<f64> = running.iter_mut().map(random).collect();
    let rows: Vec<(&Running, f64)> = (running.iter().map(|running| &**running))
        .zip(shares)
        .collect();
    let chosen = if logits.device() == Device::flex() {
        read_whole(logits, &rows)
    } else {
        // Places among the logits are counted with 31 bits.
        let [_, vocabulary] = logits.dims();
        let together = (i32::MAX as usize / vocabulary).max(1);
        let pieces = rows.chunks(together).enumerate();
        let piece = |(i, rows): (usize, &[(&Running, f64)])| {
            let first = i * together;
            let logits = logits
                .clone()
                .slice([first..first + rows.len(), 0..vocabulary]);
            read_in_blocks(&logits, rows)
        };
        pieces.flat_map(piece).collect()
    };
    let new = running.iter_mut().zip(chosen);
    new.map(|(running, (drawn, likelihood))| running.take(drawn, likelihood))
        .collect()
}

/// All logits come to the host.
fn read_whole(logits: Tensor<2>, rows: &[(&Running, f64)]) -> Vec<Chosen> {
    let [_, vocabulary] = logits.dims();
    let logits = numbers(logits);
    let rows = logits.chunks_exact(vocabulary).zip(rows);
    let choose = |(logits, &(running, share)): (&[f32], &(&Running, f64))| {
        let request = &running.row.request;
        let row = LogitsRow::here(logits);
        let penalised = request.sampling.penalises().then(|| {
            let mut logits = logits.to_vec();
            request.sampling.penalise(&mut logits, &running.row.seen);
            LogitsRow::here(logits)
        });
        let chosen = choose(request, penalised.as_ref().unwrap_or(&row), &row, share);
        chosen.expect("all of it was read")
    };
    rows.map(choose).collect()
}

/// Rows whose logits are changed first are read whole, of the others the blocks that decide.
fn read_in_blocks(logits: &Tensor<2>, rows: &[(&Running, f64)]) -> Vec<Chosen> {
    let [_, vocabulary] = logits.dims();
    let sampling = |row: usize| &rows[row].0.row.request.sampling;
    let (whole, mut open): (Vec<usize>, Vec<usize>) =
        (0..rows.len()).partition(|&row| sampling(row).penalises());
    let mut chosen: Vec<Option<Chosen>> = vec![None; rows.len()];
    if !whole.is_empty() {
        let at = indices(whole.iter().copied(), &logits.device());
        let of_whole: Vec<(&Running, f64)> = whole.iter().map(|&row| rows[row]).collect();
        let read = read_whole(logits.clone().select(0, at), &of_whole);
        for (row, read) in whole.into_iter().zip(read) {
            chosen[row] = Some(read);
        }
    }
    if open.is_empty() {
        return chosen.into_iter().flatten().collect();
    }

    let temperature = |row: usize| match sampling(row).draws() {
        true => sampling(row).temperature,
        false => 1.0,
    };
    let temperatures: Vec<f64> = (0..rows.len()).map(temperature).collect();
    let blocks = numbers(logit_blocks(logits, &temperatures));
    let known = blocks.chunks_exact(blocks.len() / rows.len());
    let mut known: Vec<LogitsRow<'_>> = known
        .map(|blocks| LogitsRow::on_device(vocabulary, blocks))
        .collect();
    loop {
        let mut unread = Vec::new();
        open.retain(|&row| {
            let (running, share) = rows[row];
            match choose(&running.row.request, &known[row], &known[row], share) {
                Ok(drawn) => chosen[row] = Some(drawn),
                Err(Unread(blocks)) => unread.extend(blocks.into_iter().map(|b| [row, b])),
            }
            chosen[row].is_none()
        });
        if open.is_empty() {
            return chosen.into_iter().flatten().collect();
        }
        let read = numbers(select_logit_blocks(logits, &unread));
        for (&[row, block], logits) in unread.iter().zip(read.chunks_exact(LOGIT_BLOCK)) {
            known[row].give(block, logits);
        }
    }
}

/// Draws from `penalised`; how likely it is, `row` says.
fn choose(
    request: &Request,
    penalised: &LogitsRow<'_>,
    row: &LogitsRow<'_>,
    share: f64,
) -> Result<Chosen, Unread> {
    let drawn = request.sampling.choose(penalised, share)?;
    let likelihood = |count: usize| likelihood(row, drawn.token, count);
    Ok((drawn, request.likelihoods.map(likelihood).transpose()?))
}
