//! What cuBLASLt is told: how matrices lie, and the way of computing a product that it gives for that.

use std::ptr::{from_ref, null_mut};

use burn_backend::TensorMetadata;
use burn_cubecl::tensor::CubeTensor;
use burn_tensor::DType;
use cudarc::cublaslt::{result as lt, sys as lt_sys};

use super::failure::Failure;

/// Bytes that a way may use beside the operands: what NVIDIA advises for its newer GPUs.
pub const WORKSPACE: usize = 32 << 20;

/// How a row-major matrix `[m, n]` lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Lying {
    /// Column by column.
    turned: bool,
    /// Elements from one row, or column, to the next.
    leading: usize,
    /// Elements from one matrix to the next.
    step: usize,
    /// What the address is a multiple of, in bytes.
    alignment: u32,
}

impl Lying {
    /// `None` where neither rows nor columns lie in one run.
    fn of(x: &CubeTensor) -> Option<Self> {
        if x.meta.is_tiled() {
            return None;
        }
        let (shape, strides) = (x.shape(), x.meta.strides());
        let rank = shape.num_dims();
        let ([rows, columns], [down, right]) = (
            [shape[rank - 2], shape[rank - 1]],
            [strides[rank - 2], strides[rank - 1]],
        );
        let step = if rank == 3 { strides[0] } else { 0 };
        let offset = x.handle.offset_start.unwrap_or(0);
        let base = x.client.properties().memory.alignment.clamp(1, 256);
        let lying = |turned, leading| Self {
            turned,
            leading,
            step,
            alignment: 1 << offset.trailing_zeros().min(base.trailing_zeros()),
        };
        // A stride means something only along an axis of more than one element.
        if (right == 1 || columns == 1) && (down >= columns || rows == 1) {
            let leading = if rows == 1 { columns } else { down };
            Some(lying(false, leading))
        } else if (down == 1 || rows == 1) && (right >= rows || columns == 1) {
            let leading = if columns == 1 { rows } else { right };
            Some(lying(true, leading))
        } else {
            None
        }
    }
}

/// All that the choice of a way depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Problem {
    m: usize,
    k: usize,
    n: usize,
    batch: usize,
    of: DType,
    a: Lying,
    b: Lying,
    c: Option<Lying>,
    out: Lying,
}

impl Problem {
    /// `None` where an operand, or the product, does not lie in a way that cuBLASLt knows.
    pub fn of(
        a: &CubeTensor,
        b: &CubeTensor,
        c: Option<&CubeTensor>,
        out: &CubeTensor,
    ) -> Option<Self> {
        let (of_a, of_b) = (a.shape(), b.shape());
        let rank = of_a.num_dims();
        let whole = |lying: Lying| (!lying.turned).then_some(lying);
        let c = match c {
            Some(c) => Some(whole(Lying::of(c)?)?),
            None => None,
        };
        Some(Self {
            m: of_a[rank - 2],
            k: of_a[rank - 1],
            n: of_b[rank - 1],
            batch: if rank == 3 { of_a[0] } else { 1 },
            of: a.dtype,
            a: Lying::of(a)?,
            b: Lying::of(b)?,
            c,
            out: whole(Lying::of(out)?)?,
        })
    }
}

/// A way of computing a problem.
pub struct Plan {
    pub operation: lt_sys::cublasLtMatmulDesc_t,
    pub first: lt_sys::cublasLtMatrixLayout_t,
    pub second: lt_sys::cublasLtMatrixLayout_t,
    pub onto: lt_sys::cublasLtMatrixLayout_t,
    pub out: lt_sys::cublasLtMatrixLayout_t,
    pub algorithm: lt_sys::cublasLtMatmulAlgo_t,
    pub adds: bool,
}

// SAFETY: the descriptors are plain records in the host's memory, which belong to this plan alone; after it is made, they are
// only read, until whichever thread has the plan last frees them. cuBLASLt may be called from any thread.
unsafe impl Send for Plan {}
// SAFETY: as above.
unsafe impl Sync for Plan {}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: each was made once, by `Plan::new`, and nobody uses them after the plan.
        unsafe {
            if !self.operation.is_null() {
                lt::destroy_matmul_desc(self.operation).ok();
            }
            for layout in [self.first, self.second, self.onto, self.out] {
                if !layout.is_null() {
                    lt::destroy_matrix_layout(layout).ok();
                }
            }
        }
    }
}

impl Plan {
    /// cuBLASLt counts by columns: a row-major matrix is its transpose there. So outᵀ = bᵀ aᵀ, b comes first.
    pub fn new(problem: &Problem, handle: lt_sys::cublasLtHandle_t) -> Result<Self, Failure> {
        let of = match problem.of {
            DType::F32 => lt_sys::cudaDataType::CUDA_R_32F,
            DType::BF16 => lt_sys::cudaDataType::CUDA_R_16BF,
            DType::F16 => lt_sys::cudaDataType::CUDA_R_16F,
            _ => return Err(Failure::Way),
        };
        let single = lt_sys::cudaDataType::CUDA_R_32F;
        let Problem { m, k, n, .. } = *problem;
        let mut plan = Self {
            operation: null_mut(),
            first: null_mut(),
            second: null_mut(),
            onto: null_mut(),
            out: null_mut(),
            algorithm: lt_sys::cublasLtMatmulAlgo_t { data: [0; 8] },
            adds: problem.c.is_some(),
        };
        let compute = lt_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        plan.operation = lt::create_matmul_desc(compute, single)?;
        plan.first = layout(of, [k, n], problem.b, problem.batch)?;
        plan.second = layout(of, [m, k], problem.a, problem.batch)?;
        let onto = problem.c.unwrap_or(problem.out);
        plan.onto = layout(single, [m, n], onto, problem.batch)?;
        plan.out = layout(single, [m, n], problem.out, problem.batch)?;
        use lt_sys::cublasLtMatmulDescAttributes_t as Of;
        let turns = [
            (Of::CUBLASLT_MATMUL_DESC_TRANSA, problem.b.turned),
            (Of::CUBLASLT_MATMUL_DESC_TRANSB, problem.a.turned),
        ];
        for (attribute, turned) in turns {
            let turned = i32::from(turned);
            // SAFETY: the descriptor was just made, and both attributes are of 32 bits.
            unsafe {
                let value = from_ref(&turned).cast();
                lt::set_matmul_desc_attribute(plan.operation, attribute, value, size_of::<i32>())?;
            }
        }
        let preference = Preference(lt::create_matmul_pref()?);
        use lt_sys::cublasLtMatmulPreferenceAttributes_t as Wish;
        let alignments = [
            (Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, problem.b),
            (Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, problem.a),
            (Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, onto),
            (
                Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
                problem.out,
            ),
        ];
        // SAFETY: all descriptors were just made; the attributes have 32 bits, that of the workspace as many as a usize.
        let found = unsafe {
            for (attribute, lying) in alignments {
                let value = from_ref(&lying.alignment).cast();
                lt::set_matmul_pref_attribute(preference.0, attribute, value, size_of::<u32>())?;
            }
            let workspace = WORKSPACE;
            lt::set_matmul_pref_attribute(
                preference.0,
                Wish::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                from_ref(&workspace).cast(),
                size_of::<usize>(),
            )?;
            lt::get_matmul_algo_heuristic(
                handle,
                plan.operation,
                plan.first,
                plan.second,
                plan.onto,
                plan.out,
                preference.0,
            )?
        };
        plan.algorithm = found.algo;
        Ok(plan)
    }
}

struct Preference(lt_sys::cublasLtMatmulPreference_t);

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: it was made once, and nobody uses it afterwards.
        unsafe { lt::destroy_matmul_pref(self.0) }.ok();
    }
}

/// Of the transpose of a row-major matrix `[rows, columns]`.
fn layout(
    of: lt_sys::cudaDataType,
    [rows, columns]: [usize; 2],
    lying: Lying,
    batch: usize,
) -> Result<lt_sys::cublasLtMatrixLayout_t, Failure> {
    let [down, right] = if lying.turned {
        [rows, columns]
    } else {
        [columns, rows]
    };
    let layout = lt::create_matrix_layout(of, down as u64, right as u64, lying.leading as i64)?;
    if batch > 1 {
        use lt_sys::cublasLtMatrixLayoutAttribute_t as Of;
        let (count, step) = (batch as i32, lying.step as i64);
        // SAFETY: the layout was just made; the attributes have 32 and 64 bits.
        let set = unsafe {
            let (count, step) = (from_ref(&count).cast(), from_ref(&step).cast());
            let by = Of::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT;
            lt::set_matrix_layout_attribute(layout, by, count, size_of::<i32>()).and_then(|()| {
                let by = Of::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET;
                lt::set_matrix_layout_attribute(layout, by, step, size_of::<i64>())
            })
        };
        if let Err(error) = set {
            // SAFETY: it was just made, and nobody else has it.
            unsafe { lt::destroy_matrix_layout(layout) }.ok();
            return Err(error.into());
        }
    }
    Ok(layout)
}
