//! placeholder
#[derive(clap::Args)]
pub struct TrainArgs {}
pub fn run(_: TrainArgs) -> recurra::Result<std::process::ExitCode> {
    Ok(std::process::ExitCode::SUCCESS)
}
