//! Keys at a terminal and for editors, and configurations to begin with.

use panacea_config::{BEGINNINGS, Overrides, Plan, Spec, about, json_schema, keys};
use serde_json::Value;
use toml::Table;

const EVERYTHING: &str = include_str!("files/everything.toml");

#[test]
fn a_beginning_resolves_as_it_is() {
    for beginning in BEGINNINGS {
        let file = beginning.file().unwrap();
        let spec = Spec::from_toml(&file, "my.toml");
        let plan = Plan::resolve(spec, &Overrides::default());
        let plan = plan.unwrap_or_else(|error| panic!("{error}\n{file}"));
        assert_eq!(plan.warnings(), [""; 0], "{}", beginning.name);
        let first = file.lines().next().unwrap_or_default();
        assert_eq!(first, format!("# To begin with: {}.", beginning.about));
    }
}

/// Keys of other methods would only be in the way.
#[test]
fn a_beginning_has_the_keys_of_its_method() {
    let file = |name: &str| {
        let beginning = BEGINNINGS.iter().find(|beginning| beginning.name == name);
        beginning.unwrap().file().unwrap()
    };
    let has = |file: &str, key: &str| {
        let is_key = |line: &str| {
            line.trim_start_matches("# ")
                .starts_with(&format!("{key} = "))
        };
        file.lines().any(is_key)
    };
    let (dpo, rlhf, reward) = (file("dpo"), file("rlhf"), file("reward-model"));
    assert!(has(&dpo, "dpo_loss") && has(&dpo, "beta") && has(&dpo, "steps"));
    assert!(
        !has(&dpo, "desirable_weight") && !dpo.contains("[rlhf]"),
        "{dpo}"
    );
    assert!(has(&rlhf, "normalise") && rlhf.contains("[rlhf]") && !has(&rlhf, "dpo_loss"));
    assert!(
        has(&reward, "centering") && !reward.contains("[preference]"),
        "{reward}"
    );
}

#[test]
fn every_key_is_told_of() {
    let list = keys();
    let schema = json_schema();
    let sections = schema["properties"].as_object().unwrap();
    let mut count = 0;
    for (name, section) in sections {
        let Some(of_section) = section["properties"].as_object() else {
            continue;
        };
        for key in of_section.keys() {
            let full = format!("{name}.{key}");
            assert!(list.contains(&format!("\n  {key:<26} ")), "{key}");
            assert!(
                about(&full).unwrap().starts_with(&format!("{full} = ")),
                "{full}"
            );
            assert!(
                about(name).unwrap().contains(&format!("\n{full} = ")),
                "{full}"
            );
            count += 1;
        }
    }
    assert!(count > 40, "{count}");
    assert!(about("seed").unwrap().starts_with("seed = 17\n"));
    assert!(about("rank").unwrap().starts_with("adapter.rank = 8\n"));
    // Sections may have a key of the same name.
    let epochs = about("epochs").unwrap();
    for key in ["rlhf.epochs = ", "optimizer.epochs = "] {
        assert!(epochs.contains(key), "{epochs}");
    }
    assert!(
        about("[[objective]]")
            .unwrap()
            .contains("\nscore\n    A key of the record")
    );
    for line in list.lines().filter(|line| line.starts_with("  ")) {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[test]
fn what_is_meant_is_guessed() {
    let error = about("adapter.rang").unwrap_err().to_string();
    assert_eq!(
        error,
        "there is no section and no key `adapter.rang` (did you mean `adapter.rank`?); `config keys` lists them all"
    );
    assert!(about("").is_err());
}

/// Whether a value is what a schema says; what it says is what [`json_schema`] uses.
fn fits(value: &Value, schema: &Value) -> bool {
    let is_type = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        other => panic!("{other}"),
    };
    let types = match &schema["type"] {
        Value::String(name) => is_type(name),
        Value::Array(names) => names.iter().any(|name| is_type(name.as_str().unwrap())),
        _ => true,
    };
    let number = |name: &str| schema[name].as_f64();
    let is_within = value.as_f64().is_none_or(|value| {
        number("minimum").is_none_or(|least| value >= least)
            && number("exclusiveMinimum").is_none_or(|least| value > least)
            && number("maximum").is_none_or(|most| value <= most)
            && number("exclusiveMaximum").is_none_or(|most| value < most)
    });
    let choices = schema["enum"].as_array();
    let any = schema["anyOf"].as_array();
    let required = schema["required"].as_array().into_iter().flatten();
    types
        && is_within
        && choices.is_none_or(|choices| choices.contains(value))
        && any.is_none_or(|any| any.iter().any(|schema| fits(value, schema)))
        && required
            .into_iter()
            .all(|key| value.get(key.as_str().unwrap()).is_some())
        && value
            .as_array()
            .into_iter()
            .flatten()
            .all(|element| fits(element, &schema["items"]))
        && value.as_object().into_iter().flatten().all(|(key, value)| {
            match schema["properties"].get(key) {
                Some(schema) => fits(value, schema),
                None => schema["additionalProperties"] != Value::Bool(false),
            }
        })
}

#[test]
fn files_fit_the_schema() {
    let schema = json_schema();
    let json = |text: &str| serde_json::to_value(text.parse::<Table>().unwrap()).unwrap();
    for beginning in BEGINNINGS {
        assert!(
            fits(&json(&beginning.file().unwrap()), &schema),
            "{}",
            beginning.name
        );
    }
    assert!(fits(&json(EVERYTHING), &schema));
    for wrong in [
        "[adapter]\nrang = 8",
        "[adapter]\nrank = \"8\"",
        "[adapter]\nrank = 0",
        "[optimizer]\nbetas = [0.9, 1.0]",
        "[method]\nloss = \"ppo\"",
        "[data]\ntrain = 3",
        "[[objective]]\nscore = \"s\"",
        "[adaptr]",
    ] {
        assert!(!fits(&json(wrong), &schema), "{wrong}");
    }
}

/// What the schema says of numbers is what files are held to: at a bound, and a little beside it.
#[test]
fn the_schema_has_the_ranges_of_the_keys() {
    let schema = json_schema();
    let mut checked = 0;
    for (section, of_section) in schema["properties"].as_object().unwrap() {
        let table = of_section["properties"].as_object();
        for (key, of_key) in table.into_iter().flatten() {
            let bounds = ["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"];
            let is_integer = of_key["type"] == "integer";
            for bound in bounds.iter().filter_map(|bound| of_key[*bound].as_f64()) {
                let step = if is_integer { 1.0 } else { 1e-3 };
                for value in [bound - step, bound, bound + step] {
                    let text = match is_integer {
                        true => format!("{}", value as i64),
                        false => format!("{value:?}"),
                    };
                    let as_json: Value = serde_json::from_str(&text).unwrap();
                    let spec = Spec::from_toml(&BEGINNINGS[0].file().unwrap(), "my.toml");
                    let overrides = Overrides {
                        set: vec![format!("{section}.{key}={text}")],
                        ..Overrides::default()
                    };
                    // It looks at keys of other methods, too.
                    let refused = match spec.with_every_key(&overrides) {
                        Ok(_) => false,
                        Err(error) => {
                            let error = error.to_string();
                            let found = format!("found {text}, expected");
                            let of_type = format!("{section}.{key}={text}");
                            error.contains(&found) || error.contains(&of_type)
                        }
                    };
                    assert_eq!(refused, !fits(&as_json, of_key), "{section}.{key} = {text}");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 100, "{checked}");
}
