//! Products by NVIDIA's cuBLASLt, in order with what burn computes on the same GPU.
//!
//! burn has a thread for each GPU, and on it a manager of memory that turns handles into addresses; what is submitted to
//! that thread runs in the order of its callers. So a product is a task on it. burn's own CUDA stream is not to be had: the
//! product runs on another one, which waits for all work that the GPU has been given before, and for which all later work
//! waits.
//!
//! cuBLASLt is looked for where the system looks for libraries (`LD_LIBRARY_PATH`); without it, nothing here is used. Nothing
//! here may be called while work is recorded as a graph.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::fmt;
use std::io::{Write, stderr};
use std::ptr::{from_ref, null_mut};
use std::sync::{Arc, LazyLock, Mutex, Once, PoisonError};

use burn_backend::TensorMetadata;
use burn_cubecl::CubeDevice;
use burn_cubecl::cubecl::cuda::CudaRuntime;
use burn_cubecl::cubecl::device::DeviceId;
use burn_cubecl::cubecl::device_handle::DeviceHandle;
use burn_cubecl::cubecl::server::{BufferBinding, ServerStorage};
use burn_cubecl::tensor::CubeTensor;
use burn_tensor::DType;
use cubecl_environment::stream::StreamId;
use cubecl_runtime::runtime::Runtime;
use cudarc::cublaslt::{result as lt, sys as lt_sys};
use cudarc::driver::{DriverError, result as driver, sys as driver_sys};

type Server = <CudaRuntime as Runtime>::Server;

/// What NVIDIA advises for its newer GPUs.
const WORKSPACE: usize = 32 << 20;

/// Ways of computing that are remembered; a training sees new numbers of rows all the time.
const REMEMBERED: usize = 4096;

/// The first driver, as CUDA counts them, that orders the work of a whole GPU by events.
const ORDERS_BY_EVENTS: i32 = 12_050;

/// out = a b, or c + a b with c given, which may be out itself; c and out of 32 bits, a and b of one type, all with the shapes
/// that fit. False, and nothing done, where they do not lie on one NVIDIA GPU, or cuBLASLt is not there or has no way for it.
pub(crate) fn multiply(
    a: &CubeTensor,
    b: &CubeTensor,
    c: Option<&CubeTensor>,
    out: &CubeTensor,
) -> bool {
    let CubeDevice::Cuda(_) = out.device else {
        return false;
    };
    // The manager of memory would look for a buffer of another GPU among its own.
    if [Some(a), Some(b), c]
        .into_iter()
        .flatten()
        .any(|x| x.device != out.device)
    {
        return false;
    }
    let Some(problem) = Problem::of(a, b, c, out) else {
        return false;
    };
    let device = out.client.service_id().device;
    let Some(plan) = plan(device, problem) else {
        return false;
    };
    let binding = |x: &CubeTensor| x.handle.clone().binding();
    let buffers = Buffers {
        a: binding(a),
        b: binding(b),
        c: c.map(binding),
        out: binding(out),
    };
    DeviceHandle::<Server>::new(device).submit(move |server: &mut Server| {
        // Nobody waits for this. Who reads what depends on it finds NaN, or the error of an operation before it.
        if let Err(error) = run(server, &plan, buffers) {
            writeln!(stderr(), "error: a product on the GPU failed: {error}").ok();
        }
    });
    true
}

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
struct Problem {
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
    fn of(
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
struct Plan {
    operation: lt_sys::cublasLtMatmulDesc_t,
    first: lt_sys::cublasLtMatrixLayout_t,
    second: lt_sys::cublasLtMatrixLayout_t,
    onto: lt_sys::cublasLtMatrixLayout_t,
    out: lt_sys::cublasLtMatrixLayout_t,
    algorithm: lt_sys::cublasLtMatmulAlgo_t,
    adds: bool,
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
    fn new(problem: &Problem, handle: lt_sys::cublasLtHandle_t) -> Result<Self, Failure> {
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

#[derive(Debug)]
enum Failure {
    /// There is no way to compute this.
    Way,
    Driver(DriverError),
    Library(lt::CublasError),
    /// A buffer that has no address.
    Buffer(String),
}

impl From<DriverError> for Failure {
    fn from(error: DriverError) -> Self {
        Self::Driver(error)
    }
}

impl From<lt::CublasError> for Failure {
    fn from(error: lt::CublasError) -> Self {
        Self::Library(error)
    }
}

impl Failure {
    /// Whether it would be the same another time.
    fn is_for_good(&self) -> bool {
        let unsupported = lt_sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED;
        match self {
            Self::Way => true,
            Self::Library(error) => error.0 == unsupported,
            Self::Driver(_) | Self::Buffer(_) => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Way => f.write_str("cuBLASLt knows no way to compute it"),
            Self::Driver(error) => write!(f, "the driver says {error:?}"),
            Self::Library(error) => write!(f, "cuBLASLt says {error:?}"),
            Self::Buffer(error) => f.write_str(error),
        }
    }
}

/// The way for a problem, found once.
fn plan(device: DeviceId, problem: Problem) -> Option<Arc<Plan>> {
    // SAFETY: loading a library of NVIDIA's runs nothing but its own initialisation.
    static IS_THERE: LazyLock<bool> = LazyLock::new(|| unsafe { lt_sys::is_culib_present() });
    type Plans = HashMap<(DeviceId, Problem), Option<Arc<Plan>>>;
    static PLANS: LazyLock<Mutex<Plans>> = LazyLock::new(Mutex::default);
    if !*IS_THERE {
        return None;
    }
    let known = || PLANS.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (device, problem);
    if let Some(plan) = known().get(&key) {
        return plan.clone();
    }
    let found = DeviceHandle::<Server>::new(device).submit_blocking(move |_: &mut Server| {
        with_library(device.index_id, |library| {
            Plan::new(&problem, library.handle).map(Arc::new)
        })
    });
    let plan = match found {
        Ok(Ok(plan)) => Some(plan),
        Ok(Err(error)) if error.is_for_good() => None,
        // It may be another time: memory was short, say.
        Ok(Err(error)) => {
            warn(&error.to_string());
            return None;
        }
        Err(error) => {
            warn(&format!("{error:?}"));
            return None;
        }
    };
    let mut known = known();
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known.insert(key, plan.clone());
    plan
}

/// Once: a training has thousands of products.
fn warn(error: &str) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        let said = "warning: cuBLASLt is there and cannot be used, so products take longer";
        writeln!(stderr(), "{said}: {error}").ok();
    });
}

struct Buffers {
    a: BufferBinding,
    b: BufferBinding,
    c: Option<BufferBinding>,
    out: BufferBinding,
}

/// On the GPU's own thread, for which the server sets the context that addresses are of.
fn run(server: &mut Server, plan: &Plan, buffers: Buffers) -> Result<(), Failure> {
    // A task runs as if on its caller's stream, and so a buffer of another one is waited for.
    let stream = StreamId::current();
    let mut resource = |binding| {
        let resource = server.get_resource(binding, stream);
        resource.map_err(|error| Failure::Buffer(format!("{error:?}")))
    };
    let (bytes, gpu) = (
        buffers.out.size_in_used(),
        buffers.out.service.device.index_id,
    );
    let out = resource(buffers.out)?;
    let address = out.resource().ptr;
    let computed = (|| {
        let (a, b) = (resource(buffers.a)?, resource(buffers.b)?);
        let c = match buffers.c {
            Some(c) => Some(resource(c)?),
            None => None,
        };
        let onto = c.as_ref().map_or(address, |c| c.resource().ptr);
        with_library(gpu, |library| {
            library.multiply(plan, [a.resource().ptr, b.resource().ptr, onto, address])
        })
    })();
    if computed.is_err() {
        // Whatever of it runs has to end first, and nothing may come before NaN stands there.
        let filled = driver::ctx::synchronize()
            // SAFETY: the buffer has so many bytes, and is held by `out`.
            .and_then(|()| unsafe { driver::memset_d8_sync(address, 0xff, bytes as usize) })
            .and_then(|()| driver::ctx::synchronize());
        // Where not even this can be done, the GPU is lost, and every read of it fails.
        filled.ok();
    }
    computed
}

thread_local! {
    /// Of the GPU whose thread this is.
    static LIBRARY: RefCell<Option<Library>> = const { RefCell::new(None) };
}

fn with_library<T>(
    gpu: u16,
    work: impl FnOnce(&Library) -> Result<T, Failure>,
) -> Result<T, Failure> {
    LIBRARY.with_borrow_mut(|library| {
        if library.is_none() {
            *library = Some(Library::new(gpu)?);
        }
        work(library.as_ref().expect("it was just made"))
    })
}

/// cuBLASLt on one GPU. It is never freed.
struct Library {
    handle: lt_sys::cublasLtHandle_t,
    stream: driver_sys::CUstream,
    workspace: driver_sys::CUdeviceptr,
    order: Order,
}

/// How a product waits for what was before, and what comes later for it.
enum Order {
    Events {
        context: driver_sys::CUcontext,
        before: driver_sys::CUevent,
        after: driver_sys::CUevent,
    },
    /// The thread itself waits: for drivers that do not know events of a whole GPU.
    Wait,
}

impl Library {
    fn new(gpu: u16) -> Result<Self, Failure> {
        let device = driver::device::get(gpu.into())?;
        // SAFETY: the GPU was just found; its primary context is the one that burn uses, and stays for both.
        let context = unsafe { driver::primary_ctx::retain(device) }?;
        // SAFETY: as above.
        unsafe { driver::ctx::set_current(context) }?;
        // SAFETY: nothing reads it but what cuBLASLt has written there. First, for it is what may be too much.
        let workspace = unsafe { driver::malloc_sync(WORKSPACE) }?;
        let mut version = 0;
        // SAFETY: the driver writes one number.
        unsafe { driver_sys::cuDriverGetVersion(&mut version) }.result()?;
        let order = if version >= ORDERS_BY_EVENTS {
            let event =
                || driver::event::create(driver_sys::CUevent_flags::CU_EVENT_DISABLE_TIMING);
            Order::Events {
                context,
                before: event()?,
                after: event()?,
            }
        } else {
            Order::Wait
        };
        Ok(Self {
            handle: lt::create_handle()?,
            stream: driver::stream::create(driver::stream::StreamKind::NonBlocking)?,
            workspace,
            order,
        })
    }

    /// By the addresses of a, b, c and out.
    fn multiply(&self, plan: &Plan, [a, b, c, out]: [u64; 4]) -> Result<(), Failure> {
        let beta = if plan.adds { 1.0_f32 } else { 0.0 };
        let alpha = 1.0_f32;
        let address = |value: u64| value as *mut c_void;
        // SAFETY: the addresses come from the manager of the GPU's memory for buffers that the caller holds, with the
        // shapes and strides that the plan was made for. The product begins after all work given before, among which is
        // what wrote them, and all later work, among which is whatever uses their memory again, waits for its end. The
        // workspace is this stream's alone, whose products come one after the other.
        unsafe {
            match self.order {
                Order::Events {
                    context, before, ..
                } => {
                    driver_sys::cuCtxRecordEvent(context, before).result()?;
                    driver_sys::cuStreamWaitEvent(self.stream, before, 0).result()?;
                }
                Order::Wait => driver::ctx::synchronize()?,
            }
            lt::matmul(
                self.handle,
                plan.operation,
                from_ref(&alpha).cast(),
                from_ref(&beta).cast(),
                address(b),
                plan.first,
                address(a),
                plan.second,
                address(c),
                plan.onto,
                address(out),
                plan.out,
                &plan.algorithm,
                address(self.workspace),
                WORKSPACE,
                self.stream.cast(),
            )?;
            match self.order {
                Order::Events { context, after, .. } => {
                    driver::event::record(after, self.stream)?;
                    driver_sys::cuCtxWaitEvent(context, after).result()?;
                }
                Order::Wait => driver::stream::synchronize(self.stream)?,
            }
        }
        Ok(())
    }
}
