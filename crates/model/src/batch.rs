//! Batches without padding: every token stands in one long row, and segments say who sees whom.

use std::ops::Range;

use panacea_kernels::Segment;

use crate::ModelError;

/// A prompt with the responses whose log-probabilities are asked for, under one preference.
#[derive(Debug, Clone)]
pub struct Sequence<'a> {
    /// The prompt's tokens; at least one.
    pub prompt: &'a [u32],
    /// The responses' tokens, each with at least one. They share the prompt and do not see each other.
    pub responses: Vec<&'a [u32]>,
    /// λ of these rows. A pass without an adapter ignores it, so the reference can read the same batch.
    pub preference: &'a [f64],
}

/// A token whose log-probability is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    /// The row whose output predicts it.
    pub row: usize,
    /// The token.
    pub token: u32,
}

/// Sequences packed for one pass through the network.
#[derive(Debug, Clone)]
pub struct PackedBatch {
    /// Rows in front of all tokens whose keys and values are known, and which do not pass through the layers.
    pub(crate) given: usize,
    pub(crate) tokens: Vec<u32>,
    pub(crate) positions: Vec<usize>,
    /// Their rows are counted from the first that is given.
    pub(crate) segments: Vec<Segment>,
    /// Targets of all responses, one response after the other.
    pub(crate) targets: Vec<Target>,
    /// λ of every row, `[rows × m]`, row by row.
    pub(crate) preferences: Vec<f64>,
    /// The number of weights of each sequence's λ.
    preference_lengths: Vec<usize>,
    /// The first row of each sequence.
    sequences: Vec<usize>,
    /// The targets of each response, in the order in which sequences and their responses were given.
    responses: Vec<Range<usize>>,
}

impl PackedBatch {
    /// Packs `sequences`; every token of a response is a target. The last one is a target only: nothing is predicted
    /// from it.
    pub fn new(sequences: &[Sequence<'_>]) -> Result<Self, ModelError> {
        let mut batch = Self::empty();
        for (row, sequence) in sequences.iter().enumerate() {
            let prompt = batch.push_prompt(row, sequence, 0..0)?;
            for response in &sequence.responses {
                let Some((_, inputs)) = response.split_last() else {
                    return Err(EMPTY_RESPONSE.in_row(row));
                };
                let own = if inputs.is_empty() {
                    batch.tokens.len()..batch.tokens.len()
                } else {
                    batch.push(inputs, prompt.clone(), sequence.preference)
                };
                let first = batch.targets.len();
                let rows = std::iter::once(prompt.end - 1).chain(own);
                let targets = rows
                    .zip(response.iter())
                    .map(|(row, &token)| Target { row, token });
                batch.targets.extend(targets);
                batch.responses.push(first..batch.targets.len());
            }
        }
        Ok(batch)
    }

    /// Packs `sequences` to read values for whole responses: each response has one target, at the row of its last
    /// token. For [`crate::Decoder::values`]; log-probabilities of these targets have no meaning.
    pub fn ends(sequences: &[Sequence<'_>]) -> Result<Self, ModelError> {
        let mut batch = Self::empty();
        for (row, sequence) in sequences.iter().enumerate() {
            let prompt = batch.push_prompt(row, sequence, 0..0)?;
            for response in &sequence.responses {
                let &token = response.last().ok_or_else(|| EMPTY_RESPONSE.in_row(row))?;
                let own = batch.push(response, prompt.clone(), sequence.preference);
                let row = own.end - 1;
                batch
                    .responses
                    .push(batch.targets.len()..batch.targets.len() + 1);
                batch.targets.push(Target { row, token });
            }
        }
        Ok(batch)
    }

    /// Packs prompts, each behind its first `known` tokens, whose keys and values are given: those of the first prompt, then
    /// those of the next. Only the rest passes through the layers.
    pub(crate) fn behind(prompts: &[(Sequence<'_>, usize)]) -> Result<Self, ModelError> {
        let mut batch = Self {
            given: prompts.iter().map(|(_, known)| known).sum(),
            ..Self::empty()
        };
        let mut given = 0;
        for (row, (sequence, known)) in prompts.iter().enumerate() {
            let rest = Sequence {
                prompt: &sequence.prompt[*known..],
                ..sequence.clone()
            };
            batch.push_prompt(row, &rest, given..given + known)?;
            given += known;
        }
        Ok(batch)
    }

    fn empty() -> Self {
        Self {
            given: 0,
            tokens: Vec::new(),
            positions: Vec::new(),
            segments: Vec::new(),
            targets: Vec::new(),
            preferences: Vec::new(),
            preference_lengths: Vec::new(),
            sequences: Vec::new(),
            responses: Vec::new(),
        }
    }

    fn push_prompt(
        &mut self,
        row: usize,
        sequence: &Sequence<'_>,
        prefix: Range<usize>,
    ) -> Result<Range<usize>, ModelError> {
        if sequence.prompt.is_empty() {
            return Err(ModelError::Empty { what: "prompt" }.in_row(row));
        }
        self.sequences.push(self.tokens.len());
        self.preference_lengths.push(sequence.preference.len());
        Ok(self.push(sequence.prompt, prefix, sequence.preference))
    }

    fn push(&mut self, tokens: &[u32], prefix: Range<usize>, preference: &[f64]) -> Range<usize> {
        let own = self.tokens.len()..self.tokens.len() + tokens.len();
        self.tokens.extend_from_slice(tokens);
        self.positions
            .extend(prefix.len()..prefix.len() + tokens.len());
        for _ in tokens {
            self.preferences.extend_from_slice(preference);
        }
        self.segments.push(Segment {
            prefix,
            own: self.given + own.start..self.given + own.end,
        });
        own
    }

    /// Refuses what does not fit a model with so many tokens, or an adapter with so many objectives.
    pub(crate) fn check(
        &self,
        vocab_size: usize,
        objectives: Option<usize>,
    ) -> Result<(), ModelError> {
        let inputs = self.tokens.iter().copied().enumerate();
        let targets = self.targets.iter().map(|target| (target.row, target.token));
        if let Some((row, id)) = (inputs.chain(targets)).find(|&(_, id)| id as usize >= vocab_size)
        {
            let sequence = self.sequences.partition_point(|&first| first <= row) - 1;
            return Err(ModelError::TokenOutOfRange { id, vocab_size }.in_row(sequence));
        }
        let lengths = self.preference_lengths.iter().copied().enumerate();
        let mut wrong = lengths.filter_map(|(sequence, found)| {
            let expected = objectives.filter(|&expected| expected != found)?;
            Some(ModelError::PreferenceLength { found, expected }.in_row(sequence))
        });
        wrong.next().map_or(Ok(()), Err)
    }

    /// Tokens that pass through the layers.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// Response tokens whose log-probability is asked for.
    pub fn targets(&self) -> usize {
        self.targets.len()
    }

    /// Where in [`crate::Forward::log_probs`] the tokens of each response stand, in the order given.
    pub fn responses(&self) -> &[Range<usize>] {
        &self.responses
    }

    /// One coefficient per response, spread over its tokens: what [`crate::Decoder::backward`] takes.
    pub fn spread(&self, per_response: &[f64]) -> Vec<f64> {
        let mut coefficients = vec![0.0; self.targets.len()];
        for (range, &coefficient) in self.responses.iter().zip(per_response) {
            coefficients[range.clone()].fill(coefficient);
        }
        coefficients
    }

    /// The sum of token log-probabilities of each response.
    pub fn sums(&self, log_probs: &[f64]) -> Vec<f64> {
        self.responses
            .iter()
            .map(|range| log_probs[range.clone()].iter().sum())
            .collect()
    }
}

const EMPTY_RESPONSE: ModelError = ModelError::Empty { what: "response" };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_share_their_prompt_and_restart_positions() {
        let batch = PackedBatch::new(&[Sequence {
            prompt: &[10, 11],
            responses: vec![&[1, 2, 3], &[4]],
            preference: &[0.25, 0.75],
        }])
        .unwrap();
        assert_eq!(batch.tokens, [10, 11, 1, 2]);
        assert_eq!(batch.positions, [0, 1, 2, 3]);
        assert_eq!(
            batch.segments,
            [
                Segment {
                    prefix: 0..0,
                    own: 0..2
                },
                Segment {
                    prefix: 0..2,
                    own: 2..4
                }
            ]
        );
        let rows: Vec<_> = batch.targets.iter().map(|t| (t.row, t.token)).collect();
        assert_eq!(rows, [(1, 1), (2, 2), (3, 3), (1, 4)]);
        assert_eq!(batch.responses(), [0..3, 3..4]);
        assert_eq!(batch.spread(&[2.0, -1.0]), [2.0, 2.0, 2.0, -1.0]);
        assert_eq!(batch.sums(&[1.0, 2.0, 3.0, 4.0]), [6.0, 4.0]);
        assert_eq!(batch.preferences.len(), 8);
    }

    #[test]
    fn what_is_known_of_prompts_stands_in_front() {
        let sequence = |prompt| Sequence {
            prompt,
            responses: vec![],
            preference: &[1.0],
        };
        let prompts = [
            (sequence(&[10, 11, 12]), 2),
            (sequence(&[13, 14]), 0),
            (sequence(&[15, 16, 17, 18]), 1),
        ];
        let batch = PackedBatch::behind(&prompts).unwrap();
        assert_eq!((batch.given, batch.rows()), (3, 6));
        assert_eq!(batch.tokens, [12, 13, 14, 16, 17, 18]);
        assert_eq!(batch.positions, [2, 0, 1, 1, 2, 3]);
        let segments = batch.segments.into_iter();
        let segments: Vec<_> = segments.map(|s| (s.prefix, s.own)).collect();
        assert_eq!(segments, [(0..2, 3..4), (2..2, 4..6), (2..3, 6..9)]);
    }

    #[test]
    fn nothing_empty_is_packed() {
        let empty_prompt = Sequence {
            prompt: &[],
            responses: vec![&[1]],
            preference: &[],
        };
        assert!(PackedBatch::new(&[empty_prompt]).is_err());
        let empty_response = Sequence {
            prompt: &[1],
            responses: vec![&[]],
            preference: &[],
        };
        assert!(PackedBatch::new(&[empty_response]).is_err());
    }
}
