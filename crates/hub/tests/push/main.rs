//! Folders pushed to a hub on this machine.

mod server;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use panacea_hub::{Access, HubError, Push, Pushed, push};
use server::{REPOSITORY, Server, TOKEN, sha256};

const CARD: &[u8] = b"---\nlicense: mit\n---\n# First\n";

/// A folder as `export` writes it, with what is nobody's business.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let weights: Vec<u8> = (0..2500_u32).map(|i| (i * i % 251) as u8).collect();
    for (name, content) in [
        ("README.md", CARD),
        ("adapter_config.json", b"{\"r\": 4}"),
        ("parts/adapter_model.safetensors", &weights),
        ("parts/\u{e9} #1.txt", b"a name"),
        ("empty.safetensors", b""),
        (".git/config", b"mine"),
        (".cache/huggingface/x", b"mine"),
    ] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

/// The files that are to arrive.
fn expected(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = [
        "README.md",
        "adapter_config.json",
        "empty.safetensors",
        "parts/adapter_model.safetensors",
        "parts/\u{e9} #1.txt",
    ];
    let read = |name: &str| (name.to_owned(), fs::read(folder.join(name)).unwrap());
    names.map(read).into()
}

fn access(server: &Server, token: Option<&str>) -> Access {
    let token = token.map(str::to_owned);
    Access::new(&server.endpoint, "cache".into(), token).with_wait(Duration::from_millis(1))
}

fn pushed(server: &Server, wanted: Push) -> Result<Pushed, HubError> {
    push(&access(server, Some(TOKEN)), &wanted, &mut |_| ())
}

#[track_caller]
fn refusal(server: &Server, wanted: Push) -> String {
    let error = pushed(server, wanted).unwrap_err().to_string();
    assert!(
        !error.contains(TOKEN) && !error.contains("signature"),
        "{error}"
    );
    error
}

#[test]
fn a_folder_becomes_one_commit() {
    let (server, folder) = (Server::start(), folder());
    let wanted = Push {
        private: true,
        message: "First \"run\"",
        ..Push::new(folder.path(), REPOSITORY)
    };
    let mut told = Vec::new();
    let access = access(&server, Some(TOKEN));
    let first = push(&access, &wanted, &mut |progress| {
        told.push((
            progress.doing,
            progress.file.to_owned(),
            progress.bytes,
            progress.total,
        ));
    });
    let first = first.unwrap();
    let weights = fs::read(folder.path().join("parts/adapter_model.safetensors")).unwrap();
    let api = format!("/api/models/{REPOSITORY}");
    let put = format!("PUT /{}?signature=signed", sha256(&weights));
    assert_eq!(
        server.requests(),
        [
            "POST /api/repos/create",
            "POST /api/validate-yaml",
            &format!("POST {api}/preupload/main"),
            &format!("POST /{REPOSITORY}.git/info/lfs/objects/batch"),
            &put,
            &format!("POST /{REPOSITORY}.git/info/lfs/verify"),
            &format!("POST {api}/commit/main"),
        ]
    );
    let all = expected(folder.path());
    assert_eq!(server.state().branches["main"], all);
    assert_eq!(server.state().private, Some(true));
    assert_eq!(
        server.state().commits[0][0]["value"]["summary"],
        "First \"run\""
    );
    let page = format!("{}/{REPOSITORY}/commit/c1", server.endpoint);
    assert_eq!((first.url, first.commit.as_deref()), (page, Some("c1")));
    assert_eq!(first.added, all.keys().cloned().collect::<Vec<_>>());
    assert_eq!(
        (first.sent, first.changed.len(), first.warnings.len()),
        (2500, 0, 0)
    );
    for doing in ["hashing", "sending"] {
        let last = told.iter().rfind(|told| told.0 == doing).unwrap();
        assert_eq!(
            (&*last.1, last.2, last.3),
            ("parts/adapter_model.safetensors", 2500, 2500)
        );
    }

    // The same again is no commit, and no byte of a large file.
    let again = pushed(&server, wanted).unwrap();
    assert_eq!((again.commit, again.sent), (None, 0));
    assert_eq!(again.unchanged.len(), all.len());
    let requests = server.requests();
    assert!(
        !requests
            .iter()
            .any(|said| said.starts_with("PUT") || said.contains("commit"))
    );

    // What was changed is sent, and named; what the store has under another name is not sent.
    fs::write(folder.path().join("adapter_config.json"), "{\"r\": 5}").unwrap();
    fs::write(folder.path().join("copy.safetensors"), &weights).unwrap();
    let third = pushed(&server, wanted).unwrap();
    assert_eq!(
        (&*third.added, &*third.changed),
        (
            &["copy.safetensors".to_owned()][..],
            &["adapter_config.json".to_owned()][..]
        )
    );
    assert_eq!(third.sent, 0);
    assert!(!server.requests().iter().any(|said| said.starts_with("PUT")));
    let state = server.state();
    assert_eq!(state.branches["main"]["copy.safetensors"], weights);
    assert_eq!(state.branches["main"]["adapter_config.json"], b"{\"r\": 5}");
    assert_eq!(state.commits[1].len(), 3);
}

#[test]
fn large_files_go_in_parts_where_the_hub_wants_them() {
    for part_size in [1000, 1250, 2499] {
        let (server, folder) = (Server::start(), folder());
        server.state().part_size = Some(part_size);
        let pushed = pushed(&server, Push::new(folder.path(), REPOSITORY)).unwrap();
        assert_eq!(pushed.sent, 2500);
        assert_eq!(server.state().branches["main"], expected(folder.path()));
        let puts = server
            .requests()
            .into_iter()
            .filter(|said| said.starts_with("PUT"));
        assert_eq!(puts.count(), 2500_usize.div_ceil(part_size));
    }
}

/// What the hub says that the store needs, it gets: also a token of its own.
#[test]
fn the_store_gets_the_headers_that_the_hub_names() {
    let (server, folder) = (Server::start(), folder());
    let headers = [("Authorization", "Basic other"), ("x-amz-acl", "private")];
    server.state().store_headers = headers
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    pushed(&server, Push::new(folder.path(), REPOSITORY)).unwrap();
    assert_eq!(server.state().branches["main"], expected(folder.path()));
}

#[test]
fn a_branch_is_made_and_main_stays() {
    let (server, folder) = (Server::start(), folder());
    let wanted = Push {
        revision: Some("try/1"),
        ..Push::new(folder.path(), REPOSITORY)
    };
    pushed(&server, wanted).unwrap();
    assert_eq!(server.state().branches["try/1"], expected(folder.path()));
    assert!(server.state().branches["main"].is_empty());
    let made = |requests: &[String]| requests.iter().any(|said| said.contains("/branch/try%2F1"));
    assert!(made(&server.requests()));
    pushed(&server, wanted).unwrap();
    assert!(!made(&server.requests()));
}

#[test]
fn what_stumbles_is_tried_again_but_a_commit_is_not() {
    let (server, folder) = (Server::start(), folder());
    server.state().part_size = Some(1000);
    server.state().troubles = vec![
        ("POST /api/models/me/first/preupload", 503),
        ("POST /api/models/me/first/preupload", 429),
        ("POST /me/first.git/info/lfs/objects/batch", 502),
        ("PUT", 0),
        ("PUT", 500),
        ("POST /complete", 504),
        ("POST /me/first.git/info/lfs/verify", 500),
    ];
    pushed(&server, Push::new(folder.path(), REPOSITORY)).unwrap();
    assert!(server.state().troubles.is_empty());
    assert_eq!(server.state().branches["main"], expected(folder.path()));
    assert_eq!(server.state().commits.len(), 1);

    fs::write(folder.path().join("adapter_config.json"), "{}").unwrap();
    server.requests();
    server.state().troubles = vec![("POST /api/models/me/first/commit", 503)];
    let error = refusal(&server, Push::new(folder.path(), REPOSITORY));
    assert!(
        error.contains("503 (not now)") && error.contains("again later"),
        "{error}"
    );
    let commits = server
        .requests()
        .into_iter()
        .filter(|said| said.contains("/commit/"));
    assert_eq!(commits.count(), 1);

    // After so many tries it is said.
    server.state().troubles = vec![("POST /api/models/me/first/preupload", 500); 6];
    let error = refusal(&server, Push::new(folder.path(), REPOSITORY));
    assert!(
        error.contains("preupload/main: the answer is 500"),
        "{error}"
    );
    assert!(server.state().troubles.is_empty());
}

/// A redirection, which could lead anywhere, is not followed.
#[test]
fn the_token_goes_nowhere_else() {
    for begin in [
        "POST /api/models",
        "POST /me/first.git",
        "PUT",
        "POST /api/validate-yaml",
    ] {
        let (server, folder) = (Server::start(), folder());
        server.state().troubles = vec![(begin, 307)];
        let error = refusal(&server, Push::new(folder.path(), REPOSITORY));
        assert!(error.contains("307"), "{begin}: {error}");
        assert!(
            !server
                .requests()
                .iter()
                .any(|said| said.ends_with("/elsewhere"))
        );
        assert!(server.state().commits.is_empty());
    }
    let access = Access::new("http://127.0.0.1:0", "cache".into(), Some(TOKEN.to_owned()));
    assert!(!format!("{access:?}").contains(TOKEN));
    let folder = folder();
    let access = access.with_wait(Duration::ZERO);
    let wanted = Push::new(folder.path(), REPOSITORY);
    let error = push(&access, &wanted, &mut |_| ()).unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
}

#[test]
fn what_is_not_to_be_published_is_refused_before_anything_is_sent() {
    let server = Server::start();
    let refused = |change: &dyn Fn(&Path), expected: &[&str]| {
        let folder = folder();
        change(folder.path());
        let error = refusal(&server, Push::new(folder.path(), REPOSITORY));
        for part in expected {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(server.requests(), [""; 0]);
    };
    refused(
        &|folder| fs::remove_dir_all(folder.join("parts")).unwrap(),
        &["no weights", "*.safetensors"],
    );
    refused(
        &|folder| fs::write(folder.join("run.toml"), "").unwrap(),
        &["the folder of a run", "`export`"],
    );
    refused(
        &|folder| fs::remove_dir_all(folder).unwrap(),
        &["no such folder"],
    );
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 538090408\n";
    refused(
        &|folder| fs::write(folder.join("model.safetensors"), pointer).unwrap(),
        &["model.safetensors", "git lfs pull"],
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("id_rsa"), "private").unwrap();
        refused(
            &|folder| symlink(outside.path().join("id_rsa"), folder.join("parts/key")).unwrap(),
            &["parts/key", "leads out of the folder"],
        );
        refused(
            &|folder| symlink(outside.path(), folder.join("all")).unwrap(),
            &["all", "leads out of the folder"],
        );
        refused(
            &|folder| symlink("nowhere", folder.join("gone")).unwrap(),
            &["gone", "follow the link"],
        );
        // One that stays inside is the file that it leads to.
        let folder = folder();
        symlink(
            "parts/adapter_model.safetensors",
            folder.path().join("a.safetensors"),
        )
        .unwrap();
        pushed(&server, Push::new(folder.path(), REPOSITORY)).unwrap();
        let state = server.state();
        let files = &state.branches["main"];
        assert_eq!(
            files["a.safetensors"],
            files["parts/adapter_model.safetensors"]
        );
    }
}

#[test]
fn what_the_hub_refuses_is_said() {
    let (server, folder) = (Server::start(), folder());
    let wanted = Push::new(folder.path(), REPOSITORY);
    let nobody = push(&access(&server, None), &wanted, &mut |_| ()).unwrap_err();
    assert!(matches!(nobody, HubError::NoToken { .. }) && nobody.to_string().contains("HF_TOKEN"));
    assert_eq!(server.requests(), [""; 0]);
    let stranger = push(&access(&server, Some("hf_other")), &wanted, &mut |_| ()).unwrap_err();
    let stranger = stranger.to_string();
    assert!(stranger.contains("401 (Invalid credentials)"), "{stranger}");
    assert!(
        stranger.contains("token") && !stranger.contains("hf_other"),
        "{stranger}"
    );

    let absent = refusal(
        &server,
        Push {
            create: false,
            ..wanted
        },
    );
    assert!(
        absent.contains("404") && absent.contains("no such repository"),
        "{absent}"
    );
    server.state().private = Some(false);
    server
        .state()
        .branches
        .insert("main".to_owned(), BTreeMap::new());
    let public = refusal(
        &server,
        Push {
            private: true,
            ..wanted
        },
    );
    assert!(
        public.contains("me/first") && public.contains("everybody"),
        "{public}"
    );
    // A token that may write, and not make repositories.
    server.state().troubles = vec![("POST /api/repos/create", 403)];
    server.state().ignores = Some("adapter_config.json");
    fs::write(folder.path().join("README.md"), "---\n---\n").unwrap();
    let pushed_all = pushed(&server, wanted).unwrap();
    assert_eq!(pushed_all.ignored, ["adapter_config.json"]);
    assert_eq!(pushed_all.warnings, ["no license"]);
    assert!(!server.state().branches["main"].contains_key("adapter_config.json"));

    fs::write(folder.path().join("README.md"), "no card").unwrap();
    let card = refusal(&server, wanted);
    assert!(
        card.contains("README.md") && card.contains("(no front matter; no license)"),
        "{card}"
    );
    assert_eq!(server.state().commits.len(), 1);
}

/// Hugging Face's own tool asks for the same, in the same order, and leaves the same files: `PANACEA_HF=PATH cargo test --workspace
/// --test push -- --ignored`, where PATH is `hf` of huggingface_hub (2.4.0 was tried).
#[test]
#[ignore = "needs Hugging Face's hf in PANACEA_HF"]
fn it_is_what_hf_upload_does() {
    let hf = std::env::var("PANACEA_HF").unwrap();
    for part_size in [None, Some(1000)] {
        let folder = folder();
        let (ours, theirs) = (Server::start(), Server::start());
        for server in [&ours, &theirs] {
            server.state().part_size = part_size;
        }
        let home = tempfile::tempdir().unwrap();
        let upload = || {
            let output = Command::new(&hf)
                .args(["upload", REPOSITORY])
                .arg(folder.path())
                .args([".", "--commit-message", "First"])
                .env("HF_ENDPOINT", &theirs.endpoint)
                .env("HF_TOKEN", TOKEN)
                .env("HF_HOME", home.path())
                .env("HF_HUB_DISABLE_XET", "1")
                .output()
                .unwrap();
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{error}");
        };
        let wanted = Push {
            message: "First",
            ..Push::new(folder.path(), REPOSITORY)
        };
        for round in 0..2 {
            pushed(&ours, wanted).unwrap();
            upload();
            let (mut ours, mut theirs) = (ours.state(), theirs.state());
            assert_eq!(ours.branches, theirs.branches);
            let sorted = |state: &server::State| -> Vec<String> {
                let commit = state.commits.last().unwrap().iter();
                let mut lines: Vec<String> = commit.map(ToString::to_string).collect();
                lines.sort();
                lines
            };
            assert_eq!(sorted(&ours), sorted(&theirs));
            // It also looks for agents, and asks about the card twice.
            theirs
                .requests
                .retain(|said| said != "GET /api/agent-harnesses");
            theirs.requests.dedup();
            if round == 1 {
                // It asks about a large file whose hash it has heard already.
                theirs
                    .requests
                    .retain(|said| !said.ends_with("/objects/batch"));
            }
            assert_eq!(ours.requests, theirs.requests, "round {round}");
            ours.requests.clear();
            theirs.requests.clear();
            fs::write(folder.path().join("adapter_config.json"), "{\"r\": 6}").unwrap();
        }
    }
}
