//! Arguments → the cargo features of `panacea` that they take.

use std::collections::BTreeSet;
use std::ffi::OsString;

/// The cargo features that a command line takes beyond the default ones.
///
/// `--device` may carry an index (`cuda:1`). An unknown device takes no feature: the binary is built without it
/// and answers with the list of those that are present.
pub fn needed(arguments: &[OsString]) -> BTreeSet<&'static str> {
    devices(arguments).filter_map(of_device).collect()
}

/// Those of `bench gpu`, whose device is CUDA unless it is named.
pub fn of_gpu_bench(arguments: &[OsString]) -> BTreeSet<&'static str> {
    let asks = arguments
        .iter()
        .any(|word| word == "--help" || word == "-h");
    match devices(arguments).next() {
        None if asks => BTreeSet::new(),
        None => BTreeSet::from(["cuda"]),
        Some(device) => of_device(device).into_iter().collect(),
    }
}

fn of_device(device: &str) -> Option<&'static str> {
    let kind = device.split([':', ',']).next().unwrap_or(device);
    ["wgpu", "vulkan", "cuda"]
        .into_iter()
        .find(|feature| *feature == kind)
}

/// The values of `--device X` and `--device=X`; what follows a lone `--` is no option.
fn devices(arguments: &[OsString]) -> impl Iterator<Item = &str> {
    let options = arguments
        .iter()
        .map(|word| word.to_str().unwrap_or_default())
        .take_while(|word| *word != "--");
    let following = options.clone().skip(1).chain([""]);
    options.zip(following).filter_map(|(word, next)| {
        if word == "--device" {
            Some(next)
        } else {
            word.strip_prefix("--device=")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &[&str]) {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let found: Vec<_> = needed(&words).into_iter().collect();
        assert_eq!(found, expected, "{line:?}");
    }

    #[test]
    fn the_cpu_takes_none() {
        check("train", &[]);
        check("train --device flex", &[]);
        check("devices", &[]);
    }

    #[test]
    fn a_device_takes_its_own() {
        check("train --device wgpu", &["wgpu"]);
        check("train --device=vulkan --run a", &["vulkan"]);
        check("eval-front --run a --device cuda", &["cuda"]);
        check("train --device cuda:1", &["cuda"]);
        check("train --device=cuda:0", &["cuda"]);
        check("train --device cuda,cuda:1", &["cuda"]);
    }

    #[test]
    fn a_bench_of_gpus_takes_cuda_unless_it_says_otherwise() {
        let of = |line: &str| -> Vec<&str> {
            let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            of_gpu_bench(&words).into_iter().collect()
        };
        assert_eq!(of("--steps 2"), ["cuda"]);
        assert_eq!(of("--device wgpu"), ["wgpu"]);
        assert_eq!(of("--device flex"), [""; 0]);
        assert_eq!(of("--help"), [""; 0]);
    }

    #[test]
    fn nothing_is_made_up() {
        check("train --device banana", &[]);
        check("train --device", &[]);
        check("train --device-memory cuda", &[]);
        check("generate --prompt cuda", &[]);
        check("generate -- --device cuda", &[]);
        check("", &[]);
    }

    #[cfg(unix)]
    #[test]
    fn words_that_are_no_text_are_passed_over() {
        use std::os::unix::ffi::OsStringExt;
        let words = [
            "train".into(),
            OsString::from_vec(vec![0xff]),
            "--device=wgpu".into(),
        ];
        assert_eq!(needed(&words).into_iter().collect::<Vec<_>>(), ["wgpu"]);
    }
}
