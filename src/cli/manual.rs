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

#[cfg(test)]
mod tests {
    use clap::Command;

    use super::*;

    /// Every command that does something, in the order of the help.
    fn leaves(command: &Command, path: &str, rows: &mut String) {
        let own = command.get_subcommands().filter(|c| c.get_name() != "help");
        let own: Vec<&Command> = own.collect();
        let is_optional = !command.is_subcommand_required_set();
        if (own.is_empty() || is_optional) && !path.is_empty() {
            let words = command.get_positionals().map(|word| {
                let name = word.get_value_names().unwrap_or_default().join(" ");
                match (word.is_last_set(), word.is_required_set()) {
                    (true, _) => format!(" -- {name}…"),
                    (false, true) => format!(" {name}"),
                    (false, false) => format!(" [{name}]"),
                }
            });
            let options = command.get_arguments();
            let options = options.filter(|o| !o.is_positional() && !o.is_global_set());
            let options: Vec<String> = options
                .filter_map(|option| option.get_long())
                .filter(|name| !["help", "version"].contains(name))
                .map(|name| format!("`--{name}`"))
                .collect();
            let about = command.get_about().map(ToString::to_string);
            *rows += &format!(
                "| `{path}{}` | {} | {} |\n",
                words.collect::<String>(),
                about.unwrap_or_default(),
                options.join(" ")
            );
        }
        for one in own {
            let path = format!("{path} {}", one.get_name());
            leaves(one, path.trim_start(), rows);
        }
    }

    /// With `UPDATE=1` the table is written instead.
    #[test]
    fn the_table_of_the_documentation_has_every_command_and_option() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
        let docs = std::fs::read_to_string(path).unwrap();
        let (begin, end) = (
            "<!-- commands: made from the source -->\n",
            "<!-- end of commands -->",
        );
        let (before, rest) = docs.split_once(begin).expect("a place for the table");
        let (found, after) = rest.split_once(end).expect("its end");
        let mut table = "| command | what it does | options |\n| --- | --- | --- |\n".to_owned();
        let mut command = Cli::command();
        command.build();
        leaves(&command, "", &mut table);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, format!("{before}{begin}{table}{end}{after}")).unwrap();
            return;
        }
        assert_eq!(
            found, table,
            "run UPDATE=1 cargo test the_table_of_the_documentation"
        );
    }
}
