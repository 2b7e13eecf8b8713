//! The commands. Only `output` prints; everything else returns text.

use std::process::ExitCode;

use clap::Parser;

mod args;
mod audit;
pub mod banner;
mod ca;
mod called;
mod cert;
mod check;
mod control;
mod explain;
mod expose;
mod health;
mod manual;
mod onboard;
pub mod output;
pub mod password;
mod past;
pub mod qr;
mod run;
mod serve;
mod share;
mod status;
pub mod table;
mod token;
mod unlock;
mod upstream_cert;
mod user;

use args::{Cli, Command};
use output::Output;

/// The exit codes of contract 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Done.
    Done = 0,
    /// Failed at run time.
    Failed = 1,
    /// Wrong usage.
    Usage = 2,
    /// The configuration, or one of its tests, is wrong.
    Config = 3,
    /// An exposure was found.
    Exposed = 4,
    /// The address is in use or not permitted.
    Address = 5,
}

/// A command that did not do what was asked: the code, and what to say about it.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// For the person who reads it at night.
    pub message: String,
}

impl Failure {
    /// A failure with its message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// A failure at run time.
    pub fn failed(error: impl std::fmt::Display) -> Self {
        Self::new(Code::Failed, error.to_string())
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::detect(cli.no_color, cli.quiet);
    let done = match cli.command {
        Command::Demo(options) => expose::demo(&output, &options),
        Command::Expose { target, options } => expose::expose(&output, &target, &options),
        Command::Run(run) => {
            match run::run(&Output::beside(cli.no_color, cli.quiet), &run, cli.verbose) {
                Ok(code) => return ExitCode::from(code),
                Err(failure) => Err(failure),
            }
        }
        Command::Serve { file, take_over } => serve::serve(&output, &file, take_over),
        Command::Check { file, json } => check::check(&output, &file, json),
        Command::Audit { file, json } => audit::audit(&output, &file, json),
        Command::Firewall { file } => audit::firewall(&output, &file),
        Command::Explain(ask) => explain::explain(&output, &ask),
        Command::Token { act } => token::token(&output, act),
        Command::User { act } => user::user(&output, act),
        Command::HashPassword => user::hash_password(&output),
        Command::Ca { act } => ca::ca(&output, act),
        Command::Cert { act } => cert::cert(&output, act),
        Command::Status { which, watch, json } => status::status(&output, &which, json, watch),
        Command::Health { file, alive } => health::health(&output, &file, alive),
        Command::Onboard(asked) => onboard::onboard(&output, &asked),
        Command::Reload { which, json } => control::reload(&output, &which, json),
        Command::Share(asked) => share::share(&output, &asked),
        Command::UpstreamCert { act } => upstream_cert::upstream_cert(&output, &act),
        Command::Unlock(asked) => unlock::unlock(&output, &asked),
        Command::Schema => manual::schema(&output),
        Command::Completions { shell } => manual::completions(&output, shell),
        Command::Man { dir } => manual::man(&output, dir.as_deref()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                output.warn(&failure.message);
            }
            ExitCode::from(failure.code as u8)
        }
    }
}
