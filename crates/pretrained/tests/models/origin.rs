//! Where models were published, as their files say it.

use std::fs;

use panacea_pretrained::{Pretrained, Provenance};
use serde_json::json;

use crate::tiny::{Gguf, Meta, text, tiny_model};

/// What a GGUF file with this metadata says.
fn of_gguf(metadata: &[(&str, Meta)]) -> Provenance {
    let folder = tempfile::tempdir().unwrap();
    let mut gguf = Gguf::of(&tiny_model("llama"));
    for (key, value) in metadata {
        gguf.set(key, value.clone());
    }
    let model = Pretrained::open(&gguf.write(folder.path())).unwrap();
    model.provenance().unwrap()
}

fn repository(found: &Provenance) -> Option<&str> {
    found.origin.as_ref().map(|origin| &*origin.repository)
}

#[test]
fn a_gguf_file_names_what_it_was_converted_from() {
    let address = |name: &str| text(&format!("https://huggingface.co/{name}"));
    let name = |name: &str| ("general.name", text(name));
    let base = |name: &str| ("general.base_model.0.repo_url", address(name));

    let found = of_gguf(&[
        ("general.source.repo_url", address("owner/chat")),
        base("owner/pretrained"),
        ("general.license", text("apache-2.0")),
    ]);
    assert_eq!(repository(&found), Some("owner/chat"));
    assert_eq!(found.license.as_deref(), Some("apache-2.0"));
    assert!(found.hints.is_empty());
    let older = of_gguf(&[("general.source.huggingface.repository", text("owner/chat"))]);
    assert_eq!(repository(&older), Some("owner/chat"));

    // A chat model's base model is the one that it was trained from, which is another one, unless both have one name.
    let found = of_gguf(&[
        name("Tiny Chat"),
        base("owner/tiny"),
        ("general.organization", text("Owner")),
        ("general.repo_url", address("someone/tiny-chat-GGUF")),
    ]);
    assert_eq!(repository(&found), None);
    assert_eq!(
        found.hints,
        [
            "its name is \"Tiny Chat\"",
            "it is by \"Owner\"",
            "it was published at someone/tiny-chat-GGUF",
            "the model that it was made from may have been trained from owner/tiny",
        ]
    );
    let same = of_gguf(&[name("Tiny Chat"), base("owner/tiny-chat")]);
    assert_eq!(repository(&same), Some("owner/tiny-chat"));

    // What is no name of the hub is none, of whatever type it is.
    for value in [
        text("https://example.org/owner/chat"),
        text(""),
        Meta::U32(3),
    ] {
        let found = of_gguf(&[("general.source.repo_url", value)]);
        assert_eq!(found, Provenance::default());
    }
}

#[test]
fn what_was_fetched_knows_where_from_until_it_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = tiny_model("llama");
    tiny.write(folder.path());
    let open = || Pretrained::open(folder.path()).unwrap();
    assert_eq!(open().provenance().unwrap(), Provenance::default());

    let path = folder.path().join("origin.json");
    let record = json!({
        "repository": "owner/tiny", "revision": "0123", "license": "mit", "fingerprint": open().fingerprint().unwrap()
    });
    fs::write(&path, record.to_string()).unwrap();
    let found = open().provenance().unwrap();
    let origin = found.origin.unwrap();
    assert_eq!(origin.repository, "owner/tiny");
    assert_eq!(origin.revision.as_deref(), Some("0123"));
    assert_eq!(found.license.as_deref(), Some("mit"));

    tiny_model("llama").tied().write(folder.path());
    assert_eq!(open().provenance().unwrap(), Provenance::default());
    fs::write(&path, "{").unwrap();
    let error = open().provenance().unwrap_err().to_string();
    assert!(error.contains("origin.json"), "{error}");
}
