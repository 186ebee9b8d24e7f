//! What a program does with a model that could be opened.

use std::path::Path;

use panacea_pretrained::{Answer, ChatTokenizer, Message, Pretrained, TextStream};

/// Asks a model for all that it has.
pub(crate) fn use_model(model: &Pretrained) {
    // Whatever is wrong with it, what is asked for next must be an answer or an error.
    let _ = model.check();
    let _ = model.fingerprint();
    let mut names: Vec<String> = model
        .config()
        .tensors()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    names.truncate(64);
    names.extend(model.tensor_names());
    for name in &names {
        let _ = model.has_tensor(name);
        let _ = model.tensor(name);
        let _ = model.quantised(name);
    }
    let _ = model.unwritten();
    if let Ok(tokenizer) = model.tokenizer() {
        use_tokenizer(tokenizer);
    }
}

/// Writes a small conversation by the template, turns it into tokens and back.
fn use_tokenizer(tokenizer: &ChatTokenizer) {
    let conversation = [
        Message::new("system", "Be brief."),
        Message::new("user", "Hello wörld  12 '<s>'"),
    ];
    let _ = tokenizer.render(&conversation, true);
    for text in ["", "hello wo \u{301}\u{1F600}\n\t12", "<s>a</s>"] {
        let Ok(ids) = tokenizer.encode(text, true) else {
            continue;
        };
        let _ = tokenizer.decode(&ids, false);
        let _ = tokenizer.decode(&ids, true);
        let mut stream = TextStream::new();
        for &id in &ids {
            let _ = stream.push(tokenizer, id);
        }
        let _ = stream.finish(tokenizer);
    }
    let _ = tokenizer.decode(&[0, 5, 1, 7, 100_000, u32::MAX], true);
    if let Ok(prompt) = tokenizer.prompt(&conversation) {
        let _ = tokenizer.answered(&prompt, &["Yes.", "", " No</s>"].map(Answer::from));
    }
    let _ = tokenizer.special_token_in("a <s>");
    let _ = tokenizer.notes();
}

/// Opens the model of a folder for its tokenizer alone.
pub(crate) fn open_and_use_tokenizer(folder: &Path) {
    let model = Pretrained::open(folder).expect("the model is valid");
    match model.tokenizer() {
        Ok(tokenizer) => use_tokenizer(tokenizer),
        Err(error) => drop(error.to_string()),
    }
}
