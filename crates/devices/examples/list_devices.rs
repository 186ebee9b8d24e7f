//! The devices that this build and this machine have.
//!
//!     cargo run -p panacea-devices --example list_devices

fn main() {
    for device in panacea_devices::available() {
        let hardware = match device.hardware {
            Ok(name) => name,
            Err(failure) => format!("does not answer: {failure}"),
        };
        let memory = device.memory.map_or_else(String::new, |memory| {
            format!(
                ", {} of {} MiB are free",
                memory.free >> 20,
                memory.total >> 20
            )
        });
        println!(
            "{}: {hardware}{memory}; {}",
            device.name,
            device.dtypes.join(", ")
        );
    }
}
