//! `tideover config`: what a file means, before a service stands or falls with it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use clap::Subcommand;
use tideover::config::{Config, ConfigBuilder};

use super::Failure;
use super::args::File;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Say what is wrong with a file, one line each: errors, then the exit code is 2, and warnings.
    Check {
        /// The file, in TOML.
        file: PathBuf,
        /// Leave the environment out of it, which overrules files.
        #[arg(long)]
        no_environment: bool,
    },
    /// Show every option, its value, and where that comes from. Passwords are masked.
    Show {
        /// The file, in TOML; without one, what the environment says.
        file: Option<PathBuf>,
        /// Leave the environment out of it, which overrules files.
        #[arg(long)]
        no_environment: bool,
    },
}

/// Does it. What is wrong with a configuration is the answer of `check`, and a failure of `show`.
pub(super) fn run(command: ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check { file, no_environment } => {
            let looked = File::read(&file)?.look(sources(no_environment));
            for warning in &looked.warnings {
                print(&format!("warning: {warning}\n"));
            }
            looked.config?;
            if looked.warnings.is_empty() {
                print(&format!("{}: nothing is wrong\n", file.display()));
            }
            Ok(())
        }
        ConfigCommand::Show { file, no_environment } => {
            let sources = sources(no_environment);
            let config = match file {
                Some(file) => File::read(&file)?.look(sources).config?,
                None => sources.read()?,
            };
            print(&table(&config));
            for warning in config.warnings() {
                eprintln!("warning: {warning}");
            }
            Ok(())
        }
    }
}

fn sources(no_environment: bool) -> ConfigBuilder {
    if no_environment { Config::builder() } else { Config::builder().environment() }
}

fn table(config: &Config) -> String {
    let heading = ["option".to_owned(), "value".to_owned(), "from".to_owned()];
    let rows = config.values().map(|value| [value.option.to_owned(), value.value, value.origin.to_string()]);
    let rows: Vec<[String; 3]> = [heading].into_iter().chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let (option_width, value_width) = (width(0), width(1));
    rows.iter().fold(String::new(), |mut text, [option, value, origin]| {
        let _infallible = writeln!(text, "{option:option_width$}  {value:value_width$}  {origin}");
        text
    })
}

/// Whoever reads the output may have enough of it before the end.
fn print(text: &str) {
    let _gone = std::io::stdout().lock().write_all(text.as_bytes());
}
