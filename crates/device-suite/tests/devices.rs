//! The checks on the device that `PANACEA_DEVICE` names; the CPU where it names none.

use libtest_mimic::Arguments;

fn main() {
    let device = panacea_devices::of_environment();
    panacea_device_suite::run(&Arguments::from_args(), &device).exit();
}
