//! Products of a training step's shapes on a GPU: as the kernels compute them, and by each of cubek's ways, which is what burn
//! multiplies with. One JSON line each: {"product", "shape", "way", "seconds", "value", "error"}; the value in units of 10¹²
//! operations a second, the error the largest of the first and the last row, relative to the largest element there.

use anyhow::Result;
use clap::{Parser, ValueEnum};

#[derive(Parser)]
struct Arguments {
    /// wgpu, vulkan, cuda or cuda:INDEX.
    #[arg(long, default_value = "cuda")]
    device: String,
    /// Type of the operands.
    #[arg(long, value_enum, default_value_t = Operands::Bf16)]
    operands: Operands,
    /// Rows of the activations.
    #[arg(long, default_value_t = 8192)]
    rows: usize,
    /// Width of the model.
    #[arg(long, default_value_t = 4096)]
    hidden: usize,
    /// Width of its MLP.
    #[arg(long, default_value_t = 14336)]
    intermediate: usize,
    /// The kernels' products alone.
    #[arg(long)]
    own: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Operands {
    F32,
    Bf16,
}

#[cfg(not(feature = "gpu"))]
fn main() -> Result<()> {
    let Arguments { device, .. } = Arguments::parse();
    anyhow::bail!("this build has no GPU in it: build with the feature that {device} needs")
}

#[cfg(feature = "gpu")]
fn main() -> Result<()> {
    gpu::main(&Arguments::parse())
}

#[cfg(feature = "gpu")]
mod gpu {
    use std::time::Instant;

    use anyhow::{Result, anyhow, bail};
    use burn_backend::cubecl::dtype_to_storage_type;
    use burn_cubecl::tensor::CubeTensor;
    use burn_dispatch::backends::Cube;
    use burn_tensor::{DType, Device, Distribution, Tensor};
    use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems};
    use cubek::matmul::multi_level::Strategy as Way;
    use cubek::matmul::multi_level::components::tile::TileMatmulKind;
    use cubek::matmul::multi_level::routines::batch::ordered_double_buffering::OrderedSelectionArgs;
    use cubek::matmul::routine::BlueprintStrategy::Inferred;
    use cubek::matmul::strategy::Strategy;
    use cubek::std::InputBinding;
    use panacea_devices::Precision;
    use panacea_kernels::matmul;

    use super::{Arguments, Operands};

    /// How often a product is timed.
    const REPEATS: u32 = 10;

    fn ways() -> Vec<(&'static str, Strategy)> {
        let ordered = OrderedSelectionArgs {
            partition_k: Some(2),
            row_count: Some(8),
            rows_per_plane: Some(2),
            tile_matmul: TileMatmulKind::Cmma,
        };
        vec![
            ("cubek, its own choice", Strategy::Auto),
            (
                "cubek, ordered double cmma",
                Way::OrderedDoubleCmma(Inferred(ordered)).into(),
            ),
            (
                "cubek, double cyclic cmma",
                Way::DoubleCyclicCmma(Default::default()).into(),
            ),
            (
                "cubek, simple strided mma",
                Way::SimpleStridedMma(Default::default()).into(),
            ),
            (
                "cubek, simple unit",
                Way::SimpleUnit(Default::default()).into(),
            ),
        ]
    }

    fn by(way: &Strategy, a: &Tensor<2>, b: &Tensor<2>) -> Result<Tensor<2>> {
        let ([m, _], [_, n]) = (a.dims(), b.dims());
        let out = Tensor::<2>::empty([m, n], (&a.device(), DType::F32));
        let open = |x: &Tensor<2>| {
            let opened = x.clone().try_into_primitive::<Cube>();
            opened.map_err(|error| anyhow!("{error:?}"))
        };
        let (a, b, target) = (open(a)?, open(b)?, open(&out)?);
        let of = |x: &CubeTensor| dtype_to_storage_type(x.dtype);
        let mut types = MatmulElems::from_globals(&MatmulGlobalElems {
            lhs: of(&a),
            rhs: of(&b),
            out: of(&target),
        });
        let client = target.client.clone();
        let input = |x: CubeTensor| {
            let of = of(&x);
            InputBinding::new(x.binding(), of)
        };
        let (a, b, target) = (input(a), input(b), target.binding());
        cubek::matmul::launch::launch_ref(way, &client, a, b, target, &mut types)
            .map_err(|error| anyhow!("{error:?}"))?;
        Ok(out)
    }

    struct Product {
        name: &'static str,
        shape: [usize; 3],
        a: Tensor<2>,
        b: Tensor<2>,
        /// The first row and the last.
        expected: Vec<f32>,
    }

    fn values(x: Tensor<2>) -> Result<Vec<f32>> {
        let data = x.into_data().convert::<f32>();
        data.try_to_vec().map_err(|error| anyhow!("{error:?}"))
    }

    impl Product {
        fn report(&self, way: &str, compute: impl Fn() -> Result<Tensor<2>>) -> Result<()> {
            let device = self.a.device();
            let mut out = compute()?;
            device.sync()?;
            let start = Instant::now();
            for _ in 0..REPEATS {
                out = compute()?;
            }
            device.sync()?;
            let seconds = start.elapsed().as_secs_f64() / f64::from(REPEATS);
            let [m, k, n] = self.shape;
            let ends = Tensor::cat(
                vec![out.clone().slice([0..1, 0..n]), out.slice([m - 1..m, 0..n])],
                0,
            );
            let largest = |values: &mut dyn Iterator<Item = f32>| {
                values.fold(0.0_f32, |most, x| {
                    if x.abs() > most || x.is_nan() {
                        x.abs()
                    } else {
                        most
                    }
                })
            };
            let found = values(ends)?;
            let mut apart = found.iter().zip(&self.expected).map(|(a, b)| a - b);
            let error = largest(&mut apart) / largest(&mut self.expected.iter().copied());
            let line = serde_json::json!({
                "product": self.name, "shape": self.shape, "way": way, "seconds": seconds,
                "value": 2.0 * (m * k * n) as f64 / seconds / 1e12, "error": error,
            });
            println!("{line}");
            Ok(())
        }
    }

    pub fn main(arguments: &Arguments) -> Result<()> {
        let device = panacea_devices::select(&arguments.device)?;
        if device == Device::flex() {
            bail!("flex is no GPU");
        }
        let dtype = match arguments.operands {
            Operands::F32 => Precision::F32,
            Operands::Bf16 => Precision::Bf16,
        };
        let dtype = dtype.on(&device)?;
        let random = |[rows, columns]: [usize; 2], lies: bool| {
            let shape = if lies {
                [columns, rows]
            } else {
                [rows, columns]
            };
            let x = Tensor::<2>::random(shape, Distribution::Uniform(-1.0, 1.0), &device);
            let x = x.cast(dtype);
            if lies { x.transpose() } else { x }
        };
        let Arguments {
            rows,
            hidden: h,
            intermediate: i,
            ..
        } = *arguments;
        // m, k, n, and which operand lies column by column.
        for (name, shape, lie) in [
            ("x W^T of attention", [rows, h, h], [false, true]),
            ("x W^T up", [rows, h, i], [false, true]),
            ("x W^T down", [rows, i, h], [false, true]),
            ("dy W up", [rows, i, h], [false, false]),
            ("x V", [rows, h, 10], [false, false]),
            ("p U^T", [rows, 10, h], [false, true]),
            ("dy^T p", [h, rows, 10], [true, false]),
        ] {
            let [m, k, n] = shape;
            let (a, b) = (random([m, k], lie[0]), random([k, n], lie[1]));
            let ends = vec![
                a.clone().slice([0..1, 0..k]),
                a.clone().slice([m - 1..m, 0..k]),
            ];
            let on_host = |x: Tensor<2>| {
                Tensor::<2>::from_data(x.into_data().convert::<f32>(), &Device::flex())
            };
            let expected = matmul(&on_host(Tensor::cat(ends, 0)), &on_host(b.clone()));
            let product = Product {
                name,
                shape,
                expected: values(expected)?,
                a,
                b,
            };
            product.report("panacea", || Ok(matmul(&product.a, &product.b)))?;
            if arguments.own {
                continue;
            }
            for (way, strategy) in ways() {
                // Not every way fits every shape and device.
                let compute = || by(&strategy, &product.a, &product.b);
                if let Err(error) = product.report(way, compute) {
                    eprintln!("{name}, {way}: {}", error.to_string().trim());
                }
            }
        }
        Ok(())
    }
}
