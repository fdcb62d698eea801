//! `outrigger man [COMMAND]`: manual pages in roff, from the same definitions as the help.

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use serde_json::json;

use crate::base::error::{Command as Printed, Failure, Id, Result};
use crate::base::text::closest;
use crate::commands::help::{self, Topic};
use crate::commands::session::Outside;
use crate::commands::{Ended, cli, step_help, write_page};

/// Prints the manual page of outrigger, or of the command with these words.
///
/// # Errors
/// OR0202 (exit 2) if there is no such command.
pub fn man(outside: &Outside<'_>, words: &[String]) -> Result<Ended> {
    let mut command = cli::command(&step_help());
    command.build();
    for word in words {
        command = command.find_subcommand(word).ok_or_else(|| unknown(&command, word))?.clone();
    }
    let page = page(command);
    write_page(outside, &page, "man", &[("text", json!(page))])
}

/// The page of a built command: the sections of `clap_mangen`, then the examples as they are, and for outrigger
/// itself the exit codes.
fn page(command: Command) -> String {
    let is_root = command.get_name() == "outrigger";
    let [_, examples] = help::examples(command.get_name());
    let examples = examples.lines().skip(1).map(str::trim_start).collect::<Vec<_>>().join("\n");
    let mut page = Vec::new();
    // Writing to memory does not fail.
    let _ = sections(command, &mut page);
    let _ = literal("EXAMPLES", &examples).to_writer(&mut page);
    if is_root && let Some(codes) = Topic::find("exit-codes") {
        let _ = literal("EXIT STATUS", codes.page(72).split_once("\n\n").map_or("", |(_, text)| text))
            .to_writer(&mut page);
    }
    String::from_utf8_lossy(&page).into_owned()
}

fn sections(command: Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    let has_commands = command.has_subcommands();
    // `clap_mangen` leaves out the text of an option that the short help does not show.
    let command = command.mut_args(|arg| arg.hide_short_help(false));
    let man = Man::new(command).manual("outrigger");
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    if has_commands { man.render_subcommands_section(page) } else { Ok(()) }
}

/// A section whose lines are not filled.
fn literal(heading: &str, text: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [heading]).control("nf", []);
    for line in text.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff
}

fn unknown(command: &Command, word: &str) -> Failure {
    let failure = Failure::new(Id::InvalidInput, format!("no command {word:?} to print the manual page of"));
    let near = closest(word, command.get_subcommands().map(Command::get_name));
    let failure = match near {
        Some(near) => failure.hint(("did you mean", Printed::page(format!("man {near}")))),
        None => failure,
    };
    failure.hint(("to list all commands", Printed::page("help")))
}
