//! placeholder
#[derive(clap::Args)]
pub struct VerifyArgs {}
pub fn run(_: VerifyArgs) -> recurra::Result<std::process::ExitCode> {
    Ok(std::process::ExitCode::SUCCESS)
}
