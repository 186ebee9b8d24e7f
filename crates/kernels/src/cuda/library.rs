//! cuBLASLt on one GPU, and the order of its products among all other work there.

use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr::from_ref;

use cudarc::cublaslt::{result as lt, sys as lt_sys};
use cudarc::driver::{result as driver, sys as driver_sys};

use super::failure::Failure;
use super::plan::{Plan, WORKSPACE};

/// The first driver, as CUDA counts them, that orders the work of a whole GPU by events.
const ORDERS_BY_EVENTS: i32 = 12_050;

thread_local! {
    /// Of the GPU whose thread this is.
    static LIBRARY: RefCell<Option<Library>> = const { RefCell::new(None) };
}

/// On the GPU's own thread.
pub fn with_library<T>(
    gpu: u16,
    work: impl FnOnce(&Library) -> Result<T, Failure>,
) -> Result<T, Failure> {
    LIBRARY.with_borrow_mut(|library| match library {
        Some(library) => work(library),
        none => work(none.insert(Library::new(gpu)?)),
    })
}

/// cuBLASLt on one GPU. It is never freed.
pub struct Library {
    pub handle: lt_sys::cublasLtHandle_t,
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
    pub fn multiply(&self, plan: &Plan, [a, b, c, out]: [u64; 4]) -> Result<(), Failure> {
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
