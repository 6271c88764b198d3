//! placeholder
#[derive(clap::Args)]
pub struct BenchArgs {}
pub fn run(_: BenchArgs) -> recurra::Result<std::process::ExitCode> {
    Ok(std::process::ExitCode::SUCCESS)
}
