//! placeholder
#[derive(clap::Args)]
pub struct SampleArgs {}
pub fn run(_: SampleArgs) -> recurra::Result<std::process::ExitCode> {
    Ok(std::process::ExitCode::SUCCESS)
}
