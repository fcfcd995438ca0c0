//! The program: a command line around the library. What it prints to stderr when something is wrong is one
//! line for each thing.

mod args;
mod config;
mod demo;
mod serve;

use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use self::args::{Args, Command};

/// Why the program ends before its work is done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The command line or the configuration asks for what cannot be. Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The world does not let it. Exit code 1.
    #[error("{0}")]
    World(String),
}

impl Failure {
    fn usage(option: &str, reason: impl std::fmt::Display) -> Self {
        Self::Usage(format!("{option}: {reason}"))
    }
}

pub(crate) fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            print!("{error}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{}", one_line(&error.to_string()));
            return ExitCode::from(2);
        }
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            for line in failure.to_string().lines() {
                eprintln!("error: {line}");
            }
            ExitCode::from(if matches!(failure, Failure::Usage(_)) { 2 } else { 1 })
        }
    }
}

fn run(args: Args) -> Result<(), Failure> {
    let quiet = matches!(args.command, Command::Demo(_));
    log_to_stderr(quiet);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::World(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(async {
        match args.command {
            Command::Serve(options) => serve::run(*options).await,
            Command::Config(command) => config::run(command),
            Command::Demo(options) => demo::run(options).await,
        }
    })
}

/// `RUST_LOG` chooses what is logged; by default what an operator wants to know, and nothing during the demo, which
/// has a progress line of its own.
fn log_to_stderr(quiet: bool) {
    let default = if quiet { "off" } else { "tideover=info" };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
}

/// The first paragraph of a message of the command line parser, which says what is wrong; the rest is usage.
fn one_line(message: &str) -> String {
    let paragraph = message.split("\n\n").next().unwrap_or(message);
    paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_on_the_command_line_is_one_line() {
        let Err(error) = Args::try_parse_from(["tideover", "serve", "--frobnicate"]) else { panic!("accepted") };
        let line = one_line(&error.to_string());
        assert!(line.contains("--frobnicate") && !line.contains('\n'), "{line}");
    }
}
