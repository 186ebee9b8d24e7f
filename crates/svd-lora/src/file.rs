//! Factor sets in safetensors files: `NAME.u`, `NAME.v`, `NAME.sigma`, `NAME.s`, all f32.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn_tensor::{Device, Tensor, TensorData};
use panacea_files::{read, write_file};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::{AdapterError, FactorSet, Factors, Part};

/// The elements of a tensor, row by row.
pub(crate) fn to_host(tensor: Tensor<2>) -> Vec<f32> {
    tensor
        .into_data()
        .convert::<f32>()
        .try_to_vec()
        .expect("the data was just converted to f32")
}

impl FactorSet {
    /// Writes the set as one safetensors file.
    pub fn save(&self, path: &Path) -> Result<(), AdapterError> {
        let mut buffers: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
        for (name, factors) in &self.0 {
            for part in Part::ALL {
                let tensor = factors.part(part).clone();
                let [rows, columns] = tensor.dims();
                let shape = if part.is_singular() {
                    vec![columns]
                } else {
                    vec![rows, columns]
                };
                let bytes = to_host(tensor)
                    .iter()
                    .flat_map(|x| x.to_le_bytes())
                    .collect();
                buffers.insert(format!("{name}.{}", part.name()), (shape, bytes));
            }
        }
        let views = buffers.iter().map(|(name, (shape, bytes))| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes)
                .expect("shape and bytes come from the same tensor");
            (name.clone(), view)
        });
        let malformed = |error: safetensors::SafeTensorError| AdapterError::Malformed {
            path: path.to_owned(),
            problem: error.to_string(),
        };
        let bytes = safetensors::serialize(views, None).map_err(malformed)?;
        Ok(write_file(path, &bytes)?)
    }

    /// Reads what [`FactorSet::save`] wrote.
    pub fn load(path: &Path, device: &Device) -> Result<Self, AdapterError> {
        let malformed = |problem: String| AdapterError::Malformed {
            path: path.to_owned(),
            problem,
        };
        let bytes = read(path)?;
        let tensors = SafeTensors::deserialize(&bytes)
            .map_err(|error| malformed(format!("not a whole safetensors file: {error}")))?;

        let mut names = BTreeSet::new();
        for name in tensors.names() {
            let known = name
                .rsplit_once('.')
                .filter(|(_, part)| Part::ALL.iter().any(|p| p.name() == *part));
            let (module, _) = known.ok_or_else(|| {
                malformed(format!(
                    "tensor {name}: expected a name that ends in .u, .v, .sigma or .s"
                ))
            })?;
            names.insert(module.to_owned());
        }

        let tensor = |module: &str, part: Part| -> Result<Tensor<2>, AdapterError> {
            let name = format!("{module}.{}", part.name());
            let view = tensors
                .tensor(&name)
                .map_err(|_| malformed(format!("tensor {name} is missing")))?;
            if view.dtype() != Dtype::F32 {
                return Err(malformed(format!(
                    "tensor {name}: dtype {:?}, expected F32",
                    view.dtype()
                )));
            }
            let shape = match (part.is_singular(), view.shape()) {
                (true, [columns]) => [1, *columns],
                (false, [rows, columns]) => [*rows, *columns],
                (_, found) => {
                    let expected = if part.is_singular() { 1 } else { 2 };
                    return Err(malformed(format!(
                        "tensor {name}: shape {found:?}, expected {expected} axes"
                    )));
                }
            };
            let values: Vec<f32> = view
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect();
            if let Some(found) = values.iter().find(|value| !value.is_finite()) {
                return Err(malformed(format!(
                    "tensor {name}: found {found}, expected finite numbers; the training diverged, or the file is damaged"
                )));
            }
            Ok(Tensor::from_data(TensorData::new(values, shape), device))
        };
        let mut set = BTreeMap::new();
        for module in names {
            let factors = Factors {
                u: tensor(&module, Part::U)?,
                v: tensor(&module, Part::V)?,
                sigma: tensor(&module, Part::Sigma)?,
                s: tensor(&module, Part::S)?,
            };
            set.insert(module, factors);
        }
        Ok(Self(set))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Adapters, SvdLoraConfig};

    fn adapters(device: &Device) -> Adapters {
        let config = SvdLoraConfig {
            base_model: "tiny".into(),
            base_fingerprint: String::new(),
            rank: 2,
            objectives: vec!["a".into(), "b".into(), "c".into()],
            alpha: 4.0,
            target_modules: vec!["q_proj".into()],
        };
        Adapters::init(
            config,
            &[("layers.0.q_proj".into(), [6, 3])],
            0.02,
            7,
            device,
        )
    }

    #[test]
    fn an_adapter_survives_its_file() {
        let device = panacea_devices::of_environment();
        let dir = tempfile::tempdir().unwrap();
        let written = adapters(&device);
        written.save(dir.path()).unwrap();
        let read = Adapters::load(dir.path(), &device).unwrap();
        assert_eq!(written.config, read.config);
        for part in Part::ALL {
            let values = |a: &Adapters| to_host(a.factors.0["layers.0.q_proj"].part(part).clone());
            assert_eq!(values(&written), values(&read), "{}", part.name());
        }
        read.check(&[("layers.0.q_proj".into(), [6, 3])]).unwrap();
    }

    #[test]
    fn every_misfit_is_named() {
        let adapters = adapters(&panacea_devices::of_environment());
        let shapes = [
            ("layers.0.q_proj".to_owned(), [6, 4]),
            ("layers.1.q_proj".to_owned(), [6, 3]),
        ];
        let message = adapters.check(&shapes).unwrap_err().to_string();
        assert!(
            message.contains("layers.0.q_proj.v: shape [3, 5], expected [4, 5]"),
            "{message}"
        );
        assert!(message.contains("layers.1.q_proj: missing"), "{message}");
    }

    #[test]
    fn a_rank_that_no_adapter_has_is_an_error() {
        let device = panacea_devices::of_environment();
        let dir = tempfile::tempdir().unwrap();
        let written = adapters(&device);
        let with_rank = |rank: usize| {
            written.save(dir.path()).unwrap();
            let config = SvdLoraConfig {
                rank,
                ..written.config.clone()
            };
            let json = serde_json::to_vec(&config).unwrap();
            std::fs::write(dir.path().join(crate::ADAPTER_CONFIG_FILE), json).unwrap();
            let read = Adapters::load(dir.path(), &device)?;
            read.check(&[("layers.0.q_proj".into(), [6, 3])])
        };
        with_rank(2).unwrap();
        let message = with_rank(0).unwrap_err().to_string();
        assert!(message.contains("rank: found 0"), "{message}");
        let message = with_rank(usize::MAX).unwrap_err().to_string();
        assert!(
            message.contains("layers.0.q_proj.u: shape [6, 5]"),
            "{message}"
        );
    }

    #[test]
    fn a_truncated_file_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        adapters(&panacea_devices::of_environment())
            .save(dir.path())
            .unwrap();
        let path = dir.path().join(crate::ADAPTER_FILE);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
        let message = Adapters::load(dir.path(), &panacea_devices::of_environment())
            .unwrap_err()
            .to_string();
        assert!(message.contains("adapter.safetensors"), "{message}");
    }

    #[test]
    fn a_pointer_of_git_lfs_is_called_so() {
        let pointer =
            "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 538090408\n";
        for name in [crate::ADAPTER_FILE, crate::ADAPTER_CONFIG_FILE] {
            let dir = tempfile::tempdir().unwrap();
            let device = panacea_devices::of_environment();
            adapters(&device).save(dir.path()).unwrap();
            std::fs::write(dir.path().join(name), pointer).unwrap();
            let error = Adapters::load(dir.path(), &device).unwrap_err().to_string();
            assert!(
                error.contains(name) && error.contains("a Git LFS pointer"),
                "{error}"
            );
        }
    }
}
