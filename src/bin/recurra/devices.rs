//! placeholder
#[derive(clap::Args)]
pub struct DevicesArgs {}
pub fn run(_: DevicesArgs) -> recurra::Result<std::process::ExitCode> {
    Ok(std::process::ExitCode::SUCCESS)
}
