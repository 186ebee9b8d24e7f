//! A person's preference, found in the terminal and over HTTP, and used.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use panacea_elicit::{Answer, Session};
use panacea_interview::{Criteria, InterviewError, Pool, Profiles, Prompt, WrittenAnswer};
use panacea_objectives::Preference;
use panacea_pretrained::{JsonObject, Message, Pretrained};
use panacea_reward_models::Base;
use panacea_runs::RunFolder;
use panacea_serving::Policy;
use serde_json::{Value, json};

use crate::desk::Desk;
use crate::serve::{Server, get, post};

const WRITING: &str = "--run first --answers 8 --max-new-tokens 8 --temperature 1";

/// A desk with a run, and prompts to ask about it.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.succeed("train --config run.toml --run first");
    desk.write("prompts.txt", "what is 3?\n\nwhat is 4?\n");
    desk
}

/// What `elicit` says and asks when these answers are typed.
#[track_caller]
fn elicit(desk: &Desk, arguments: &str, typed: &str) -> (bool, String) {
    asked(desk, &format!("{WRITING} {arguments}"), typed)
}

/// The same with other ways of writing answers.
#[track_caller]
fn asked(desk: &Desk, arguments: &str, typed: &str) -> (bool, String) {
    let mut child = desk
        .command(&format!("elicit --prompts prompts.txt {arguments}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended before it read all of it.
    let mut input = child.stdin.take().unwrap();
    input.write_all(typed.as_bytes()).ok();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert!(!text.contains("panicked"), "{text}");
    (output.status.success(), text)
}

fn profile(desk: &Desk, name: &str) -> Session {
    let path = desk.path(&format!("runs/first/profiles/{name}/profile.jsonl"));
    Session::replay(&fs::read_to_string(path).unwrap()).unwrap()
}

fn read_json(url: String) -> Value {
    let mut response = get(url).call().unwrap();
    let text = response.body_mut().read_to_string().unwrap();
    serde_json::from_str(&text).unwrap()
}

fn listed(preference: &Preference) -> String {
    let weights: Vec<_> = preference.weights().iter().map(f64::to_string).collect();
    weights.join(",")
}

#[test]
fn a_preference_is_found_in_the_terminal_and_used() {
    let desk = desk();
    let (success, text) = elicit(&desk, "--profile anna", "l\nr\nwhat?\ns\ne\nl\nq\n");
    assert!(success, "{text}");
    assert!(
        text.contains("`what?` is none of l, r, e, s and q"),
        "{text}"
    );
    assert!(text.contains("no measured front"), "{text}");
    assert!(text.contains("your preference after 4 answers"), "{text}");
    let session = profile(&desk, "anna");
    let said: Vec<Answer> = session.entries().iter().map(|entry| entry.answer).collect();
    let typed = [
        Answer::Left,
        Answer::Right,
        Answer::Skip,
        Answer::AboutEqual,
        Answer::Left,
    ];
    assert_eq!(said, typed);
    assert_eq!(session.header().scores.of, "log-ratios in nats");

    // What was preferred, as records: of each answer that says so.
    let preferences = "runs/first/profiles/anna/preferences.jsonl";
    let records = fs::read_to_string(desk.path(preferences)).unwrap();
    assert_eq!(records.lines().count(), 3, "{records}");
    let questions: Vec<&str> = text.split("━━ question ").skip(1).collect();
    let preferred = [(0, "left"), (1, "right"), (4, "left")];
    for (record, (question, side)) in records.lines().zip(preferred) {
        let record: Value = serde_json::from_str(record).unwrap();
        // As it was shown, and on the side that was typed.
        let shown = |text: &Value| text[0]["content"].as_str().unwrap().trim().to_owned();
        let (left, right) = questions[question].split_once("── right").unwrap();
        let (chosen, rejected) = match side {
            "left" => (left, right),
            _ => (right, left),
        };
        assert!(
            chosen.contains(&shown(&record["chosen"])),
            "{record} {chosen}"
        );
        assert!(
            rejected.contains(&shown(&record["rejected"])),
            "{record} {rejected}"
        );
        let asked = record["prompt"][0]["content"].as_str().unwrap();
        assert!(asked.starts_with("what is "), "{record}");
    }
    // A training reads them.
    let own = |name: &str| format!("[[objective]]\nname = \"{name}\"\ntrain = \"{preferences}\"\n");
    let config = format!("[model]\npath = \"model\"\n{}{}", own("one"), own("other"));
    desk.write("again.toml", &config);
    desk.succeed("train --config again.toml --run again --steps 1");

    // Without a front the estimate is served.
    let ask = "generate --run first --prompt hello --greedy --max-new-tokens 8";
    let steered = desk.succeed(&format!("{ask} --profile anna"));
    let weights = listed(&session.estimate());
    assert_eq!(
        steered,
        desk.succeed(&format!("{ask} --preference {weights}"))
    );
    let error = desk.fail(&format!("{ask} --profile anna --preference 1,0"));
    assert!(error.contains("cannot be used with"), "{error}");
    let error = desk.fail(&format!("{ask} --profile berta"));
    assert!(
        error.contains("no profile `berta` of run first (it has anna)"),
        "{error}"
    );
    let error = desk.fail(&format!("{ask} --profile ../anna"));
    assert!(error.contains("cannot be the name of a profile"), "{error}");

    // It goes on with another front: the λ to serve is one of its points.
    desk.succeed("eval-front --run first --records all --divisions 4 --prompts 0");
    let (success, text) = elicit(&desk, "--profile anna", "l\nl\nl\n");
    assert!(success && !text.contains("no measured front"), "{text}");
    assert!(
        text.contains("what a wrong guess is thought to cost"),
        "{text}"
    );
    let later = profile(&desk, "anna");
    assert_eq!(later.entries()[..5], session.entries()[..]);
    assert_eq!(later.entries().len(), 8);
    assert!(later.entries()[7].expected_regret.is_some());
    let run = RunFolder::open(&desk.path("runs/first")).unwrap();
    let profiles = Profiles::of(&run, &run.record().unwrap().plan).unwrap();
    let served = profiles.open("anna").unwrap().preference();
    // Measured together with other runs, a method has the run's name behind its own.
    let front = desk.path("runs/first/evaluations/001/front.json");
    let alone = fs::read_to_string(&front).unwrap();
    let together = alone.replace("\"panacea-linear\"", "\"panacea-linear (first)\"");
    assert_ne!(together, alone);
    fs::write(&front, together).unwrap();
    let profiles = Profiles::of(&run, &run.record().unwrap().plan).unwrap();
    assert_eq!(profiles.open("anna").unwrap().preference(), served);
    let quarters = served.weights()[0] * 4.0;
    assert_eq!(quarters, quarters.round(), "{served}");

    // Nothing is asked of one who does not answer, and nothing kept.
    let (success, text) = elicit(&desk, "--profile nobody", "");
    assert!(!success && text.contains("nothing was answered"), "{text}");
    assert!(!desk.path("runs/first/profiles/nobody").exists());
    // Another run's profile, by hand.
    let path = desk.path("runs/first/profiles/anna/profile.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("conciseness", "wit", 1)).unwrap();
    let error = desk.fail(&format!("{ask} --profile anna"));
    assert!(
        error.contains("the objectives are helpfulness, wit there"),
        "{error}"
    );
}

/// The scores are log π(λ = e_i) − log π_base of the whole response, as the command `score` has them.
#[test]
fn answers_are_scored_by_their_log_ratios() {
    let desk = desk();
    let run = RunFolder::open(&desk.path("runs/first")).unwrap();
    let model = Pretrained::open_language_model(&desk.path("model")).unwrap();
    let plan = run.record().unwrap().plan;
    let device = panacea_devices::select("flex").unwrap();
    let base = Base::load(model, &device, plan.precision().on(&device).unwrap()).unwrap();
    let policy = Policy::open(&run, &base.decoder).unwrap();
    let profiles = Profiles::of(&run, &plan).unwrap();
    let criteria = Criteria::open(profiles.yardstick().clone(), &policy, &base).unwrap();
    let tokenizer = base.pretrained.tokenizer().unwrap();
    let message = Message::new("user", "what is 12?");
    let conversation = tokenizer.prompt(std::slice::from_ref(&message)).unwrap();
    let prompt = Prompt::new(vec![message], JsonObject::new(), tokenizer).unwrap();
    let texts = ["hello world, hello 12 and so on, at length", "12", "no"];
    let answers = texts.map(|text| WrittenAnswer {
        preference: Preference::uniform(2),
        text: text.to_owned(),
        tokens: tokenizer
            .answered(&conversation, &[text.into()])
            .unwrap()
            .responses
            .remove(0),
    });
    let scores = criteria.score(&base.decoder, &prompt, &answers).unwrap();
    let scores: Vec<Vec<f64>> = scores.into_iter().flatten().collect();
    assert_eq!(scores.len(), 3);

    let record = |text: &str| json!({"prompt": "what is 12?", "response": text}).to_string();
    desk.write("records.jsonl", &texts.map(record).join("\n"));
    let reference = desk.scores("--model model");
    for (objective, vertex) in ["1,0", "0,1"].iter().enumerate() {
        let steered = desk.scores(&format!("--model model --run first --preference {vertex}"));
        for (answer, score) in scores.iter().enumerate() {
            let expected = steered[answer] - reference[answer];
            assert!(
                (score[objective] - expected).abs() < 1e-3,
                "{score:?} {expected}"
            );
        }
    }
    // The objectives of the training want different ones of the first two.
    assert!(
        scores[0][0] - scores[1][0] > 0.1 && scores[0][1] - scores[1][1] < -0.1,
        "{scores:?}"
    );
}

#[test]
fn a_preference_is_found_over_http_and_used() {
    let desk = desk();
    desk.succeed("eval-front --run first --records all --divisions 4 --prompts 0");
    let server = Server::start(&desk, "--run first --places 8");
    let place = format!("{}/v1/models/first/profiles", server.url);
    let list = || read_json(place.clone());
    assert_eq!(list()["data"], json!([]));

    // Somebody who wants long answers.
    let prompt = |text: &str| {
        json!({"messages": [{"role": "user", "content": text}], "candidates": 12, "max_tokens": 10,
               "temperature": 1, "seed": 3})
    };
    let mut asked = 0;
    let mut state = json!({"progress": "ask_on"});
    'asking: for turn in 0..20 {
        let url = format!("{place}/berta/questions");
        let (status, mut interview) = post(&url, &prompt(&format!("what is {turn}?")));
        assert_eq!(status, 200, "{interview}");
        for _ in 0..3 {
            let question = &interview["question"];
            if question.is_null() {
                break;
            }
            let length = |side: &str| question[side].as_str().unwrap().len();
            assert_ne!(question["left"], question["right"]);
            let answer = match length("left") > length("right") {
                true => "left",
                false => "right",
            };
            let said = json!({"question": question["id"], "answer": answer});
            let url = format!("{place}/berta/answers");
            let (status, learnt) = post(&url, &said);
            assert_eq!(status, 200, "{learnt}");
            // Each answer counts once.
            assert_eq!(post(&url, &said).0, 400);
            interview = learnt;
            asked += 1;
            state = interview["profile"].clone();
            if state["progress"] != "ask_on" {
                break 'asking;
            }
        }
    }
    assert_ne!(state["progress"], "ask_on", "{state}");
    assert_eq!(
        (&state["answers"], &state["questions"]),
        (&json!(asked), &json!(asked))
    );
    let number = |value: &Value| value.as_f64().unwrap();
    let estimate = ["helpfulness", "conciseness"].map(|name| number(&state["estimate"][name]));
    assert!((estimate[0] + estimate[1] - 1.0).abs() < 1e-9);
    let region = state["region"].as_array().unwrap();
    assert!(!region.is_empty() && region.len() <= 300);
    for (place, name) in ["helpfulness", "conciseness"].iter().enumerate() {
        let interval = &state["intervals"][name];
        let (low, high) = (number(&interval[0]), number(&interval[1]));
        assert!(0.0 <= low && low <= estimate[place] && estimate[place] <= high && high <= 1.0);
    }
    assert!(number(&state["expected_regret"]) >= 0.0);

    // The answers that were taken are the longer ones.
    let records = desk.path("runs/first/profiles/berta/preferences.jsonl");
    for record in fs::read_to_string(records).unwrap().lines() {
        let record: Value = serde_json::from_str(record).unwrap();
        let length = |side: &str| record[side][0]["content"].as_str().unwrap().len();
        assert!(length("chosen") >= length("rejected"), "{record}");
    }

    // It is on disk, listed, and answers.
    let session = profile(&desk, "berta");
    assert_eq!(session.entries().len(), asked);
    assert_eq!(list()["data"], json!(["berta"]));
    let found = read_json(format!("{place}/berta"));
    assert_eq!(found["preference"], state["preference"]);
    let (status, answer) = Server::ask(&server.url, json!({"profile": "berta"}), None);
    assert_eq!(
        (status, &answer["preference"]),
        (200, &state["preference"]),
        "{answer}"
    );
    let weights = json!({"profile": "berta", "preference": [3, 1]});
    let (_, answer) = Server::ask(&server.url, weights, None);
    assert_eq!(
        answer["preference"],
        json!({"helpfulness": 0.75, "conciseness": 0.25})
    );

    // The terminal goes on with it, and the server reads what it has learnt.
    let (success, text) = elicit(&desk, "--profile berta", "l\nl\nl\n");
    assert!(success, "{text}");
    let (_, interview) = post(&format!("{place}/berta/questions"), &prompt("what is 7?"));
    let now = profile(&desk, "berta").entries().len();
    assert_eq!(interview["profile"]["questions"], json!(now), "{interview}");

    let refused = |url: String, body: Value, expected: (u16, &str)| {
        let (status, answer) = post(&url, &body);
        let message = answer["error"]["message"].as_str().unwrap();
        assert_eq!(status, expected.0, "{answer}");
        assert!(message.contains(expected.1), "{message}");
        assert!(
            !message.contains(desk.dir.path().to_str().unwrap()),
            "{message}"
        );
    };
    let hello = prompt("hello");
    let name = (404, "cannot be the name of a profile");
    refused(format!("{place}/.hidden/questions"), hello.clone(), name);
    refused(format!("{place}/..%2Fberta/questions"), hello.clone(), name);
    let base = format!("{}/v1/models/model/profiles/x/questions", server.url);
    refused(
        base,
        hello.clone(),
        (404, "the base model: it has no profiles"),
    );
    let with = |field: &str, value: Value| {
        let mut body = hello.clone();
        body[field] = value;
        body
    };
    let ask = format!("{place}/x/questions");
    refused(
        ask.clone(),
        with("candidates", json!(1)),
        (400, "candidates: 1, expected 2 to 64"),
    );
    refused(
        ask.clone(),
        with("tokens", json!(1)),
        (400, "tokens: there is no such field"),
    );
    refused(
        ask.clone(),
        with("temperature", json!(-1)),
        (400, "temperature"),
    );
    refused(
        ask.clone(),
        with("messages", json!([])),
        (400, "messages: empty"),
    );
    let answer = format!("{place}/x/answers");
    let nothing = json!({"question": "1", "answer": "left"});
    refused(
        answer.clone(),
        nothing,
        (400, "`1` is not the question that `x` was asked last"),
    );
    let word = json!({"question": "1", "answer": "up"});
    refused(answer, word, (400, "answer: unknown variant `up`"));
    let (status, answer) = Server::ask(&server.url, json!({"profile": "x"}), None);
    assert_eq!(status, 404, "{answer}");
    assert!(!desk.path("runs/first/profiles/x").exists());
}

/// What scores the answers of a run that learnt from rewards: those rewards, normalised as its last checkpoint has it; and
/// log-ratios, where they are known of the records' own answers only.
#[test]
fn answers_of_a_reinforced_run_are_scored_by_its_rewards() {
    let desk = Desk::new();
    desk.write("prompts.txt", "what is 3?\n");
    let config = |first: &str, second: &str| {
        format!(
            "[model]\npath = \"model\"\n[data]\ntrain = \"train.jsonl\"\n\
             [[objective]]\nname = \"early\"\nreward = {first}\n\
             [[objective]]\nname = \"late\"\nreward = {second}\n\
             [adapter]\nrank = 4\ninit_std = 0.02\ns = \"learned\"\n[method]\nloss = \"rlhf\"\n\
             [rlhf]\nadvantages = \"rloo\"\nsamples = 4\nmax_new_tokens = 12\nnormalise = true\n\
             [preference]\ngroups = 1\n\
             [optimizer]\nsteps = 2\nbatch_size = 3\nlearning_rate = 5e-2\nschedule = \"cosine\"\n"
        )
    };
    let rule = |letters| format!("{{ rule = \"regex\", pattern = \"[{letters}]\" }}");
    desk.write("first.toml", &config(&rule("a-hA-H"), &rule("i-qI-Q")));
    desk.succeed("train --config first.toml --run first");
    let (success, text) = elicit(&desk, "--profile me", "l\nl\nr\n");
    assert!(success && !text.contains("log-ratios"), "{text}");
    let session = profile(&desk, "me");
    assert_eq!(session.header().scores.of, "rewards");
    let state = desk.json("runs/first/checkpoints/000002/state.json");
    for objective in 0..2 {
        let normaliser = &state["rewards"]["normalisers"][objective];
        let number = |name: &str| normaliser[name].as_f64().unwrap();
        let deviation = (number("squares") / (number("count") - 1.0)).sqrt();
        for entry in session.entries() {
            let rewards = [&entry.left, &entry.right]
                .map(|candidate| candidate.scores[objective] * deviation + number("mean"));
            // A letter is there, or it is not.
            let is_rule = |reward: f64| reward.abs() < 1e-9 || (reward - 1.0).abs() < 1e-9;
            assert!(rewards.into_iter().all(is_rule), "{rewards:?}");
        }
    }

    // The likeliest tokens alone make two answers to a prompt: one question each, and then there is nothing left to ask.
    desk.write("prompts.txt", "what is 3?\nwhat is 4?\n");
    let greedy = "--run first --profile greedy --answers 8 --max-new-tokens 1 --temperature 0";
    let (success, text) = asked(&desk, greedy, &"l\n".repeat(9));
    let written = text.matches("2 different ones").count();
    assert!(success && written == 4, "{text}");
    assert!(text.contains("your preference after 2 answers"), "{text}");
    desk.write("prompts.txt", "what is 3?\n");

    let score = |name| format!("{{ score = \"{name}\", otherwise = 0.0 }}");
    fs::remove_dir_all(desk.path("runs/first")).unwrap();
    let known = config(&score("helpfulness"), &score("conciseness"));
    desk.write("known.toml", &known);
    desk.succeed("train --config known.toml --run first");
    let (success, text) = elicit(&desk, "--profile me", "l\n");
    assert!(
        success && text.contains("compared by log-ratios, not by the run's rewards"),
        "{text}"
    );
    assert_eq!(
        profile(&desk, "me").header().scores.of,
        "log-ratios in nats"
    );
}

/// The first answers decide the unit of the scores, equal texts count once, and nobody's answers are lost to somebody else's.
#[test]
fn a_profile_is_written_by_one_at_a_time() {
    let desk = desk();
    let run = RunFolder::open(&desk.path("runs/first")).unwrap();
    let profiles = Profiles::of(&run, &run.record().unwrap().plan).unwrap();
    let variables = json!({"tools": [{"type": "function"}], "thinks": false});
    let variables: JsonObject = serde_json::from_value(variables).unwrap();
    let pool = |answers: &[(&str, [f64; 2])]| {
        let written = answers.iter().map(|(text, _)| WrittenAnswer {
            preference: Preference::uniform(2),
            text: (*text).to_owned(),
            tokens: vec![5],
        });
        let scores = answers
            .iter()
            .map(|(_, scores)| Some(scores.to_vec()))
            .collect();
        let prompt = Prompt {
            messages: vec![Message::new("user", "hello")],
            variables: variables.clone(),
            tokens: vec![4],
        };
        Pool::new(prompt, written.collect(), scores)
    };
    let first = pool(&[
        ("a", [1.0, 0.0]),
        ("b", [-2.0, 0.5]),
        ("a", [9.0, 9.0]),
        ("", [0.0, 1.0]),
    ]);
    assert_eq!(first.answers().len(), 3);
    let mut one = profiles.open_or_begin("me", 1).unwrap();
    let mut other = profiles.open_or_begin("me", 1).unwrap();
    let message = |error: InterviewError| error.to_string();
    let same = pool(&[("a", [1.0, 0.0]), ("a", [2.0, 0.0])]);
    assert!(
        one.ask(&same)
            .map_err(message)
            .unwrap_err()
            .contains("no two differ")
    );
    let flat = pool(&[("a", [1.0, 0.5]), ("b", [1.0, 0.5])]);
    assert!(
        one.ask(&flat)
            .map_err(message)
            .unwrap_err()
            .contains("have nearly the same scores")
    );

    let question = one.ask(&first).unwrap().unwrap();
    assert_eq!(one.session().header().scores.unit, 3.0);
    other.ask(&first).unwrap().unwrap();
    one.answer(&first, (question.left, question.right), Answer::Left)
        .unwrap();
    assert!(one.is_current().unwrap() && !other.is_current().unwrap());
    let late = other.answer(&first, (0, 1), Answer::Left);
    assert!(
        late.map_err(message)
            .unwrap_err()
            .contains("was changed meanwhile")
    );
    assert_eq!(other.session().entries().len(), 0);

    // What is much further apart than the first answers were is refused for what it is.
    let far = pool(&[("x", [200.0, 0.0]), ("y", [-200.0, 0.0])]);
    let refused = one.ask(&far).map_err(message).unwrap_err();
    assert!(
        refused.contains("differ far more than those that the profile began with"),
        "{refused}"
    );

    // Later answers in another unit are read in the first one, and a text that was asked about keeps its scores.
    let mut back = profiles.open("me").unwrap();
    assert_eq!(back.session().belief(), one.session().belief());
    let second = pool(&[("a", [7.0, 7.0]), ("b", [7.0, 7.0]), ("c", [4.0, 4.0])]);
    while let Some(question) = back.ask(&second).unwrap() {
        back.answer(&second, (question.left, question.right), Answer::Right)
            .unwrap();
    }
    assert_eq!(back.session().header().scores.unit, 3.0);
    let entries = back.session().entries();
    let asked = |id: &str| {
        let both = entries.iter().flat_map(|entry| [&entry.left, &entry.right]);
        both.filter(|c| c.id == id)
            .map(|c| c.scores.clone())
            .collect::<Vec<_>>()
    };
    let known = &entries[0].left;
    assert!(
        asked(&known.id)
            .iter()
            .all(|scores| *scores == known.scores)
    );
    assert!(entries.len() >= 3);
    assert_eq!(profiles.names().unwrap(), ["me"]);

    // Who takes what is better for the first objective wants the first objective.
    let mut leaning = profiles.open_or_begin("leaning", 1).unwrap();
    for turn in 0..8 {
        let texts = [0, 1, 2, 3].map(|i| format!("text {turn} {i}"));
        let scores = [[2.0, 0.0], [1.5, 1.0], [1.0, 1.5], [0.0, 2.0]];
        let answers: Vec<_> = (texts.iter().map(String::as_str)).zip(scores).collect();
        let four = pool(&answers);
        let question = leaning.ask(&four).unwrap().unwrap();
        let first = |place: usize| scores[place][0];
        let answer = match first(question.left) > first(question.right) {
            true => Answer::Left,
            false => Answer::Right,
        };
        let pair = (question.left, question.right);
        leaning.answer(&four, pair, answer).unwrap();
        let kept = fs::read_to_string(leaning.folder().join("preferences.jsonl")).unwrap();
        let kept: Value = serde_json::from_str(kept.lines().last().unwrap()).unwrap();
        let better = texts[match answer {
            Answer::Left => question.left,
            _ => question.right,
        }]
        .as_str();
        assert_eq!(kept["chosen"][0]["content"], better);
        // A training reads what the template saw where records have it.
        assert_eq!(kept["tools"], variables["tools"]);
        assert_eq!(kept["chat_template_kwargs"], json!({"thinks": false}));
    }
    assert!(
        leaning.preference().weights()[0] > 0.7,
        "{}",
        leaning.preference()
    );
    // A profile that was edited is not what its person has said.
    let path = leaning.folder().join("profile.jsonl");
    let kept = fs::read_to_string(&path).unwrap();
    let turned = match kept.contains("\"answer\":\"left\"") {
        true => kept.replacen("\"answer\":\"left\"", "\"answer\":\"right\"", 1),
        false => kept.replacen("\"answer\":\"right\"", "\"answer\":\"left\"", 1),
    };
    fs::write(&path, turned).unwrap();
    let refused = profiles.open("leaning").map_err(message).unwrap_err();
    assert!(refused.contains("it was edited"), "{refused}");
    fs::remove_dir_all(leaning.folder()).unwrap();

    // An answer without words is compared, and is no text to train on.
    let mut silent = profiles.open_or_begin("silent", 1).unwrap();
    let pair = pool(&[("a", [1.0, 0.0]), (" ", [0.0, 1.0])]);
    silent.ask(&pair).unwrap();
    silent.answer(&pair, (0, 1), Answer::Left).unwrap();
    assert!(!silent.folder().join("preferences.jsonl").exists());
    assert_eq!(profiles.names().unwrap(), ["me", "silent"]);
}
