//! `loopgate schema`, `completions` and `man`: made from the same definitions that the program works by.

use std::path::Path;

use clap::CommandFactory;

use super::Failure;
use super::args::Cli;
use super::output::Output;
use crate::config;

pub(super) fn schema(output: &Output) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(&config::schema()).map_err(Failure::failed)?;
    output.print(&text).map_err(Failure::failed)
}

pub(super) fn completions(output: &Output, shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "loopgate", &mut text);
    output
        .print(String::from_utf8_lossy(&text).trim_end())
        .map_err(Failure::failed)
}

pub(super) fn man(output: &Output, dir: Option<&Path>) -> Result<(), Failure> {
    if let Some(dir) = dir {
        std::fs::create_dir_all(dir).map_err(Failure::failed)?;
        return clap_mangen::generate_to(Cli::command(), dir).map_err(Failure::failed);
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut text)
        .map_err(Failure::failed)?;
    output
        .print(String::from_utf8_lossy(&text).trim_end())
        .map_err(Failure::failed)
}
