//! Prompts with a response to another prompt, by which KTO estimates how far the policy has moved from the reference.

use panacea_pretrained::{Answer, Answered};
use rayon::prelude::*;

use crate::error::{BoxError, DataError, RecordProblem};
use crate::record::Example;
use crate::tokenize::{TextEncoder, TokenLimits, fitting};

/// Puts behind the responses of every example the first response of the next one that has another prompt, in a circle; of those
/// that the template cannot write behind this prompt, the next.
///
/// Where a prompt ends depends on what follows it. So the words are put together and tokenised anew, and prompt and responses
/// are what the template writes for this conversation with each of them, as everywhere.
///
/// A record's partner depends on the order of the files alone, so that what the reference says of it is computed once.
///
/// The words of the responses, which it takes, are gone afterwards.
///
/// # Errors
/// When there is only one prompt, or none of several responses can follow a prompt.
pub(crate) fn add_mismatched<E: TextEncoder>(
    examples: &mut [Example],
    encoder: &E,
    limits: &TokenLimits,
) -> Result<(), DataError> {
    let partners = partners(examples)?;
    let known = &*examples;
    let answered: Vec<Answered> = (known.par_iter().zip(partners))
        .map(|(example, partner)| {
            with_other(example, others(known, example, partner), encoder, limits)
        })
        .collect::<Result<_, _>>()?;
    for (example, answered) in examples.iter_mut().zip(answered) {
        example.prompt = answered.prompt;
        example.responses = answered.responses;
        for response in &mut example.responses {
            response.truncate(limits.max_response_tokens);
        }
        example.words.responses = Vec::new();
    }
    Ok(())
}

/// Whether two examples answer the same prompt. The tokens of one prompt may end at another place before another response, and
/// two prompts may be cut to the same tokens.
fn is_same(one: &Example, other: &Example) -> bool {
    let (a, b) = (&one.words, &other.words);
    one.prompt == other.prompt || (a.prompt == b.prompt && a.variables == b.variables)
}

/// For every example the next one with another prompt.
fn partners(examples: &[Example]) -> Result<Vec<usize>, DataError> {
    let count = examples.len();
    let mut partners: Vec<usize> = Vec::with_capacity(count);
    for (index, example) in examples.iter().enumerate() {
        // The partners of records that share a prompt, one after the other, are the same.
        let before = partners
            .last()
            .copied()
            .filter(|&partner| partner != index && is_same(&examples[index - 1], example));
        let next = || {
            (index + 1..index + count)
                .map(|other| other % count)
                .find(|&other| !is_same(&examples[other], example))
        };
        match before.or_else(next) {
            Some(partner) => partners.push(partner),
            None => {
                return Err(DataError::OnePrompt {
                    first: example.source.clone(),
                    records: count,
                });
            }
        }
    }
    Ok(partners)
}

/// As many responses to other prompts are tried.
const TRIED: usize = 8;

/// The first responses of `partner` and of those behind it that have another prompt.
fn others<'a>(
    examples: &'a [Example],
    example: &'a Example,
    partner: usize,
) -> impl Iterator<Item = &'a Answer> {
    let behind = examples[partner..].iter().chain(&examples[..partner]);
    let others = behind.filter(|other| !is_same(other, example)).take(TRIED);
    others.map(|other| &other.words.responses[0])
}

/// The example's conversation with its responses, and behind them the first of `others` that it takes.
fn with_other<'a, E: TextEncoder>(
    example: &Example,
    others: impl Iterator<Item = &'a Answer>,
    encoder: &E,
    limits: &TokenLimits,
) -> Result<Answered, DataError> {
    let refused = |part: &'static str, error: Option<BoxError>| {
        let problem = RecordProblem::Encode {
            part,
            message: error.map_or_else(
                || "it has too many tokens".to_owned(),
                |error| error.to_string(),
            ),
        };
        DataError::from(problem.of(example.source.clone()))
    };
    let words = &example.words;
    let prompt = fitting(&words.prompt, &words.variables, encoder, limits);
    let prompt = prompt.map_err(|error| refused("prompt", Some(error)))?;
    let (prompt, _) = prompt.ok_or_else(|| refused("prompt", None))?;
    let mut last = None;
    for other in others {
        let responses = [&words.responses[..], std::slice::from_ref(other)].concat();
        match encoder.answered(&prompt, &responses, limits.max_response_tokens) {
            Ok(answered) => return Ok(answered),
            Err(error) => last = Some(error),
        }
    }
    Err(refused(
        "response to another prompt, by which KTO compares,",
        last,
    ))
}

#[cfg(test)]
mod tests {
    use panacea_pretrained::{JsonObject, Message};

    use super::*;
    use crate::{Judgement, OverlongPrompts, Source, Words};

    /// Tokens are those of characters. The last of a prompt and the first of a response are one where both are digits, and no
    /// `!` is taken behind a `?`.
    struct Digits;

    impl TextEncoder for Digits {
        type Prompt = Vec<u32>;

        fn prompt(
            &self,
            messages: &[Message],
            _: &JsonObject,
            most: usize,
        ) -> Result<Option<Vec<u32>>, BoxError> {
            let texts = messages.iter().flat_map(|message| message.text().chars());
            let ids: Vec<u32> = texts.map(u32::from).collect();
            Ok((ids.len() <= most).then_some(ids))
        }

        fn answered(
            &self,
            prompt: &Vec<u32>,
            responses: &[Answer],
            _: usize,
        ) -> Result<Answered, BoxError> {
            let tokens =
                |answer: &Answer| -> Vec<u32> { answer.text().chars().map(u32::from).collect() };
            let of_all: Vec<Vec<u32>> = responses.iter().map(tokens).collect();
            let is_digit = |id: &u32| (48..58).contains(id);
            let (last, before) = prompt.split_last().ok_or("no prompt")?;
            if of_all
                .iter()
                .any(|of| *last == u32::from('?') && of[0] == u32::from('!'))
            {
                return Err("shouting".into());
            }
            let merged = |of: &[u32]| is_digit(last) && is_digit(&of[0]);
            let moves = of_all.iter().any(|of| merged(of));
            let response = |of: &Vec<u32>| match (moves, merged(of)) {
                (false, _) => of.clone(),
                (true, false) => [&[*last], &of[..]].concat(),
                (true, true) => [&[1000 * last + of[0]], &of[1..]].concat(),
            };
            Ok(Answered {
                prompt: if moves {
                    before.to_vec()
                } else {
                    prompt.clone()
                },
                responses: of_all.iter().map(response).collect(),
                ..Answered::default()
            })
        }
    }

    const LIMITS: TokenLimits = TokenLimits {
        max_prompt_tokens: 9,
        max_response_tokens: 3,
        overlong_prompts: OverlongPrompts::Skip,
    };

    /// Examples of prompts and responses, as they are before they have partners.
    fn examples(words: &[[&str; 2]]) -> Vec<Example> {
        let example = |(index, [prompt, response]): (usize, &[&str; 2])| {
            let words = Words {
                prompt: vec![Message::new("user", *prompt)],
                responses: vec![Answer::from(*response)],
                ..Words::default()
            };
            let of = Digits.prompt(&words.prompt, &words.variables, 9).unwrap();
            let answered = Digits.answered(&of.unwrap(), &words.responses, 3).unwrap();
            Example {
                source: Source {
                    file: "a.jsonl".into(),
                    line: index + 1,
                },
                prompt: answered.prompt,
                responses: answered.responses,
                judgements: vec![Judgement::single(vec![Some(1.0)])],
                scores: Vec::new(),
                words,
            }
        };
        words.iter().enumerate().map(example).collect()
    }

    fn add(examples: &mut [Example]) -> Result<(), DataError> {
        add_mismatched(examples, &Digits, &LIMITS)
    }

    fn partners(prompts: &str) -> String {
        let responses: Vec<String> = ('A'..='Z').map(String::from).collect();
        let prompts: Vec<String> = prompts.chars().map(String::from).collect();
        let words = prompts.iter().zip(&responses);
        let words: Vec<[&str; 2]> = words.map(|(p, r)| [p.as_str(), r.as_str()]).collect();
        let mut examples = examples(&words);
        add(&mut examples).unwrap();
        let partner = |example: &Example| {
            assert_eq!(example.responses.len(), 2);
            assert!(example.words.responses.is_empty());
            char::from_u32(example.responses[1][0]).unwrap()
        };
        examples.iter().map(partner).collect()
    }

    #[test]
    fn a_response_is_to_another_prompt() {
        assert_eq!(partners("abc"), "BCA");
        assert_eq!(partners("aabbba"), "CCFFFC");
        assert_eq!(partners("ab"), "BA");
    }

    #[test]
    fn one_prompt_has_no_other() {
        // The second record's prompt has fewer tokens before its own response, and is the same.
        for words in [&[["a1", "b"]][..], &[["a1", "b"], ["a1", "2"]]] {
            let message = add(&mut examples(words)).unwrap_err().to_string();
            assert!(message.contains("one prompt"), "{message}");
        }
    }

    /// The boundary is that of the words that are put together, not that of the records which they come from.
    #[test]
    fn prompt_and_response_are_tokens_of_the_whole_text() {
        let mut examples = examples(&[["a1", "b"], ["c", "2xyz"]]);
        add(&mut examples).unwrap();
        let id = |text: &str| -> Vec<u32> { text.chars().map(u32::from).collect() };
        assert_eq!(examples[0].prompt, id("a"));
        let merged = 1000 * u32::from('1') + u32::from('2');
        let cut = [&[merged], &id("xy")[..]].concat();
        assert_eq!(examples[0].responses, [id("1b"), cut]);
        assert_eq!(examples[1].prompt, id("c"));
        assert_eq!(examples[1].responses, [id("2xy"), id("b")]);
    }

    #[test]
    fn a_response_that_cannot_follow_leaves_its_place_to_the_next() {
        let words = [["a?", "b"], ["c", "!"], ["d", "e"]];
        let mut of_three = examples(&words);
        add(&mut of_three).unwrap();
        assert_eq!(of_three[0].responses[1], [u32::from('e')]);
        assert_eq!(of_three[2].responses[1], [u32::from('b')]);
        let said = add(&mut examples(&words[..2])).unwrap_err().to_string();
        assert!(
            said.starts_with("a.jsonl:1: the response to another prompt")
                && said.contains("shouting"),
            "{said}"
        );
    }
}
