//! Prompts with a response to another prompt, by which KTO estimates how far the policy has moved from the reference.

use crate::error::DataError;
use crate::record::Example;

/// Puts behind the responses of every example the first response of the next one that has another prompt, in a circle.
///
/// A record's partner depends on the order of the files alone, so that what the reference says of it is computed once.
///
/// # Errors
/// When there is only one prompt.
pub fn add_mismatched(examples: &mut [Example]) -> Result<(), DataError> {
    let count = examples.len();
    let first_change = |prompt: &[u32], from: usize| {
        (from..from + count)
            .map(|index| index % count)
            .find(|&index| examples[index].prompt != prompt)
    };
    // The partners of records that share a prompt, one after the other, are the same.
    let mut partners: Vec<usize> = Vec::with_capacity(count);
    for (index, example) in examples.iter().enumerate() {
        let before = partners
            .last()
            .copied()
            .filter(|&partner| partner != index && examples[index - 1].prompt == example.prompt);
        match before.or_else(|| first_change(&example.prompt, index + 1)) {
            Some(partner) => partners.push(partner),
            None => {
                return Err(DataError::OnePrompt {
                    first: example.source.clone(),
                    records: count,
                });
            }
        }
    }
    let responses: Vec<Vec<u32>> = (partners.iter())
        .map(|&partner| examples[partner].responses[0].clone())
        .collect();
    for (example, response) in examples.iter_mut().zip(responses) {
        example.responses.push(response);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Judgement, Source};

    fn examples(prompts: &[u32]) -> Vec<Example> {
        let example = |(index, &prompt): (usize, &u32)| Example {
            source: Source {
                file: "a.jsonl".into(),
                line: index + 1,
            },
            prompt: vec![prompt],
            responses: vec![vec![100 + index as u32]],
            judgements: vec![Judgement::single(vec![Some(1.0)])],
            scores: Vec::new(),
            words: crate::Words::default(),
        };
        prompts.iter().enumerate().map(example).collect()
    }

    fn partners(prompts: &[u32]) -> Vec<u32> {
        let mut examples = examples(prompts);
        add_mismatched(&mut examples).unwrap();
        let partner = |example: &Example| {
            assert_eq!(example.responses.len(), 2);
            example.responses[1][0] - 100
        };
        examples.iter().map(partner).collect()
    }

    #[test]
    fn a_response_is_to_another_prompt() {
        assert_eq!(partners(&[1, 2, 3]), [1, 2, 0]);
        assert_eq!(partners(&[1, 1, 2, 2, 2, 1]), [2, 2, 5, 5, 5, 2]);
        assert_eq!(partners(&[1, 2]), [1, 0]);
    }

    #[test]
    fn one_prompt_has_no_other() {
        for prompts in [&[1][..], &[1, 1]] {
            let message = add_mismatched(&mut examples(prompts))
                .unwrap_err()
                .to_string();
            assert!(message.contains("one prompt"), "{message}");
        }
    }
}
