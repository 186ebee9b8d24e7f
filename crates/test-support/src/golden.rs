//! Reference values, from `datasets/golden` or from a folder of the same form that `PANACEA_GOLDEN` names.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

fn folder() -> PathBuf {
    std::env::var_os("PANACEA_GOLDEN").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/golden"),
        PathBuf::from,
    )
}

/// Where a file or folder of reference values lies.
pub fn golden_path(name: &str) -> PathBuf {
    folder().join(name)
}

/// The contents of a JSON file of reference values, such as `hypervolume.json`.
pub fn golden<T: DeserializeOwned>(file: &str) -> T {
    let path = golden_path(file);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The numbers of a JSON array, however deeply nested, in their order.
pub fn floats(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(floats).collect(),
        number => vec![number.as_f64().expect("a number")],
    }
}

/// A tiny Llama with adapters for three objectives, as PyTorch computed it in float64.
pub struct TinyLlama {
    /// The folder of the model and of `adapter.safetensors`.
    pub dir: PathBuf,
    /// All values, by the names in `expected.json`.
    pub expected: Value,
    /// (prompt, response) of every row; rows 2p and 2p + 1 are the responses of pair p.
    pub rows: Vec<(Vec<u32>, Vec<u32>)>,
}

impl TinyLlama {
    /// Reads the model's reference values.
    pub fn read() -> Self {
        let expected: Value = golden("tiny_llama/expected.json");
        let row = |(ids, mask): (&Value, &Value)| {
            let ids: Vec<u32> = floats(ids).into_iter().map(|id| id as u32).collect();
            let is_response: Vec<bool> = floats(mask).into_iter().map(|m| m == 1.0).collect();
            let start = is_response.iter().position(|&m| m).expect("a response");
            let length = is_response.iter().filter(|&&m| m).count();
            (ids[..start].to_vec(), ids[start..start + length].to_vec())
        };
        let array = |key: &str| expected[key].as_array().expect("an array").iter();
        let rows = array("ids").zip(array("response_mask")).map(row).collect();
        Self {
            dir: golden_path("tiny_llama"),
            rows,
            expected,
        }
    }

    /// The rank k, the number of objectives m and alpha of its adapters.
    pub fn adapter_sizes(&self) -> (usize, usize, f64) {
        let number = |key: &str| self.expected[key].as_f64().expect("a number");
        (number("k") as usize, number("m") as usize, number("alpha"))
    }

    /// Labels of every pair on every objective: 1 where response 0 is preferred, 0 where response 1 is, none
    /// where the pair is not labelled.
    pub fn labels(&self) -> Vec<Vec<Option<f64>>> {
        let label = |sign: f64| (sign != 0.0).then_some((sign + 1.0) / 2.0);
        let pairs = self.expected["labels"].as_array().expect("an array");
        pairs
            .iter()
            .map(|labels| floats(labels).into_iter().map(label).collect())
            .collect()
    }
}
