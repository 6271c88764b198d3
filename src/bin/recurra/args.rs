//! Options that several commands share.

use clap::Args;
use recurra::engine::Engine;
use recurra::{Error, Result};

/// Where to run.
#[derive(Args, Clone, Debug)]
pub struct DeviceArgs {
    /// auto (a real GPU, else the CPU), gpu, cpu, or a name that `recurra devices` lists
    #[arg(long, default_value = "auto", value_name = "auto|gpu|cpu|NAME")]
    pub device: String,
    /// Threads of the CPU engine [default: a thread a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

impl Default for DeviceArgs {
    fn default() -> Self {
        DeviceArgs { device: "auto".to_string(), threads: None }
    }
}

impl DeviceArgs {
    /// Opens the device.
    ///
    /// # Errors
    /// No such device.
    pub fn engine(&self) -> Result<Engine> {
        Engine::named(&self.device, self.threads.map(usize::from))
    }
}

/// A value as one line of JSON.
///
/// # Errors
/// None for the types that commands print.
pub fn json_line(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::Invalid(e.to_string()))
}

/// Prints a line to stdout. A reader that went away (`| head`) is no failure: the command ends.
pub fn print_line(line: &str) -> Result<()> {
    use std::io::Write;
    let written = writeln!(std::io::stdout(), "{line}");
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.map_err(|e| Error::io("standard output", "write", e)),
    }
}
