//! Products by NVIDIA's cuBLASLt, in order with what burn computes on the same GPU.
//!
//! burn has a thread for each GPU, and on it a manager of memory that turns handles into addresses; what is submitted to
//! that thread runs in the order of its callers. So a product is a task on it. burn's own CUDA stream is not to be had: the
//! product runs on another one, which waits for all work that the GPU has been given before, and for which all later work
//! waits.
//!
//! cuBLASLt is looked for where the system looks for libraries (`LD_LIBRARY_PATH`); without it, nothing here is used. Nothing
//! here may be called while work is recorded as a graph.

mod failure;
mod library;
mod plan;

use std::collections::HashMap;
use std::io::{Write, stderr};
use std::sync::{Arc, LazyLock, Mutex, Once, PoisonError};

use burn_cubecl::CubeDevice;
use burn_cubecl::cubecl::cuda::CudaRuntime;
use burn_cubecl::cubecl::device::DeviceId;
use burn_cubecl::cubecl::device_handle::DeviceHandle;
use burn_cubecl::cubecl::server::{BufferBinding, ServerStorage};
use burn_cubecl::tensor::CubeTensor;
use cubecl_environment::stream::StreamId;
use cubecl_runtime::runtime::Runtime;
use cudarc::cublaslt::sys as lt_sys;
use cudarc::driver::result as driver;

use failure::Failure;
use library::with_library;
use plan::{Plan, Problem};

type Server = <CudaRuntime as Runtime>::Server;

/// Ways of computing that are remembered; a training sees new numbers of rows all the time.
const REMEMBERED: usize = 4096;

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
