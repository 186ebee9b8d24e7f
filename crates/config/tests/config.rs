//! From what a person wrote to a plan.

use std::path::{Path, PathBuf};

use panacea_config::{
    Activations, InputPlan, Learning, Length, Overrides, Plan, ScheduleKind, Spec,
};
use panacea_data::{BadRecords, Example, Format, Judgement, Source, Tolerance};
use panacea_devices::Precision;
use panacea_methods::Trainings;
use panacea_objectives::{Aggregation, BradleyTerry, Dpo, DpoLoss, Kto, Loss, Preference, Sft};
use panacea_pretrained::{ChatOptions, TemplateValue};

const MINIMAL: &str = include_str!("files/minimal.toml");

const EVERYTHING: &str = include_str!("files/everything.toml");

fn resolve_with(text: &str, overrides: &Overrides) -> Result<Plan, String> {
    Plan::resolve(Spec::from_toml(text, "my.toml"), overrides).map_err(|error| error.to_string())
}

fn resolve(text: &str) -> Result<Plan, String> {
    resolve_with(text, &Overrides::default())
}

fn set(assignments: &[&str]) -> Overrides {
    Overrides {
        set: assignments.iter().map(ToString::to_string).collect(),
        ..Overrides::default()
    }
}

/// The messages of the mistakes that `more`, added to the smallest configuration, has.
#[track_caller]
fn mistakes(more: &str) -> Vec<String> {
    let spec = Spec::from_toml(&format!("{MINIMAL}\n{more}"), "my.toml");
    let errors = Plan::resolve(spec, &Overrides::default()).expect_err("a mistake");
    errors.problems().iter().map(ToString::to_string).collect()
}

#[track_caller]
fn check_mistake(more: &str, expected: &str) {
    let found = mistakes(more);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].contains(expected),
        "found    {}\nexpected {expected}",
        found[0]
    );
}

/// An example with this judgement about its two responses.
fn judged(judgement: Judgement) -> Example {
    Example {
        source: Source {
            file: "a.jsonl".into(),
            line: 1,
        },
        prompt: vec![1],
        responses: vec![vec![2], vec![3]],
        judgements: vec![judgement],
        scores: Vec::new(),
        words: panacea_data::Words::default(),
    }
}

#[test]
fn a_small_configuration_gets_every_default() {
    let plan = resolve(MINIMAL).unwrap();
    assert_eq!(plan.seed(), 17);
    assert_eq!(plan.device(), "flex");
    assert_eq!(plan.model(), Path::new("models/tiny"));
    assert_eq!(plan.data().train, [PathBuf::from("train.jsonl")]);
    assert_eq!(plan.objective_names(), ["helpfulness", "conciseness"]);
    assert_eq!((plan.adapter().rank, plan.adapter().alpha), (8, 64.0));
    assert_eq!(plan.adapter().modules.len(), 7);
    let plain = DpoLoss::Sigmoid {
        label_smoothing: 0.0,
    };
    let dpo = Loss::Dpo(Dpo::new(0.1, plain, 0.0).unwrap());
    assert_eq!(plan.method().learning, Learning::Supervised(dpo));
    assert_eq!(plan.method().aggregation, Aggregation::Linear);
    assert_eq!(plan.method().label(), "panacea-linear");
    assert_eq!(plan.adapter().fixed_s, Some(1.0));
    assert_eq!(plan.preference().groups, 8);
    assert_eq!(plan.preference().sampler.concentration(), 1.0);
    let optimizer = plan.optimizer();
    assert_eq!(optimizer.length, Length::Epochs(1.0));
    assert_eq!((optimizer.batch_size, optimizer.micro_batch_size), (8, 8));
    assert_eq!(optimizer.learning_rate_singular, 1e-3);
    assert_eq!(optimizer.clip_norm, Some(1.0));
    assert_eq!(optimizer.schedule, ScheduleKind::Linear);
    assert_eq!(
        (plan.evaluation().every, plan.checkpoint().every),
        (None, Some(50))
    );
    assert!(plan.warnings().is_empty());
}

#[test]
fn every_key_reaches_the_plan() {
    let plan = resolve(EVERYTHING).unwrap();
    assert_eq!((plan.seed(), plan.device()), (3, "wgpu"));
    let tolerance = plan.data().tolerance;
    assert_eq!(
        (tolerance.bad_records, tolerance.max_skipped),
        (BadRecords::Skip, 0.25)
    );
    assert_eq!(plan.optimizer().activations, Activations::Recompute);
    assert_eq!(plan.adapter().modules, ["q_proj", "down_proj"]);
    assert_eq!(
        plan.method().aggregation,
        Aggregation::Tchebycheff {
            ideal: vec![-0.5, -0.25],
            smoothing: 0.05,
        }
    );
    assert_eq!(plan.method().label(), "panacea-smooth-tchebycheff");
    assert_eq!(plan.preference().sampler.vertex_probability(), 0.2);
    let optimizer = plan.optimizer();
    assert_eq!(optimizer.length, Length::Steps(110));
    assert_eq!(optimizer.betas, [0.8, 0.99]);
    assert_eq!(optimizer.clip_norm, None);
    assert_eq!(plan.precision(), Precision::F16);
    assert_eq!(plan.evaluation().every, Some(10));
    assert_eq!(plan.checkpoint().every, None);
    // Nothing was lost on the way: the plan says what the file said.
    let mut said = toml::Table::try_from(plan.to_spec()).unwrap();
    let mut wrote: toml::Table = EVERYTHING.parse().unwrap();
    // These two are written in another form: the order of the list, and the type of the number.
    for (section, key) in [
        ("adapter", "modules"),
        ("adapter", "alpha"),
        ("optimizer", "clip_norm"),
    ] {
        for table in [&mut said, &mut wrote] {
            table[section].as_table_mut().unwrap().remove(key).unwrap();
        }
    }
    for table in [&mut said, &mut wrote] {
        table.remove("objective").unwrap();
    }
    assert_eq!(said, wrote);
}

#[test]
fn the_smallest_mistake_message_reads_well() {
    assert_eq!(
        resolve(&format!("{MINIMAL}\n[optimizer]\nlearning_rat = 1e-3")).unwrap_err(),
        "the configuration has a mistake: my.toml:17: optimizer.learning_rat: \
         unknown key \"learning_rat\" in [optimizer]; did you mean \"learning_rate\"?"
    );
}

#[test]
fn unknown_keys_name_file_line_section_and_the_nearest_key() {
    check_mistake(
        "[optimiser]\nsteps = 1",
        "my.toml:16: optimiser: unknown key \"optimiser\"; did you mean \"optimizer\"?",
    );
    check_mistake("[checkpoint]\nkeeps = 1", "did you mean \"keep\"?");
    check_mistake(
        "[method]\nxyz = 1",
        "unknown key \"xyz\" in [method]; known are name, loss, beta",
    );
    check_mistake(
        "[[objective]]\nname = \"c\"\nscor = \"c\"",
        "unknown key \"scor\" in [objective[2]]; did you mean \"score\"?",
    );
}

#[test]
fn wrong_types_are_told_in_plain_words() {
    check_mistake(
        "[optimizer]\nsteps = \"ten\"",
        "optimizer.steps: found string \"ten\", expected a whole number, 0 or more",
    );
    check_mistake(
        "[optimizer]\nsteps = -3",
        "found integer `-3`, expected a whole number, 0 or more",
    );
    check_mistake("[method]\nbeta = \"high\"", "expected a number");
    check_mistake(
        "[method]\nloss = \"ppo\"",
        "unknown variant `ppo`, expected one of `dpo`, `kto`, `sft`, `rlhf`",
    );
    check_mistake(
        "[method]\nloss = \"grpo\"",
        "what you mean is loss = \"rlhf\" with rlhf.advantages = \"grpo\"",
    );
    check_mistake(
        "[adapter]\nmodules = \"all-linear\"",
        "what you mean is the default: leave the key out",
    );
    check_mistake(
        "[logging]\nmlflow = \"http://localhost:5000\"",
        "logging.mlflow: found the address http://localhost:5000, expected a folder",
    );
    check_mistake(
        "[adapter]\nmodules = 3",
        "found integer `3`, expected a list",
    );
    let message = resolve_with(MINIMAL, &set(&["data.train=3"])).unwrap_err();
    assert!(
        message.contains("data.train: expected a string or a list of strings"),
        "{message}"
    );
    check_mistake("[[objective]]\nscore = \"c\"", "missing field `name`");
}

#[test]
fn values_out_of_range_say_what_was_expected() {
    for (key, value, expected) in [
        ("optimizer.steps", "0", "found 0, expected 1 or more"),
        (
            "optimizer.epochs",
            "0.0",
            "expected a finite number above 0",
        ),
        ("optimizer.batch_size", "0", "expected 1 or more"),
        (
            "optimizer.micro_batch_size",
            "9",
            "expected at most optimizer.batch_size = 8",
        ),
        (
            "optimizer.learning_rate",
            "nan",
            "found NaN, expected a finite number above 0",
        ),
        (
            "optimizer.learning_rate_singular",
            "-1",
            "found -1, expected a finite number above 0",
        ),
        (
            "optimizer.betas",
            "[0.9, 1.0]",
            "found [0.9, 1.0], expected two numbers, 0 or more and below 1",
        ),
        (
            "optimizer.warmup_ratio",
            "1.5",
            "expected a number from 0 to 1",
        ),
        (
            "optimizer.max_grad_norm",
            "inf",
            "found inf, expected a finite number above 0",
        ),
        (
            "optimizer.clip_norm",
            "-1",
            "expected a finite number, 0 or more",
        ),
        ("adapter.rank", "0", "expected 1 or more"),
        ("adapter.modules", "[]", "found an empty list"),
        (
            "adapter.modules",
            "[\"q_pro\"]",
            "unknown module \"q_pro\"; did you mean \"q_proj\"?",
        ),
        (
            "adapter.modules",
            "[\"q_proj\", \"q_proj\"]",
            "\"q_proj\" is listed twice",
        ),
        ("method.label_smoothing", "0.5", "below 0.5"),
        (
            "preference.vertex_probability",
            "1.1",
            "expected a number from 0 to 1",
        ),
        ("preference.concentration", "0", "above 0"),
        (
            "adapter.s",
            "0",
            "expected a finite number above 0, or \"learned\"",
        ),
        (
            "adapter.s",
            "learnt",
            "found \"learnt\", expected a number or \"learned\"",
        ),
        (
            "preference.groups",
            "9",
            "expected at most optimizer.batch_size = 8",
        ),
        ("evaluation.every", "5", "there are no held-out records"),
        ("checkpoint.keep", "0", "expected 1 or more"),
        ("data.max_prompt_tokens", "0", "expected 1 or more"),
    ] {
        let message = resolve_with(MINIMAL, &set(&[&format!("{key}={value}")])).unwrap_err();
        assert!(
            message.starts_with("the configuration has a mistake"),
            "{message}"
        );
        assert!(
            message.contains(&format!("--set {key}={value}: {key}: ")),
            "{message}"
        );
        assert!(
            message.contains(expected),
            "found {message}\nexpected {expected}"
        );
    }
}

#[test]
fn conversations_are_written_as_the_configuration_says() {
    let text = MINIMAL.replace(
        "[model]",
        "[model]\nchat_template = \"mine.jinja\"\ntokenizer = \"tokenizer\"\n\
         template = {enable_thinking = false, level = 2, tone = \"dry\", date = \"2026-11-27\"}",
    );
    let plan = resolve(&text).unwrap();
    let chat = plan.chat();
    assert_eq!(chat.template.as_deref(), Some(Path::new("mine.jinja")));
    assert_eq!(chat.tokenizer.as_deref(), Some(Path::new("tokenizer")));
    assert_eq!(chat.date.as_deref(), Some("2026-11-27"));
    let variables: Vec<&str> = chat.variables.keys().map(String::as_str).collect();
    assert_eq!(variables, ["enable_thinking", "level", "tone"]);
    assert_eq!(
        chat.variables["enable_thinking"],
        TemplateValue::Bool(false)
    );
    // One variable of the command line leaves the others.
    let changed = resolve_with(&text, &set(&["model.template.level=3"])).unwrap();
    assert_eq!(changed.chat().variables["level"], TemplateValue::Int(3));
    assert_eq!(changed.chat().variables.len(), 3);
    // One that is given no value is taken out.
    let without = resolve_with(&text, &set(&["model.template.level="])).unwrap();
    let variables: Vec<&str> = without
        .chat()
        .variables
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(variables, ["enable_thinking", "tone"]);
    // And what is resolved resolves to itself.
    assert_eq!(
        Plan::resolve(plan.to_spec(), &Overrides::default())
            .unwrap()
            .chat(),
        plan.chat()
    );
    // The day of the plan goes before that of the run.
    assert_eq!(
        plan.clone().on_day(|| "1999-01-01".into()).chat().date,
        plan.chat().date
    );

    for (value, expected) in [
        (
            "{date = \"27.11.2026\"}",
            "expected one such as \"2026-11-27\"",
        ),
        ("{date = 3}", "`date` is a text"),
        (
            "{messages = \"x\"}",
            "`messages` comes from the conversation",
        ),
        (
            "{tools = \"x\"}",
            "`tools` comes from the conversation, and is not to be set",
        ),
        (
            "{eos_token = \"x\"}",
            "`eos_token` comes from the tokenizer, and is not to be set",
        ),
        (
            "{raise_exception = true}",
            "`raise_exception` is the template's own",
        ),
        ("{a = [1]}", "expected a text, a number, true or false"),
    ] {
        let overrides = set(&[&format!("model.template={value}")]);
        let message = resolve_with(MINIMAL, &overrides).unwrap_err();
        assert!(message.contains(expected), "{message}");
    }
    let overrides = set(&["data.rendered=true", "data.overlong_prompts=truncate"]);
    let message = resolve_with(MINIMAL, &overrides).unwrap_err();
    assert!(
        message.contains("cuts words before the template"),
        "{message}"
    );
    // A reward model has a template of its own; other scorers see the words.
    let rewards = |reward: &str| {
        let objective = format!("[[objective]]\nname = \"a\"\nreward = {reward}");
        let text = format!(
            "model = {{ path = \"models/tiny\" }}\ndata = {{ train = \"a.jsonl\", rendered = true }}\n\
             method = {{ loss = \"rlhf\" }}\n{objective}"
        );
        resolve(&text)
    };
    let message = rewards("{ model = \"runs/helpful\" }").unwrap_err();
    assert!(
        message.contains("data.rendered") && message.contains("wrapped twice"),
        "{message}"
    );
    rewards("{ rule = \"conciseness\" }").unwrap();
}

#[test]
fn the_ideal_has_a_value_for_each_objective() {
    check_mistake(
        "[method]\naggregation = \"tchebycheff\"\nideal = [0.0]",
        "found 1 values, expected one for each of the 2 objectives",
    );
    let plan = resolve(&format!(
        "{MINIMAL}\n[method]\naggregation = \"tchebycheff\""
    ))
    .unwrap();
    // Without one, the records tell: the entropy of soft labels, 0 for hard ones.
    let example = |label: f64| judged(Judgement::pair(0, 1, vec![Some(1.0), Some(label)]));
    let given = plan.clone();
    let plan = plan.with_ideal_of(&[example(0.5), example(1.0)]).unwrap();
    let ideal = vec![0.0, -0.5 * 2f64.ln()];
    assert_eq!(
        plan.method().aggregation,
        Aggregation::Tchebycheff {
            ideal: ideal.clone(),
            smoothing: 0.0,
        }
    );
    // Nothing else changes, nor does an ideal that is there.
    let mut spec = given.to_spec();
    spec.method.ideal = Some(ideal);
    assert_eq!(plan.to_spec(), spec);
    assert_eq!(plan.clone().with_ideal_of(&[]).unwrap(), plan);
}

#[test]
fn members_are_plans_for_one_preference() {
    let plan = |more: &str| resolve(&format!("{MINIMAL}\n{more}")).unwrap();
    assert_eq!(plan("").trainings(), Trainings::One);
    let each = |plan: &Plan| match plan.trainings() {
        Trainings::One => panic!("it takes several"),
        Trainings::Each(preferences) => preferences,
    };
    let soups = plan("[method]\nname = \"rewarded_soups\"");
    let weights = |plan: &Plan| -> Vec<Vec<f64>> {
        each(plan)
            .iter()
            .map(|preference| preference.weights().to_vec())
            .collect()
    };
    assert_eq!(weights(&soups), [[1.0, 0.0], [0.0, 1.0]]);
    let discrete = plan("[method]\nname = \"discrete\"\ndivisions = 2");
    assert_eq!(weights(&discrete), [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]);
    assert_eq!(discrete.method().label(), "discrete");

    let member = soups.member(&each(&soups)[1]);
    assert_eq!(member, plan("[preference]\nfixed = [0.0, 1.0]"));
    assert_eq!(member.method().label(), "panacea-linear");
    let by_name = plan("[preference]\nfixed = { conciseness = 0.25, helpfulness = 0.75 }");
    assert_eq!(by_name, plan("[preference]\nfixed = [0.75, 0.25]"));
    let divided = plan("[preference]\nfixed.conciseness = 3");
    assert_eq!(divided.preference().fixed, Some(Preference::vertex(2, 1)));
    let told = "conciseness=3, divided by their sum, 3: λ is helpfulness=0,conciseness=1";
    assert!(
        divided.warnings()[0].contains(told),
        "{:?}",
        divided.warnings()
    );
    check_mistake("[preference]\nfixed = [0.5, -0.5]", "weight 2 is -0.5");
    check_mistake(
        "[preference]\nfixed = { tone = 1 }",
        "there is no objective `tone`; there are ",
    );
    check_mistake(
        "[preference]\nfixed = \"x\"",
        "a list of numbers, such as [0.2, 0.8]",
    );
    check_mistake("[preference]\nfixed = [1.0]", "2");
}

#[test]
fn a_format_is_known_or_found_out() {
    let format = |name: &str| {
        let plan = resolve_with(MINIMAL, &set(&[&format!("data.format={name}")]));
        plan.map(|plan| plan.data().format)
    };
    assert_eq!(format("auto"), Ok(None));
    assert_eq!(format("hh-rlhf"), Ok(Some(Format::HhRlhf)));
    let message = format("csv").unwrap_err();
    assert!(
        message.contains("unknown variant `csv`, expected one of `scored`"),
        "{message}"
    );
    assert!(message.ends_with("or `auto`"), "{message}");
}

/// What is scored or answered is read as the run read its own, but for what is set.
#[test]
fn files_are_read_as_a_run_reads_its_own() {
    let keys: [&[&str]; 2] = [&InputPlan::CHAT_KEYS, &InputPlan::RECORD_KEYS];
    let input = |run: Option<&Plan>, set: &[&str]| {
        let set: Vec<String> = set.iter().map(ToString::to_string).collect();
        InputPlan::resolve(run, &set, &keys).map_err(|error| error.to_string())
    };
    let nothing = input(None, &[]).unwrap();
    assert_eq!(nothing.chat, ChatOptions::default());
    assert_eq!((nothing.format, nothing.rendered), (None, false));
    assert_eq!(nothing.tolerance, Tolerance::default());

    let run = "\
        model.template = { enable_thinking = false, depth = 3, date = '2001-02-03' }\n\
        data.format = 'hh-rlhf'\ndata.rendered = true\ndata.bad_records = 'skip'\ndata.max_skipped = 0.25\n";
    let run = resolve(&run.lines().fold(MINIMAL.to_owned(), |text, line| {
        let (section, rest) = line.split_once('.').unwrap();
        text.replace(&format!("[{section}]"), &format!("[{section}]\n{rest}"))
    }));
    let run = run.unwrap();
    let as_trained = input(Some(&run), &[]).unwrap();
    assert_eq!(&as_trained.chat, run.chat());
    assert_eq!(as_trained.format, Some(Format::HhRlhf));
    assert_eq!(as_trained.tolerance, run.data().tolerance);
    assert_eq!(as_trained.tolerance.max_skipped, 0.25);
    assert!(as_trained.rendered && !as_trained.is_set("data.format"));

    let set = ["data.format=auto", "model.template.enable_thinking=true"];
    let changed = input(Some(&run), &set).unwrap();
    assert!(changed.format.is_none() && changed.is_set("data.format"));
    assert!(changed.rendered && !changed.is_set("data.rendered"));
    let variable = |name: &str| changed.chat.variables[name].clone();
    assert_eq!(variable("enable_thinking"), TemplateValue::Bool(true));
    assert_eq!(variable("depth"), TemplateValue::Int(3));
    assert_eq!(changed.chat.date.as_deref(), Some("2001-02-03"));

    for (set, expected) in [
        (
            "optimizer.steps=3",
            "optimizer.steps: it has no effect here; expected model.tokenizer, model.chat_template, model.template.NAME, data.format",
        ),
        (
            "data.train=a.jsonl",
            "--set data.train=a.jsonl: data.train: it has no effect here",
        ),
        ("data.fromat=auto", "did you mean \"format\"?"),
        ("data.format=csv", "unknown variant `csv`"),
        ("data.max_skipped=2", "data.max_skipped: found 2, expected"),
        (
            "model.template.messages=1",
            "`messages` comes from the conversation",
        ),
        ("model.template.date=today", "today"),
        ("format", "expected section.key=value"),
    ] {
        let said = input(None, &[set]).unwrap_err();
        assert!(said.contains(expected), "{set}: {said}");
    }
    let idle = input(None, &["data.max_skipped=0.3"]).unwrap();
    assert!(idle.warnings[0].contains("data.max_skipped has no effect"));
    // Where no files are read.
    let said = InputPlan::resolve(None, &["data.format=auto".to_owned()], &keys[..1]);
    let said = said.unwrap_err().to_string();
    assert!(said.ends_with("it has no effect here; expected model.tokenizer, model.chat_template, model.template.NAME"), "{said}");
}

#[test]
fn objectives_may_bring_all_records_themselves() {
    let text = r#"
[model]
path = "models/tiny"
[[objective]]
name = "helpful"
train = "helpful.jsonl"
eval = "helpful-test.jsonl"
[[objective]]
name = "harmless"
train = ["harmless.jsonl"]
eval = "harmless-test.jsonl"
[evaluation]
every = 5
"#;
    let plan = resolve(text).unwrap();
    assert!(plan.data().train.is_empty());
    let message = resolve(&text.replace("train = [\"harmless.jsonl\"]\n", "")).unwrap_err();
    assert!(
        message.contains("data.train: there are no records to train on"),
        "{message}"
    );
    let message = resolve(&text.replace("eval = \"helpful-test.jsonl\"\n", "")).unwrap_err();
    assert!(
        message.contains("evaluation.every: there are no held-out records"),
        "{message}"
    );
}

#[test]
fn objectives_have_names_of_their_own() {
    check_mistake(
        "[[objective]]\nname = \"helpfulness\"\nscore = \"h\"",
        "my.toml:16: objective[2]: its name \"helpfulness\" is that of objective[0] too",
    );
}

#[test]
fn steps_and_epochs_exclude_each_other_in_one_place_and_override_across_two() {
    check_mistake(
        "[optimizer]\nsteps = 5\nepochs = 1.0",
        "my.toml:18: optimizer.epochs: found optimizer.steps as well",
    );
    let text = format!("{MINIMAL}\n[optimizer]\nepochs = 2.0\nbatch_size = 4");
    let plan = resolve(&text).unwrap();
    assert_eq!(plan.optimizer().total_steps(10), 5);
    assert_eq!(plan.optimizer().total_steps(11), 6);
    let flag = Overrides {
        steps: Some(7),
        ..Overrides::default()
    };
    let plan = resolve_with(&text, &flag).unwrap();
    assert_eq!(plan.optimizer().length, Length::Steps(7));
    let plan = resolve_with(&text, &set(&["optimizer.steps=8"])).unwrap();
    assert_eq!(plan.optimizer().total_steps(1_000), 8);
}

#[test]
fn all_mistakes_are_listed_at_once() {
    let text = r#"
sed = 1
[data]
max_prompt_tokens = 0
[optimizer]
learning_rate = "fast"
stepz = 3
[method]
beta = -1.0
"#;
    let overrides = Overrides {
        steps: Some(0),
        set: vec!["adapter.rang=2".into(), "nonsense".into()],
        ..Overrides::default()
    };
    let message = resolve_with(text, &overrides).unwrap_err();
    for expected in [
        "the configuration has 11 mistakes:",
        "  my.toml:2: sed: unknown key \"sed\"; did you mean \"seed\"?",
        "  my.toml:4: data.max_prompt_tokens: found 0, expected 1 or more",
        "  my.toml:6: optimizer.learning_rate: found string \"fast\", expected a number",
        "  my.toml:7: optimizer.stepz: unknown key \"stepz\" in [optimizer]; did you mean \"steps\"?",
        "  my.toml:9: method.beta: found -1, expected a finite number above 0",
        "  --set adapter.rang=2: adapter.rang: unknown key \"rang\" in [adapter]; did you mean \"rank\"?",
        "  --set nonsense: expected section.key=value",
        "  --steps: optimizer.steps: found 0, expected 1 or more",
        "  model.path: there is no model",
        "  data.train: there are no records",
        "  objective: there is none",
    ] {
        assert!(message.contains(expected), "no {expected:?} in\n{message}");
    }
}

#[test]
fn a_file_that_is_no_toml_is_reported_with_its_line_and_nothing_else() {
    let message = resolve("seed = 1\n[data\ntrain = 3").unwrap_err();
    assert!(
        message.starts_with("the configuration has a mistake: my.toml:2: this is not TOML"),
        "{message}"
    );
}

#[test]
fn a_file_that_is_absent_is_named() {
    let message = Spec::read(Path::new("absent.toml"))
        .unwrap_err()
        .to_string();
    assert!(message.contains("cannot read absent.toml"), "{message}");
}

#[test]
fn the_command_line_wins_over_the_file_and_flags_over_set() {
    let overrides = Overrides {
        model: Some("other-model".into()),
        train: vec!["x.jsonl".into(), "y.jsonl".into()],
        eval: vec!["z.jsonl".into()],
        device: Some("cuda".into()),
        seed: Some(99),
        steps: None,
        set: vec![
            "seed = 5".into(),
            "optimizer.learning_rate=1e-4".into(),
            "method.loss=sft".into(),
            "method.per_token=true".into(),
            "adapter.modules=[\"q_proj\"]".into(),
            "data.eval=w.jsonl".into(),
        ],
    };
    let plan = resolve_with(MINIMAL, &overrides).unwrap();
    assert_eq!(plan.model(), Path::new("other-model"));
    assert_eq!(plan.data().train, ["x.jsonl", "y.jsonl"].map(PathBuf::from));
    assert_eq!(plan.data().eval, [PathBuf::from("z.jsonl")]);
    assert_eq!((plan.device(), plan.seed()), ("cuda", 99));
    assert_eq!(plan.optimizer().learning_rate, 1e-4);
    assert_eq!(plan.optimizer().learning_rate_singular, 1e-4);
    let sft = Loss::Sft(Sft { per_token: true });
    assert_eq!(plan.method().learning, Learning::Supervised(sft));
    assert_eq!(plan.adapter().modules, ["q_proj"]);
}

#[test]
fn a_key_that_is_set_to_nothing_has_its_default() {
    let text = format!("{MINIMAL}\n[adapter]\ns = -1\nrank = 3\n[optimizer]\nsteps = 7");
    let nothing = ["adapter.s=", "adapter.rank = ", "optimizer.steps=", "seed="];
    let plan = resolve_with(&text, &set(&nothing)).unwrap();
    assert_eq!(plan, resolve(MINIMAL).unwrap());
    // Nor does a mistake in its value count; of what comes later it is the value.
    let text = format!("{MINIMAL}\n[adapter]\nrank = \"many\"");
    assert_eq!(
        resolve_with(&text, &set(&["adapter.rank="]))
            .unwrap()
            .adapter()
            .rank,
        8
    );
    let later = resolve_with(&text, &set(&["adapter.rank=", "adapter.rank=5"])).unwrap();
    assert_eq!(later.adapter().rank, 5);
    let message = resolve_with(MINIMAL, &set(&["adapter.rang="])).unwrap_err();
    assert!(message.contains("did you mean \"rank\"?"), "{message}");
    let message = resolve_with(MINIMAL, &set(&["model.path="])).unwrap_err();
    assert!(
        message.contains("model.path: there is no model"),
        "{message}"
    );
}

#[test]
fn a_mistake_in_the_file_that_the_command_line_writes_over_is_none() {
    let text = format!("{MINIMAL}\n[optimizer]\nsteps = \"ten\"");
    let flag = Overrides {
        steps: Some(10),
        ..Overrides::default()
    };
    assert!(resolve(&text).is_err());
    assert_eq!(
        resolve_with(&text, &flag).unwrap().optimizer().length,
        Length::Steps(10)
    );
}

#[test]
fn a_value_out_of_range_is_refused_where_it_has_no_effect_too() {
    check_mistake(
        "[method]\nloss = \"sft\"\nbeta = -1.0",
        "method.beta: found -1, expected a finite number above 0; besides, it has no effect: it needs method.loss = \"dpo\"",
    );
    // Of a key whose value is looked up anyway it is said once.
    let error = resolve_with(MINIMAL, &set(&["data.max_skipped=2"])).unwrap_err();
    assert_eq!(
        error.matches("data.max_skipped: found 2, expected").count(),
        1,
        "{error}"
    );
    check_mistake("[rlhf]\nsamples = 0", "rlhf.samples: found 0, expected");
}

#[test]
fn keys_without_effect_are_warned_about_unless_they_say_nothing_new() {
    let warnings = |more: &str| {
        let plan = resolve(&format!("{MINIMAL}\n[method]\n{more}")).unwrap();
        plan.warnings().to_vec()
    };
    assert_eq!(
        warnings("loss = \"sft\"\nbeta = 0.5"),
        [
            "my.toml:18: method.beta has no effect: it needs method.loss = \"dpo\", \"kto\" or \"rlhf\""
        ]
    );
    assert!(warnings("loss = \"sft\"\nbeta = 0.1").is_empty());
    assert_eq!(
        warnings("dpo_loss = \"ipo\"\nlabel_smoothing = 0.1").len(),
        1
    );
    assert_eq!(warnings("ideal = [-0.5, -0.5]").len(), 1);
    assert_eq!(warnings("smoothing = 0.1").len(), 1);
    assert_eq!(warnings("per_token = true").len(), 1);
}

#[test]
fn a_maximum_over_the_losses_of_few_records_is_warned_about() {
    let warnings = |more: &str| {
        let text = format!("{MINIMAL}\n[method]\naggregation = \"tchebycheff\"\n{more}");
        resolve(&text).unwrap().warnings().to_vec()
    };
    assert_eq!(
        warnings("[preference]\ngroups = 4\n[optimizer]\nbatch_size = 4"),
        [
            "method.aggregation = \"tchebycheff\": preference.groups = 4 leaves 1 of a step's 4 records to each λ, and the \
             largest of losses over so few is mostly chance; give them more, or set method.smoothing to 0.03, say"
        ]
    );
    assert!(warnings("[optimizer]\nbatch_size = 4").is_empty());
    assert!(warnings("[preference]\ngroups = 2\n[optimizer]\nbatch_size = 8").is_empty());
    let smooth = "smoothing = 0.03\n[preference]\ngroups = 4\n[optimizer]\nbatch_size = 4";
    assert!(warnings(smooth).is_empty());
    // A soup's trainings have one objective each.
    assert!(warnings("name = \"rewarded_soups\"\n[optimizer]\nbatch_size = 2").is_empty());
}

/// What is drawn and how says nothing where no λ is drawn, and then all records of a step belong to one.
#[test]
fn how_preferences_are_drawn_has_no_effect_where_none_is() {
    let groups = "my.toml:18: preference.groups has no effect: it needs method.name = \"panacea\" without preference.fixed";
    for (more, warnings) in [
        ("[preference]\nfixed = [0.2, 0.8]\ngroups = 4", vec![groups]),
        (
            "[method]\nname = \"rewarded_soups\"\n[preference]\nfixed = [0.2, 0.8]",
            vec!["my.toml:19: preference.fixed has no effect: it needs method.name = \"panacea\""],
        ),
        (
            "[method]\nname = \"discrete\"\nloss = \"kto\"\n[preference]\nvertex_probability = 0.1",
            vec![],
        ),
    ] {
        let plan = resolve(&format!("{MINIMAL}\n{more}")).unwrap();
        assert_eq!(plan.warnings(), warnings, "{more}");
        assert_eq!(plan.preference().groups, 1, "{more}");
        // And what is resolved resolves to itself, without a word.
        let again = resolve(&toml::to_string(&plan.to_spec()).unwrap()).unwrap();
        assert!(
            again.warnings().is_empty(),
            "{more}: {:?}",
            again.warnings()
        );
    }
}

#[test]
fn a_mean_kl_of_few_records_is_warned_about() {
    let warnings = |more: &str| {
        let text = format!("{MINIMAL}\n[method]\nloss = \"kto\"\n{more}");
        resolve(&text).unwrap().warnings().to_vec()
    };
    assert_eq!(
        warnings("[preference]\ngroups = 4\n[optimizer]\nbatch_size = 8"),
        [
            "method.loss = \"kto\": preference.groups = 4 leaves 2 of a step's 8 records to each λ, and z₀, the mean KL that \
             KTO takes over them, is mostly chance; give them more"
        ]
    );
    assert!(warnings("[optimizer]\nbatch_size = 4").is_empty());
    assert!(warnings("[preference]\ngroups = 2\n[optimizer]\nbatch_size = 8").is_empty());
}

#[test]
fn kto_has_weights_and_an_ideal_of_its_own() {
    let text = format!(
        "{MINIMAL}\n[method]\nloss = \"kto\"\nbeta = 0.3\nundesirable_weight = 0.5\naggregation = \"tchebycheff\""
    );
    let plan = resolve(&text).unwrap();
    let kto = Loss::Kto(Kto::new(0.3, 1.0, 0.5).unwrap());
    assert_eq!(plan.method().learning, Learning::Supervised(kto));
    assert_eq!(
        resolve(&toml::to_string(&plan.to_spec()).unwrap()).unwrap(),
        plan
    );
    let example = |label: f64| judged(Judgement::single(vec![Some(1.0), Some(label)]));
    let plan = plan.with_ideal_of(&[example(0.0), example(0.2)]).unwrap();
    // Hard labels can be met; of a soft one the lighter side is lost: 0.2 · 1 against 0.8 · ½.
    let ideal = vec![0.0, -0.1];
    assert_eq!(
        plan.method().aggregation,
        Aggregation::Tchebycheff {
            ideal,
            smoothing: 0.0
        }
    );
    check_mistake(
        "[method]\nloss = \"kto\"\ndesirable_weight = 0",
        "method.desirable_weight: found 0, expected a finite number above 0",
    );
}

#[test]
fn a_reward_model_has_one_loss_and_no_preference() {
    let reward_model = |more: &str| format!("{MINIMAL}\n[method]\nname = \"reward-model\"\n{more}");
    let plan = resolve(&reward_model("margin = 1\ncentering = 0.01")).unwrap();
    let loss = Loss::BradleyTerry(BradleyTerry::new(1.0, 0.01).unwrap());
    assert_eq!(plan.method().learning, Learning::Supervised(loss));
    assert_eq!(plan.method().label(), "reward-model");
    assert_eq!(plan.preference().fixed, Some(Preference::uniform(2)));
    let message = resolve(&reward_model("loss = \"dpo\"")).unwrap_err();
    assert!(
        message.contains("method.loss: found one, expected none"),
        "{message}"
    );
    let warnings = |more: &str| resolve(more).unwrap().warnings().len();
    assert_eq!(
        warnings(&reward_model("beta = 0.3\n[preference]\ngroups = 2")),
        2
    );
    assert_eq!(warnings(&format!("{MINIMAL}\n[method]\nmargin = 1.0")), 1);
    // What has nothing to do with the method is told by its own reason.
    let skipping = set(&["data.max_skipped=0.3"]);
    let plan = resolve_with(&reward_model(""), &skipping).unwrap();
    let needs = "data.max_skipped has no effect: it needs data.bad_records = \"skip\"";
    assert!(plan.warnings()[0].contains(needs), "{:?}", plan.warnings());
}

/// The `run.toml` of an older run holds a key that is no more; where it changed nothing, it still changes nothing.
#[test]
fn a_key_that_is_gone_is_read_over_where_it_changed_nothing() {
    let with = |value: &str| {
        let text = MINIMAL.replace("[data]", &format!("[data]\nlength_buckets = {value}"));
        resolve(&text)
    };
    assert_eq!(with("false").unwrap(), resolve(MINIMAL).unwrap());
    let message = with("true").unwrap_err().to_string();
    assert!(
        message.contains("unknown key \"length_buckets\""),
        "{message}"
    );
}

/// What is refused of a person a run may have done before it was refused: it can still be looked at and served.
#[test]
fn the_address_of_a_server_is_refused_of_people_and_not_of_runs() {
    let text = format!("{MINIMAL}\n[logging]\nmlflow = \"http://localhost:5000\"\n");
    assert!(resolve(&text).is_err());
    assert!(resolve(&format!("{text}[run]\n")).is_ok());
}

#[test]
fn how_many_preferences_a_step_has_and_how_they_spread_goes_by_what_is_trained() {
    let drawn = |text: &str| {
        let plan = resolve(text).unwrap();
        let preference = plan.preference();
        (preference.groups, preference.sampler.concentration())
    };
    let third = "[[objective]]\nname = \"third\"\nscore = \"third\"";
    assert_eq!(drawn(&format!("{MINIMAL}\n{third}")), (8, 2.0 / 3.0));
    assert_eq!(
        drawn(&format!("{MINIMAL}\n[optimizer]\nbatch_size = 3")),
        (3, 1.0)
    );
    for one_preference in [
        "[method]\naggregation = \"tchebycheff\"",
        "[method]\nloss = \"kto\"",
        "[method]\nname = \"rewarded_soups\"",
        "[method]\nname = \"discrete\"",
        "[preference]\nfixed = [0.5, 0.5]",
    ] {
        let text = format!("{MINIMAL}\n{one_preference}");
        assert_eq!(drawn(&text), (1, 1.0), "{one_preference}");
    }
}

/// Older runs knew s by another name, and said nothing of it where it was learned.
#[test]
fn s_of_an_older_run_is_what_it_was() {
    let s = |adapter: &str, run: &str| {
        let plan = resolve(&format!("{MINIMAL}\n{adapter}\n{run}"));
        plan.map(|plan| plan.adapter().fixed_s)
    };
    let run = "[run]\npanacea = \"0.1.0\"";
    assert_eq!(s("[adapter]\nfixed_s = 0.5", run).unwrap(), Some(0.5));
    assert_eq!(s("[adapter]\nrank = 8", run).unwrap(), None);
    assert_eq!(s("[adapter]\ns = 2", run).unwrap(), Some(2.0));
    let message = s("[adapter]\nfixed_s = -1", run).unwrap_err();
    assert!(message.contains("adapter.s: found -1"), "{message}");
    let message = s("[adapter]\nfixed_s = 0.5", "").unwrap_err().to_string();
    assert!(
        message.contains("adapter.fixed_s: this key is adapter.s now"),
        "{message}"
    );
}
